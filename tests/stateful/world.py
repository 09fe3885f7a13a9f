"""The lab as it truly is: people, physical kits, orders, and what its API says of them.

Everything here goes by identity, never by name: two kits may share a foreign id, a kit may be asked
for by any of its names, and every value that changes remembers what it was and since when.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")

SHIPPED, DELIVERED = "order.shipped", "order.delivered"
REGISTERED = "test_registration.complete"
RECEIVED = "test_registration.sample_received"
RETEST, RESULTS = "test_registration.retest", "lab_results.complete"
STEPS = (SHIPPED, DELIVERED, REGISTERED, RECEIVED, RESULTS)  # of a kit, in their order
READY = "ready"  # results that are there; the other kinds are none
NAMES = ("Ann", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hana")
LONG = "R" * 300  # a reference that no column takes


class Clock:
    """The time of the world, in seconds. It stands still unless somebody lets time pass."""

    def __init__(self) -> None:
        self.now = 0.0


class Changing(Generic[T]):
    """A value, with all that it was and since when."""

    def __init__(self, clock: Clock, value: T) -> None:
        self._clock = clock
        self._was: list[tuple[float, T]] = [(clock.now, value)]

    @property
    def now(self) -> T:
        """What it is."""
        return self._was[-1][1]

    def becomes(self, value: T) -> None:
        """From now on it is this."""
        self._was.append((self._clock.now, value))

    def at(self, moment: float) -> T:
        """What it was at a moment, by the last word of that moment."""
        return self.during(moment)[0]

    def changes(self) -> list[float]:
        """When it changed."""
        return [since for since, _ in self._was]

    def during(self, since: float) -> list[T]:
        """Each value that it had at any time since a moment."""
        known = [value for began, value in self._was if began > since]
        before = [value for began, value in self._was if began <= since]
        return [*before[-1:], *known]


@dataclass(eq=False)
class Person:
    """Somebody, by whatever number they can be reached now."""

    name: str
    phone: Changing[str | None]
    email: Changing[str | None]

    def addresses(self, channel: str, since: float) -> list[str | None]:
        """Those that the lab had for them since a moment."""
        return (self.phone if channel == "sms" else self.email).during(since)


@dataclass(eq=False)
class Order:
    """What was sent to a customer in one parcel."""

    id: str
    customer: Person
    shipping: Changing[str | None]
    tracking: str
    kits: list[Kit] = field(default_factory=list)


@dataclass(eq=False)
class Kit:
    """One physical kit: one registration, and so one round of testing of the first of its kind."""

    id: str
    trf: str
    foreign: str | None
    patient: Person
    status: Changing[str]
    results: Changing[str]
    names_parent: Changing[bool]
    order: Order | None = None
    repeats: Kit | None = None
    retests: list[Kit] = field(default_factory=list)

    @property
    def original(self) -> Kit:
        """The kit whose test it repeats, or itself."""
        return self.repeats.original if self.repeats else self

    @property
    def names(self) -> list[str]:
        """All that the lab may call it by."""
        return [self.id, self.trf, self.trf.removeprefix("LML-"), *filter(None, [self.foreign])]


class Lab:
    """The world, and its API. `down` is how many more requests it fails."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.people: list[Person] = []
        self.orders: list[Order] = []
        self.kits: list[Kit] = []
        self.down = 0
        self.mixed_up: list[tuple[Kit, Kit]] = []  # asked for the first it answers the second, once

    # What is there

    def person(self, phone: str, email: str) -> Person:
        """Somebody new."""
        name = NAMES[len(self.people)]
        made = Person(name, Changing(self.clock, phone), Changing(self.clock, email))
        self.people.append(made)
        return made

    def order(self, customer: Person, tracking: str = "RM1") -> Order:
        """A parcel that waits to be sent."""
        status: Changing[str | None] = Changing(self.clock, "awaiting_shipping")
        made = Order(f"order-{len(self.orders) + 1}", customer, status, tracking)
        self.orders.append(made)
        return made

    def kit(
        self, patient: Person, order: Order | None, foreign: str | None, repeats: Kit | None = None
    ) -> Kit:
        """A kit, in an order or on its own."""
        number = len(self.kits) + 1
        made = Kit(
            f"kit-{number}",
            f"LML-AAA{number:03}",
            foreign,
            patient,
            Changing(self.clock, "awaiting_registration"),
            Changing(self.clock, "none"),
            Changing(self.clock, False),
            order,
            repeats,
        )
        self.kits.append(made)
        if order:
            order.kits.append(made)
        if repeats:
            repeats.retests.append(made)
        return made

    def is_shared(self, name: str) -> bool:
        """Whether two kits go by a name."""
        return sum(name in kit.names for kit in self.kits) > 1

    def named(self, name: str) -> Kit | None:
        """The kit that the API means by a name: the first that has it."""
        return next((kit for kit in self.kits if name in kit.names), None)

    # What its API says

    def answer(self, path: str) -> tuple[int, bytes]:
        """Status and body of an answer."""
        if self.down > 0:
            self.down -= 1
            return 500, b""
        parts = path.strip("/").split("/")
        if parts[1] == "order":
            order = next((one for one in self.orders if one.id == parts[2]), None)
            return (200, _body(self._order(order))) if order else (404, b"{}")
        kit = self.named(parts[2]) if parts[1] == "test_registration" else None
        if kit is None:
            return 404, b"{}"
        if len(parts) == 4:
            return _RESULTS[kit.results.now]
        for pair in [pair for pair in self.mixed_up if pair[0] is kit]:
            if parts[2] not in pair[1].names:  # else nobody could tell: it goes by that name too
                self.mixed_up.remove(pair)
                kit = pair[1]
        return 200, _body(self._registration(kit))

    @staticmethod
    def _order(order: Order) -> dict[str, Any]:
        return {
            "id": order.id,
            "customer_id": None,
            "customer": _details(order.customer, "phone_number"),
            "shipping_status": order.shipping.now,
            "carrier": "royal_mail",
            "tracking_number": order.tracking,
            "order_number": order.id.upper(),
            "test_registrations": [
                {"id": kit.id, "trf_code": kit.trf, "product": []} for kit in order.kits
            ],
        }

    @staticmethod
    def _registration(kit: Kit) -> dict[str, Any]:
        return {
            "id": kit.id,
            **_details(kit.patient, "mobile_phone_number"),
            "patient_id": None,
            "trf_code": kit.trf,
            "short_code": kit.trf.removeprefix("LML-"),
            "status": kit.status.now,
            "foreign_id": kit.foreign,
            "parent_id": kit.repeats.id if kit.repeats and kit.names_parent.now else None,
        }


