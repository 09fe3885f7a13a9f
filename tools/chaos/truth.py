"""What was true when: by what the lab's API said, and since when its posts have said it too."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tools.chaos.kits import (
    DELIVERED,
    RECEIVED,
    REGISTERED,
    RESULTS,
    RETEST,
    SHIPPED,
    Kit,
    Thing,
)
from tools.chaos.lab import Said

NOT_FOR_PATIENTS = ("cancelled", "fail", "processing_error", "partial_result")
Record = Mapping[str, Any]
# By step: whether the API bears it out. Given are its own record, and what is beside: a kit's
# results, a retest's new registration.
BORNE_OUT: dict[str, Callable[[Record, Record], bool]] = {
    SHIPPED: lambda order, _: order.get("shipping_status") in ("shipped", "delivered"),
    DELIVERED: lambda order, _: order.get("shipping_status") == "delivered",
    REGISTERED: lambda kit, _: True,
    RECEIVED: lambda kit, _: True,
    RETEST: lambda kit, again: bool(again.get("parent_id")),
    # Nobody is told results of a cancelled test: its event ends there.
    RESULTS: lambda kit, results: bool(results.get("ready")) or kit.get("status") == "cancelled",
}
# By rule: what it asks for besides.
CONDITIONS: dict[str, Callable[[Record], bool]] = {
    "results-ready": lambda kit: kit.get("status") not in NOT_FOR_PATIENTS,
    "desk-results": lambda kit: kit.get("status") in NOT_FOR_PATIENTS[1:],
}
FOREVER = float("inf")
Period = tuple[float, float]


class Truth:
    """The history of a run's records."""

    def __init__(self, said: Iterable[Said], begun: Mapping[tuple[str, Thing | None], float]):
        self._begun = begun
        self._said: dict[str, list[Said]] = defaultdict(list)
        for one in said:
            self._said[one.path].append(one)

    def posted(self, step: str, thing: Thing) -> float:
        """Since when the lab has posted a step; for ever where it has not."""
        return self._begun.get((step, thing), FOREVER)

    def periods(self, step: str, thing: Thing, rule: str = "") -> list[Period]:
        """When the API bore a step out, and a rule's condition held, once it was posted."""
        condition = CONDITIONS.get(rule, bool)
        beside = thing.path
        if isinstance(thing, Kit):
            again = Kit(thing.family, thing.which, 1)
            beside = {RESULTS: thing.results, RETEST: again.path}.get(step, thing.path)
        posted = self.posted(step, thing)
        found: list[Period] = []
        for begins, ends, own, other in self._states(thing.path, beside):
            if ends > posted and own and BORNE_OUT[step](own, other) and condition(own):
                goes_on = bool(found) and found[-1][1] == begins
                found.append((found.pop()[0] if goes_on else max(begins, posted), ends))
        return found

    def is_lasting(self, step: str, thing: Thing, rule: str = "") -> bool:
        """Whether it is true at the end."""
        periods = self.periods(step, thing, rule)
        return bool(periods) and periods[-1][1] == FOREVER

    def _states(self, own: str, beside: str) -> Iterable[tuple[float, float, Record, Record]]:
        """Both records between each two changes of either."""
        records: dict[str, dict[str, Any]] = {own: {}, beside: {}}
        changes = sorted(
            (one for path in records for one in self._said[path]), key=lambda one: one.at
        )
        for one, after in zip(changes, [*changes[1:], None], strict=True):
            records[one.path] = {**records[one.path], **one.fields}
            yield one.at, after.at if after else FOREVER, records[own], records[beside]
