"""What is owed to whom, by its own reading of the rules, and what the ledger and providers say."""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from tools.chaos.kits import STAFF, STEPS, Kit
from tools.chaos.lab import Stop
from tools.chaos.ledger import Row
from tools.chaos.verdict import Verdict

OVERTAKEN = "The kit is further on"
OPTED_OUT = "The person has opted out"
NOT_NEEDED = "It is not needed"
FAILURES = ("permanent-failure", "temporary-failure")
BAD_NEWS = {"undelivered", "failed", "bounce", "dropped"}
SENT_AGAIN = re.compile(r'"message not found, sent again"')
STOP_SLACK = 0.5  # seconds: what was claimed when STOP came may still go out


class Oracle:
    """Judges a run."""

    def __init__(
        self,
        config: Path,
        ledger: Mapping[str, list[Row]],
        report: Mapping[str, list[Row]],
        taken: Mapping[str, tuple[int, str]],
        stops: Iterable[Stop],
        output: str,
    ):
        self.verdict = Verdict()
        self._rules = tomllib.loads(config.read_text("utf-8"))["rules"]
        self._taken = taken
        self._events = {row["id"]: row for row in ledger["events"]}
        self._messages = {row["id"]: row for row in ledger["notifications"]}
        self._cases = ledger["cases"]
        self._attempts: dict[str, list[Row]] = defaultdict(list)
        for row in ledger["attempts"]:
            self._attempts[row["notification_id"]].append(row)
        self._of_attempt = {row["id"]: row["notification_id"] for row in ledger["attempts"]}
        self._report = report
        self._accepted: dict[str, list[Row]] = defaultdict(list)
        self._bad: dict[str, list[str]] = defaultdict(list)  # a message → what it was told
        self._stops = {stop.number: stop.at for stop in stops}
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
        self._judge_events()
        rows: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
        for row in self._messages.values():
            rows[row["rule"], row["channel"], row["address"]].append(row)
        for kit, steps in self._told().items():
            for name, rule in self._rules.items():
                if events := steps.get(rule["event"]):
                    self._judge_rule(Kit(kit), name, rule, events, steps, rows)
        for row in self._messages.values():
            self._judge_message(row)
        self._judge_words()
        return self.verdict

    def _judge_events(self) -> None:
        for id_, (kit, step) in self._taken.items():
            row = self._events.get(id_)
            if row is None or row["status"] not in ("processed", "held"):
                is_now = row["status"] if row else "not there"
                self.verdict.lost.append(f"{id_} (kit {kit}, {step}): answered 200, is {is_now}")
            elif row["status"] == "held":
                self.verdict.held += 1
                if not self._has_case("held", event_id=id_):
                    self.verdict.wrong.append(f"{id_}: held, and nobody is told")

    def _told(self) -> dict[int, dict[str, list[Row]]]:
        """Kits → the steps that were taken → their events in the ledger that are processed."""
        told: dict[int, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
        for id_, (kit, step) in self._taken.items():
            if id_ in self._events and self._events[id_]["status"] == "processed":
                told[kit][step].append(self._events[id_])
        return told

    def _judge_rule(
        self,
        kit: Kit,
        name: str,
        rule: Row,
        events: list[Row],
        steps: Mapping[str, list[Row]],
        rows: Mapping[tuple[str, str, str], list[Row]],
    ) -> None:
        later = STEPS[STEPS.index(rule["event"]) + 1 :]
        may_be_late = not rule.get("even_if_late") and any(step in steps for step in later)
        obligation: list[Row] = []
        for channel in rule["channels"]:
            where = f"kit {kit.number}, {name}, {channel}"
            found = rows.get((name, channel, kit.address(rule["to"], channel)), [])
            if not found and may_be_late and all(self._was_overtaken(e, name) for e in events):
                self.verdict.overtaken += 1
                continue
            self.verdict.owed += 1
            if not found:
                self.verdict.lost.append(f"{where}: there is no message")
            elif len(found) > 1:
                self.verdict.twice.append(f"{where}: {len(found)} rows")
            for row in found:
                if row["status"] == "cancelled" and row["reason"].startswith(OVERTAKEN):
                    self.verdict.overtaken += 1
                    if not may_be_late:
                        self.verdict.lost.append(f"{where}: {row['id']} cancelled as overtaken")
            obligation += found
        for channel in rule.get("fallback", ()):
            made = rows.get((name, channel, kit.address(rule["to"], channel)), [])
            if made and not all(self._may_fail(row) for row in obligation):
                ids = [row["id"] for row in (*obligation, *made)]
                self.verdict.wrong.append(f"kit {kit.number}, {name}: a fallback for nothing {ids}")
            obligation += made
        self._judge_obligation(f"kit {kit.number}, {name}", rule, obligation)

    def _judge_obligation(self, where: str, rule: Row, obligation: list[Row]) -> None:
        """Where nobody was reached the fallback was tried, and a person knows."""
        if not obligation or any(
            self._is_alive(row) or self._is_overtaken(row) for row in obligation
        ):
            return
        if rule.get("fallback") and not any(row["is_fallback"] for row in obligation):
            self.verdict.lost.append(f"{where}: failed, and no fallback was tried")
        if not any(self._has_case("unreached", notification_id=row["id"]) for row in obligation):
            ids = [(row["id"], row["status"], row["reason"]) for row in obligation]
            self.verdict.lost.append(f"{where}: reached nobody, and nobody is told: {ids}")

    def _judge_message(self, row: Row) -> None:
        """One row: it has ended, for a reason that is true, and went out as often as it may."""
        accepted, status = self._accepted[row["id"]], row["status"]
        where = f"{row['id']} ({row['rule']}, {row['channel']})"
        if status in ("sent", "delivered") and not accepted:
            self.verdict.lost.append(f"{where}: {status}, but the provider never had it")
        elif status == "unknown":
            self.verdict.unknown += 1
            if self._resends(row) or not self._has_case("unknown", notification_id=row["id"]):
                self.verdict.lost.append(f"{where}: unknown for ever, and nobody is told")
        elif status in FAILURES and not self._bad[row["id"]]:
            self.verdict.lost.append(f"{where}: {status} for nothing: {row['reason']}")
        elif status == "cancelled" and not self._may_be_cancelled(row):
            self.verdict.lost.append(f"{where}: cancelled for nothing: {row['reason']}")
        elif status not in ("sent", "delivered", *FAILURES, "cancelled"):
            self.verdict.lost.append(f"{where}: is {status}: {row['reason']}")
        if len(accepted) > 1:
            self._judge_twice(row, accepted, where)
        self._judge_sends(row, accepted, where)

    def _judge_twice(self, row: Row, accepted: list[Row], where: str) -> None:
        once_more = "30008" in self._bad[row["id"]] and len(accepted) == 2
        trail = [attempt["outcome"] for attempt in self._attempts[row["id"]]]
        is_known = "unknown" in trail or row["id"] in self._sent_again
        by_rule = row["channel"] == "email" and self._resends(row) and is_known
        if once_more or by_rule:
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
        """By the providers' own lists alone: nobody has the same words from two messages."""
        for one in self._accepted[""]:
            self.verdict.wrong.append(f"{one['service']} has {one['id']}, of which no ledger knows")
        words: dict[tuple[str, str], set[str]] = defaultdict(set)
        for id_, found in self._accepted.items():
            for one in found:
                if one["to"] != STAFF:
                    words[one["to"], one["words"]].add(id_)
        for ids in words.values():
            if len(ids) > 1:
                self.verdict.twice.append(f"the same words to one person: {sorted(ids)}")

    def _resends(self, row: Row) -> bool:
        return bool(self._rules.get(row["rule"], {}).get("on_unknown", "resend") == "resend")

    def _has_case(self, kind: str, **about: str) -> bool:
        return any(
            case["kind"] == kind and all(case[key] == value for key, value in about.items())
            for case in self._cases
        )

    @staticmethod
    def _is_alive(row: Row) -> bool:
        return row["status"] in ("sent", "delivered", "unknown")

    @staticmethod
    def _is_overtaken(row: Row) -> bool:
        return row["status"] in ("cancelled", *FAILURES) and OVERTAKEN in str(row["reason"])

    def _may_fail(self, row: Row) -> bool:
        return bool(self._bad[row["id"]]) or row["address"] in self._unwanted

    def _may_be_cancelled(self, row: Row) -> bool:
        if str(row["reason"]).startswith(OPTED_OUT):
            return row["address"] in self._unwanted
        return str(row["reason"]).startswith((OVERTAKEN, NOT_NEEDED))

    @staticmethod
    def _was_overtaken(event: Row, rule: str) -> bool:
        decisions = {one["rule"]: one["reason"] for one in event["decisions"] or ()}
        return str(decisions.get(rule, "")).startswith(OVERTAKEN)
