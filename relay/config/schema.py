"""The tables of config.toml: the schema of each, and the value it becomes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from marshmallow import Schema, ValidationError, fields, post_load, validate, validates_schema

from relay.config.colours import BLACK, WHITE, accent, readable
from relay.config.fields import (
    OneOf,
    Parsed,
    Several,
    Text,
    any_address,
    described,
    judged,
    lasting,
    picture,
    zone,
)
from relay.lab.events import EVENTS, ORDER, STAGES
from relay.lab.facts import PERSONS, Record, record
from relay.rules.addresses import AT_HOME, EMAIL, countries
from relay.rules.channels import CHANNEL_NAMES, CHANNELS
from relay.rules.expressions import condition
from relay.rules.model import URGENT_WORDS
from relay.rules.receipts import RECEIPT_WAIT
from relay.rules.schedule import Digest, Holidays, Window, duration

_word = validate.Length(min=1, error="must not be empty.")


def whole(default: int, description: str, most: int | None = None) -> fields.Integer:
    """A key for a whole number from 1, up to `most` if given."""
    error = f"write a whole number from 1 {f'to {most}' if most else 'up'}."
    limits = validate.Range(1, most, error=error)
    return fields.Integer(
        strict=True, validate=limits, load_default=default, metadata=described(description)
    )


def amount(description: str, example: float) -> fields.Float:
    """A key for a number above 0."""
    above = validate.Range(0, min_inclusive=False, error="write a number above 0, as in 10.")
    return fields.Float(validate=above, metadata=described(description, example))


def switch(description: str, **kwargs: Any) -> fields.Boolean:
    """A key that is true or false; nothing that only looks like either is taken."""
    return fields.Boolean(truthy={True}, falsy={False}, metadata=described(description), **kwargs)


def days(default: int, description: str) -> Parsed:
    """A key for a time, which defaults to so many days."""
    return Parsed(lasting, description, f"{default}d", load_default=timedelta(days=default))


# Of the backgrounds of an email's light and dark looks, those of least contrast: see layout.html.
_LIGHT, _DARK = ("#edf3f1", "#f2f1ec"), "#223232"


class ClinicSchema(Schema):
    """[clinic]: what templates may say about the clinic."""

    name = Text("Your clinic's name in messages.", "Example Clinic", required=True, validate=_word)
    short_name = Text(
        "A shorter name for texts, the head of emails and the desk; without it, name is used.",
        "Example",
        validate=_word,
    )
    phone = Text("The phone number in messages.", "020 7946 0000", required=True, validate=_word)
    portal = fields.URL(
        schemes={"https"},
        error_messages={"invalid": "write an https:// address."},
        metadata=described("Where patients read their results.", "https://portal.example/results"),
    )
    logo = Parsed(
        picture,
        "The https address of your logo, a PNG or JPEG: emails and the desk show it.",
        "https://www.example.org/logo.png",
    )
    accent = Parsed(
        accent,
        "Your colour, in emails and on the desk; white letters have to be readable on it.",
        "#0a6259",
    )
    timezone = Parsed(
        zone,
        "The time zone of your clinic and patients.",
        "Europe/London",
        load_default=ZoneInfo("Europe/London"),
    )
    extra = fields.Dict(
        keys=fields.String(),
        load_default=dict,
        metadata=described(
            "Your own values for templates: {{ clinic.extra.… }}.", {"hours": "Mon to Fri, 9 to 5"}
        ),
    )


SENDER, REPLY_TO, RATE = "{}_from", "{}_reply_to", "{}_per_second"  # keys, with a channel's name


def sender_fields() -> dict[str, fields.Field[Any]]:
    """`sms_from` and the like: who the messages of each channel are from."""
    return {
        SENDER.format(name): Parsed(row.sender.parse, row.sender.meaning, row.sender.example)
        for name, row in CHANNELS.items()
        if row.sender
    }


def reply_to_field() -> fields.Field[Any]:
    """`email_reply_to`: where answers to emails go."""
    return judged(EMAIL, "Where answers to emails go.", "desk@example.org")


def own_senders(data: dict[str, Any]) -> dict[str, Any]:
    """A table's values, with its senders gathered by channel."""
    senders = {name: data.pop(key) for name in CHANNELS if (key := SENDER.format(name)) in data}
    reply_to = {"reply_to": data.pop("email_reply_to")} if "email_reply_to" in data else {}
    return {**data, **reply_to, **({"senders": senders} if senders else {})}


# How many requests a second each channel's provider may get.
_RATES = {
    RATE.format(name): amount(f"The most {row.words} to send in a second.", 10)
    for name, row in CHANNELS.items()
}


