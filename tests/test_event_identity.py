"""relay/lab/events.py: when two posts are the same event, and what makes no difference."""

from __future__ import annotations

import json

import pytest

from relay.lab.events import parse
from tests.test_events import EXAMPLES, ID, ID_FIELDS, read


def test_spaces_around_an_id_do_not_count() -> None:
    """An id with spaces around it is the same id."""
    trimmed, spaced = (read("order.shipped", {"order_id": id_}) for id_ in (ID, f" {ID} "))
    assert ID in spaced.data.values()
    assert spaced.identity == trimmed.identity


@pytest.mark.parametrize(
    "url",
    [None, "", "https://evil.example/x", "http://a@b:1/\\", "https://api.example/" + "x" * 5_000],
)
def test_url_is_a_hint_that_refuses_nothing(url: str | None) -> None:
    """Whatever `url` says the event is taken, and is the same event."""
    event = read("order.shipped", {"order_id": ID, "url": url})
    assert event.identity == read("order.shipped", {"order_id": ID}).identity


def test_undocumented_keys_are_kept() -> None:
    """A key that the lab adds one day is kept, and makes no other event of it."""
    event = read("order.shipped", {"order_id": ID, "carrier": {"name": "royal_mail"}})
    assert event.data == {"order_id": ID, "carrier": {"name": "royal_mail"}}
    assert event.identity == read("order.shipped", {"order_id": ID}).identity


@pytest.mark.parametrize(("name", "fields"), ID_FIELDS.items())
def test_each_identifying_field_makes_another_event(name: str, fields: list[str]) -> None:
    """Two posts are the same event exactly when name and identifying fields are the same."""
    first = read(name, EXAMPLES[name])
    others = [read(name, {**EXAMPLES[name], field: "other"}) for field in fields]
    identities = {event.identity for event in (first, *others)}
    assert len(identities) == 1 + len(fields)
    assert read(name, dict(reversed(EXAMPLES[name].items()))).identity == first.identity


def test_the_same_id_under_another_name_is_another_event() -> None:
    """Shipped and delivered are two events of one order."""
    names = [name for name, fields in ID_FIELDS.items() if len(fields) == 1]
    ids = {"order_id": ID, "testregistration_id": ID, "sample_received_at": "2023-06-01T13:52:32Z"}
    assert len({read(name, ids).identity for name in names}) == len(names)


def test_a_sample_received_again_is_the_same_event() -> None:
    """The time of receipt does not identify it: a corrected time tells nobody twice."""
    data = EXAMPLES["test_registration.sample_received"]
    later = {**data, "sample_received_at": "2024-01-01T00:00:00Z"}
    name = "test_registration.sample_received"
    assert read(name, data).identity == read(name, later).identity


def test_unknown_event_is_taken_whatever_its_data() -> None:
    """An event that the lab adds one day is taken, all but its url identifying it."""
    event = read("invoice.paid", {"id": 7, "lines": [{"x": None}], "url": "a"})
    assert event.kind is None
    assert event.identity == read("invoice.paid", {"lines": [{"x": None}], "id": 7}).identity
    assert event.identity != read("invoice.paid", {"id": 8, "lines": [{"x": None}]}).identity
    assert event.identity != read("invoice.sent", {"id": 7, "lines": [{"x": None}]}).identity


@pytest.mark.parametrize("name", ["Order.Shipped", "order .shipped", "order.shippedx"])
def test_names_are_taken_to_the_letter(name: str) -> None:
    """A name that is nearly a known one is not that event."""
    assert read(name, {"order_id": ID}).kind is None


def test_keys_beside_event_and_data_are_passed_over() -> None:
    """A third key of the envelope is no reason to lose an event."""
    raw = json.dumps({"event": "order.shipped", "data": {"order_id": ID}, "version": 2}).encode()
    assert parse(raw).identity == read("order.shipped", {"order_id": ID}).identity
