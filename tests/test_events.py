"""relay/lab/events.py: what each of the lab's events must hold."""

from __future__ import annotations

import json
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from relay.errors import Refused
from relay.lab import samples
from relay.lab.events import EVENTS, LONGEST_ID, LONGEST_NAME, Incoming, parse, unread
from relay.lab.facts import Facts
from relay.rules.expressions import names
from tests.test_expressions import CLINIC

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
REQUIRED = [(name, field) for name, fields in ID_FIELDS.items() for field in fields]
NOTE = "The lab sent no {} that Relay can read, so messages leave it out."
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
    """An id that is missing or of another type is 422, named by its path."""
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


RECEIVED, LONDON = "test_registration.sample_received", ZoneInfo("Europe/London")
# What the lab writes for a time → what it is by the clinic's clock; None where it cannot be read.
TIMES: dict[str, tuple[Any, str | None]] = {
    "as documented": ("2023-06-01T14:52:32+01:00", "2023-06-01T14:52:32+01:00"),
    "UTC": ("2023-06-01T13:52:32Z", "2023-06-01T14:52:32+01:00"),
    "microseconds": ("2023-06-01T13:52:32.123456+00:00", "2023-06-01T14:52:32.123456+01:00"),
    "seven digits, as .NET": ("2023-06-01T13:52:32.1234567Z", "2023-06-01T14:52:32.123456+01:00"),
    "no colon in the offset, as PHP's ISO8601": (
        "2023-06-01T14:52:32+0100",
        "2023-06-01T14:52:32+01:00",
    ),
    "no offset, in summer": ("2023-06-01T14:52:32", "2023-06-01T14:52:32+01:00"),
    "no offset, in winter": ("2023-12-01T14:52:32", "2023-12-01T14:52:32+00:00"),
    "no offset, as databases print it": ("2023-06-01 14:52:32", "2023-06-01T14:52:32+01:00"),
    "a date": ("2023-06-01", "2023-06-01T00:00:00+01:00"),
    "blanks around it": (" 2023-06-01T14:52:32Z\n", "2023-06-01T15:52:32+01:00"),
    "null": (None, None),
    "empty": ("", None),
    "in words": ("yesterday", None),
    "no such month": ("2023-13-01T00:00:00Z", None),
    "no such offset": ("2023-06-01T14:52:32+99:99", None),
    "MySQL's zero date": ("0000-00-00 00:00:00", None),
    "before all time": ("0001-01-01T00:00:00+14:00", None),
    "after all time": ("9999-12-31T23:59:59-12:00", None),
    "British": ("01/06/2023 14:52", None),
    "seconds since 1970": (1685627552, None),
    "a decimal number": (1685627552.5, None),
    "true": (True, None),
    "a list": (["2023-06-01"], None),
    "an object, as PHP's DateTime": ({"date": "2023-06-01 14:52:32", "timezone": "UTC"}, None),
}


@pytest.mark.parametrize(("written", "said"), TIMES.values(), ids=TIMES)
def test_a_time_sinks_no_event(written: Any, said: str | None) -> None:
    """Whatever the lab writes for a time, the event is taken: without an offset the time is the
    clinic's, and what cannot be read is null and noted, without repeating it."""
    taken = read(RECEIVED, {**EXAMPLES[RECEIVED], "sample_received_at": written})
    seen = names(RECEIVED, taken.data, samples.RECEIVED_AT, Facts(), CLINIC)["event"]
    found = seen.sample_received_at
    assert (found.isoformat() if found else None) == said
    assert taken.data["sample_received_at"] == (written if said else None)
    notes = list(unread(EVENTS[RECEIVED], taken.data))
    assert notes == ([] if said else [NOTE.format("sample_received_at")])


def test_a_time_that_is_not_there_sinks_no_event() -> None:
    """Without its time the event is taken, and noted."""
    taken = read(RECEIVED, {"testregistration_id": ID})
    assert list(unread(EVENTS[RECEIVED], taken.data)) == [NOTE.format("sample_received_at")]


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("url", [[], {}, 5, True, None, [None], {"href": "https://x.example"}])
def test_a_url_sinks_no_event(name: str, url: Any) -> None:
    """Whatever the lab writes for `url`, which Relay hardly uses, the event is taken and noted."""
    taken = read(name, {**EXAMPLES[name], "url": url})
    assert taken.data["url"] is None
    assert list(unread(EVENTS[name], taken.data)) == [NOTE.format("url")]
    assert taken.identity == read(name, EXAMPLES[name]).identity


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("odd", [None, 5, -0.5, True, "", "\u202e", [], [[]], {}, {"": None}])
def test_nothing_but_an_id_sinks_an_event(name: str, odd: Any) -> None:
    """Every key but the ids, documented or not, may hold whatever JSON can: the event is taken."""
    others = {*EVENTS[name].data_fields, "more", "status", ""} - {*ID_FIELDS[name]}
    taken = read(name, {**EXAMPLES[name], **dict.fromkeys(others, odd)})
    assert taken.kind is EVENTS[name]
    seen = names(name, taken.data, samples.RECEIVED_AT, Facts(), CLINIC)["event"]
    assert bool(getattr(seen, ID_FIELDS[name][0]))


def test_retest_of_itself_is_refused() -> None:
    """A retest names another registration than the one it repeats."""
    data = {"testregistration_id": ID, "retest_testregistration_id": ID}
    refused = refusal("test_registration.retest", data)
    assert (refused.status, list(refused.fields)) == (422, ["data.retest_testregistration_id"])


def test_every_bad_field_is_named() -> None:
    """All that is wrong with `data` is told at once."""
    refused = refusal("test_registration.lml_lab_id_created", {"url": 7})
    assert set(refused.fields) == {"data.testregistration_id", "data.lab_id"}


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
