"""The ledger under any order of whatever may happen (fault 12), against a small model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from relay.channels.base import Found, Outcome
from relay.jobs import compose, deliver
from relay.jobs.follow_up import ONCE_MORE, FollowUps
from relay.jobs.reconcile import Reconciler
from relay.jobs.rule_context import ContextBuilder
from relay.lab.events import EVENTS
from relay.lab.facts import Facts, record, resource
from relay.ledger import attempts as ledger_attempts
from relay.ledger import events as ledger_events
from relay.ledger import receipts, replay
from relay.ledger.attempts import Claim
from relay.ledger.database import Database
from relay.ledger.events import Kit
from relay.ledger.holds import suppressions
from relay.ledger.schema import attempts, cases, events, notifications
from relay.messages.templates import Message
from relay.rules import planner, stops
from relay.rules.model import Ending, Plan, Rule, case_digest
from relay.rules.receipts import Receipt
from relay.rules.statuses import ALERT, ALIVE, FAILED, OURS
from tests.rows import (
    MONTH,
    POLICY,
    empty,
    incoming,
    replay_event,
    replay_notification,
    rows,
    suppress,
    time_passes,
)

KITS, CHANNELS = ("1", "2", "3"), ("sms", "email")
SHIPPED, DELIVERED = "order.shipped", "order.delivered"
RESULTS, RETEST = "lab_results.complete", "test_registration.retest"
RULES = {
    one.name: one
    for one in (
        Rule("kit", SHIPPED, "customer", ("sms",), "kit", fallback=("email",)),
        Rule("arrived", DELIVERED, "customer", CHANNELS, "arrived", on_unknown="hold"),
        Rule("results", RESULTS, "patient", ("email",), "results", fallback=("sms",)),
        Rule("retest", RETEST, "patient", ("sms",), "retest"),
    )
}
# Two phones that may be any kit's, one that is no mobile, and none at all; likewise addresses.
PHONES = (*["+447700900001", "+447700900002"] * 3, "020 7946 0018", None)
MAILS = ("jane@example.org", "jane@example.org", "ann@example.org", None)
ADDRESSES = st.sampled_from([("sms", one) for one in PHONES[:2]] + [("email", MAILS[0])])
MOMENTS = st.sampled_from([1, 31, 61, 121, 601, 901, 901, 1801, 7200, 72 * 3600])
ANY = st.integers(0, 7)  # which of those there are
OLD = ("has come.", "has begun since.")  # how the reason ends of what is no news any more
PARTS = ("sweep", "look", "follow_up")  # the clock's work
FINDS = st.sampled_from(["right", "right", "right", "unwanted", "broken"])

# What a status may become within one step, besides staying what it is.
ENDS = {"sent", "delivered", *FAILED}
BECOMES: dict[str, set[str]] = {
    "created": {"sending", "scheduled", "cancelled", *ENDS},
    "scheduled": {"created", "sending", "cancelled", *ENDS},
    "sending": {"created", "scheduled", "unknown", "cancelled", *ENDS},
    "unknown": {"created", "cancelled", *ENDS},
    "sent": {"delivered", "temporary-failure", "permanent-failure"},
    # Replayed with its event it waits again, and may be no news any more: both in one step.
    "temporary-failure": {"created", "cancelled", "permanent-failure", "delivered"},
    "permanent-failure": {"created", "cancelled", "delivered"},
    "technical-failure": {"created", "cancelled", "delivered"},
    "validation-failed": {"created", "cancelled"},
    "cancelled": {"created", "validation-failed", "delivered"},
    "delivered": set(),
}
EMAIL_BECOMES = {**BECOMES, "delivered": BECOMES["sent"] - {"delivered"} | {"sent"}}  # it bounced
OUTCOMES: dict[str, set[str]] = {
    "started": {"accepted", "rejected", "unknown"},
    "unknown": {"accepted", "rejected"},
    "accepted": set(),
    "rejected": set(),
}

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Fate:
    """What becomes of a send: whether the provider has it, and what the worker hears of it."""

    takes: bool
    hears: Outcome | None  # None: it is killed before it hears anything
    tries: int = 1
    is_slow: bool = False  # it hears of it, and tells the ledger later


SILENT = Outcome("unknown", "The provider did not answer.")
FATES = {
    "accepted": Fate(True, Outcome("accepted")),
    "lost, taken": Fate(True, SILENT),
    "lost, not taken": Fate(False, SILENT),
    "killed, taken": Fate(True, None),
    "killed, not taken": Fate(False, None),
    "slow, taken": Fate(True, Outcome("accepted"), is_slow=True),
    "slow, not taken": Fate(False, Outcome("rejected", "Busy.", "20429"), is_slow=True),
    "busy": Fate(False, Outcome("rejected", "Busy.", "20429")),
    "busy for a day": Fate(False, Outcome("rejected", "Busy.", "20429"), tries=99),
    "no mobile": Fate(False, Outcome("rejected", "No mobile.", "21614", permanent=True)),
    "opted out": Fate(
        False, Outcome("rejected", "Opted out.", "21610", permanent=True, suppress="STOP")
    ),
}
FATE = st.sampled_from(["accepted", "accepted", "lost, taken", *FATES])


class Providers:
    """The model of both: what they took, by the attempt that brought it."""

    def __init__(self) -> None:
        self.took: dict[str, Claim] = {}
        self.failed: set[str] = set()  # attempts of which they told that they did not arrive
        self.answers = True

    def awaits_receipt(self, _: Message) -> bool:
        """They tell of each message."""
        return True

    def find(self, message: Message, _: datetime, taken: frozenset[str]) -> Found:
        """Texts can be looked for, by address and words."""
        if not self.answers:
            return Found(failed="It cannot be reached.")
        for attempt, claim in self.took.items():
            alike = (message.channel, message.address, message.text) == _as_sent(claim)
            if alike and message.channel == "sms" and f"SM{attempt}" not in taken:
                return Found(f"SM{attempt}")
        return Found()

    def asked(self) -> list[str]:
        """Of texts they can be asked what became of each."""
        return ["sms"]

    def look(self, _: str, provider_id: str) -> Found:
        """They have told all they know by then."""
        return Found(provider_id) if self.answers else Found(failed="It cannot be reached.")


def _as_sent(claim: Claim) -> tuple[str, str, str]:
    return claim.channel, claim.address, f"Words of {claim.rule}."


class LedgerMachine(RuleBasedStateMachine):
    """Workers, providers, patients and the lab, each doing anything at any moment."""

    def __init__(self, db: Database) -> None:
        super().__init__()
        self.db = db
        empty(db)
        self.providers = Providers()
        clinic = SimpleNamespace(record=lambda: record("clinic", {"timezone": POLICY.zone}))
        config: Any = SimpleNamespace(by_name=RULES, rules=(), policy=POLICY, clinic=clinic)
        nothing: Any = None  # no lab is asked, and no template is rendered
        self.contexts = ContextBuilder(config, db, nothing, nothing)
        self.care = FollowUps(config, db, self.contexts)
        self.reconciler = Reconciler(config, db, cast(Any, self.providers))
        self.people: dict[str, tuple[str | None, str | None]] = {}
        self.suppressed: set[tuple[str, str]] = set()
        self.claimed: list[Claim] = []
        self.begun: list[Claim] = []
        self.heard: list[tuple[Claim, Ending]] = []
        self.were: dict[str, str] = {}
        self.bounces = 0
        self.let_be: set[str] = set()  # failed messages that were no news any more

    # The lab

    @initialize(
        phones=st.tuples(*[st.sampled_from(PHONES)] * len(KITS)),
        names=st.tuples(*[st.sampled_from([SHIPPED, DELIVERED, RESULTS])] * len(KITS)),
    )
    def kits_are_sold(self, phones: tuple[str | None, ...], names: tuple[str, ...]) -> None:
        """Their people may have the same phone, or none. Something has come about each."""
        self.people = {kit: (phone, MAILS[0]) for kit, phone in zip(KITS, phones, strict=True)}
        for kit, name in zip(KITS, names, strict=True):
            self.comes(kit, name)

    @rule(kit=st.sampled_from(KITS), phone=st.sampled_from(PHONES), mail=st.sampled_from(MAILS))
    def moves(self, kit: str, phone: str | None, mail: str | None) -> None:
        """The lab has another phone and address for somebody by now."""
        self.people[kit] = (phone, mail)

    @rule(kit=st.sampled_from(KITS), name=st.sampled_from([SHIPPED, DELIVERED, RESULTS, RETEST]))
    def comes(self, kit: str, name: str) -> None:
        """An event is posted, maybe once more, and processed."""
        data = {"order_id": f"o-{kit}"}
        if EVENTS[name].resource == "registration":
            data = {"testregistration_id": f"r-{kit}"}
        if name == RETEST:
            data["retest_testregistration_id"] = f"t-{kit}"
        ledger_events.record_webhook(self.db, incoming(name, **data), MONTH)
        self.process()

    def process(self) -> None:
        """What is due is planned by the rules."""
        for event in ledger_events.lease_events(self.db, 10):
            facts = self.facts(EVENTS[event.name].resource, next(iter(event.data.values()))[-1])

            def decide(kit: Kit, event: Any = event, facts: Facts = facts) -> Plan:
                context = self.contexts.of_event(event, facts, kit)
                every = list(RULES.values())
                return planner.plan(context, every, POLICY, kit.notified, _now(), kit.waiting)

            with self.db.write() as connection:
                ledger_events.plan_and_mark_processed(connection, event, facts, decide)

    def facts(self, kind: str, kit: str) -> Facts:
        """What the lab says of a kit now."""
        phone, mail = self.people[kit]
        person = {"phone_number": phone, "email": mail}
        if kind == "order":
            order = {"id": f"o-{kit}", "test_registrations": [{"id": f"r-{kit}"}]}
            return Facts(order=resource(order, "order"), customer=person)
        registration = resource({"id": f"r-{kit}", "status": "success"}, "registration")
        return Facts(registration=registration, patient=person)

    # The workers

    @rule(channel=st.sampled_from(CHANNELS), limit=st.integers(1, 3))
    def claim(self, channel: str, limit: int) -> None:
        """A worker claims what is due. Whoever is suppressed at that moment is marked so."""
        for claim in ledger_attempts.claim(self.db, channel, limit):
            assert bool(claim.stopped_by) is ((channel, claim.address) in self.suppressed)
            self.claimed.append(claim)

    @rule(which=ANY, finds=FINDS, fate=FATE)
    def go_on(self, which: int, finds: str, fate: str) -> None:
        """A worker takes the next step with one of the messages that are in hand."""
        steps = [(self.prepare, finds), (self.send, fate), (self.finish,)]
        held = [self.claimed, self.begun, self.heard]
        if some := [step for step, there in zip(steps, held, strict=True) if there]:
            step, *given = some[which % len(some)]
            step(which // len(some), *given)

    def prepare(self, which: int, finds: str) -> None:
        """A worker puts a message together, or finds that it must not go out."""
        if (claim := _take(self.claimed, which)) is None:
            return
        if claim.stopped_by:
            self.heard.append((claim, compose.stopped_ending(claim.channel, claim.stopped_by)))
        elif finds == "unwanted" and claim.kind != ALERT:
            self.heard.append((claim, compose.cancelled_ending("It is not wanted any more.")))
        elif finds == "broken":
            self.heard.append((claim, Ending("rejected", "technical-failure", "No such name.")))
        elif ledger_attempts.begin(self.db, claim, {"text": _as_sent(claim)[2]}):
            self.require_not_sent(claim)
            self.begun.append(claim)
        else:
            self.heard.append((claim, deliver.lapsed_ending()))

    def require_not_sent(self, claim: Claim) -> None:
        """It goes out twice only if nobody knows of the first, or if that is known to be lost."""
        for attempt in rows(self.db, attempts, notification_id=claim.id):
            if attempt["id"] in self.providers.took.keys() - self.providers.failed:
                assert attempt["outcome"] == "unknown", "It would be sent twice."

    def send(self, which: int, fate: str) -> None:
        """A provider takes a message or not, and the worker hears of it or not."""
        if (claim := _take(self.begun, which)) is None:
            return
        assert not claim.stopped_by
        what = FATES[fate]
        if what.takes:
            self.providers.took[claim.attempt_id] = claim
        if what.hears is None:
            return
        outcome = replace(what.hears, provider_id=f"SM{claim.attempt_id}")
        tried = replace(claim, tries=max(what.tries, claim.tries))
        self.heard.append(
            (claim, deliver.handed_over_ending(tried, outcome, awaits_receipt=True, pause=None))
        )

    def finish(self, which: int) -> None:
        """A worker commits what came of a claim."""
        if (heard := _take(self.heard, which)) is None:
            return
        claim, ending = heard
        if ending.outcome == "unknown":
            ending = replace(ending, provider_id=None)
        if ledger_attempts.finish(self.db, claim, ending) and ending.suppress:
            self.suppressed.add((claim.channel, claim.address))

    @rule(channel=st.sampled_from(CHANNELS), fates=st.lists(FATE, min_size=1, max_size=3))
    def deliver(self, channel: str, fates: list[str]) -> None:
        """A worker does all of this for some messages, undisturbed."""
        for fate in fates:
            claimed, begun, heard = map(len, (self.claimed, self.begun, self.heard))
            self.claim(channel, 1)
            if len(self.claimed) == claimed:
                return
            self.promises_are_kept()
            self.prepare(claimed, "right")
            if len(self.begun) > begun:
                self.send(begun, fate)
            if len(self.heard) > heard and not FATES[fate].is_slow:
                self.finish(heard)
            self.promises_are_kept()

    @rule(which=ANY)
    def crash(self, which: int) -> None:
        """A worker is gone, with what it had in hand."""
        held: list[list[Any]] = [self.claimed, self.begun, self.heard]
        _take(held[which % 3], which)

    # The clock

    @rule(
        seconds=MOMENTS,
        times=st.integers(1, 3),
        parts=st.just(PARTS) | st.sets(st.sampled_from(PARTS)).map(sorted),
        answers=st.booleans() | st.just(True),
    )
    def tick(self, seconds: int, times: int, parts: Sequence[str], answers: bool) -> None:
        """Time passes, and some of the clock's work is done, or all of it."""
        self.providers.answers = answers
        for _ in range(times):
            time_passes(self.db, timedelta(seconds=seconds))
            for part in parts:
                getattr(self, part)()
                self.promises_are_kept()

    def sweep(self) -> None:
        """What lost workers had claimed lapses; what nobody told of is given up."""
        ledger_attempts.lapse(self.db)
        self.promises_are_kept()
        receipts.give_up(self.db, self.providers.asked())

    def look(self) -> None:
        """What is unknown is looked for."""
        for look in self.reconciler.due(10):
            self.reconciler.reconcile(look)

    def follow_up(self) -> None:
        """What reached nobody is seen to."""
        for item in self.care.due(10):
            self.care.follow_up(item)

    # The providers and the patients

    @rule(
        which=ANY,
        told=st.sampled_from(
            [
                ("sent", "", ""),
                ("delivered", "", ""),
                ("temporary-failure", sorted(ONCE_MORE)[0], ""),
                ("temporary-failure", OURS, ""),
                ("permanent-failure", "30005", ""),
                ("permanent-failure", "bounce", "provider, bounce"),
            ]
        ),
        hour=st.integers(0, 3),
    )
    def receive(self, which: int, told: tuple[str, str, str], hour: int) -> None:
        """A provider tells of what it took: early, late, twice, in any order. Of an email it tells
        when that happened.
        """
        if (took := _pick(list(self.providers.took.items()), which)) is None:
            return
        attempt, claim = took
        state, code, why = told
        reason = "It did not arrive." if code else ""
        moment = _now() + timedelta(hours=hour) if claim.channel == "email" else None
        receipt = Receipt(state, state, attempt, f"SM{attempt}", code, reason, why, moment)
        if receipts.record(self.db, claim.channel, [receipt]) and why:
            self.suppressed.add((claim.channel, claim.address))
        if state in FAILED:
            self.providers.failed.add(attempt)

    @rule(hour=st.integers(0, 3))
    def bounce(self, hour: int) -> None:
        """An email comes back that its provider cannot name."""
        self.bounces += 1  # each in a second of its own, or it would be the same one told again
        moment = _now() + timedelta(hours=hour, seconds=self.bounces)
        how = {"reason": "It came back.", "happened_at": moment, "address": MAILS[0]}
        told = Receipt("permanent-failure", "bounce", suppress="bounce", **how)
        self.providers.failed |= {
            one.attempt_id for one in receipts.record(self.db, "email", [told])
        }
        self.suppressed.add(("email", str(MAILS[0])))

    @rule(whom=ADDRESSES, stops=st.booleans())
    def stop(self, whom: tuple[str, str], stops: bool) -> None:
        """Somebody wants nothing more this way, or wants it again."""
        if stops:
            suppress(self.db, *whom, suppressions.STOP)
            self.suppressed.add(whom)
        else:
            with self.db.write() as connection:
                suppressions.unsuppress(connection, *whom)
            self.suppressed.discard(whom)

    # The staff

    @rule(which=ANY, what=st.sampled_from(["message", "event", "resend", "leave"]))
    def decide(self, which: int, what: str) -> None:
        """Somebody has a failed message or an event done again, or decides about an unknown one."""
        if what == "event":
            there = sorted(rows(self.db, events), key=lambda row: row["identity"])
            replay_event(self.db, _pick(there, which)["id"])
            self.process()
            return
        there = sorted(rows(self.db, notifications), key=_name)
        with self.db.read() as connection:
            failed = replay.failed_ids(connection)
        if what == "message" and (row := _pick([r for r in there if r["id"] in failed], which)):
            assert replay_notification(self.db, row["id"])
        elif row := _pick([r for r in there if r["status"] == "unknown"], which):
            with self.db.write() as connection:
                this = notifications.c.id == row["id"]
                replay.decide_unknown(connection, this, send=what == "resend")

    # What holds whatever happens

    @invariant()
    def promises_are_kept(self) -> None:
        """All of them, after each step."""
        there, tried = rows(self.db, notifications), rows(self.db, attempts)
        for channel, becomes in (("sms", BECOMES), ("email", EMAIL_BECOMES)):
            mine = [row for row in there if row["channel"] == channel]
            self.nothing_goes_backwards(mine, "status", becomes)
        self.nothing_goes_backwards(tried, "outcome", OUTCOMES)
        self.each_is_in_one_workers_hands(tried)
        self.each_end_has_its_reason(there)
        self.nobody_is_forgotten(there)

    def nothing_goes_backwards(
        self, there: Rows, column: str, becomes: Mapping[str, set[str]]
    ) -> None:
        """Each becomes only what it may become; a text that was delivered stays so."""
        for row in there:
            was = self.were.get(row["id"], row[column])
            assert row[column] == was or row[column] in becomes[was], (was, row[column])
            self.were[row["id"]] = row[column]

    def each_is_in_one_workers_hands(self, tried: Rows) -> None:
        """No message has two attempts that are under way."""
        started = [row["notification_id"] for row in tried if row["outcome"] == "started"]
        assert len(started) == len(set(started))

    def each_end_has_its_reason(self, there: Rows) -> None:
        """Who looks at a message that did not go out reads why."""
        for row in there:
            assert row["reason"] or row["status"] not in (*FAILED, "unknown", "cancelled"), row

    def nobody_is_forgotten(self, there: Rows) -> None:
        """Whom nothing has reached, and nothing may still reach, is on the worklist."""
        digests = {row["digest"] for row in rows(self.db, cases, closed_at=None)}
        # Remembered: another receipt of the same failure writes its own reason over this one.
        self.let_be |= {row["id"] for row in there if row["reason"].endswith(OLD)}
        self.let_be -= {row["id"] for row in there if row["status"] in ALIVE}
        seen_to = {
            row["family"]
            for row in there
            if row["follow_up_at"] or row["id"] in self.let_be or _is_seen_to(row)
        }
        for row in there:
            if row["family"] not in seen_to and row["kind"] != ALERT:
                assert case_digest("unreached", row["family"]) in digests, row


