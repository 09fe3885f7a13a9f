"""The lab's examples that Relay carries are the lab's own."""

from __future__ import annotations

from typing import Any

import pytest

from relay.lab import events, samples
from relay.lab.facts import RESOURCES, SHAPES

API = "https://api.londonmedicallaboratory.com/api"
UUID = "e23e2d33-5ab4-4efc-8e94-7e914b5f99df"
# Word for word from the lab's webhook guide.
DOCUMENTED: dict[str, dict[str, Any]] = {
    "test_registration.complete": {
        "testregistration_id": UUID,
        "url": f"{API}/test_registration/{UUID}/",
    },
    "test_registration.sample_received": {
        "testregistration_id": "1234-5678",
        "url": f"{API}/test_registration/{UUID}/",
        "sample_received_at": "2023-06-01T14:52:32+01:00",
    },
    "test_registration.retest": {
        "testregistration_id": UUID,
        "retest_testregistration_id": "5555-6666",
    },
    "test_registration.lml_lab_id_created": {
        "testregistration_id": "1234-5678",
        "lab_id": "123-456",
    },
    "order.shipped": {"order_id": UUID, "url": f"{API}/order/{UUID}"},
    "order.delivered": {"order_id": UUID, "url": f"{API}/order/{UUID}"},
    "lab_results.complete": {
        "testregistration_id": "eae987c4-32d6-42b9-8c9f-524a78a1b507",
        "url": f"{API}/test_registration/1234-5678/lab_results/",
    },
}


def test_examples_are_the_documented_payloads() -> None:
    """The examples are the lab's own, one each, in its order."""
    expected = [{"event": event, "data": data} for event, data in DOCUMENTED.items()]
    assert samples.webhooks() == expected


def test_every_event_has_one_example() -> None:
    """An event cannot be added without an example of it."""
    assert sorted(body["event"] for body in samples.webhooks()) == sorted(events.EVENTS)


@pytest.mark.parametrize("event", events.EVENTS)
def test_event_knows_the_documented_keys(event: str) -> None:
    """Templates can name each key that the lab documents for an event, and no other."""
    documented = set(DOCUMENTED[event])
    assert documented <= set(events.EVENTS[event].data_fields) <= documented | {"url"}


@pytest.mark.parametrize("name", RESOURCES)
def test_full_facts_have_every_field(name: str) -> None:
    """`check` tries a template with every field filled in, so that no branch goes untried."""
    made = getattr(samples.full(), name)
    assert [field for field in SHAPES[name] if made[field] in (None, [], {})] == []


@pytest.mark.parametrize("event", events.EVENTS)
def test_sparse_facts_have_only_what_reaches_the_person(event: str) -> None:
    """`check` tries a template with the least the lab may send: ids, and a way to reach someone."""
    filled = {
        f"{name}.{field}"
        for name in RESOURCES
        for field, value in (getattr(samples.sparse(event), name) or {}).items()
        if value is not None
    }
    role = "customer" if event.startswith("order.") else "patient"
    own = "order.id" if event.startswith("order.") else "registration.id"
    assert filled - {"registration.status"} == {own, f"{role}.phone_number", f"{role}.email"}
