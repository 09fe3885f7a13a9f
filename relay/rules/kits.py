"""Which steps count for a kit and for an order: orders of several kits, retests of their own. Pure.

A kit is (original registration, round): a retest's registration is a later round of the one that it
repeats, whatever order it was shipped with.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from relay.lab.events import EVENTS, ORDER
from relay.rules.staleness import Step


@dataclass(frozen=True)
class Registration:
    """A registration as the lab's API has linked it."""

    subject: str  # its own id
    original: str  # the registration that it repeats; its own id where it repeats none
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
        self._of_order: dict[str, list[Registration]] = defaultdict(list)
        self._of_original: dict[str, list[Registration]] = defaultdict(list)
        for one in sorted(set(registrations), key=lambda one: (one.round, one.subject)):
            self._of_original[one.original].append(one)
            if one.order:
                self._of_order[one.order].append(one)
        self._order_events: dict[str, list[KitEvent]] = defaultdict(list)
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
        """Its own steps, and those of the orders that its rounds were shipped with."""
        for event in self._kit_events[original]:
            yield Step(event.name, event.round, event.received_at)
        for one in self._of_original[original]:
            for event in self._order_events[one.order or ""]:
                yield Step(event.name, one.round, event.received_at)

    def _of_an_order(self, order: str) -> Iterable[Step]:
        """Its own steps, and each that has come for all of its registrations.

        Of a registration that was repeated, the newest round counts: one sample of two, or the old
        sample of a kit that is tested anew, does not mean that the order's samples are there.
        """
        for event in self._order_events[order]:
            yield Step(event.name, 0, event.received_at)
        come = [self._newest_round(original) for original in self._originals(order)]
        for name in set.intersection(*map(set, come)) if come else ():
            yield Step(name, 0, max(steps[name] for steps in come))

    def _originals(self, order: str) -> list[str]:
        return list(dict.fromkeys(one.original for one in self._of_order[order]))

    def _newest_round(self, original: str) -> dict[str, datetime]:
        """What has come of a registration in its newest round, and when first."""
        newest = max((one.round for one in self._of_original[original]), default=0)
        come: dict[str, datetime] = {}
        for event in self._kit_events[original]:
            if event.round == newest:
                first = come.get(event.name, event.received_at)
                come[event.name] = min(first, event.received_at)
        return come