def _pick(there: Sequence[Any], which: int) -> Any:
    return there[which % len(there)] if there else None


def _take(held: list[Any], which: int) -> Any:
    return held.pop(which % len(held)) if held else None


def _name(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a message is called from run to run: ids are random."""
    return tuple(row[part] for part in ("rule", "subject", "round", "channel", "address"))


def _is_seen_to(row: Mapping[str, Any]) -> bool:
    """Whether nobody need be told of a message: it is on its way, or is not wanted any more."""
    is_stopped = row["reason"] in [stops.reason(name, row["channel"]) for name in stops.REASONS]
    unwanted = row["status"] == "cancelled" and not is_stopped
    return row["status"] in ALIVE or unwanted


def _now() -> datetime:
    return datetime.now(UTC)


@pytest.mark.parametrize(
    ("examples", "steps"), [(5, 25), pytest.param(20, 40, marks=pytest.mark.long)]
)
def test_whatever_happens_the_ledger_keeps_its_promises(
    examples: int, steps: int, db: Database
) -> None:
    """No state goes backwards, nothing is sent twice blindly or to those who want none, each end
    has its reason, and nobody is forgotten, whatever the order.
    """
    run_state_machine_as_test(
        lambda: LedgerMachine(db),
        # In `make test` the same examples each time; others in `make test-long`.
        settings=settings(
            max_examples=examples, stateful_step_count=steps, derandomize=examples < 20
        ),
    )
