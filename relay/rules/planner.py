"""The rules of config.toml, and the pure decision they make: event + facts → planned notices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

from relay.errors import RenderError
from relay.fault_injection import hastened
from relay.lab.events import RESULTS, RETEST
from relay.lab.facts import PERSONS, Facts
from relay.rules import addresses, alerts
from relay.rules.channels import CHANNELS
from relay.rules.expressions import Condition, RuleContext
from relay.rules.model import AlreadyNotified, Case, Decision, Notice, Plan, Policy, Rule, Waiting
from relay.rules.schedule import ALWAYS
from relay.rules.staleness import why_stale
from relay.rules.statuses import DIGEST, ITEM, RELEASE, WAITS_FOR_LAB, WAITS_FOR_ORDER

FRESH_SECONDS = 900.0  # facts older than this are fetched again before a message goes out
ORDER_SECONDS = 3600.0  # for the lab to say who ordered a kit
CUSTOMER = "customer"
STOPPED = "A person decided that this message is not to be sent."


def plan(
    context: RuleContext,
    rules: Sequence[Rule],
    policy: Policy,
    notified: AlreadyNotified,
    now: datetime,
    waiting: Iterable[Waiting] = (),
    closed_digests: frozenset[str] = frozenset(),
    stopped: frozenset[tuple[str, str]] = frozenset(),
) -> Plan:
    """Decide who gets which message about an event, and which waiting ones are out of date.

    Pure: the same facts give the same plan. `closed_digests` take no more items; `stopped` has the
    (rule, role) of each message about this kit and round that a person decided not to send.
    """
    plans = [
        Plan(decisions=(Decision(rule.name, STOPPED, is_final=True),))
        if (rule.name, rule.to) in stopped
        else plan_rule(rule, context, policy, notified, now, closed_digests)
        for rule in rules
        if rule.event == context.kind.name
    ]
    made = tuple(notice for one in plans for notice in one.notices)
    return Plan(
        notices=made,
        decisions=tuple(decision for one in plans for decision in one.decisions),
        cancelled=overtaken_messages(rules, context, now, waiting),
        cases=tuple(to_release(made, rules, policy, now)),
    )


def to_release(
    made: Sequence[Notice], rules: Sequence[Rule], policy: Policy, now: datetime
) -> Iterator[Case]:
    """Yield a case for each rule that holds its messages, on any channel: who they are for, and
    when they go out if nobody stops them.
    """
    holding = {rule.name for rule in rules if rule.hold}
    waiting = {
        notice.obligation: notice
        for notice in made
        if notice.rule in holding and notice.status == "scheduled"
    }
    for obligation, notice in waiting.items():
        when = notice.due_at.astimezone(policy.zone).strftime("%A %d %B at %H:%M")
        said = f"It is for the {notice.role}. If nobody stops it, it goes out on {when}."
        yield alerts.case(RELEASE, obligation, notice.subject, said, policy=policy, now=now)


def plan_rule(
    rule: Rule,
    context: RuleContext,
    policy: Policy,
    notified: AlreadyNotified,
    now: datetime,
    closed_digests: frozenset[str],
) -> Plan:
    """The notices of one rule that is about the event, or why there are none."""
    failed = ""
    try:
        due_at = due(rule, context, policy, now) + rule.hold
        reason = objection(rule, context, due_at, now)
        if reason:
            is_late = bool(why_stale(rule, context.step, context.known, due_at, now))
            is_final = is_late or not rule.enabled
            return Plan(decisions=(Decision(rule.name, reason, is_final),))
    except RenderError as error:
        failed = str(error)
    made = tuple(held(rule, policy, first_choice(rule, context, policy, now)))
    if not made:
        reason = f'"{rule.to}" has no address on its channels.'
        return Plan(decisions=(Decision(rule.name, reason),))
    planned: list[Notice] = []
    decisions: list[Decision] = []
    ways = sorted(channel for name, to, channel in notified if (name, to) == (rule.name, rule.to))
    for notice in made:
        earlier = earlier_channel(rule, notice, ways)
        if rule.to in PERSONS and earlier:
            reason = f"Already sent, or about to be, by {earlier}."
            decisions.append(Decision(rule.name, reason, is_final=True))
        elif failed:
            at = due(rule, context, policy, now)  # it does not wait for an answer or a release
            broken = replace(notice, due_at=at, waits_for=None, reason=failed)
            planned.append(replace(broken, status="technical-failure"))
        elif rule.digest and notice.address:
            planned += in_digest(rule, notice, policy, closed_digests)
        else:
            planned.append(asking(notice, now))
    return Plan(tuple(planned), tuple(decisions))


def asking(notice: Notice, now: datetime) -> Notice:
    """A notice; if its facts will be old when it is due, one that waits for the lab."""
    is_later = notice.due_at - now > timedelta(seconds=hastened(FRESH_SECONDS))
    if notice.status == "scheduled" and is_later and not notice.waits_for:
        return replace(notice, waits_for=WAITS_FOR_LAB)
    return notice


def earlier_channel(rule: Rule, notice: Notice, ways: Sequence[str]) -> str:
    """The channel, of all `ways`, that already took this to the notice's person; empty if none did.

    Each of a rule's channels sends regardless of the others. A fallback does not, nor does a
    channel that an edit has put in place of another.
    """
    if notice.channel in ways:
        return notice.channel
    others = [way for way in ways if notice.is_fallback or way not in rule.channels]
    return others[0] if others else ""


def overtaken_messages(
    rules: Sequence[Rule], context: RuleContext, now: datetime, waiting: Iterable[Waiting]
) -> dict[str, str]:
    """The ids of waiting or failed messages that the event makes out of date, with the reasons.
    Never failed ones about results or a retest: people must still hear of these.
    """
    by_name = {rule.name: rule for rule in rules}
    found = {}
    for one in waiting:
        rule = by_name.get(one.rule)
        if one.has_failed and one.step.name in (RESULTS, RETEST):
            continue
        known = one.known or (context.step,)
        reason = why_stale(rule, one.step, known, one.due_at, now) if rule else ""
        if reason:
            found[one.id] = reason
    return found


def objection(rule: Rule, context: RuleContext, due_at: datetime, now: datetime) -> str:
    """Why a rule does not apply; empty when it does. Raises RenderError if that is unclear."""
    if not rule.enabled:
        return "The rule is switched off (enabled = false)."
    is_cancelled = (context.facts.registration or {}).get("status") == "cancelled"
    if is_cancelled and context.kind.name == RESULTS:
        return "The test was cancelled."
    late = why_stale(rule, context.step, context.known, due_at, now)
    if late:
        return late
    if rule.when and not rule.when.holds(context.names_to(rule.to)):
        return unmet(rule.when)
    return ""


def unmet(when: Condition) -> str:
    """The reason that is recorded if a rule's `when` is not true of an event."""
    return f"Its condition is not met: {when.source}."


