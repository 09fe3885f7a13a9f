"""The promises, in plain words, judged by what went out at the wire and by what Relay shows.

The oracle knows the lab as it truly is, and nothing of Relay's tables: it reads messages as their
reader does, and asks `list --json`, the events and the worklist for the rest.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from relay.rules.channels import CHANNELS
from tests.stateful.clinic import (
    DESK,
    DESK_PHONE,
    NEW_NAME,
    NEW_WORDS,
    RULES,
    Relay,
    RuleText,
    Sent,
    Shown,
    read,
)
from tests.stateful.world import (
    DELIVERED,
    RECEIVED,
    REGISTERED,
    RETEST,
    SHIPPED,
    STEPS,
    About,
    Changing,
    Kit,
    Lab,
    Order,
    Person,
    about,
    allows,
    moments,
    rounds,
)

FACTS = 15 * 60 + 30.0  # seconds that facts may be old when a message goes by them
NEWS = 62.0  # seconds that a step stays news though the next is known
BEFORE_A_RETEST = (REGISTERED, RECEIVED)
HOUR = 3600.0 - 30.0
# How a message may end that was not sent: what a person has not decided, the lab or the kit has.
ENDS = re.compile(
    r"It is no longer needed: |The kit has moved on: |A retest has begun|The new kit is on its way"
    r"|The test was cancelled|Its condition is not met|The rule is switched off"
    r"|The person has|An earlier email"
    r"|Its rule no longer uses|The recipient now has another address|Another message says the same"
    r"|Stopped by |Cancelled by |.*Its event was processed again"
)
# Of these the patient hears nothing from the shipped rule, and staff do.
NOT_FOR_PATIENTS = ("cancelled", "fail", "processing_error", "partial_result")
FOR_STAFF = ("fail", "processing_error", "partial_result")


@dataclass(eq=False)
class Post:
    """A webhook that Relay has taken."""

    event: str
    data: Mapping[str, Any]
    about: About
    at: float
    id: str
    again: int = 0  # times that it has come besides
    processed_at: float | None = None
    without: frozenset[str] = frozenset()  # rules that were edited when it was processed first


Owed = tuple[str, About]  # what one rule owes its reader about one thing


class Oracle:
    """What was promised, and each time that a promise was broken."""

    def __init__(self, relay: Relay, lab: Lab) -> None:
        self.relay, self.lab = relay, lab
        self.broken: list[str] = []
        self.posts: list[Post] = []
        self.told: dict[Owed, list[Sent]] = {}
        self.tried: dict[Owed, set[tuple[str, str]]] = {}  # the addresses, taken or refused
        self.stopped: set[Owed] = set()
        self.suppressed: set[tuple[str, str]] = set()
        self.again: Counter[Owed] = Counter()  # a person has it sent once more
        self.dropped: set[str] = set()  # rules whose waiting messages a person has given up

    # What is handed over

    def hears(self, sent: Sent) -> None:
        """Judge a message in the moment in which it is handed to its provider."""
        try:
            self._judge(sent)
        except Exception as error:  # else Relay takes it for the provider's
            self.broken.append(f"the oracle broke: {error!r}")
            raise

    def _judge(self, sent: Sent) -> None:
        words = read(sent.text)
        if words is None:
            self._require(
                sent.address in (DESK, DESK_PHONE), sent, "an alert went to somebody else"
            )
            return
        name = words.rule.removesuffix(NEW_NAME)
        edit = self.relay.edits.get(name, "")
        rule = RULES[name]
        it = self._about(rule, words.names)
        if it is None:
            self._complain(sent, "it is about nothing that there is")
            return
        self.tried.setdefault((words.rule, it), set()).add((sent.channel, sent.address))
        self.by_its_rule_as_it_is(sent, edit, words.template)
        self.to_the_right_person(sent, rule, edit, it, words.names, words.reader)
        self.not_denied(sent, name, rule, it)
        self.not_overtaken(sent, rule, it)
        self.not_stopped(sent, words.rule, it)
        self.not_twice(sent, words.rule, rule, it, edit == "to")

    def _about(self, rule: RuleText, names: Mapping[str, str]) -> About | None:
        order = next((one for one in self.lab.orders if one.id == names.get("order")), None)
        kit = self.lab.named(names.get("kit", ""))
        new = self.lab.named(names.get("new", ""))
        it = about(rule.event, order, kit, new)
        return it if it.kits else None

    def by_its_rule_as_it_is(self, sent: Sent, edit: str, template: str) -> None:
        """A message is made by its rule as it stands in config.toml at that moment."""
        self._require((edit == "renamed") == template.endswith(NEW_NAME), sent, "its rule is gone")
        self._require(edit != "off", sent, "its rule is switched off")
        self._require((edit == "template") == template.endswith(NEW_WORDS), sent, "old words")

    def to_the_right_person(
        self, sent: Sent, rule: RuleText, edit: str, it: About, names: Mapping[str, str], name: str
    ) -> None:
        """It is written to whom its rule names, about their own kit, to an address of theirs."""
        to = {"patient": "customer", "customer": "patient"}[rule.to] if edit == "to" else rule.to
        if to == "desk":
            self._require(
                sent.address in (DESK, DESK_PHONE), sent, "staff's message went to somebody else"
            )
            return
        order = order_of(it)
        person = it.kit.patient if to == "patient" and it.kit else order.customer if order else None
        if person is None:
            self._complain(sent, "nobody is known whom it could be for")
            return
        self._require(person.name == name, sent, f"it is {person.name}'s")
        known = person.addresses(sent.channel, self._since())
        judge = CHANNELS[sent.channel].address.judge
        usable = {judge(one).address for one in known if one}
        self._require(sent.address in usable, sent, f"it is no address of {person.name}")
        if names.get("of"):  # a retest's own order may not be known yet
            its = {one.order.id for one in rounds(it.kits) if one.order}
            self._require(names["of"] in its, sent, "another's order")

    def not_denied(self, sent: Sent, name: str, rule: RuleText, it: About) -> None:
        """Nobody is told what the lab denies, by any answer of the last quarter of an hour."""
        values, judge = allows(rule.event, it)
        wanted = self._wanted(name, it)
        values = [*values, *wanted[0]]
        is_true = any(
            judge(moment) and wanted[1](moment) for moment in moments(self._since(), *values)
        )
        self._require(is_true, sent, "the lab denies it")

    @staticmethod
    def _wanted(name: str, it: About) -> tuple[list[Changing[Any]], Any]:
        """Whether a rule wants it at a moment, by its condition."""
        if name not in ("results", "desk-results") or not it.kit:
            return [], lambda moment: True
        status = it.kit.status
        if name == "results":
            return [status], lambda moment: status.at(moment) not in NOT_FOR_PATIENTS
        return [status], lambda moment: status.at(moment) in FOR_STAFF

    def not_overtaken(self, sent: Sent, rule: RuleText, it: About) -> None:
        """Nobody is told of a step once Relay has known for a minute that the kit is past it."""
        if rule.is_for_staff:
            return
        for other, since in self._overtaken_by(rule, it):
            late = self.lab.clock.now - since
            if late > (1.0 if rule.unless else NEWS):
                self._complain(sent, f"{other} has been known for {late:.0f} s")

    def not_stopped(self, sent: Sent, rule: str, it: About) -> None:
        """What a person has stopped is not sent, nor anything to who wants nothing more."""
        self._require((rule, it) not in self.stopped, sent, "a person has stopped it")
        is_suppressed = (sent.channel, sent.address) in self.suppressed
        self._require(not is_suppressed, sent, "the person wants nothing more this way")

    def not_twice(self, sent: Sent, name: str, rule: RuleText, it: About, to_another: bool) -> None:
        """Nobody hears twice of one thing by one rule, unless a person has it sent again."""
        told = self.told.setdefault((name + " to another" * to_another, it), [])
        if not sent.taken:
            return
        before = [one for one in told if not one.failed]
        if rule.is_for_staff or len(rule.channels) > 1:  # each address, each channel
            before = [one for one in before if one.channel == sent.channel]
        # A repeat that failed is owed still: its fallback, or one more try, makes up for it.
        used = sum(one.is_repeat and not one.failed for one in told)
        sent.is_repeat = bool(before) and self.again[name, it] > used
        if before and not sent.is_repeat:
            self._complain(sent, f"told already at {before[0].at:.0f} s by {before[0].channel}")
        told.append(sent)

    # What is known

    def learn(self) -> None:
        """See which events Relay has processed by now. What has come once has come."""
        waiting = [post for post in self.posts if post.processed_at is None]
        processed = self.relay.processed() if waiting else set()
        for post in waiting:
            if post.id in processed:
                post.processed_at = self.lab.clock.now
                gone = {n for n, e in self.relay.edits.items() if e in ("renamed", "off", "to")}
                post.without = frozenset(gone)

    def _known(self, event: str, kit: Kit) -> float | None:
        """Since when Relay knows of a step of a kit, by itself or by its own order."""
        return min(
            (
                post.processed_at
                for post in self.posts
                if post.processed_at is not None
                and post.event == event
                and (post.about.kit is kit or (post.about.order and kit in post.about.order.kits))
            ),
            default=None,
        )

    def _overtaken_by(self, rule: RuleText, it: About) -> Iterator[tuple[str, float]]:
        """The later steps that Relay knows of, and since when."""
        names: Iterable[str] = rule.unless
        if not rule.unless and rule.event in STEPS:
            names = STEPS[STEPS.index(rule.event) + 1 :]
        if rule.event == RETEST and it.new:
            known = [(name, self._known(name, it.new)) for name in STEPS]
            yield from ((name, since) for name, since in known if since is not None)
            return
        kits = [one for kit in it.kits for one in not_before(kit)] if it.order else it.kits
        for name in names:
            known_of = [self._step(name, kit, it) for kit in kits]
            if kits and None not in known_of:
                yield name, max(since for since in known_of if since is not None)

    def _step(self, name: str, kit: Kit, it: About) -> float | None:
        """Since when a step is known of a kit; of an order's own events, of that order."""
        if it.order and name in (SHIPPED, DELIVERED):
            return min(
                (
                    post.processed_at
                    for post in self.posts
                    if post.about.order is it.order
                    and post.event == name
                    and post.processed_at is not None
                ),
                default=None,
            )
        return self._known(name, kit)

    # The end

    def nobody_is_forgotten(self) -> None:
        """Everybody was told, or a case is open, or the message's end has a reason that is true."""
        shown = self.relay.shown()
        self.each_end_is_true(shown)
        self.no_event_is_left(shown)
        for event, it in {(post.event, post.about): None for post in self.posts}:
            for name, rule in RULES.items():
                if rule.event == event:
                    self._require_seen_to(name, rule, it, shown)

    def _require_seen_to(self, name: str, rule: RuleText, it: About, shown: Shown) -> None:
        posts = [post for post in self.posts if (post.event, post.about) == (rule.event, it)]
        _values, judge = allows(rule.event, it)
        now = self.lab.clock.now
        is_wanted = judge(now) and self._wanted(name, it)[1](now)
        was_edited = any(name in post.without for post in posts)
        is_stopped = any((one, it) in self.stopped for one in (name, name + NEW_NAME))
        if self._was_told(name, it) or not is_wanted or was_edited or is_stopped:
            return
        if name in self.dropped or self._is_past(rule, it):
            return
        if self._has_case(it, posts, shown) and not self._could_be_told(name, rule, it):
            return
        rows = [
            (row["status"], row["reason"])
            for row in shown.messages
            if row["rule"] == name and row["event_id"] in {post.id for post in posts}
        ]
        if any("switched off" in reason for _, reason in rows):
            return
        states = [shown.events[post.id]["status"] for post in posts]
        self.broken.append(f"forgotten: {name} about {it}: messages {rows}, events {states}")

    def _was_told(self, name: str, it: About) -> bool:
        sent = [*self.told.get((name, it), ()), *self.told.get((name + NEW_NAME, it), ())]
        return any(one.taken and not one.failed for one in sent)

    def _is_past(self, rule: RuleText, it: About) -> bool:
        """Whether anything has been posted that may make it no news any more."""
        if it.order and not rule.unless and any(kit.retests for kit in it.kits):
            return True
        return any(self._makes_old(post, rule, it) for post in self.posts)

    def _makes_old(self, post: Post, rule: RuleText, it: About) -> bool:
        tests = {kit.original for kit in it.kits}
        is_its_orders = it.order is not None and post.about.order is it.order
        is_its = is_its_orders or any(kit.original in tests for kit in post.about.kits)
        if rule.unless:
            return is_its and post.event in rule.unless and self._has_come(post.event, it)
        if it.new and it.new in post.about.kits and post.event != RETEST:
            return True
        if it.kit and any(is_kin(kit, it.kit) for kit in (*post.about.kits, post.about.new)):
            return True
        if is_its and RETEST in (rule.event, post.event):
            return True
        later = STEPS[STEPS.index(rule.event) + 1 :] if rule.event in STEPS else ()
        return is_its and post.event in later and self._has_come(post.event, it)

    def _has_come(self, event: str, it: About) -> bool:
        """Whether a step was posted for an order, or for each kit of it."""

        def came(kit: Kit) -> bool:
            return any(
                post.event == event and (post.about.kit is kit or kit in _kits(post.about.order))
                for post in self.posts
            ) or (event in BEFORE_A_RETEST and is_repeated(kit))

        def is_repeated(kit: Kit) -> bool:
            """A sample that is to be repeated was there: a retest, or a step of it, was posted."""
            later = set(with_retests(kit)[1:])
            return any(later & {*post.about.kits, post.about.new} for post in self.posts)

        if it.order and event in (SHIPPED, DELIVERED):
            return any(post.event == event and post.about.order is it.order for post in self.posts)
        # Rounds are in the order in which links are learned: any other may be the newest.
        return all(any(map(came, with_retests(kit.original))) for kit in it.kits)

    def _has_case(self, it: About, posts: list[Post], shown: Shown) -> bool:
        """Whether a case that is open names it, or one that a person has closed."""
        ids = {post.id for post in posts}
        closed = [
            case for case in shown.closed if case["closed_by"] != "relay" and case["kind"] != "held"
        ]
        return any(
            case["subject"] in (it.subject, *(kit.id for kit in it.kits))
            or case["event_id"] in ids
            or case["kind"] in ("rule", "broken", "unconfirmed")  # each of them about many kits
            for case in [*shown.cases, *closed]
        )

    def _could_be_told(self, name: str, rule: RuleText, it: About) -> bool:
        """Whether the person has an address by now that was never tried and is not suppressed."""
        person = self._reader(rule, it)
        if person is None:
            return False
        tried = self.tried.get((name, it), set()) | self.suppressed
        tried |= self.relay.wire.providers.opted_out
        first = usable(person, rule.channels)
        return bool((first or usable(person, rule.fallback)) - tried)

    def _reader(self, rule: RuleText, it: About) -> Person | None:
        if rule.to == "patient":
            return it.kit.patient if it.kit else None
        order = order_of(it)
        if rule.to != "customer" or order is None:
            return None
        is_known = any(post.about.order is order and post.processed_at for post in self.posts)
        return order.customer if is_known or it.order else None

    def each_end_is_true(self, shown: Shown) -> None:
        """What is said of a message that did not go out is so, and what counts as sent went out."""
        by_id = {post.id: post for post in self.posts}
        sids = {one.sid for one in self.relay.wire.providers.sent}
        for row in shown.messages:
            post = by_id.get(row["event_id"])
            name = row["rule"].removesuffix(NEW_NAME)
            if post is None or name not in RULES:
                continue
            said = f"{row['rule']} about {post.about} is {row['status']}: {row['reason']}"
            if row["status"] == "technical-failure":
                self.broken.append(said)
            is_sent = row["status"] in ("sent", "delivered") and "person" not in row["reason"]
            if is_sent and row["provider_id"] not in sids:
                self.broken.append(f"no provider has it, and {said}")
            if row["status"] == "cancelled" and not ENDS.match(row["reason"]):
                self.broken.append(f"nobody has decided that: {said}")
            if "does not know yet" in row["reason"] and self._was_known(post):
                self.broken.append(f"it is known: {said}")
            for event in (*STEPS, RETEST):
                if f"{event} has come" in row["reason"] and not self._may_be_past(event, post):
                    self.broken.append(f"it has not come: {said}")

    def _was_known(self, post: Post) -> bool:
        """Whether Relay knew a kit's order within the hour that it waits for that."""
        order, kit = order_of(post.about), post.about.kit
        while kit is not None and kit.order is None:  # the lab may not say what it repeats
            if not kit.names_parent.at(post.at):
                return False
            kit = kit.repeats
        return any(
            one.about.order is order and one.processed_at and one.processed_at - post.at < HOUR
            for one in self.posts
            if order
        )

    def _may_be_past(self, event: str, post: Post) -> bool:
        if post.event == RETEST and post.about.new:
            return self._has_come(event, About(kit=post.about.new))
        return self._has_come(event, post.about)

    def no_event_is_left(self, shown: Shown) -> None:
        """No event waits for ever, none is held of which the lab says that it is so, and each says
        how often it has come again."""
        for post in self.posts:
            row = shown.events[post.id]
            is_true = allows(post.event, post.about)[1](self.lab.clock.now)
            if row["duplicates"] < post.again:
                self.broken.append(f"nothing says that {post.event} of {post.about} came again")
            is_told = any(  # by a post of its own, as the first is older than dedupe_window
                (one.event, one.about) == (post.event, post.about)
                and shown.events[one.id]["status"] == "processed"
                for one in self.posts
            )
            is_lost = row["status"] == "held" and is_true and not is_told
            # Where the lab answers about nothing else, it counts as away: staff have its case.
            is_known = not is_true and any(case["kind"] == "lab" for case in shown.cases)
            if (row["status"] == "received" and not is_known) or is_lost:
                said = f"{post.event} of {post.about} is {row['status']}: {row['reason']}"
                self.broken.append(said)

    def _since(self) -> float:
        return self.lab.clock.now - FACTS

    def _require(self, is_so: bool, sent: Sent, what: str) -> None:
        if not is_so:
            self._complain(sent, what)

    def _complain(self, sent: Sent, what: str) -> None:
        self.broken.append(f"{what}: {sent.text!r} by {sent.channel} to {sent.address}")


def usable(person: Person, channels: tuple[str, ...]) -> set[tuple[str, str]]:
    """A person's addresses on channels, those that can be one."""
    written = {"sms": person.phone.now, "email": person.email.now}
    judged = {name: CHANNELS[name].address.judge(written[name]).address for name in channels}
    return {(name, address) for name, address in judged.items() if address}


def order_of(it: About) -> Order | None:
    """The order that something is about, or that a kit came with, or the one that it repeats."""
    if it.order:
        return it.order
    kit = it.kit
    while kit is not None and kit.order is None:
        kit = kit.repeats
    return kit.order if kit else None


def with_retests(kit: Kit) -> list[Kit]:
    """A kit and all that repeat it."""
    return [kit, *(one for retest in kit.retests for one in with_retests(retest))]


def not_before(kit: Kit) -> list[Kit]:
    """All rounds of a test, but for those that a kit repeats: any of them may be the newest."""
    before = set(rounds([kit])) - {kit}
    return [one for one in with_retests(kit.original) if one not in before]


def is_kin(kit: Kit | None, of: Kit) -> bool:
    """Whether a kit is another round of the same test."""
    return kit is not None and kit is not of and kit.original is of.original


def _kits(order: Order | None) -> list[Kit]:
    return order.kits if order else []
