"""What each person must, may and must not hear, by its own reading of the rules and of the lab.

Held against it are the providers' own lists, in which each message says what it is about, and the
ledger. In plain words: nobody is told twice about one kit and round by one rule, nobody is told
what the lab denies or what is another's, nothing that a person has stopped goes out, and nobody is
forgotten without a case that is open, or that a person has closed.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from tools.chaos import words
from tools.chaos.edits import MOVED_RULE, RENAMED_RULE
from tools.chaos.kits import (
    CUSTOMER,
    PATIENT,
    RECEIVED,
    RETEST,
    ROLES,
    STAFF,
    STEPS,
    Kit,
    Order,
    Thing,
)
from tools.chaos.lab import Lab
from tools.chaos.ledger import COME_BACK, Row
from tools.chaos.scenarios import Family, Post
from tools.chaos.staff import NAME, Done
from tools.chaos.stage import HASTE
from tools.chaos.truth import FOREVER, Truth
from tools.chaos.verdict import Verdict
from tools.chaos.words import RENAMED

OVERTAKEN = ("The kit has moved on", "A retest has begun", "The new kit is on its way")
ADDRESS_STOPPED, NOT_NEEDED = ("The person has", "An earlier email"), "It is no longer needed"
SETTLED = "Its case was closed before"
MOVED, ELSEWHERE = "Its rule no longer uses", "The recipient now has another address"
STOPPED, CANCELLED = f"Stopped by {NAME}", f"Cancelled by {NAME}"
PLANNED_ANEW = "Its event was processed again."
ONCE_IS_ENOUGH, UNMET = (
    "Another message says the same",
    ("Its condition is not met", "The test was"),
)
FAILURES = ("permanent-failure", "temporary-failure", "validation-failed")
BAD_NEWS = {"undelivered", "failed", "bounce", "dropped"}
SENT_AGAIN = re.compile(r'"message not found, sent again"')
ORDER_HOUR = 3600.0 / HASTE  # that a message waits for who ordered
STOP_SLACK = 0.5  # seconds: what was claimed when STOP came may still go out
ANSWER_SLACK = 12.0  # seconds that an answer of the lab's may be on its way, and wait for a lock


class Oracle:
    """Judges a run."""

    def __init__(
        self,
        rules: Mapping[str, Row],
        ledger: Mapping[str, list[Row]],
        report: Mapping[str, list[Row]],
        lab: Lab,
        done: Sequence[Done],
        output: str,
    ):
        self.verdict = Verdict()
        self._rules = rules
        self._lab = lab
        self._done = done
        self._truth = Truth(lab.said, lab.begun)
        self._families = {family.number: family for family in lab.families}
        self._things: dict[str, Thing] = {}  # by what messages call them
        self._orders: dict[Kit, list[Order]] = defaultdict(list)
        for family in lab.families:
            for order, kits in family.orders.items():
                things: tuple[Thing, ...] = (order, *kits)
                self._things |= {thing.word: thing for thing in things}
                for kit in kits:
                    self._orders[kit].append(order)
        self._events = {row["id"]: row for row in ledger["events"]}
        self._messages = {row["id"]: row for row in ledger["notifications"]}
        self._closed = {row["id"] for row in ledger["cases"] if row["closed_at"]}
        self._cases = [row for row in ledger["cases"] if row["closed_by"] != "relay"]
        self._attempts: dict[str, list[Row]] = defaultdict(list)
        for row in ledger["attempts"]:
            self._attempts[row["notification_id"]].append(row)
        self._of_attempt = {row["id"]: row["notification_id"] for row in ledger["attempts"]}
        self._report = report
        self._accepted: dict[str, list[Row]] = defaultdict(list)
        self._bad: dict[str, list[str]] = defaultdict(list)  # a message → what it was told
        self._stops = {stop.number: stop.at for stop in lab.stops}
        self._sent_again = {
            found[1]
            for line in output.splitlines()
            if SENT_AGAIN.search(line) and (found := re.search(r'"id": "(msg_\w+)"', line))
        }
        self._index()

    def _index(self) -> None:
        self._unwanted = set(self._stops)  # addresses that Relay may tell nothing more
        for one in self._report["accepted"]:
            self._accepted[self._of_attempt.get(one["attempt"], "")].append(one)
        for one in self._report["refused"]:
            if one["fault"] in ("invalid", "opted-out"):
                self._bad[self._of_attempt.get(one["attempt"], "")].append(one["fault"])
            if one["fault"] == "opted-out":
                self._unwanted.add(one["to"])
        for one in self._report["told"]:
            if one["word"] in BAD_NEWS:
                id_ = self._of_attempt.get(one["attempt"], "")
                self._bad[id_].append(one["code"] or one["word"])
                if one["code"] == "bounce" and id_ in self._messages:
                    self._unwanted.add(self._messages[id_]["address"])

    def judge(self) -> Verdict:
        """All that is to be said."""
        self.verdict.accepted = len(self._report["accepted"])
        for id_, post in self._lab.taken.items():
            self._judge_event(id_, post)
        rows: dict[tuple[str, str, int], list[Row]] = defaultdict(list)
        for row in self._messages.values():
            rows[row["rule"].removesuffix(RENAMED), row["subject"], row["round"]].append(row)
        for (step, thing), name in self._asked():
            places = self._places(thing, name)
            found = [row for place in places for row in rows[name, *place]]
            self._judge_rule(name, step, thing, found)
        for row in self._messages.values():
            self._judge_message(row)
        self._judge_words()
        self._judge_stops()
        self._judge_cases()
        return self.verdict

    def _asked(self) -> Iterator[tuple[tuple[str, Thing], str]]:
        """Each step of each thing that was posted, with each rule about it."""
        for step, thing in self._lab.begun:
            if thing is not None:
                for name, rule in self._rules.items():
                    if rule["event"] == step:
                        yield (step, thing), name

    def _places(self, thing: Thing, rule: str) -> list[tuple[str, int]]:
        """Where the ledger may have what a rule says of a thing: a retest begins the next round,
        and its kit is one by itself until it is linked.
        """
        if self._rules[rule]["event"] == RETEST:
            return [(thing.id, 1)]
        if isinstance(thing, Kit) and thing.round:
            return [(thing.original.id, thing.round), (thing.id, 0)]
        return [(thing.id, 0)]

    # What the lab has posted

    def _judge_event(self, id_: str, post: Post) -> None:
        """It is processed or, with a case, held; and not against what the lab's API says."""
        row = self._events.get(id_)
        where = f"{id_} ({post.step} of {post.thing.word if post.thing else 'a changed name'})"
        if row is None or row["status"] not in ("processed", "held"):
            is_now = row["status"] if row else "not there"
            self.verdict.lost.append(f"{where}: answered 200, is {is_now}")
            return
        if row["status"] == "processed":
            if post.thing and not self._truth.periods(post.step, post.thing):
                self.verdict.wrong.append(f"{where}: processed, and the lab's API denies it")
            return
        self.verdict.held += 1
        if not self._has_case("held", event_id=id_):
            self.verdict.lost.append(f"{where}: held, and nobody is told")
        if post.thing and self._truth.is_lasting(post.step, post.thing):
            self.verdict.lost.append(f"{where}: held for nothing: {row['reason']}")

    # What is owed

    def _judge_rule(self, name: str, step: str, thing: Thing, rows: list[Row]) -> None:
        """Whether everybody who must hear of something has, or a person knows why not."""
        rule = self._rules[name]
        where = f"{name} of {thing.word} ({self._families[thing.family].scenario.name})"
        if name == MOVED_RULE:  # its channels change while it runs
            channels: Sequence[str] = ()
        else:
            channels = rule["channels"]
        if self._is_owed(name, step, thing) and not any(self._is_stopped(row) for row in rows):
            self.verdict.owed += 1
            missing = [way for way in channels if way not in {row["channel"] for row in rows}]
            if missing or not rows:
                why = self._decisions(step, thing, name)
                self.verdict.lost.append(f"{where}: no message by {missing or 'any way'}: {why}")
        elif not rows:
            self.verdict.overtaken += 1
        for row in rows:
            if OVERTAKEN[0] in row["reason"] and not self._may_be_overtaken(rule, step, thing):
                self.verdict.lost.append(f"{where}: {row['id']}: {row['reason']}")
        self._judge_fallback(where, rows)
        self._judge_obligation(where, rule, rows)
        self._judge_late(name, where, thing, rows)

    def _is_owed(self, name: str, step: str, thing: Thing) -> bool:
        """Whether somebody must be told: it is true for good, and no later step overtakes it."""
        if not self._truth.is_lasting(step, thing, name):
            return False
        if name == "who-ordered" and isinstance(thing, Kit):
            order = self._orders[thing][0]  # which is known once a step of its own was processed
            if not any(self._truth.is_lasting(one, order) for one in STEPS[:2]):
                return False
        return not self._may_be_overtaken(self._rules[name], step, thing)

    def _may_be_overtaken(self, rule: Row, step: str, thing: Thing) -> bool:
        """Whether later steps were posted that make a rule's message old."""
        family = self._families[thing.family]
        if rule.get("unless"):
            return bool(family.scenario.retest) or not self._idle(family)
        if rule.get("even_if_late"):
            return False
        if step == RETEST:
            again = Kit(thing.family, 0, 1)
            new: tuple[Thing, ...] = (again, *self._orders[again])
            return rule["to"] in ROLES and any(self._is_posted(STEPS, one) for one in new)
        if family.scenario.retest and not (isinstance(thing, Kit) and thing.round):
            return True
        later = STEPS[STEPS.index(step) + 1 :]
        kits = family.orders.get(thing, ()) if isinstance(thing, Order) else ()
        is_all = kits and all(self._is_posted(later, kit) for kit in kits)
        return bool(is_all) or self._is_posted(later, thing)

    def _idle(self, family: Family) -> bool:
        return bool(family.scenario.idle)

    def _is_posted(self, steps: Iterable[str], thing: Thing) -> bool:
        return any(self._truth.posted(step, thing) < FOREVER for step in steps)

    def _decisions(self, step: str, thing: Thing, name: str) -> list[str]:
        """What the ledger says about why there is no message."""
        return [
            f"{id_} is {self._events[id_]['status']}: {one['reason']}"
            for id_, post in self._lab.taken.items()
            if (post.step, post.thing) == (step, thing) and id_ in self._events
            for one in self._events[id_]["decisions"] or ({"rule": name, "reason": "none"},)
            if one["rule"] == name
        ]

    def _judge_fallback(self, where: str, rows: list[Row]) -> None:
        """A fallback is for those whom nothing else can have reached."""
        if any(row["reason"].startswith(MOVED) for row in rows):
            return
        for made in rows:
            if made["is_fallback"] and made["address"]:
                first = [
                    row
                    for row in rows
                    if row["rule"] == made["rule"] and row["created_at"] <= made["created_at"]
                ]
                if not all(row["is_fallback"] or self._may_fail(row) for row in first):
                    ids = [row["id"] for row in rows]
                    self.verdict.wrong.append(f"{where}: a fallback for nothing {ids}")

    def _judge_obligation(self, where: str, rule: Row, rows: list[Row]) -> None:
        """Where nobody was reached the fallback was tried, and a person knows."""
        if not rows or any(
            self._is_alive(row) or self._is_overtaken(row) or self._is_stopped(row) for row in rows
        ):
            return
        if any(row["reason"].startswith((NOT_NEEDED, *UNMET)) for row in rows):
            return  # for which there are checks of their own
        # Of a rule that is gone just then nobody knows the fallback; a person knows of the rest.
        # While its channels were others, its fallback's way may have been its own.
        ways = rule.get("fallback", ())
        is_tried = rule["event"] == self._rules[RENAMED_RULE]["event"] or any(
            row["is_fallback"] or row["channel"] in ways or row["reason"].startswith(MOVED)
            for row in rows
        )
        if ways and not is_tried:
            self.verdict.lost.append(f"{where}: failed, and no fallback was tried")
        if not any(
            self._has_case("unreached", notification_id=row["id"])
            or self._has_case("broken", id=row["case_id"])
            or self._has_case("unconfirmed", id=row["case_id"])
            for row in rows
        ):
            ids = [(row["id"], row["status"], row["reason"]) for row in rows]
            self.verdict.lost.append(f"{where}: reached nobody, and nobody is told: {ids}")

    def _judge_late(self, name: str, where: str, thing: Thing, rows: list[Row]) -> None:
        """Nothing goes out that was over before: samples that are there, a new kit on its way, a
        test that was cancelled meanwhile.
        """
        family, rule = self._families[thing.family], self._rules[name]
        over = FOREVER
        if rule.get("unless") and isinstance(thing, Order) and not family.scenario.retest:
            over = max(self._since(RECEIVED, kit) for kit in family.orders[thing])
        elif rule["event"] == RETEST and rule["to"] in ROLES:
            again = Kit(thing.family, 0, 1)
            over = max(self._since(RETEST, thing), min(self._since(one, again) for one in STEPS))
        periods = self._truth.periods(rule["event"], thing, name)
        denied = periods[-1][1] + ANSWER_SLACK if periods else FOREVER
        for row in rows:
            ids = {one["attempt"] for one in self._accepted[row["id"]]}
            begun = [
                one["started_at"].timestamp()
                for one in self._attempts[row["id"]]
                if one["id"] in ids
            ]
            if begun and max(begun) > over:
                late = max(begun) - over
                self.verdict.wrong.append(
                    f"{where}: {row['id']} sent {late:.1f} s after it was over"
                )
            if begun and row["created_at"].timestamp() > denied:
                self.verdict.wrong.append(f"{where}: {row['id']} made when the lab denied it")

    def _since(self, step: str, thing: Thing) -> float:
        """Since when the ledger surely knows of a step."""
        return min(
            (
                self._events[id_]["processed_at"].timestamp()
                for id_, post in self._lab.taken.items()
                if (post.step, post.thing) == (step, thing)
                and id_ in self._events
                and self._events[id_]["status"] == "processed"
            ),
            default=FOREVER,
        )

    # What has gone out

    def _judge_message(self, row: Row) -> None:
        """One row: it has ended, for a reason that is true, and went out as often as it may."""
        accepted, status = self._accepted[row["id"]], row["status"]
        where = f"{row['id']} ({row['rule']}, {row['channel']})"
        if status in ("sent", "delivered") and not accepted:
            if not self._acts(row, "believe"):
                self.verdict.lost.append(f"{where}: {status}, but the provider never had it")
        elif status == "unknown":
            self.verdict.unknown += 1
            known = self._has_case("unknown", notification_id=row["id"])
            if self._resends(row) or not (known or self._has_case("unknown", id=row["case_id"])):
                self.verdict.lost.append(f"{where}: unknown for ever, and nobody is told")
        elif status in FAILURES and not self._may_fail(row):
            self.verdict.lost.append(f"{where}: {status} for nothing: {row['reason']}")
        elif status == "cancelled" and not self._may_be_cancelled(row):
            self.verdict.lost.append(f"{where}: cancelled for nothing: {row['reason']}")
        elif status not in ("sent", "delivered", *FAILURES, "cancelled") and not (
            COME_BACK in row["reason"] and self._has(row, lambda part: "returned" in part.shipping)
        ):
            self.verdict.lost.append(f"{where}: is {status}: {row['reason']}")
        if len(accepted) > 1:
            self._judge_twice(row, accepted, where)
        self._judge_sends(row, accepted, where)

    def _judge_twice(self, row: Row, accepted: list[Row], where: str) -> None:
        once_more = "30008" in self._bad[row["id"]] and len(accepted) == 2
        trail = [attempt["outcome"] for attempt in self._attempts[row["id"]]]
        is_known = "unknown" in trail or row["id"] in self._sent_again
        by_rule = row["channel"] == "email" and self._resends(row) and is_known
        if once_more or by_rule or self._acts(row, "send", "resend", "replay", "let go"):
            self.verdict.twice_allowed += 1
        else:
            times = [round(one["at"] - accepted[0]["at"], 2) for one in accepted]
            self.verdict.twice.append(
                f"{where}: accepted {len(accepted)} times, {times} s, {trail}"
            )

    def _judge_sends(self, row: Row, accepted: list[Row], where: str) -> None:
        if any(one["to"] != row["address"] for one in accepted):
            self.verdict.wrong.append(f"{where}: went to another address than its row's")
        stopped = self._stops.get(row["address"])
        ids = {one["attempt"] for one in accepted}
        for attempt in self._attempts[row["id"]]:
            late = stopped and attempt["started_at"].timestamp() > stopped + STOP_SLACK
            if late and attempt["id"] in ids:
                self.verdict.wrong.append(f"{where}: texted after STOP")

    def _judge_words(self) -> None:
        """By the providers' own lists: each message is the right one for whoever has it, it was
        true by then, and nobody has the same from two messages.
        """
        for one in self._accepted.pop("", []):
            self.verdict.wrong.append(f"{one['service']} has {one['id']}, of which no ledger knows")
        told: dict[tuple[str, str], set[str]] = defaultdict(set)
        for id_, accepted in self._accepted.items():
            for one in accepted:
                if said := words.said(one["words"]):
                    told[one["to"], one["words"]].add(id_)
                    self._judge_said(self._messages[id_], one, said)
                elif not self._messages[id_]["rule"].startswith("relay:"):
                    self.verdict.wrong.append(f"{id_}: its words are of no rule: {one['words']}")
        for (_, what), ids in told.items():
            if len(ids) > 1:
                self.verdict.twice.append(f"{what}: to one person by {sorted(ids)}")

    def _judge_said(self, row: Row, one: Row, said: words.Said) -> None:
        """One message that a provider has: by what it says itself."""
        where = f"{row['id']} ({said.rule}, {row['channel']}) about {said.word}"
        thing, name = self._things.get(said.word), said.rule.removesuffix(RENAMED)
        if thing is None or name not in self._rules:
            self.verdict.wrong.append(f"{where}: there is no such thing")
            return
        rule = self._rules[name]
        if one["to"] not in self._addresses(rule["to"], thing, row["channel"]):
            self.verdict.wrong.append(f"{where}: told to somebody else, {one['to']}")
        if (row["subject"], row["round"]) not in self._places(thing, name):
            self.verdict.wrong.append(f"{where}: kept as what {row['subject']} was told")
        periods = self._truth.periods(rule["event"], thing, name)
        if not periods or one["at"] < periods[0][0]:
            early = f"{periods[0][0] - one['at']:.1f} s too early" if periods else "never true"
            self.verdict.wrong.append(f"{where}: the lab had not said so, {early}")
        if said.order and said.order not in self._order_words(thing):
            self.verdict.wrong.append(f"{where}: with somebody else's order, {said.order}")

    def _addresses(self, to: str, thing: Thing, channel: str) -> set[str]:
        """Where the recipient of a rule is told of something."""
        if to == PATIENT and isinstance(thing, Kit):
            return {thing.patient.address(channel)}
        if to == CUSTOMER:
            orders = [thing] if isinstance(thing, Order) else self._orders[thing]
            return {order.customer.address(channel) for order in orders}
        return {STAFF}

    def _order_words(self, thing: Thing) -> set[str]:
        """What the orders of a kit are called; a retest's may be its original's too."""
        kits = {thing, thing.original} if isinstance(thing, Kit) else set()
        return {order.word for kit in kits for order in self._orders[kit]}

    # What a person has decided

    def _judge_stops(self) -> None:
        """What somebody has stopped goes out when somebody lets it go, and not before."""
        for done in self._done:
            row = self._messages.get(done.message)
            if done.act != "stop" or row is None:
                continue
            for other in self._messages.values():
                if self._owes(other) != self._owes(row):
                    continue
                let_go = [act.at for act in self._done if act.message == other["id"]]
                for one in self._accepted[other["id"]]:
                    is_late = one["at"] > done.at + STOP_SLACK
                    if is_late and not any(done.at < at <= one["at"] + 1.0 for at in let_go):
                        self.verdict.wrong.append(
                            f"{other['id']} ({row['rule']}): sent after a stop"
                        )

    def _judge_cases(self) -> None:
        for case in self._cases:
            if case["kind"] == "config":
                self.verdict.wrong.append(f"{case['id']}: half a file was taken: {case['reason']}")
            if case["kind"] in ("rule", "release") and case["closed_at"] is None:
                self.verdict.wrong.append(f"{case['id']} ({case['kind']}): open, and nothing waits")

    def _acts(self, row: Row, *acts: str) -> bool:
        return any(one.message == row["id"] and one.act in acts for one in self._done)

    def _resends(self, row: Row) -> bool:
        return bool(self._rules.get(row["rule"], {}).get("on_unknown", "resend") == "resend")

    def _has_case(self, kind: str, **about: str) -> bool:
        """Whether there is a case that is open, or that a person has closed."""
        return any(
            case["kind"] == kind and all(case[key] == value for key, value in about.items())
            for case in self._cases
        )

    @staticmethod
    def _is_alive(row: Row) -> bool:
        return row["status"] in ("sent", "delivered", "unknown", "created")

    @staticmethod
    def _is_overtaken(row: Row) -> bool:
        is_off = row["status"] in ("cancelled", *FAILURES)
        return is_off and any(why in str(row["reason"]) for why in (*OVERTAKEN, NOT_NEEDED))

    @staticmethod
    def _is_stopped(row: Row) -> bool:
        return bool(row["stopped_by"]) or row["reason"].startswith((STOPPED, CANCELLED))

    def _may_fail(self, row: Row) -> bool:
        if not row["address"]:  # Relay knew of none: the lab may have had none
            return self._had_none(row)
        return bool(self._bad[row["id"]]) or row["address"] in self._unwanted

    def _had_none(self, row: Row) -> bool:
        """Whether a recipient without an address is one whose contact is wrong at first, or who
        ordered what the ledger has not learned the order of in time.
        """
        post = self._lab.taken.get(row["event_id"])
        if post is None or not isinstance(post.thing, Kit):
            return True
        if row["role"] != CUSTOMER:
            return self._families[post.thing.family].scenario.contact_is_wrong
        steps = [(step, order) for order in self._orders[post.thing] for step in STEPS[:2]]
        known = min(self._since(*one) for one in steps)
        return bool(known > row["created_at"].timestamp() + ORDER_HOUR - 1.0)

    def _may_be_cancelled(self, row: Row) -> bool:
        reason = str(row["reason"])
        allowed: dict[str | tuple[str, ...], Callable[[], Any]] = {
            ADDRESS_STOPPED: lambda: row["address"] in self._unwanted,
            OVERTAKEN: lambda: True,
            NOT_NEEDED: lambda: True,
            MOVED: lambda: row["rule"] == MOVED_RULE,
            (STOPPED, CANCELLED): lambda: True,
            ONCE_IS_ENOUGH: lambda: self._has(row, lambda part: part.retest),
            UNMET: lambda: self._has(row, lambda part: len(part.statuses) > 1 or part.retest),
            ELSEWHERE: lambda: not row["address"],  # it was not known yet
            SETTLED: lambda: row["case_id"] in self._closed,
        }
        if reason.endswith(PLANNED_ANEW):
            owed = self._owes(row)
            return any(
                one.act == "resend" and self._owes(self._messages.get(one.message)) == owed
                for one in self._done
            )
        return any(reason.startswith(begin) and holds() for begin, holds in allowed.items())

    @staticmethod
    def _owes(row: Row | None) -> tuple[str, str, int] | None:
        return (row["rule"], row["subject"], row["round"]) if row else None

    def _has(self, row: Row, what: Callable[[Any], object]) -> bool:
        post = self._lab.taken.get(row["event_id"])
        return bool(post and post.thing and what(self._families[post.thing.family].scenario))
