"""Messages that wait for a person's word: what staff are asked before they go out. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from relay import alerts
from relay.notices import Notice, Plan
from relay.rule_keys import Rule
from relay.rules import Policy

KIND = "release"


def asked(plan: Plan, rules: Sequence[Rule], policy: Policy, event_id: str, now: datetime) -> Plan:
    """The plan with a case for each rule that holds its messages, whatever their channels."""
    holding = {rule.name for rule in rules if rule.hold}
    waiting = {
        notice.family: notice
        for notice in plan.notices
        if notice.rule in holding and notice.status == "scheduled"
    }
    cases = [
        alerts.case(
            *(KIND, family, notice.subject, _reason(notice, policy)),
            policy=policy,
            now=now,
            event_id=event_id,
        )
        for family, notice in waiting.items()
    ]
    return replace(plan, cases=(*plan.cases, *cases))


def _reason(notice: Notice, policy: Policy) -> str:
    when = notice.due_at.astimezone(policy.zone).strftime("%A %d %B at %H:%M")
    return f"It is for the {notice.role}. If nobody stops it, it goes out on {when}."
