"""The rules of config.toml, and the pure decision they make: event + facts → planned notices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from relay.errors import RenderError
from relay.lab.events import EVENTS, Kind
from relay.lab.facts import PERSONS, Facts
from relay.rules import addresses
from relay.rules.channels import CHANNELS
from relay.rules.expressions import recipient
from relay.rules.model import DIGEST, ITEM, AlreadyNotified, Decision, Notice, Plan, Policy, Rule
from relay.rules.schedule import ALWAYS
from relay.rules.staleness import Step, Waiting, overtaken


@dataclass(frozen=True)
class RuleContext:
    """One event as rules see it: its kit, its round, the facts and their names."""

    step: Step
    subject: str
    facts: Facts
    names: Mapping[str, Any]
    known: tuple[Step, ...] = ()  # what else has come of the kit

    @property
    def kind(self) -> Kind:
        """The event's row."""
        return EVENTS[self.step.name]


def plan(
    context: RuleContext,
    rules: Sequence[Rule],
    policy: Policy,
    told: AlreadyNotified,
    now: datetime,
    waiting: Iterable[Waiting] = (),
    gone: frozenset[str] = frozenset(),
) -> Plan:
    """Decides who gets which message about an event, and which waiting ones are out of date.

    Pure: the same facts give the same plan. `gone` are digests that take no more items.
    """
    planned: list[Notice] = []
    decisions: list[Decision] = []
    for rule in rules:
        if rule.event != context.kind.name:
            continue
        failed = ""
        try:
            due_at = due(rule, context, policy, now) + rule.hold
            if reason := objection(rule, context, due_at, now):
                decisions.append(Decision(rule.name, reason))
                continue
        except RenderError as error:
            failed = str(error)
        made = tuple(held(rule, policy, first_choice(rule, context, policy, now)))
        if not made:
            decisions.append(Decision(rule.name, f'"{rule.to}" has no address on its channels.'))
        for notice in made:
            if (rule.name, notice.role, notice.channel) in told and rule.to in PERSONS:
                decisions.append(
                    Decision(rule.name, f"Already sent, or about to be, by {notice.channel}.")
                )
            elif failed:
                planned.append(replace(notice, status="technical-failure", reason=failed))
            elif rule.digest and notice.address:
                planned += in_digest(rule, notice, policy, gone)
            else:
                planned.append(notice)
    by_name = {rule.name: rule for rule in rules}
    cancelled = {
        one.id: reason
        for one in waiting
        if (its_rule := by_name.get(one.rule))
        and (reason := overtaken(its_rule, one.step, [context.step], one.due_at, now))
    }
    return Plan(tuple(planned), tuple(decisions), cancelled)


def objection(rule: Rule, context: RuleContext, due_at: datetime, now: datetime) -> str:
    """Why a rule does not apply; empty when it does. Raises RenderError if that is unclear."""
    if not rule.enabled:
        return "The rule is switched off (enabled = false)."
    if (context.facts.registration or {}).get("status") == "cancelled":
        return "The test was cancelled."
    if late := overtaken(rule, context.step, context.known, due_at, now):
        return late
    if rule.when:
        names = {**context.names, "recipient": recipient(rule.to, context.facts)}
        if not rule.when.holds(names):
            return f"Its condition is not met: {rule.when.source}."
    return ""


def first_choice(
    rule: Rule, context: RuleContext, policy: Policy, now: datetime
) -> tuple[Notice, ...]:
    """The notices on the rule's channels; with its fallback's when none of them has an address."""
    made = notices(rule, rule.channels, context, policy, now)
    if all(notice.status == "validation-failed" for notice in made):
        return made + fallback(rule, context, policy, now)
    return made


def held(rule: Rule, policy: Policy, made: Iterable[Notice]) -> Iterable[Notice]:
    """The notices, each waiting for a person's decision where its rule has `hold`.

    Only an event's own notices are held: once released, one may go by a fallback or to another
    address at once.
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
    return tuple(replace(notice, is_fallback=True) for notice in made)


def opening(rule: Rule, policy: Policy, now: datetime) -> datetime:
    """`now` when the rule's window is open, else when it opens next.

    A digest goes at its own times, unless the rule itself has a window.
    """
    window = rule.send_window or (ALWAYS if rule.digest else policy.send_window)
    return window.next_open(now, policy.zone, policy.bank_holidays)


def due(rule: Rule, context: RuleContext, policy: Policy, now: datetime) -> datetime:
    """When a rule's message is due: `after` its event, or now, within its window."""
    return _next(rule, policy, max(now, context.step.received_at + rule.after))


def _next(rule: Rule, policy: Policy, moment: datetime) -> datetime:
    """When the rule may tell what is ready at `moment`: in its window, or in its next digest."""
    if rule.digest:
        moment = rule.digest.next_at(moment, policy.zone)
    return opening(rule, policy, moment)


def in_digest(
    rule: Rule, item: Notice, policy: Policy, gone: frozenset[str]
) -> tuple[Notice, Notice]:
    """A notice as an item that ends at once, and its digest: the first that is not in `gone`."""
    digest = _digest(rule, item, policy)
    while digest.identity in gone:
        item = replace(item, due_at=_next(rule, policy, item.due_at))
        digest = _digest(rule, item, policy)
    at = item.due_at.astimezone(policy.zone)
    reason = f"It is part of the digest of {at:%a %d %b, %H:%M}."
    told = replace(item, kind=ITEM, status="cancelled", reason=reason, digest=digest.identity)
    return told, digest


def _digest(rule: Rule, item: Notice, policy: Policy) -> Notice:
    """The digest to an item's address that is due when the item is."""
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
    """A notice for each address of the recipient on these channels, due when the window is open."""
    due_at = due(rule, context, policy, now)
    waiting = "scheduled" if due_at > now else "created"
    return tuple(
        Notice(
            rule=rule.name,
            template=rule.template,
            subject=context.subject,
            round=context.step.round,
            role=rule.to,
            channel=channel,
            address=judged.address,
            status=waiting if judged.address else "validation-failed",
            reason=judged.reason,
            due_at=due_at,
            urgency=context.kind.urgency,
        )
        for channel in channels
        for judged in _judged(rule.to, channel, context.facts, policy)
    )


def _judged(to: str, channel: str, facts: Facts, policy: Policy) -> Iterable[addresses.Address]:
    """The recipient's addresses, each of them once however often it was written down."""
    kind = CHANNELS[channel].address
    if to not in PERSONS:
        written: Sequence[object] = policy.staff[to].on(channel)
    elif person := getattr(facts, to):
        written = (person.get(kind.field),)
    else:
        return (addresses.Address(reason=f"Relay does not know yet who the {to} of this kit is."),)
    return dict.fromkeys(map(kind.judge, written))
