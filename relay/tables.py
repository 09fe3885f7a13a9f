"""The tables of config.toml besides the rules: each one's schema, and the value it becomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from marshmallow import Schema, fields, post_load, validate

from relay.addresses import CHANNELS
from relay.calendar import Window, bank_holiday
from relay.fields import (
    Dated,
    Parsed,
    any_address,
    email_sender,
    judged,
    lasting,
    sms_sender,
    told,
    zone,
)
from relay.lab.facts import Record, record

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


class DeliverySchema(Schema):
    """[delivery]: how messages go out, and for how long they are kept."""

    sms_from = Parsed(sms_sender, metadata=told("What phones show as the sender.", "EXCLINIC"))
    email_from = Parsed(
        email_sender, metadata=told("The sender of emails.", "Example Clinic <results@example.org>")
    )
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
    sms_per_second = fields.Float(
        validate=_rate, metadata=told("The most that Twilio allows a second.", 10)
    )
    email_per_second = fields.Float(
        validate=_rate, metadata=told("The most that SendGrid allows a second.", 10)
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
        return {**data, **{key: frozenset(data[key]) for key in ("allow", "bank_holidays")}}


class StaffSchema(Schema):
    """A [staff.…] table."""

    email = fields.List(
        judged("email"),
        load_default=list,
        metadata=told("Email addresses.", ["lab-desk@example.org"]),
    )
    sms = fields.List(
        judged("sms"), load_default=list, metadata=told("UK mobile numbers.", ["+447700900100"])
    )


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
    sms_from: str = ""
    email_from: str = ""
    sms_per_second: float | None = None
    email_per_second: float | None = None

    @property
    def rates(self) -> dict[str, float | None]:
        """The most that each provider wants a second, over all workers."""
        return {way: getattr(self, f"{way}_per_second", None) for way in CHANNELS}

    @property
    def senders(self) -> dict[str, str]:
        """Each channel's sender."""
        return {way: getattr(self, f"{way}_from", "") for way in CHANNELS}
