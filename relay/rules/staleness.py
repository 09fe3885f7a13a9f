"""Which messages are out of date, by the steps that count for their kit or order. Pure.

A kit is (original registration, round): a retest's registration is a later round of the one that it
repeats, even if it was shipped with another order. An order may have several kits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from relay import fault_injection
from relay.lab.events import EVENTS, ORDER, RESULTS, RETEST, STAGES
from relay.lab.facts import PERSONS
from relay.rules.model import Rule, Step

NEWS_SECONDS = 60.0
# A kit has been through these before a retest is asked for, even if the lab posted none of them.
BEFORE_A_RETEST = tuple(
    name for name, kind in EVENTS.items() if kind.stage in ("registered", "received")
)


@dataclass(frozen=True)
class Registration:
    """A registration as the lab's API links it."""

    subject: str  # its own id
    original: str  # the registration that it repeats; its own id if it repeats none
    round: int
    order: str | None  # the order that it came with


@dataclass(frozen=True)
class KitEvent:
    """A processed event, about an order or about an original registration in a round."""

    name: str
    subject: str
    round: int
    received_at: datetime


class Kits:
    """Registrations and orders that belong together, and what has happened to them."""

    def __init__(self, registrations: Iterable[Registration], events: Iterable[KitEvent]):
        self._of_order: dict[str | None, list[Registration]] = defaultdict(list)
        self._of_original: dict[str, list[Registration]] = defaultdict(list)
        for one in set(registrations):
            self._of_original[one.original].append(one)
            self._of_order[one.order].append(one)
        self._order_events: dict[str | None, list[KitEvent]] = defaultdict(list)
        self._kit_events: dict[str, list[KitEvent]] = defaultdict(list)
        for event in events:
            # By the event, since the lab may give an order and a registration the same id.
            of_order = EVENTS[event.name].resource == ORDER
            (self._order_events if of_order else self._kit_events)[event.subject].append(event)

    def steps(self, resource: str, subject: str) -> tuple[Step, ...]:
        """The steps that count for an ORDER, or for an original REGISTRATION in all its rounds."""
        found = self._of_an_order(subject) if resource == ORDER else self._of_a_kit(subject)
        return tuple(sorted(found, key=lambda step: (step.received_at, step.name, step.round)))

    def _of_a_kit(self, original: str) -> Iterable[Step]:
        """Yield its own steps, and those of the orders that its rounds were shipped with."""
        for event in self._kit_events[original]:
            yield Step(event.name, event.round, event.received_at)
        for one in self._of_original[original]:
            for event in self._order_events[one.order]:
                yield Step(event.name, one.round, event.received_at)

    def _of_an_order(self, order: str) -> Iterable[Step]:
        """Yield its own steps, and each step that all of its registrations have reached.

        Of a repeated registration, the newest round counts: one sample of two, or the old sample of
        a kit that is being retested, does not mean that the order's samples are there. A step of
        earlier rounds only is `is_repeated`: it still makes news of the order old.
        """
        for event in self._order_events[order]:
            yield Step(event.name, 0, event.received_at)
        kits = self._of_order[order]
        newest = common_to_all(self._come(one.original, self._newest(one.original)) for one in kits)
        for name, at in common_to_all(self._come(one.original, one.round) for one in kits).items():
            yield Step(name, 0, newest.get(name, at), is_repeated=name not in newest)

    def _newest(self, original: str) -> int:
        return max(one.round for one in self._of_original[original])

    def _come(self, original: str, since: int) -> dict[str, datetime]:
        """The steps of a registration from the round `since` on, and when each first came."""
        come: dict[str, datetime] = {}
        for event in self._kit_events[original]:
            if event.round >= since:
                implied = BEFORE_A_RETEST if event.round > since else ()
                for name in (event.name, *implied):
                    come[name] = min(come.get(name, event.received_at), event.received_at)
        return come


def common_to_all(come: Iterable[dict[str, datetime]]) -> dict[str, datetime]:
    """The steps that all of some kits have reached, and when the last of them did."""
    kits = list(come)
    names = set.intersection(*map(set, kits)) if kits else set[str]()
    return {name: max(steps[name] for steps in kits) for name in names}


def is_news(received_at: datetime, now: datetime) -> bool:
    """Whether a step is so recent that the next one does not make it out of date."""
    return received_at >= now - timedelta(seconds=fault_injection.hastened(NEWS_SECONDS))


def why_stale(
    rule: Rule, step: Step, known: Iterable[Step], due_at: datetime, now: datetime
) -> str:
    """Why a rule's message about a step is out of date; empty when it is still news.

    Steps that come together, in order, are all news: a message that is just going out is not old
    because of the next step in a minute's burst. It is if its step came out of order, has waited,
    or is to wait.
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
            # Results that came after the retest are the lab's news about the other tests.
            if (not came_first) if step.name == RESULTS else (waits or came_first):
                return "A retest has begun since then."
        elif step.name == RETEST and other.name != RETEST and rule.to in PERSONS:
            # Any step of the new kit: a person who has it need not hear of it. Staff follow it up.
            return f"The new kit is on its way already: {other.name} has come."
        elif (waits or came_first) and other.name in later(step.name):
            return f"The kit has moved on: {other.name} has come."
    return ""


@cache
def later(name: str) -> tuple[str, ...]:
    """The events of the steps after an event's, in order; none if it is not a step."""
    stage = EVENTS[name].stage
    if stage is None:
        return ()
    after = STAGES[STAGES.index(stage) + 1 :]
    return tuple(name for stage in after for name, kind in EVENTS.items() if kind.stage == stage)


def _lateness(step: Step) -> tuple[int, int]:
    return step.round, EVENTS[step.name].urgency
