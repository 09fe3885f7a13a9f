"""The lab's events: one row each in EVENTS. To add an event, add its row (and its templates)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import partial
from typing import Any

from marshmallow import INCLUDE, Schema, ValidationError, fields, missing, validates_schema

from relay.errors import Refused
from relay.lab import plain_text, strict_json
from relay.lab.facts import Facts

LONGEST_ID = 200
LONGEST_NAME = 100


class OpaqueId(fields.String):
    """An id from the lab: UUID, TRF code, foreign id. It must fit one segment of a path.

    A whole number counts as its digits; blank and invisible characters around an id are removed.
    """

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        given = super()._deserialize(plain_text.written(value), attr, data, **kwargs)
        text = plain_text.trimmed(str(given))
        if not text:
            raise ValidationError("It is blank.")
        if len(text) > LONGEST_ID:
            raise ValidationError(f"It is longer than {LONGEST_ID} characters.")
        if not text.isprintable() or set(text) & set("/\\?#") or text in (".", ".."):
            raise ValidationError("It has characters that the lab's ids never have.")
        return text


def moment(written: object, zone: tzinfo) -> datetime | None:
    """A time from the lab in `zone`, which is also that of one without offset; None if invalid."""
    try:
        found = datetime.fromisoformat(plain_text.trimmed(str(written)))
        return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(zone)
    except (ValueError, OverflowError):
        return None


class Text(fields.String):
    """A field that is not an id: unreadable text becomes null, and does not fail the event."""

    def deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        """The value, as the lab wrote it, or None."""
        is_read = value is missing or (isinstance(value, str) and self.is_one(value))
        return value if is_read else None

    def is_one(self, _value: str) -> bool:
        """Whether a text can be read."""
        return True


class Moment(Text):
    """A time in ISO 8601. Without an offset it is in the clinic's time zone."""

    def is_one(self, value: str) -> bool:
        """Whether a text is a time."""
        return moment(value, UTC) is not None


class _Data(Schema):
    """The keys that every event's `data` may have. Undocumented keys are kept as they are."""

    class Meta:
        unknown = INCLUDE

    url = Text(allow_none=True)


class RegistrationData(_Data):
    """`data` of the registration events."""

    testregistration_id = OpaqueId(required=True)


def _data(name: str, kind: type[Schema], **more: fields.Field[Any]) -> Schema:
    """A schema of one event's `data`, by its name in docs/openapi.json."""
    return kind.from_dict(more, name=name)()


class RetestData(RegistrationData):
    """`data` of test_registration.retest."""

    retest_testregistration_id = OpaqueId(required=True)

    @validates_schema(skip_on_field_errors=True)
    def _differ(self, data: dict[str, Any], **_: Any) -> None:
        if data["testregistration_id"] == data["retest_testregistration_id"]:
            said = "It is the same as testregistration_id."
            raise ValidationError(said, "retest_testregistration_id")


ORDER, REGISTRATION = "order", "registration"
TRF_PREFIX = "lml-"  # in small letters; the lab's own pages omit it
SHIPPING_STATUSES = (
    "awaiting_shipping",
    "manifested",
    "manifest_failed",
    "shipped",
    "out_for_delivery",
    "delivered",
    "delivery_failed",
    "returned",
    "appointment",
)
# The values that the lab's API documents for a field, by the path that a condition reads. Any field
# may be empty.
VALUES: Mapping[tuple[str, ...], tuple[object, ...]] = {
    ("registration", "status"): (
        "awaiting_patient",
        "pending",
        "pending_authentication",
        "success",
        "partial_result",
        "fail",
        "processing_error",
        "cancelled",
        "closed",
    ),
    ("registration", "results_ready"): (True, False),
    ("order", "shipping_status"): SHIPPING_STATUSES,
}

# Why the lab's API contradicts an event; empty if it does not. The argument has the event's own
# resource as `order` or `registration`, and what its row also asks for.
Contradiction = Callable[[Mapping[str, Any]], str]


def shipping_must_be(*statuses: str) -> Contradiction:
    """An order's status must be one of these, empty, or an undocumented word."""

    def contradicted(answers: Mapping[str, Any]) -> str:
        status = answers["order"].get("shipping_status")
        if status in SHIPPING_STATUSES and status not in statuses:
            return f'The lab\'s API says that the order is "{status}".'
        return ""

    return contradicted


def retest_must_name_its_parent(answers: Mapping[str, Any]) -> str:
    """The new registration must exist, and name the one that it repeats."""
    parent = str(answers["retest"].get("parent_id") or "")
    if is_named(answers["registration"], parent):
        return ""
    return "The lab's API does not say that the new registration repeats this one."


