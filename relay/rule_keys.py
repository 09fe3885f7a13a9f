"""A rule's keys: the schema of a [rules.…] table, and the value that it becomes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from marshmallow import Schema, ValidationError, fields, post_load, validate, validates_schema

from relay import addresses
from relay.calendar import Digest, Window, duration
from relay.expressions import Condition
from relay.fields import OneOf, Parsed, lasting, told
from relay.lab.events import EVENTS
from relay.lab.facts import PERSONS

# When it cannot be found out whether a message went out: send it again, or let a person decide.
ON_UNKNOWN = ("resend", "hold")


@dataclass(frozen=True)
class Rule:
    """Who is told what, and how, when an event comes. `name` is its identity."""

    name: str
    event: str
    to: str
    channels: tuple[str, ...]
    template: str
    fallback: tuple[str, ...] = ()
    when: Condition | None = None
    after: timedelta = timedelta()
    hold: timedelta = timedelta()
    unless: tuple[str, ...] = ()
    send_window: Window | None = None
    digest: Digest | None = None
    even_if_late: bool = False
    on_unknown: str = "resend"
    discreet: bool = True
    enabled: bool = True


def _channels(**kwargs: Any) -> fields.List[str]:
    return fields.List(OneOf(addresses.CHANNELS), **kwargs)


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


@dataclass(frozen=True)
class Staff:
    """A [staff.…] table: a group that rules can name, by channel."""

    email: tuple[str, ...] = ()
    sms: tuple[str, ...] = ()

    def on(self, channel: str) -> tuple[str, ...]:
        """The group's addresses on a channel."""
        found: tuple[str, ...] = getattr(self, channel, ())
        return found
