"""relay/lab/events.py: what each of the lab's events must hold."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relay.errors import Refused
from relay.lab import samples
from relay.lab.events import EVENTS, LONGEST_ID, LONGEST_NAME, Incoming, parse

ID = "e23e2d33-5ab4-4efc-8e94-7e914b5f99df"
ID_FIELDS = {  # as the lab documents them
    "order.shipped": ["order_id"],
    "order.delivered": ["order_id"],
    "test_registration.complete": ["testregistration_id"],
    "test_registration.sample_received": ["testregistration_id"],
    "test_registration.retest": ["testregistration_id", "retest_testregistration_id"],
    "test_registration.lml_lab_id_created": ["testregistration_id", "lab_id"],
    "lab_results.complete": ["testregistration_id"],
}
REQUIRED = [
    *((name, field) for name, fields in ID_FIELDS.items() for field in fields),
    ("test_registration.sample_received", "sample_received_at"),
]
EXAMPLES = {body["event"]: body["data"] for body in samples.webhooks()}


def read(event: Any, data: Any) -> Incoming:
    """The event of a body of these two keys."""
    return parse(json.dumps({"event": event, "data": data}).encode())


def refusal(event: Any, data: Any) -> Refused:
    """Why such a body is refused."""
    with pytest.raises(Refused) as refused:
        read(event, data)
    return refused.value


def test_knows_the_seven_documented_events() -> None:
    """Each documented event has its row, and its example, and there is no other."""
    assert EXAMPLES
    assert set(EVENTS) == set(ID_FIELDS) == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_takes_the_labs_example(name: str) -> None:
    """The lab's own example is taken as it is written."""
    event = read(name, EXAMPLES[name])
    assert event.name == name
    assert event.kind is EVENTS[name]
    assert event.data == EXAMPLES[name]
    assert event.kind.id_field == ID_FIELDS[name][0]


@pytest.mark.parametrize(("name", "field"), REQUIRED)
@pytest.mark.parametrize("value", ["(missing)", None, 7.5, True, "", [], {}, [ID], {"id": ID}])
def test_bad_field_is_named_by_its_path(name: str, field: str, value: Any) -> None:
    """A required field that is missing or of another type is 422, named by its path."""
    data = {**EXAMPLES[name], field: value}
    if value == "(missing)":
        del data[field]
    refused = refusal(name, data)
    assert refused.status == 422
    assert list(refused.fields) == [f"data.{field}"]
    assert all(isinstance(why, str) and why for why in refused.fields[f"data.{field}"])


@pytest.mark.parametrize(("name", "fields"), ID_FIELDS.items())
@pytest.mark.parametrize(
    "value",
    [
        "   ",
        "\t",
        "x" * (LONGEST_ID + 1),
        "x" * 10_000,
        "a/b",
        "../a",
        "..",
        ".",
        "a\\b",
        "a?b",
        "a#b",
        "a\r\nb",
        "a\u202eb",
    ],
    ids=[
        "blank",
        "tab",
        "over-long",
        "10 kB",
        "slash",
        "up",
        "dots",
        "dot",
        "backslash",
        "query",
        "fragment",
        "CRLF",
        "right-to-left mark",
    ],
)
def test_bad_id_is_refused(name: str, fields: list[str], value: str) -> None:
    """An id that is blank, over-long or no segment of a path is 422, each of them named."""
    refused = refusal(name, {**EXAMPLES[name], **dict.fromkeys(fields, value)})
    assert refused.status == 422
    assert set(refused.fields) == {f"data.{field}" for field in fields}


@pytest.mark.parametrize(
    "value",
    [
        ID,
        "1234-5678",
        "LML-AB1234",
        "7",
        "a b",
        "it's",
        '"quoted"',
        "x'; DROP TABLE events; --",
        "%2e%2e",
        "a..b",
        "Zoë-1",
        "x" * LONGEST_ID,
    ],
)
def test_any_opaque_id_is_taken(value: str) -> None:
    """An id is the lab's or the clinic's own text: UUID, TRF code, or whatever they chose."""
    event = read("test_registration.complete", {"testregistration_id": value})
    assert value in event.data.values()