def results_must_be_there(answers: Mapping[str, Any]) -> str:
    """There must be results; their content does not matter."""
    return "" if answers["results"] else "The lab has announced results that are not ready yet."


def is_named(registration: Mapping[str, Any], name: str) -> bool:
    """Whether a registration has a name: its id, TRF code (even without prefix) or foreign id."""
    fields = ("id", "trf_code", "short_code", "foreign_id")
    names = {str(registration[key]).casefold() for key in fields if registration.get(key)}
    code = str(registration.get("trf_code") or "").casefold()
    return bool(name) and name.strip().casefold() in names | {code.removeprefix(TRF_PREFIX)}


# The rest of an event's `data`, after its id; None if the lab's facts do not prove the event.
Proof = Callable[[Facts], Mapping[str, Any] | None]


def proven_by_shipping(*statuses: str) -> Proof:
    """Return a proof that holds while the order's shipping status is one of `statuses`."""
    return lambda facts: {} if (facts.order or {}).get("shipping_status") in statuses else None


def proven_by_registration(facts: Facts) -> Mapping[str, Any] | None:
    """Return {} once the registration is complete or has results; None before that."""
    known = facts.registration or {}
    is_past_it = known.get("status") in ("success", "partial_result")
    return {} if known.get("completed_at") or is_past_it else None


def proven_by_lab_id(facts: Facts) -> Mapping[str, Any] | None:
    """Return the registration's lab id as event data; None until the lab has assigned one."""
    lab_id = (facts.registration or {}).get("lab_id")
    return {"lab_id": str(lab_id)} if lab_id else None


def proven_by_results(facts: Facts) -> Mapping[str, Any] | None:
    """Return {} once the status settles it: facts of results are only gathered if there are any."""
    known = facts.registration or {}
    status, ready = known.get("status"), known.get("results_ready") is True
    return {} if status == "success" or (ready and status != "partial_result") else None


@dataclass(frozen=True)
class Kind:
    """An event from the lab: its schema, its subject, its place in a journey."""

    name: str
    schema: Schema
    resource: str  # the resource that `id_field` names: ORDER or REGISTRATION
    id_field: str
    identity: tuple[str, ...]  # the fields of `data` that make two posts the same event
    stage: str | None = None  # one of STAGES
    happens: str = ""  # the event as a clause: "When …"
    urgency: int = 0  # higher goes first: in a backlog later steps are handled before earlier ones
    # How `[expect.…]` knows from the API that the event has happened. None: it cannot, as for a
    # sample (the lab does not say when it arrived) or a retest (nor which kit it repeats).
    proof: Proof | None = None
    # A webhook is only a hint: how the API may contradict the event before it is announced, and
    # what Relay asks it for that: "results", "retest".
    contradiction: Contradiction | None = None
    asks: str = ""

    @property
    def data_fields(self) -> tuple[str, ...]:
        """The documented keys of `data`."""
        return tuple(self.schema.fields)


_order = partial(
    Kind,
    schema=_data("OrderData", _Data, order_id=OpaqueId(required=True)),
    resource=ORDER,
    id_field="order_id",
    identity=("order_id",),
)
_registration = partial(
    Kind,
    schema=RegistrationData(),
    resource=REGISTRATION,
    id_field="testregistration_id",
    identity=("testregistration_id",),
)
EVENTS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        _order(
            "order.shipped",
            stage="shipped",
            happens="an order is shipped",
            proof=proven_by_shipping("shipped", "out_for_delivery"),
            contradiction=shipping_must_be("shipped", "out_for_delivery", "delivered"),
        ),
        _order(
            "order.delivered",
            stage="delivered",
            happens="an order is delivered",
            urgency=1,
            proof=proven_by_shipping("delivered"),
            contradiction=shipping_must_be("delivered"),
        ),
        _registration(
            "test_registration.complete",
            stage="registered",
            happens="a kit is registered",
            urgency=2,
            proof=proven_by_registration,
        ),
        _registration(
            "test_registration.sample_received",
            schema=_data(
                "ReceivedData", RegistrationData, sample_received_at=Moment(allow_none=True)
            ),
            stage="received",
            happens="the lab has received the sample",
            urgency=3,
        ),
        _registration(
            "test_registration.retest",
            schema=RetestData(),
            identity=("testregistration_id", "retest_testregistration_id"),
            happens="a new sample is needed",
            urgency=4,
            asks="retest",
            contradiction=retest_must_name_its_parent,
        ),
        _registration(
            "test_registration.lml_lab_id_created",
            schema=_data("LabIdData", RegistrationData, lab_id=OpaqueId(required=True)),
            identity=("testregistration_id", "lab_id"),
            happens="the lab has given a sample its own number",
            proof=proven_by_lab_id,
        ),
        _registration(
            "lab_results.complete",
            stage="results",
            happens="results are ready",
            urgency=5,
            proof=proven_by_results,
            asks="results",
            contradiction=results_must_be_there,
        ),
    )
}


