"""Which messages are out of date, by what else has happened to the kit. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import cache

from relay import fault_injection
from relay.lab.events import EVENTS, RESULTS, RETEST, STAGES
from relay.lab.facts import PERSONS
from relay.rules.model import Rule, Step

NEWS_SECONDS = 60.0


def is_news(received_at: datetime, now: datetime) -> bool:
    """Whether a step is so fresh that the next one does not make it old."""
    return received_at >= now - timedelta(seconds=fault_injection.hastened(NEWS_SECONDS))


def overtaken(
    rule: Rule, step: Step, known: Iterable[Step], due_at: datetime, now: datetime
) -> str:
    """Why a rule's message about a step is out of date; empty when it is still news.

    Steps that come at once, in their order, are all news: a message that is just going out is not
    old because of the next step of a minute's burst. What came out of order, has waited, or is to
    wait, is.
    """
    waits = due_at > now or not is_news(step.received_at, now)
    for other in sorted(known, key=_lateness, reverse=True):
        if other.round < step.round:
            continue
        came_first = other.received_at <= step.received_at
        if other.name in rule.unless and not other.is_repeated:
            return f"It is no longer needed: {other.name} has come."
        if rule.even_if_late or (rule.unless and other.round == step.round):
            continue
        if other.round > step.round:
            # Results that came after the retest are what the lab says of the rest: news.
            if (not came_first) if step.name == RESULTS else (waits or came_first):
                return "A retest has begun since then."
        elif step.name == RETEST and other.name != RETEST and rule.to in PERSONS:
            # Any step of the new kit: who has it need not be asked for it. Staff follow it up.
            return f"The new kit is on its way already: {other.name} has come."
        elif (waits or came_first) and other.name in later(step.name):
            return f"The kit has moved on: {other.name} has come."
    return ""


@cache
def later(name: str) -> tuple[str, ...]:
    """The events of the steps behind an event's, in order; none for one that is no step."""
    stage = EVENTS[name].stage
    if stage is None:
        return ()
    after = STAGES[STAGES.index(stage) + 1 :]
    return tuple(name for stage in after for name, kind in EVENTS.items() if kind.stage == stage)


def _lateness(step: Step) -> tuple[int, int]:
    return step.round, EVENTS[step.name].urgency
