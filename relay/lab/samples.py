"""The lab's own examples: a payload of each event, and resources in the documented shapes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from relay.lab.events import EVENTS, RESULTS
from relay.lab.facts import EMAIL, PHONE, RESOURCES, SHAPES, Facts, resource

_FOLDER = Path(__file__).with_name("examples")
LONG_NAME = "Oluwadamilola-Christophina"
RECEIVED_AT = datetime(2026, 6, 1, 13, 52, 32, tzinfo=UTC)


@cache
def read_sample(name: str) -> Any:
    """Load a JSON file from the samples folder, once per process."""
    return json.loads((_FOLDER / name).read_text("utf-8"))


def webhooks() -> list[dict[str, Any]]:
    """The example payloads, as the lab posts them."""
    found: list[dict[str, Any]] = read_sample("webhooks.json")
    return found


def webhook(event: str) -> dict[str, Any]:
    """The example payload of one event."""
    return next(body for body in webhooks() if body["event"] == event)


def least(event: str) -> dict[str, Any]:
    """The example's `data` with only the keys that the lab always sends."""
    fields = EVENTS[event].schema.fields
    return {key: value for key, value in webhook(event)["data"].items() if fields[key].required}


def resources() -> dict[str, Any]:
    """The example resources, by the lab's names for them."""
    found: dict[str, Any] = read_sample("resources.json")
    return found


def full(first_name: str = "") -> Facts:
    """Facts in which every field has a value."""
    examples = resources()
    known = {"registration": examples["test_registration"], **examples}
    known["customer"] = examples["order"]["customer"]
    made: dict[str, Any] = {}
    for name in RESOURCES:
        given = {key: value for key, value in known[name].items() if value is not None}
        made[name] = resource({**filler(name), **given}, name)
    for person in (made["customer"], made["patient"], made["registration"]):
        if first_name and person:
            person["first_name"] = first_name
    return Facts(**made)


def sparse(event: str) -> Facts:
    """The least that the lab may send: ids and the person's addresses, everything else empty."""
    person = {PHONE: "+447700900000", EMAIL: "jane@example.com"}
    if EVENTS[event].resource == "order":
        return Facts(order=resource({"id": "1"}, "order"), customer=resource(person, "customer"))
    status = "success" if event == RESULTS else None
    registration = resource({"id": "1", "status": status}, "registration")
    return Facts(registration=registration, patient=resource(person, "patient"))


def filler(shape: str) -> dict[str, Any]:
    """A value for every documented field, so that every `{% if %}` in a template is tried."""
    values: dict[str, Any] = {key: "AB123" for key, inner in SHAPES[shape].items() if not inner}
    values |= {"carrier": "royal_mail", "tracking_number": "AB123456785GB"}
    return {**values, "address": {"line_1": "1 Example Street"}}