def about(resource: str) -> tuple[str, ...]:
    """The names of the events that are about an ORDER or a REGISTRATION."""
    return tuple(name for name, kind in EVENTS.items() if kind.resource == resource)


# Why a post of each event was refused: from this the quarantine knows which event it was.
REFUSED = {name: f"The data of {name} is not valid." for name in EVENTS}
STAGES = ("shipped", "delivered", "registered", "received", "results")
RETEST = "test_registration.retest"
RESULTS = "lab_results.complete"


@dataclass(frozen=True)
class Incoming:
    """A webhook that Relay accepts. `kind` is None if the lab sent an event we do not know."""

    name: str
    data: Mapping[str, Any]
    identity: str  # hex digest, the same for every post of the same event
    kind: Kind | None

    @property
    def named(self) -> str | None:
        """The order or registration, as the lab wrote it."""
        return name_in(self.kind, self.data)


def name_in(kind: Kind | None, data: Mapping[str, Any]) -> str | None:
    """An event's own name for its order or registration; for an unknown event, any known id."""
    kinds = [kind] if kind else EVENTS.values()
    written = (data.get(one.id_field) for one in kinds)
    names = (plain_text.trimmed(str(name)) for name in written if isinstance(name, str | int))
    return next((name for name in names if 0 < len(name) <= LONGEST_ID), None)


def parse(raw: bytes) -> Incoming:
    """Read the event in a body. Raises Refused: 400 for its form, 422 for a known event's data."""
    body = strict_json.loads(raw)
    if not isinstance(body, dict):
        raise Refused(400, "The body is not a JSON object.")
    problems: dict[str, list[str]] = {}
    name, data = body.get("event"), body.get("data")
    name = plain_text.trimmed(name) if isinstance(name, str) else name
    if not (isinstance(name, str) and name and name.isprintable()) or (len(name) > LONGEST_NAME):
        problems["event"] = [f"It must be text of 1 to {LONGEST_NAME} characters."]
    if not isinstance(data, dict):
        problems["data"] = ["It must be an object."]
    if not isinstance(name, str) or not isinstance(data, dict) or problems:
        known = name if isinstance(name, str) and name in EVENTS else ""
        raise Refused(400, REFUSED.get(known, "The body is not an event."), problems, known)
    kind = EVENTS.get(name)
    if kind:
        data = validate_data(kind, data)
    return Incoming(name, data, identity(name, kind, data), kind)


def validate_data(kind: Kind, data: dict[str, Any]) -> dict[str, Any]:
    """Check an event's data against its schema, or raise `Refused` with the faulty fields."""
    try:
        loaded = kind.schema.load(data)
    except ValidationError as error:
        fields_ = dict(paths("data", error.messages))
        raise Refused(422, REFUSED[kind.name], fields_, kind.name) from error
    return dict(loaded)


def unread(kind: Kind, data: Mapping[str, Any]) -> Iterator[str]:
    """Yield, in sentences without values, the parts of an event's data that Relay cannot read."""
    for key, field in kind.schema.fields.items() if data else ():  # retention empties them
        if data.get(key) is None and (key in data or isinstance(field, Moment)):
            yield f"The lab sent no {key} that Relay can read, so messages leave it out."


def paths(path: str, messages: Any) -> list[tuple[str, list[str]]]:
    """Nested marshmallow messages as (dotted path, messages)."""
    if isinstance(messages, dict):
        return [row for key, inner in messages.items() for row in paths(f"{path}.{key}", inner)]
    return [(path, [str(message) for message in messages])]


def identity(name: str, kind: Kind | None, data: Mapping[str, Any]) -> str:
    """A hex digest that every post of one event shares. Raises KeyError for data without ids."""
    keys = kind.identity if kind else sorted(set(data) - {"url"})
    named = json.dumps([name, *([key, data[key]] for key in keys)], sort_keys=True)
    return hashlib.sha256(named.encode()).hexdigest()


def proof(event: str, facts: Facts) -> Mapping[str, Any] | None:
    """The rest of an event's `data`, after its id; None if the lab's facts do not prove it."""
    kind = EVENTS.get(event)
    return kind.proof(facts) if kind and kind.proof else None