def last_objection(rule: Rule, context: RuleContext, now: datetime) -> str:
    """Why a message must not be handed over after all: its rule no longer applies, or a [never.…]
    forbids it. Raises RenderError if that is unclear.
    """
    if said := objection(rule, context, now, now):
        return said
    never = rule.forbidden_by(context.names_to(rule.to))
    return never.reason if never else ""


def first_choice(
    rule: Rule, context: RuleContext, policy: Policy, now: datetime
) -> tuple[Notice, ...]:
    """The notices on the rule's channels; also its fallback's if none of them has an address."""
    made = notices(rule, rule.channels, context, policy, now)
    if all(notice.status == "validation-failed" for notice in made):
        return made + fallback(rule, context, policy, now)
    return made


def held(rule: Rule, policy: Policy, made: Iterable[Notice]) -> Iterable[Notice]:
    """Yield the notices, each waiting for a person's decision if its rule has `hold`.

    Only an event's own notices are held: once one is released, it may go by a fallback or to
    another address at once.
    """
    for one in made:
        if rule.hold and one.status != "validation-failed":
            until = opening(rule, policy, one.due_at + rule.hold)
            yield replace(one, status="scheduled", due_at=until)
        else:
            yield one


def fallback(rule: Rule, context: RuleContext, policy: Policy, now: datetime) -> tuple[Notice, ...]:
    """The notices on the rule's fallback channels."""
    made = notices(rule, rule.fallback, context, policy, now)
    return tuple(replace(asking(notice, now), is_fallback=True) for notice in made)