_RESULTS = {
    READY: (200, b'[{"id": "1", "name": "Analyte", "value": "70"}]'),
    "none": (204, b""),
    "empty": (200, b"[]"),
    "null": (200, b"null"),
    "unreadable": (200, b"<html>"),
}
NOT_READY = sorted(set(_RESULTS) - {READY})


def _body(value: Any) -> bytes:
    return json.dumps(value).encode()


def _details(person: Person, phone: str) -> dict[str, Any]:
    return {
        "first_name": person.name,
        "last_name": "X",
        "email": person.email.now,
        phone: person.phone.now,
    }


# What a message or an event is about


@dataclass(frozen=True)
class About:
    """An order, a kit, or the request for a new sample of one: `new` is the retest's kit then."""

    order: Order | None = None
    kit: Kit | None = None
    new: Kit | None = None

    @property
    def kits(self) -> list[Kit]:
        """The kits that it is about."""
        return list(self.order.kits) if self.order else [self.kit] if self.kit else []

    @property
    def subject(self) -> str:
        """The id that Relay lists it by: the order's, or the first registration's."""
        return self.order.id if self.order else self.kit.original.id if self.kit else ""

    @property
    def people(self) -> list[Person]:
        """Whose details a message about it may go by."""
        orders = [self.order, *(kit.order for kit in rounds(self.kits))]
        customers = [order.customer for order in orders if order]
        return [*customers, *(kit.patient for kit in self.kits)]

    def __str__(self) -> str:
        return " ".join(one.id for one in (self.order, self.kit, self.new) if one)


def rounds(kits: list[Kit]) -> Iterator[Kit]:
    """Each of these kits, and those that they repeat."""
    for kit in kits:
        yield kit
        if kit.repeats:
            yield from rounds([kit.repeats])


def about(event: str, order: Order | None, kit: Kit | None, new: Kit | None) -> About:
    """What an event is about."""
    if event in (SHIPPED, DELIVERED):
        return About(order=order)
    return About(kit=kit, new=new if event == RETEST else None)


Judge = Callable[[float], bool]  # whether the lab said so at a moment


def moments(since: float, *values: Changing[Any]) -> list[float]:
    """The moments at which something may have been otherwise, from `since` on."""
    return [since, *sorted({m for value in values for m in value.changes() if m > since})]


def allows(event: str, it: About) -> tuple[list[Changing[Any]], Judge]:
    """Whether the lab's API supports an event at a moment, and what that goes by."""
    if event == SHIPPED and it.order:
        shipping = it.order.shipping
        fits = {"shipped", "out_for_delivery", "delivered", None, "on_a_drone"}
        return [shipping], lambda moment: shipping.at(moment) in fits
    if event == DELIVERED and it.order:
        shipping = it.order.shipping
        return [shipping], lambda moment: shipping.at(moment) in ("delivered", None, "on_a_drone")
    if event == RESULTS and it.kit:
        results, status = it.kit.results, it.kit.status
        return [
            results,
            status,
        ], lambda moment: results.at(moment) == READY and status.at(moment) != "cancelled"
    if event == RETEST and it.new:
        parent = it.new.names_parent
        return [parent], parent.at
    return [], lambda moment: True
