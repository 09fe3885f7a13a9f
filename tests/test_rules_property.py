"""rules.plan over facts, rules and histories of any kind, held against a reading of its own."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache

from hypothesis import given
from hypothesis import strategies as st

from relay.config.schema import ON_UNKNOWN
from relay.lab.events import EVENTS, RESULTS, STAGES
from relay.lab.facts import PERSONS
from relay.rules import planner as rules_module
from relay.rules.expressions import Condition, RuleContext
from relay.rules.model import AlreadyNotified, Plan, Policy, Rule, Staff, Step, Waiting
from relay.rules.planner import plan
from relay.rules.schedule import Digest, Window
from tests.test_rules import LONDON, MAIL, MOBILE, NOON, context, facts, rule

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
PHONES = st.sampled_from([MOBILE, "07700 900000", "020 7946 0018", "+1 202 555 0143", "x", None, 7])
MAILS = st.sampled_from([MAIL, "JANE@EXAMPLE.COM", "nobody", "a@b.c\r\nBcc: x@y.z", None, []])
STATUSES = st.sampled_from(["success", "success", "cancelled", "fail", None])
CHANNELS = st.permutations(["sms", "email"]).flatmap(
    lambda order: st.integers(1, 2).map(lambda used: (tuple(order[:used]), tuple(order[used:])))
)
EVENT = st.sampled_from(["order.shipped", "test_registration.complete", RESULTS])
ANY_EVENT = st.sampled_from(sorted(EVENTS))
NAMES = ["a", "b", "c"]
DAILY = Digest.parse("daily 08:00")
ROLES = st.sampled_from([*PERSONS, "desk"])
WINDOWS = st.sampled_from(["08:00-20:00", "Mon-Fri 08:00-20:00", "Fri 22:00-06:00", "always"])
CONDITIONS = st.sampled_from(["registration.status", "registration.id < 1", "recipient.role"])
STEPS = st.builds(
    Step,
    name=ANY_EVENT,
    round=st.sampled_from([0, 0, 0, 1, 2]),
    received_at=st.sampled_from([-180, -90, -2, -1, 0, 1]).map(lambda n: NOON + n * MINUTE),
)


condition = cache(Condition)  # to compile one takes long


@st.composite
def any_rule(draw: st.DrawFn, name: str) -> Rule:
    """A rule with each key as config.toml may have it."""
    channels, rest = draw(CHANNELS)
    event, when = draw(EVENT), draw(st.none() | st.none() | CONDITIONS)
    to = draw(ROLES)
    digest = draw(st.sampled_from([None, DAILY])) if to == "desk" else None
    made = rule(
        name,
        event=event,
        to=to,
        channels=channels,
        fallback=() if digest else draw(st.sampled_from([(), rest])),
        after=draw(st.sampled_from([timedelta(), timedelta(), HOUR, timedelta(days=10)])),
        unless=tuple(draw(st.just(set()) | st.sets(ANY_EVENT, max_size=2)) - {event}),
        send_window=draw(st.none() | WINDOWS.map(Window.parse)),
        even_if_late=draw(st.sampled_from([False, False, True])),
        on_unknown=draw(st.sampled_from(ON_UNKNOWN)),
        discreet=draw(st.booleans()),
        digest=digest,
        hold=draw(st.sampled_from([timedelta(), HOUR])) if to in PERSONS else timedelta(),
        enabled=draw(st.sampled_from([True, True, True, False])),
    )
    return replace(made, when=when and condition(when, event))


RULES = st.lists(st.sampled_from(NAMES), unique=True).flatmap(
    lambda names: st.tuples(*map(any_rule, names))
)
HISTORIES = st.frozensets(
    st.tuples(st.sampled_from(NAMES), ROLES, st.sampled_from(["sms", "email"]))
)
STAFFS = st.builds(
    Staff,
    st.fixed_dictionaries(
        {
            "email": st.lists(
                st.sampled_from(["a@example.org", "a@EXAMPLE.org", "b@example.org"])
            ).map(tuple),
            "sms": st.lists(st.sampled_from(["07700900100", "+447700900100", "0800 123 4567"])).map(
                tuple
            ),
        }
    ),
)
POLICIES = st.builds(
    Policy,
    st.just(LONDON),
    WINDOWS.map(Window.parse),
    STAFFS.map(lambda staff: {"desk": staff}),
    bank_holidays=st.frozensets(st.dates(NOON.date(), NOON.date() + 3 * timedelta(days=1))),
)
OCCASIONS = st.builds(
    lambda of, event, step, known: replace(
        context(of, event), step=replace(step, name=event), known=tuple(known)
    ),
    st.builds(facts, PHONES, MAILS, STATUSES),
    EVENT,
    STEPS,
    st.lists(STEPS, max_size=4),
)
NOWS = (st.integers(1, 3) | st.integers(1, 24 * 60)).map(lambda minutes: NOON + minutes * MINUTE)


def is_news(one: Rule, step: Step, known: tuple[Step, ...], due: datetime, now: datetime) -> bool:
    """Whether a step is still to be told, by what docs/decisions.md says of it."""
    here = [other for other in known if other.round >= step.round]
    if any(other.name in one.unless for other in here):
        return False
    if one.even_if_late:
        return True
    waits = due > now or now - step.received_at > MINUTE
    before = {other for other in here if other.received_at <= step.received_at}
    retests = {other for other in here if other.round > step.round}
    if step.name == RESULTS:  # what the lab says of the rest is news; only a later retest is not
        return not retests - before
    old = set(here) if waits else before
    stages = [EVENTS[o.name].stage for o in old - retests if EVENTS[o.name].stage]
    overtaken = any(STAGES.index(s) > STAGES.index(str(EVENTS[step.name].stage)) for s in stages)
    return not (retests & old) and (bool(one.unless) or not overtaken)


def make(
    of: RuleContext, rules: tuple[Rule, ...], policy: Policy, told: AlreadyNotified, now: datetime
) -> Plan:
    """The plan; twice, since the same facts give the same."""
    found = plan(of, rules, policy, told, now)
    assert found == plan(of, rules, policy, told, now)
    return found


@given(of=OCCASIONS, rules=RULES, policy=POLICIES, told=HISTORIES, now=NOWS)
def test_plan_keeps_its_promises_whatever_it_is_given(
    of: RuleContext, rules: tuple[Rule, ...], policy: Policy, told: AlreadyNotified, now: datetime
) -> None:
    """One notice an identity; nobody told twice, of a cancelled test's results or by a rule that is
    off; a sentence for each that does not wait; each rule for the event answered for, and no other.
    """
    found = make(of, rules, policy, told, now)
    assert max(Counter(notice.identity for notice in found.notices).values(), default=1) == 1
    by_name = {one.name: one for one in rules}
    for notice in found.notices:
        waits = notice.status in ("created", "scheduled")
        if notice.waits_for == "order":  # for whom it is, is not known yet
            assert (notice.status, notice.address, notice.role) == ("scheduled", "", "customer")
        else:
            assert (notice.status == "scheduled") == (waits and notice.due_at > now)
            assert waits is not bool(notice.reason)
            assert notice.address or not waits
        assert by_name[notice.rule].enabled
        if notice.role in PERSONS:
            assert (notice.rule, notice.role, notice.channel) not in told
    for notice in found.notices:
        if notice.digest and not notice.is_digest:
            told_in = [one for one in found.notices if one.identity == notice.digest]
            assert [(one.address, one.due_at) for one in told_in] == [
                (notice.address, notice.due_at)
            ]
    reasons = [*(d.reason for d in found.decisions), *(n.reason for n in found.notices if n.reason)]
    assert all(len(reason.split()) > 2 and reason.endswith(".") for reason in reasons), reasons
    if of.kind.name == RESULTS and (of.facts.registration or {})["status"] == "cancelled":
        assert found.notices == ()
    answered = {notice.rule for notice in found.notices} | {d.rule for d in found.decisions}
    assert answered == {one.name for one in rules if one.event == of.kind.name}


@given(of=OCCASIONS, rules=RULES, policy=POLICIES, now=NOWS)
def test_nothing_stale_is_planned_and_nothing_new_is_refused_for_it(
    of: RuleContext, rules: tuple[Rule, ...], policy: Policy, now: datetime
) -> None:
    """What a later step has overtaken is never planned, and no other rule is refused for that;
    what is planned goes out after its delay, in its window, and on no bank holiday. What waits to
    hear who its customer is waits longer, and is planned again before it goes out.
    """
    found = make(of, rules, policy, frozenset(), now)
    planned = {notice.rule: notice for notice in found.notices}
    refused = {decision.rule: decision.reason for decision in found.decisions}
    for one in rules:
        if one.event != of.kind.name:
            continue
        window = one.send_window or policy.send_window
        earliest = max(now, of.step.received_at + one.after)
        due = window.next_open(earliest, LONDON, policy.bank_holidays)
        if one.digest:
            due = rules_module.due(one, of, policy, now)
        news = is_news(one, of.step, of.known, due, now)
        if one.name in planned:
            assert news
            assert planned[one.name].due_at >= due >= earliest
            if planned[one.name].waits_for:
                continue
            assert planned[one.name].due_at == due or one.hold
            told_by_clock = one.digest and not one.send_window
            at = planned[one.name].due_at
            assert told_by_clock or window.is_open(at, LONDON, policy.bank_holidays)
        elif news:
            assert not refused[one.name].endswith(("has come.", "has begun since."))


@given(of=OCCASIONS, rules=RULES, policy=POLICIES, steps=st.tuples(STEPS, STEPS, STEPS), now=NOWS)
def test_what_waits_is_cancelled_when_the_event_makes_it_old(
    of: RuleContext, rules: tuple[Rule, ...], policy: Policy, steps: tuple[Step, ...], now: datetime
) -> None:
    """Of the messages that wait, those that the new step makes old are cancelled with a sentence,
    and no other: not one of a rule that config.toml has no more.
    """
    told = [(one, replace(step, name=one.event)) for one, step in zip(rules, steps, strict=False)]
    waiting = [Waiting(one.name, one.name, now + HOUR, step) for one, step in told]
    gone = [replace(one, id=f"gone {one.id}", rule="gone") for one in waiting]
    found = plan(of, rules, policy, frozenset(), now, [*waiting, *gone])
    old = {one.name for one, step in told if not is_news(one, step, (of.step,), now + HOUR, now)}
    assert set(found.cancelled) == old
    assert all(reason.endswith(".") for reason in found.cancelled.values())
