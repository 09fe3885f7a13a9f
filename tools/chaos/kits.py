"""The kits of a run. All of a kit follows from its number, so every process knows the same kits."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import Any

from relay.dev import lab_simulator

ORDER, REGISTRATION, PERSON = 1, 2, 3
CUSTOMER, PATIENT = "customer", "patient"
ROLES = (CUSTOMER, PATIENT)
# The lab's five steps of a kit, in order.
STEPS = (
    "order.shipped",
    "order.delivered",
    "test_registration.complete",
    "test_registration.sample_received",
    "lab_results.complete",
)
FIRST_NAME, LAST_NAME, STREET = "Canarina", "Kanarek", "Plumage"
STAFF = "lab-desk@chaos.example"
_TRF = re.compile(r"LML-(\d+)")


@dataclass(frozen=True)
class Kit:
    """One order of one kit: who ordered it, and who is tested."""

    number: int

    @property
    def order_id(self) -> str:
        """The order's UUID."""
        return self._id(ORDER)

    @property
    def registration_id(self) -> str:
        """The registration's UUID."""
        return self._id(REGISTRATION)

    @property
    def trf_code(self) -> str:
        """What else the lab calls the registration by."""
        return f"LML-{self.number:06}"

    def _id(self, kind: int, inner: int = 0) -> str:
        return f"c4a05000-{kind:04x}-4000-8{inner:03x}-{self.number:012x}"

    def phone(self, role: str) -> str:
        """A mobile number that nobody else in the run has."""
        return f"+4474{ROLES.index(role)}{self.number:07}"

    def email(self, role: str) -> str:
        """An address that nobody else in the run has."""
        return f"kit{self.number}.{role}@chaos.example"

    def address(self, role: str, channel: str) -> str:
        """Where a person is told."""
        return self.phone(role) if channel == "sms" else self.email(role)

    def person(self, role: str) -> dict[str, Any]:
        """A customer or a patient as the lab's API gives them."""
        id_ = self._id(PERSON, ROLES.index(role))
        return {
            **lab_simulator.person(id_),
            "id": id_,
            "first_name": FIRST_NAME,
            "last_name": LAST_NAME,
            "email": self.email(role),
            "phone_number": self.phone(role),
        }

    def order(self) -> dict[str, Any]:
        """The order, with its customer's details and its one registration."""
        customer = self.person(CUSTOMER)
        details = ("id", "first_name", "last_name", "email", "phone_number")
        return {
            **lab_simulator.order(self.order_id),
            "customer_id": customer["id"],
            "customer": {key: customer[key] for key in details},
            "address": {"line_1": f"1 {STREET} Street", "name": LAST_NAME},
            "test_registrations": [
                {"id": self.registration_id, "trf_code": self.trf_code, "product": []}
            ],
        }

    def registration(self) -> dict[str, Any]:
        """The registration; the phone number is in its patient's record."""
        patient = self.person(PATIENT)
        return {
            **lab_simulator.registration(self.registration_id),
            "trf_code": self.trf_code,
            "foreign_id": None,
            "patient_id": patient["id"],
            **{key: patient[key] for key in ("first_name", "last_name", "email")},
        }

    def body(self, step: str, *, by_code: bool = False) -> dict[str, Any]:
        """What the lab posts of a step."""
        if step.startswith("order."):
            return {"event": step, "data": {"order_id": self.order_id}}
        data = {"testregistration_id": self.trf_code if by_code else self.registration_id}
        if step == "test_registration.sample_received":
            data["sample_received_at"] = "2026-06-01T14:52:32+01:00"
        return {"event": step, "data": data}


def resource(path: str) -> Any:
    """What the lab's API has at a path; None where it has nothing."""
    parts = path.strip("/").split("/")
    if len(parts) < 3:
        return None
    kind, written = parts[1:3]
    if code := _TRF.fullmatch(written):
        kit, inner = Kit(int(code[1])), 0
    else:
        id_ = uuid.UUID(written)
        kit, inner = Kit(id_.node), id_.clock_seq & 0xFFF
    if parts[-1] == "lab_results":
        return [{"id": "1", "name": "Example analyte", "value": "70"}]
    if kind in ROLES:
        return kit.person(ROLES[inner])
    return {"order": kit.order, "test_registration": kit.registration}[kind]()
