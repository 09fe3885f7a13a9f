"""The tables of config.toml besides the rules: each one's schema, and the value it becomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from marshmallow import Schema, ValidationError, fields, post_load, validate, validates_schema

from relay.config.fields import (
    Dated,
    OneOf,
    Parsed,
    any_address,
    judged,
    lasting,
    told,
    zone,
)
from relay.lab.events import EVENTS, ORDER, STAGES
from relay.lab.facts import PERSONS, Record, record
from relay.rules.channels import CHANNEL_NAMES, CHANNELS
from relay.rules.expressions import Condition
from relay.rules.schedule import Digest, Window, bank_holiday, duration

_word = validate.Length(min=1, error="write something here.")
_rate = validate.Range(0, min_inclusive=False, error="write a number above 0, as in 10.")


class ClinicSchema(Schema):
    """[clinic]: what templates may say about the clinic."""

    name = fields.String(
        required=True, validate=_word, metadata=told("What messages call you.", "Example Clinic")
    )
    phone = fields.String(
        required=True, validate=_word, metadata=told("Whom to call.", "020 7946 0000")
    )
    portal = fields.URL(
        schemes={"https"},
        error_messages={"invalid": "write an https:// address."},
        metadata=told("Where patients read their results.", "https://portal.example/results"),
    )
    timezone = Parsed(
        zone,
        load_default=lambda: ZoneInfo("Europe/London"),
        metadata=told("Yours and your patients' time zone.", "Europe/London"),
    )
    extra = fields.Dict(
        keys=fields.String(),
        load_default=dict,
        metadata=told(
            "Words of your own for templates: {{ clinic.extra.… }}.",
            {"hours": "Mon to Fri, 9 to 5"},
        ),
    )


SENDER, RATE = "{}_from", "{}_per_second"  # keys of [delivery], by a channel's name


def _senders() -> dict[str, fields.Field[Any]]:
    """`sms_from` and the like: who the messages of each channel are from."""
    return {
        SENDER.format(name): Parsed(
            row.sender.parse, metadata=told(row.sender.meaning, row.sender.example)
        )
        for name, row in CHANNELS.items()
        if row.sender
    }


def _rates() -> dict[str, fields.Field[Any]]:
    """`sms_per_second` and the like: how fast each channel's provider may be asked."""
    return {
        RATE.format(name): fields.Float(
            validate=_rate,
            metadata=told(f"The most that {row.provider.name} allows a second.", 10),
        )
        for name, row in CHANNELS.items()
    }


