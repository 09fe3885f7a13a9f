"""The tables of config.toml besides the rules: each one's schema, and the value it becomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from marshmallow import Schema, fields, validate

from relay.calendar import Window
from relay.facts import Record, record
from relay.fields import Parsed, any_address, email_sender, judged, lasting, sms_sender, zone

_word = validate.Length(min=1, error="write something here.")
_rate = validate.Range(0, min_inclusive=False, error="write a number above 0, as in 10.")


class ClinicSchema(Schema):
    """[clinic]: what templates may say about the clinic."""

    name = fields.String(required=True, validate=_word)
    phone = fields.String(required=True, validate=_word)
    portal = fields.URL(schemes={"https"}, error_messages={"invalid": "write an https:// address."})
    timezone = Parsed(zone, load_default=lambda: ZoneInfo("Europe/London"))
    extra = fields.Dict(keys=fields.String(), load_default=dict)


class DeliverySchema(Schema):
    """[delivery]: how messages go out, and for how long they are kept."""

    sms_from = Parsed(sms_sender)
    email_from = Parsed(email_sender)
    send_window = Parsed(Window.parse, load_default=lambda: Window.parse("08:00-20:00"))
    max_sms_segments = fields.Integer(strict=True, validate=validate.Range(1, 10), load_default=2)
    daily_sms_limit = fields.Integer(strict=True, validate=validate.Range(1), load_default=2000)
    sms_per_second = fields.Float(validate=_rate)  # what the provider allows, over all workers
    email_per_second = fields.Float(validate=_rate)
    alerts = fields.String(load_default="")  # the staff group that hears of what needs a person
    lab_patience = Parsed(lasting, load_default=lambda: timedelta(days=3))
    retention = Parsed(lasting, load_default=lambda: timedelta(days=90))
    dedupe_window = Parsed(lasting, load_default=lambda: timedelta(days=30))
    allow = fields.List(Parsed(any_address), load_default=list)


class StaffSchema(Schema):
    """A [staff.…] table."""

    email = fields.List(judged("email"), load_default=list)
    sms = fields.List(judged("sms"), load_default=list)


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
    alerts: str = ""
    sms_from: str = ""
    email_from: str = ""
    sms_per_second: float | None = None
    email_per_second: float | None = None

    @property
    def rates(self) -> dict[str, float | None]:
        """The most that each provider wants a second, over all workers."""
        return {"sms": self.sms_per_second, "email": self.email_per_second}

    @property
    def senders(self) -> dict[str, str]:
        """Each channel's sender."""
        return {"sms": self.sms_from, "email": self.email_from}