@pytest.mark.parametrize(
    "value",
    [
        "yesterday",
        "2023-06-01T14:52:32",
        "2023-06-01",
        "2023-13-01T00:00:00Z",
        "2023-06-01T14:52:32+99:99",
        1685627552,
    ],
)
def test_sample_received_at_needs_an_offset(value: Any) -> None:
    """A time that could mean two moments, or none, is refused."""
    data = {**EXAMPLES["test_registration.sample_received"], "sample_received_at": value}
    refused = refusal("test_registration.sample_received", data)
    assert (refused.status, list(refused.fields)) == (422, ["data.sample_received_at"])


@pytest.mark.parametrize(
    "value",
    ["2023-06-01T14:52:32+01:00", "2023-06-01T13:52:32Z", "2023-06-01T13:52:32.123456+00:00"],
)
def test_sample_received_at_stays_as_the_lab_wrote_it(value: str) -> None:
    """Any ISO 8601 time with an offset is taken, and kept to the letter."""
    data = {**EXAMPLES["test_registration.sample_received"], "sample_received_at": value}
    assert read("test_registration.sample_received", data).data["sample_received_at"] == value


def test_retest_of_itself_is_refused() -> None:
    """A retest names another registration than the one it repeats."""
    data = {"testregistration_id": ID, "retest_testregistration_id": ID}
    refused = refusal("test_registration.retest", data)
    assert (refused.status, list(refused.fields)) == (422, ["data.retest_testregistration_id"])


def test_every_bad_field_is_named() -> None:
    """All that is wrong with `data` is told at once."""
    refused = refusal("test_registration.sample_received", {"url": 7})
    assert set(refused.fields) == {
        "data.testregistration_id",
        "data.sample_received_at",
        "data.url",
    }


@pytest.mark.parametrize(
    ("event", "data", "bad"),
    [
        (None, {}, {"event"}),
        (7, {}, {"event"}),
        (["order.shipped"], {}, {"event"}),
        ("", {}, {"event"}),
        ("  ", {}, {"event"}),
        ("x" * (LONGEST_NAME + 1), {}, {"event"}),
        ("order.\nshipped", {}, {"event"}),
        ("order.shipped", None, {"data"}),
        ("order.shipped", [], {"data"}),
        ("order.shipped", "{}", {"data"}),
        ("invoice.paid", 7, {"data"}),
        (None, None, {"event", "data"}),
    ],
)
def test_body_without_event_or_data_is_refused(event: Any, data: Any, bad: set[str]) -> None:
    """Without an `event` text and a `data` object it is 400, with what is wrong named."""
    refused = refusal(event, data)
    assert refused.status == 400
    assert set(refused.fields) == bad


@pytest.mark.parametrize("raw", [b"[]", b"7", b'"order.shipped"', b"null", b"true"])
def test_body_that_is_no_object_is_refused(raw: bytes) -> None:
    """An array or a scalar at the root is 400."""
    with pytest.raises(Refused) as refused:
        parse(raw)
    assert refused.value.status == 400


# An id as the lab may write it, and the id that it is. A report is one line.
IDS: dict[Any, str] = {
    10045: "10045",
    10046.0: "10046",
    0: "0",
    "10045": "10045",
    "10045\n": "10045",
    "\t 10045\r\n": "10045",
    "\u00a010045\u00a0": "10045",
    "\u200b10045\ufeff": "10045",
    "\u300010045\u2028": "10045",
    "LML-e23e2d ": "LML-e23e2d",
}


@pytest.mark.parametrize("written", IDS)
@pytest.mark.parametrize(("name", "field"), [row for row in REQUIRED if row[1].endswith("_id")])
def test_an_id_is_read_as_programs_write_it(name: str, field: str, written: Any) -> None:
    """A whole number counts as its digits, and what is around an id goes: it is the same event."""
    event = read(name, {**EXAMPLES[name], field: written})
    assert event.data[field] == IDS[written]
    assert event.identity == read(name, {**EXAMPLES[name], field: IDS[written]}).identity


@pytest.mark.parametrize("written", ["order.shipped\n", " order.shipped", "\ufefforder.shipped"])
def test_a_name_is_trimmed_as_ids_are(written: str) -> None:
    """What nobody sees around an event's name makes no unknown event of it."""
    assert read(written, EXAMPLES["order.shipped"]).kind is EVENTS["order.shipped"]