class DeliverySchema(Schema.from_dict({**_senders(), **_rates()})):  # type: ignore[misc]
    """[delivery]: how messages go out, and for how long they are kept."""

    send_window = Parsed(
        Window.parse,
        load_default=lambda: Window.parse("08:00-20:00"),
        metadata=told('When messages may go out, or "always".', "Mon-Fri 08:00-20:00"),
    )
    bank_holidays = fields.List(
        Dated(bank_holiday),
        load_default=list,
        metadata=told(
            "Days on which messages wait, unless their window is always.", ["2026-12-25"]
        ),
    )
    max_sms_segments = fields.Integer(
        strict=True,
        validate=validate.Range(1, 10, error="write a whole number from 1 to 10."),
        load_default=2,
        metadata=told("`check` warns of a text that takes more."),
    )
    daily_sms_limit = fields.Integer(
        strict=True,
        validate=validate.Range(1, error="write a whole number from 1 up."),
        load_default=2000,
        metadata=told("Past it texts wait until the next day."),
    )
    alerts = fields.String(
        load_default="",
        metadata=told("The staff group that hears when something needs a person.", "lab-desk"),
    )
    lab_patience = Parsed(
        lasting,
        load_default=lambda: timedelta(days=3),
        metadata=told("How long the lab is asked for what an event needs.", "3d"),
    )
    retention = Parsed(
        lasting,
        load_default=lambda: timedelta(days=90),
        metadata=told(
            "Then contact details and words are blanked, and texts deleted at Twilio.", "90d"
        ),
    )
    dedupe_window = Parsed(
        lasting,
        load_default=lambda: timedelta(days=30),
        metadata=told("The same event within it is the same event.", "30d"),
    )
    allow = fields.List(
        Parsed(any_address),
        load_default=list,
        metadata=told("Who gets anything while RELAY_DELIVERY=allow-list.", ["you@example.org"]),
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        senders = {name: data.pop(SENDER.format(name), "") for name in CHANNELS}
        rates = {name: data.pop(RATE.format(name), None) for name in CHANNELS}
        sets = {key: frozenset(data[key]) for key in ("allow", "bank_holidays")}
        return {**data, **sets, "senders": senders, "rates": rates}


def _addresses() -> dict[str, fields.Field[Any]]:
    """A group's addresses on each channel."""
    return {
        name: fields.List(
            judged(row.address),
            load_default=list,
            metadata=told(f"{row.address.several}.", [row.address.example]),
        )
        for name, row in CHANNELS.items()
    }


class StaffSchema(Schema.from_dict(_addresses())):  # type: ignore[misc]
    """A [staff.…] table."""


@dataclass(frozen=True)
class Clinic:
    """What templates may say about the clinic."""

    name: str
    phone: str
    timezone: ZoneInfo
    extra: Mapping[str, Any]
    portal: str | None = None

    def record(self) -> Record:
        """The clinic as templates see it."""
        made: Record = record("clinic", vars(self))
        return made


@dataclass(frozen=True)
class Delivery:
    """How messages go out, and for how long they are kept."""

    send_window: Window
    max_sms_segments: int
    daily_sms_limit: int
    retention: timedelta
    dedupe_window: timedelta
    lab_patience: timedelta
    allow: frozenset[str]
    bank_holidays: frozenset[date] = frozenset()
    alerts: str = ""
    senders: Mapping[str, str] = field(default_factory=dict)  # by channel
    rates: Mapping[str, float | None] = field(default_factory=dict)  # a second, over all workers


# When it cannot be found out whether a message went out: send it again, or let a person decide.
ON_UNKNOWN = ("resend", "hold")


def _channels(**kwargs: Any) -> fields.List[str]:
    return fields.List(OneOf(CHANNEL_NAMES), **kwargs)


class RuleSchema(Schema):
    """A [rules.…] table. To add a rule key, add it here and to Rule."""

    event = OneOf(
        EVENTS, required=True, metadata=told("What has happened: one of the lab's events.")
    )
    to = fields.String(
        required=True,
        metadata=told(
            '"customer" (who ordered), "patient" (who is tested), or a staff group.', "patient"
        ),
    )
    channels = _channels(
        required=True,
        validate=validate.Length(min=1, error="name one or more."),
        metadata=told("Each of these is used."),
    )
    fallback = _channels(metadata=told("Used only if no channel above could reach the person."))
    template = fields.String(
        required=True,
        validate=validate.Regexp(
            r"[A-Za-z0-9][\w-]*\Z", error='write a folder\'s name, as in "kit_shipped".'
        ),
        metadata=told("The folder under templates/ with the words.", "results_ready"),
    )
    when = fields.String(
        metadata=told("A condition: the rule applies if it is true.", "registration.status != 'x'")
    )
    after = Parsed(duration, metadata=told("How long after its event the message goes out.", "10d"))
    hold = Parsed(
        lasting,
        metadata=told("It waits so long for staff to release or stop it, who are told.", "48h"),
    )
    unless = fields.List(
        OneOf(EVENTS),
        validate=validate.Length(min=1, error="name one or more."),
        metadata=told("Events after which the message is not needed."),
    )
    send_window = Parsed(
        Window.parse, metadata=told('This rule\'s own window, or "always".', "08:00-20:00")
    )
    even_if_late = fields.Boolean(
        truthy={True},
        falsy={False},
        metadata=told("true tells it although a later step of the kit is known already."),
    )
    on_unknown = OneOf(
        ON_UNKNOWN,
        metadata=told("What becomes of a message that may have gone out and cannot be found."),
    )
    discreet = fields.Boolean(
        truthy={True},
        falsy={False},
        metadata=told("false lets an SMS or a subject show a test, a birthday or a full name."),
    )
    enabled = fields.Boolean(
        truthy={True}, falsy={False}, metadata=told("false switches the rule off.")
    )
    digest = Parsed(
        Digest.parse,
        metadata=told("Staff only: one message with all that has gathered by then.", "daily 08:00"),
    )

    @validates_schema(skip_on_field_errors=False)
    def _check(self, data: dict[str, Any], **_: Any) -> None:
        """Told together with what is wrong with single keys."""
        if twice := set(data.get("channels", ())) & set(data.get("fallback", ())):
            raise ValidationError(
                f'"{twice.pop()}" is in channels already. Take it out of one.', "fallback"
            )
        if data.get("event") in data.get("unless", ()):
            message = "it is the rule's own event: nothing would be sent. Take it out."
            raise ValidationError(message, "unless")
        if "digest" in data:
            self._check_digest(data)
        if "hold" in data and data.get("to", PERSONS[0]) not in PERSONS:
            raise ValidationError(
                "it is for messages to the patient or the customer. Take it out.", "hold"
            )
        if "hold" in data and "after" in data:
            raise ValidationError("it counts from when its event comes: leave out after.", "hold")
        if "when" in data and "event" in data:
            try:
                Condition(data["when"], data["event"])
            except ValueError as error:
                raise ValidationError(str(error), "when") from error

    def _check_digest(self, data: dict[str, Any]) -> None:
        if data.get("to") in PERSONS:
            reason = f"only staff get digests: a {data['to']} is told at once. Remove the key."
            raise ValidationError(reason, "digest")
        if data.get("fallback"):
            reason = "a digest has none: name each way in channels, and all of them are used."
            raise ValidationError(reason, "fallback")

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        if "when" in data:
            data["when"] = Condition(data["when"], data["event"])
        for key in data.keys() & {"channels", "fallback", "unless"}:
            data[key] = tuple(dict.fromkeys(data[key]))  # each once
        return data


SHORTEST = timedelta(hours=1)


def grace(text: str) -> timedelta:
    """A time after which a step is missing; clocks may differ, and events take a while."""
    found = lasting(text)
    if found < SHORTEST:
        raise ValueError('it must be an hour or more, as in "10d"')
    return found


class ExpectSchema(Schema):
    """An [expect.…] table."""

    after = OneOf(
        EVENTS, required=True, metadata=told("The step that a kit has come to.", "order.delivered")
    )
    event = OneOf(
        EVENTS,
        required=True,
        metadata=told("The step that is to come behind it.", "lab_results.complete"),
    )
    within = Parsed(
        grace, required=True, metadata=told("How long after it the step may take.", "10d")
    )
    to = fields.String(
        required=True, metadata=told("The staff group that hears when it has not come.", "lab-desk")
    )

    @validates_schema
    def _check(self, data: dict[str, Any], **_: Any) -> None:
        first, then = EVENTS[data["after"]], EVENTS[data["event"]]
        backwards = first.resource != ORDER and then.resource == ORDER
        if first.stage and then.stage:
            backwards = STAGES.index(then.stage) <= STAGES.index(first.stage)
        if backwards or first == then:
            raise ValidationError(f"{then.name} does not come behind {first.name}.", "event")