class DeliverySchema(Schema.from_dict({**sender_fields(), **_RATES})):  # type: ignore[misc]
    """[delivery]: how messages go out, and for how long they are kept."""

    email_reply_to = reply_to_field()
    send_window = Several(
        Window.parse,
        'The hours when messages may go out, or "always".',
        ["Mon-Fri 08:00-20:00", "Sat 09:00-12:00"],
        load_default=Window.parse("08:00-20:00"),
    )
    bank_holidays = Several(
        Holidays.parse,
        'Days on which messages wait, unless their window is "always".',
        ["GB-ENG", "2026-12-24"],
        load_default=Holidays,
    )
    max_sms_segments = whole(2, "`check` warns about texts that take more segments.", most=10)
    daily_sms_limit = whole(
        2000,
        "The most texts in a day; any more wait until the next day. "
        f"A fifth of them is kept for {URGENT_WORDS}.",
    )
    alerts = Text(
        "The staff group to alert when something needs a person.", "lab-desk", load_default=""
    )
    sms_countries = Several(
        countries,
        "Countries whose mobiles get texts. Each but GB has its own price, often a multiple.",
        ["GB", "IE"],
        load_default=AT_HOME,
    )
    lab_patience = days(3, "How long to keep asking the lab for what an event needs.")
    retention = days(90, "How long to keep contact details and message texts, here and at Twilio.")
    history = days(
        8 * 365 + 2, "How long to keep what became of a finished kit, without anything personal."
    )
    dedupe_window = days(30, "A repeat of an event within this time counts as a duplicate.")
    allow = fields.List(
        Parsed(any_address),
        load_default=list,
        metadata=described(
            "The only addresses that get messages while RELAY_DELIVERY=allow-list.",
            ["you@example.org"],
        ),
    )

    @validates_schema(skip_on_field_errors=True)
    def _lasts(self, data: dict[str, Any], **_: Any) -> None:
        if data["history"] < data["retention"]:
            raise ValidationError("must not be shorter than retention.", "history")

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        data = own_senders(data)
        senders = dict.fromkeys(CHANNELS, "") | data.get("senders", {})
        rates = {name: data.pop(RATE.format(name), None) for name in CHANNELS}
        data = {"reply_to": "", **data, "allow": frozenset(data["allow"])}
        return {**data, "senders": senders, "rates": rates}


class DeskSchema(Schema):
    """[desk]: what the admin desk asks of those who use it."""

    reveal_reason = switch(
        "true asks for a reason before names and addresses are shown.", load_default=False
    )
    second_person = switch(
        "true asks for a second person's approval before an edit is published.", load_default=False
    )
    looks_per_hour = whole(
        200, "Past so many looks of one person at people's data in an hour, staff are alerted."
    )
    security_contact = judged(
        EMAIL,
        "Who is written to about a hole in security: /.well-known/security.txt says so. "
        "Without it, email_from.",
        "security@example.org",
        load_default="",
    )


@dataclass(frozen=True)
class Desk:
    """What the admin desk requires of its users."""

    reveal_reason: bool
    looks_per_hour: int
    second_person: bool
    security_contact: str


# The price of each channel: of a segment if it is billed by segments, else of a message.
_PRICES = {
    name: amount(f"What {f'a segment of {row.one}' if row.in_segments else row.one} costs.", 0.04)
    for name, row in CHANNELS.items()
}


