"""Who and what there is in a run: people, orders, kits and retests, as the lab's API has them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from relay.dev import lab_simulator

CUSTOMER, PATIENT = "customer", "patient"
ROLES = (CUSTOMER, PATIENT)
STEPS = SHIPPED, DELIVERED, REGISTERED, RECEIVED, RESULTS = (
    "order.shipped",
    "order.delivered",
    "test_registration.complete",
    "test_registration.sample_received",
    "lab_results.complete",
)
RETEST = "test_registration.retest"
FIRST_NAME, LAST_NAME, STREET = "Canarina", "Kanarek", "Plumage"
STAFF = "lab-desk@chaos.example"
LANDLINE = "020 7946 0018"
OF_A_RETEST = 4  # the retest of kit n is shipped with order n + 4
_KINDS = {"order": 1, "test_registration": 2, CUSTOMER: 3, PATIENT: 4}


def made_id(kind: str, family: int, inner: int) -> str:
    """A UUID of the lab's that tells nobody but us what it is of."""
    return f"c4a05000-{_KINDS[kind]:04x}-4000-8{inner:03x}-{family:012x}"


@dataclass(frozen=True, order=True)
class Person:
    """Somebody who ordered or is tested."""

    family: int
    role: str
    which: int

    @property
    def id(self) -> str:
        """Their id at the lab."""
        return made_id(self.role, self.family, self.which)

    @property
    def phone(self) -> str:
        """A mobile number that nobody else in the run has."""
        return f"+4474{ROLES.index(self.role)}{self.family:06}{self.which}"

    @property
    def email(self) -> str:
        """An address that nobody else in the run has."""
        return f"kit{self.family}.{self.role}{self.which}@chaos.example"

    def address(self, channel: str) -> str:
        """Where they are told."""
        return self.phone if channel == "sms" else self.email

    def record(self) -> dict[str, Any]:
        """A customer or a patient as the lab's API gives them."""
        return {
            **lab_simulator.person(self.id),
            "id": self.id,
            "first_name": FIRST_NAME,
            "last_name": LAST_NAME,
            "email": self.email,
            "phone_number": self.phone,
        }


@dataclass(frozen=True, order=True)
class Order:
    """One parcel: a family's first or second order, or one of a retest's own."""

    family: int
    which: int

    @property
    def id(self) -> str:
        """The order's UUID, its only name."""
        return made_id("order", self.family, self.which)

    @property
    def path(self) -> str:
        """Where the lab's API has it."""
        return f"order/{self.id}"

    @property
    def word(self) -> str:
        """What messages call it."""
        return f"ON{self.family:06}{self.which}"

    @property
    def customer(self) -> Person:
        """Who ordered it; a retest's kit goes to the same person as the first one."""
        return Person(self.family, CUSTOMER, self.which % OF_A_RETEST)

    def record(self, kits: tuple[Kit, ...]) -> dict[str, Any]:
        """The order with its customer's details and its registrations."""
        customer = self.customer.record()
        details = ("id", "first_name", "last_name", "email", "phone_number")
        return {
            **lab_simulator.order(self.id),
            "customer_id": customer["id"],
            "customer": {key: customer[key] for key in details},
            "address": {"line_1": f"1 {STREET} Street", "name": LAST_NAME},
            "order_number": self.word,
            "shipping_status": "awaiting_shipping",
            "test_registrations": [
                {"id": kit.id, "trf_code": kit.word, "product": []} for kit in kits
            ],
        }


@dataclass(frozen=True, order=True)
class Kit:
    """A physical kit: the first of somebody's, or its repetition (`round` 1)."""

    family: int
    which: int
    round: int = 0

    @property
    def id(self) -> str:
        """The registration's UUID."""
        return made_id("test_registration", self.family, self.which * 16 + self.round)

    @property
    def path(self) -> str:
        """Where the lab's API has it."""
        return f"test_registration/{self.id}"

    @property
    def results(self) -> str:
        """Where the lab's API has its results."""
        return f"lab_results/{self.id}"

    @property
    def word(self) -> str:
        """Its TRF code: what messages call it."""
        return f"LML-{self.family:06}{self.which}{self.round}"

    @property
    def reference(self) -> str:
        """What the clinic calls it."""
        return f"REF-{self.family:06}{self.which}{self.round}"

    @property
    def names(self) -> tuple[str, ...]:
        """All that the lab may call it by."""
        return self.id, self.word, self.word.removeprefix("LML-"), self.reference

    @property
    def patient(self) -> Person:
        """Who is tested, by the first kit and by its repetition."""
        return Person(self.family, PATIENT, self.which)

    @property
    def original(self) -> Kit:
        """The kit that it repeats, or itself."""
        return Kit(self.family, self.which)

    def record(self) -> dict[str, Any]:
        """The registration; the phone number is in its patient's record."""
        patient = self.patient.record()
        return {
            **lab_simulator.registration(self.id),
            "trf_code": self.word,
            "short_code": self.word.removeprefix("LML-"),
            "foreign_id": self.reference,
            "patient_id": patient["id"],
            "parent_id": self.original.id if self.round else None,
            "status": "awaiting_patient",
            **{key: patient[key] for key in ("first_name", "last_name", "email")},
        }


Thing = Order | Kit


@cache
def body(step: str, name: str) -> dict[str, Any]:
    """What the lab posts of a step, by one of the names of what it is about."""
    if step.startswith("order."):
        return {"event": step, "data": {"order_id": name}}
    data = {"testregistration_id": name}
    if step == RECEIVED:
        data["sample_received_at"] = "2026-06-01T14:52:32+01:00"
    return {"event": step, "data": data}