def opening(rule: Rule, policy: Policy, now: datetime) -> datetime:
    """`now` when the rule's window is open, else the time when it next opens.

    A digest goes at its own times, unless the rule itself has a window.
    """
    window = rule.send_window or (ALWAYS if rule.digest else policy.send_window)
    return window.next_open(now, policy.zone, policy.bank_holidays)


def due(rule: Rule, context: RuleContext, policy: Policy, now: datetime) -> datetime:
    """When a rule's message is due: `after` its event, or now, within its window."""
    return next_due(rule, policy, max(now, context.step.received_at + rule.after))


def next_due(rule: Rule, policy: Policy, moment: datetime) -> datetime:
    """When the rule may send what is ready at `moment`: in its window, or in its next digest."""
    if rule.digest:
        moment = rule.digest.next_at(moment, policy.zone)
    return opening(rule, policy, moment)


def in_digest(
    rule: Rule, item: Notice, policy: Policy, closed_digests: frozenset[str]
) -> tuple[Notice, Notice]:
    """A notice as an item that ends at once, and its digest: the first that is not closed."""
    digest = digest_for(rule, item, policy)
    while digest.identity in closed_digests:
        item = replace(item, due_at=next_due(rule, policy, item.due_at))
        digest = digest_for(rule, item, policy)
    at = item.due_at.astimezone(policy.zone)
    reason = f"It is part of the digest of {at:%a %d %b, %H:%M}."
    as_item = replace(item, kind=ITEM, status="cancelled", reason=reason, digest=digest.identity)
    return as_item, digest


def digest_for(rule: Rule, item: Notice, policy: Policy) -> Notice:
    """The digest for an item's address that is due when the item is."""
    made = replace(
        item,
        kind=DIGEST,
        subject=f"digest {rule.name} {item.due_at.astimezone(policy.zone):%Y-%m-%d %H:%M}",
        round=0,
        status="scheduled",
        key=item.due_at.astimezone(UTC).isoformat(),
    )
    return replace(made, digest=made.identity)


def notices(
    rule: Rule, channels: Sequence[str], context: RuleContext, policy: Policy, now: datetime
) -> tuple[Notice, ...]:
    """A notice for each address of the recipient on these channels, due when the window is open.

    While Relay does not know who ordered a kit, a message to its customer waits for that, for an
    hour after its event was processed: that may be long after it came, and its order's may be next.
    """
    due_at = due(rule, context, policy, now)
    until = (context.facts_at or now) + timedelta(seconds=hastened(ORDER_SECONDS))
    awaits_order = rule.to == CUSTOMER and context.facts.customer is None and now < until
    made = []
    for channel in channels:
        for judged in recipient_addresses(rule.to, channel, context.facts, policy):
            status, reason, waits_for = "validation-failed", judged.reason, None
            if judged.address:
                status = "scheduled" if due_at > now else "created"
            elif awaits_order:
                status, waits_for = "scheduled", WAITS_FOR_ORDER
            made.append(
                Notice(
                    rule=rule.name,
                    template=rule.template,
                    subject=context.subject,
                    round=context.step.round,
                    role=rule.to,
                    channel=channel,
                    address=judged.address,
                    status=status,
                    reason=reason,
                    due_at=max(due_at, until) if waits_for else due_at,
                    urgency=context.kind.urgency,
                    waits_for=waits_for,
                )
            )
    return tuple(made)


def recipient_addresses(
    to: str, channel: str, facts: Facts, policy: Policy
) -> Iterable[addresses.Address]:
    """The recipient's addresses, each once, however often and in whichever case it was written."""
    row = CHANNELS[channel]
    if to not in PERSONS:
        written: Sequence[object] = policy.staff[to].on(channel)
    elif person := getattr(facts, to):
        written = (person.get(row.field),)
    else:
        return (addresses.Address(reason=f"Relay does not know yet who the {to} of this kit is."),)
    found: dict[str, addresses.Address] = {}
    for judged in map(partial(row.address.judge_in, policy.countries), written):
        found.setdefault(addresses.normalised(judged.address) or judged.reason, judged)
    return found.values()