class CostsSchema(Schema.from_dict(_PRICES)):  # type: ignore[misc]
    """[costs]: what messages cost, so that an edit's price can be told before it is in use."""

    currency = Text(
        "A sign before the sum, or a word behind it.", "euros", load_default="£", validate=_word
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        currency = data.pop("currency")
        return {"currency": currency, "prices": data}


@dataclass(frozen=True)
class Costs:
    """Prices by channel, of a segment or of a message."""

    currency: str
    prices: Mapping[str, float]

    def in_words(self, amount: float) -> str:
        """A sum of money: £12.40, £0.0008, or 12.40 euros."""
        is_small = amount < 1 and round(amount, 2) != amount
        sum_ = f"{amount:.4g}" if is_small else f"{amount:,.2f}"
        return f"{sum_} {self.currency}" if self.currency.isalpha() else f"{self.currency}{sum_}"


_ADDRESSES = {
    name: fields.List(
        judged(row.address),
        load_default=list,
        metadata=described(f"{row.address.several}.", [row.address.example]),
    )
    for name, row in CHANNELS.items()
}


class NeverSchema(Schema):
    """A [never.…] table."""

    template = Text("The template whose messages this is about.", "results_ready")
    rule = Text("Or the rule whose messages it is about.", "results-ready")
    when = Text(
        "A condition: while it is true, no such message goes out.",
        "registration.status == 'fail'",
        required=True,
    )
    because = Text(
        "Why, in a sentence for staff.",
        "Nobody learns of a failed test by a text.",
        required=True,
        validate=_word,
    )

    @validates_schema
    def check_target(self, data: dict[str, Any], **_: Any) -> None:
        """Check that it is about a template or about a rule. Raises ValidationError."""
        if ("template" in data) == ("rule" in data):
            raise ValidationError("write either template or rule.", "template")


class StaffSchema(Schema.from_dict(_ADDRESSES)):  # type: ignore[misc]
    """A [staff.…] table."""


@dataclass(frozen=True)
class Clinic:
    """What templates may say about the clinic."""

    name: str
    phone: str
    timezone: ZoneInfo
    extra: Mapping[str, Any]
    portal: str | None = None
    short_name: str = ""
    logo: str = ""
    accent: str = ""

    def record(self) -> Record:
        """The clinic as templates see it, with its colour adjusted for light and dark emails."""
        more = {"short_name": self.short_name or self.name}
        if self.accent:
            more["accent"] = readable(self.accent, BLACK, *_LIGHT)
            more["accent_in_dark"] = readable(self.accent, WHITE, _DARK)
        made: Record = record("clinic", {**vars(self), **more})
        return made


@dataclass(frozen=True)
class Delivery:
    """How messages go out, and for how long they are kept."""

    send_window: Window
    max_sms_segments: int
    daily_sms_limit: int
    retention: timedelta
    history: timedelta
    dedupe_window: timedelta
    lab_patience: timedelta
    allow: frozenset[str]
    bank_holidays: Holidays = field(default_factory=Holidays)
    alerts: str = ""
    senders: Mapping[str, str] = field(default_factory=dict)  # by channel
    reply_to: str = ""  # of emails
    sms_countries: frozenset[str] = AT_HOME
    rates: Mapping[str, float | None] = field(default_factory=dict)  # a second, over all workers


# When Relay cannot find out whether a message went out: send it again, or let a person decide.
ON_UNKNOWN = ("resend", "hold")


def one_or_more(known: Iterable[str], description: str, **kwargs: Any) -> fields.List[str]:
    """A key for a list of known words, with at least one."""
    is_filled = validate.Length(min=1, error="list at least one.")
    return fields.List(OneOf(known), validate=is_filled, metadata=described(description), **kwargs)


def arriving(text: str) -> timedelta:
    """How long a message may take to arrive: less than Relay waits for a receipt."""
    found = lasting(text)
    if found >= RECEIPT_WAIT:
        raise ValueError(
            'must be less than "72h": a message that has not arrived by then has failed'
        )
    return found


EXPRESSIONS = {"when", "language"}  # keys of a rule


class RuleSchema(Schema):
    """A [rules.…] table. To add a rule key, add it here and to Rule in relay/rules/model.py."""

    class Meta:
        """The keys that the channels bring."""

        include = sender_fields()

    title = Text(
        "What the desk calls the rule, in words.",
        "Results are ready",
        validate=validate.Length(1, 60, error="write up to 60 characters."),
    )
    event = OneOf(EVENTS, "What has happened: one of the lab's events.", required=True)
    to = Text(
        '"customer" (who ordered), "patient" (who is tested), or a staff group.',
        "patient",
        required=True,
    )
    channels = one_or_more(CHANNEL_NAMES, "The message goes out on each of these.", required=True)
    fallback = fields.List(
        OneOf(CHANNEL_NAMES),
        metadata=described("Used only if no channel above could reach the person."),
    )
    fallback_after = Parsed(
        arriving,
        "How long a message may take to arrive: after that the fallback goes out as well.",
        "4h",
    )
    template = Text(
        "The folder under templates/ that holds the message.",
        "results_ready",
        required=True,
        validate=validate.Regexp(
            r"[A-Za-z0-9][\w-]*\Z", error='write a folder\'s name, as in "kit_shipped".'
        ),
    )
    when = Text("A condition: the rule applies only if it is true.", "registration.status != 'x'")
    language = Text(
        "An expression that gives a folder beside the template's files: a language's.",
        "'cy' if order.address.country == 'Wales'",
    )
    after = Parsed(duration, "How long to wait after the event.", "10d")
    hold = Parsed(
        lasting,
        "How long staff, who are alerted, have to stop or release it. It then goes out.",
        "48h",
    )
    unless = one_or_more(EVENTS, "Events that cancel the message if one of them comes first.")
    send_window = Several(Window.parse, 'This rule\'s own window, or "always".', "08:00-20:00")
    even_if_late = switch("true sends it even if a later step of the kit has already come.")
    on_unknown = OneOf(
        ON_UNKNOWN, "What to do when Relay cannot tell whether the provider accepted the message."
    )
    discreet = switch("false lets an SMS or a subject name a test, a date of birth or a full name.")
    enabled = switch("false switches the rule off.")
    email_reply_to = reply_to_field()
    digest = Parsed(
        Digest.parse,
        "Staff only: when to send all that has gathered, in one message.",
        "weekly Mon 08:00",
    )

    @validates_schema(skip_on_field_errors=False)
    def check_together(self, data: dict[str, Any], **_: Any) -> None:
        """Check the keys against one another, even if one of them is invalid by itself."""
        if twice := set(data.get("channels", ())) & set(data.get("fallback", ())):
            said = f'"{twice.pop()}" is in channels too. Remove it from one of them.'
            raise ValidationError(said, "fallback")
        if "fallback_after" in data and not data.get("fallback"):
            said = 'there is no fallback. Add one, as in fallback = ["email"], or remove the key.'
            raise ValidationError(said, "fallback_after")
        if data.get("event") in data.get("unless", ()):
            said = "this is the rule's own event, so nothing would be sent. Remove it."
            raise ValidationError(said, "unless")
        if "digest" in data:
            self.check_digest(data)
        if "hold" in data and data.get("to", PERSONS[0]) not in PERSONS:
            said = "only messages to the patient or the customer can be held. Remove the key."
            raise ValidationError(said, "hold")
        if "hold" in data and "after" in data:
            said = "a rule cannot have both: hold counts from the event. Remove after."
            raise ValidationError(said, "hold")
        for key in data.keys() & EXPRESSIONS if "event" in data else ():
            try:
                condition(data[key], data["event"], key)
            except ValueError as error:
                raise ValidationError(str(error), key) from error

    @validates_schema
    def check_senders(self, data: dict[str, Any], **_: Any) -> None:
        """Check that a rule has senders only for channels it sends on. Raises ValidationError."""
        for channel in CHANNELS.keys() - {*data["channels"], *data.get("fallback", ())}:
            for key in {SENDER.format(channel), REPLY_TO.format(channel)} & data.keys():
                words = CHANNELS[channel].words
                raise ValidationError(f"the rule sends no {words}. Remove the key.", key)

    def check_digest(self, data: dict[str, Any]) -> None:
        """Check the keys of a rule with a digest. Raises ValidationError."""
        if (to := data.get("to")) in PERSONS:
            said = f"only staff get digests, and this rule writes to the {to}. Remove the key."
            raise ValidationError(said, "digest")
        if "language" in data:
            raise ValidationError("a digest has one language. Remove the key.", "language")
        if data.get("fallback"):
            said = "a digest has no fallback. List every channel in channels: it goes out on each."
            raise ValidationError(said, "fallback")

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        for key in data.keys() & EXPRESSIONS:
            data[key] = condition(data[key], data["event"], key)
        for key in data.keys() & {"channels", "fallback", "unless"}:
            data[key] = tuple(dict.fromkeys(data[key]))  # each once
        return own_senders(data)


SHORTEST = timedelta(hours=1)


def grace(text: str) -> timedelta:
    """How long a step may take: an hour or more, since clocks differ and events take a while."""
    found = lasting(text)
    if found < SHORTEST:
        raise ValueError('must be an hour or more, as in "10d"')
    return found


class ExpectSchema(Schema):
    """An [expect.…] table."""

    after = OneOf(EVENTS, "The step that a kit has reached.", "order.delivered", required=True)
    event = OneOf(EVENTS, "The step that should come next.", "lab_results.complete", required=True)
    within = Parsed(grace, "How long the next step may take.", "10d", required=True)
    to = Text("The staff group to alert when it has not come.", "lab-desk", required=True)

    @validates_schema
    def check_order(self, data: dict[str, Any], **_: Any) -> None:
        """Check that the second step comes after the first. Raises ValidationError."""
        first, then = EVENTS[data["after"]], EVENTS[data["event"]]
        backwards = first.resource != ORDER and then.resource == ORDER
        if first.stage and then.stage:
            backwards = STAGES.index(then.stage) <= STAGES.index(first.stage)
        if backwards or first == then:
            raise ValidationError(f"{then.name} does not come after {first.name}.", "event")
