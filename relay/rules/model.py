"""The values that rules work with: rules, planned notices, endings, the day's limit."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from relay.lab.events import EVENTS, RETEST
from relay.rules.addresses import AT_HOME
from relay.rules.statuses import ANSWER, DIGEST, MESSAGE, RESENT

if TYPE_CHECKING:
    from relay.rules.expressions import Condition
    from relay.rules.schedule import Digest, Window

ALERT_PREFIX = "relay:"  # begins an alert's rule name; no rule in config.toml may begin so
LETTER = "letter"  # the rule, after ALERT_PREFIX, of an answer to nobody: a letter to many
# Begins the identity of a message that repeats another, before the other's id. So a message is
# repeated once, however often people press; the next press repeats the repeat.
RESENT_OF = "resent "
PATIENT = "patient"  # the role
ALERT_URGENCY = 9  # above that of any event's message


@dataclass(frozen=True)
class Notice:
    """A planned notification: a message to one address, or the reason why there is none."""

    rule: str
    template: str
    subject: str
    round: int
    role: str
    channel: str
    address: str
    status: str
    reason: str
    due_at: datetime
    urgency: int
    is_fallback: bool = False
    content: Mapping[str, str] | None = None  # an alert's plain words, in case its template fails
    key: str = ""  # what distinguishes a repeat: a case, a digest's time, a message's id
    kind: str = MESSAGE  # MESSAGE, DIGEST, ITEM, ALERT, RESENT, ANSWER
    waits_for: str | None = None  # what must be put right before it goes out
    digest: str | None = None  # identity of the digest it is in; a digest has its own

    @property
    def obligation(self) -> str:
        """A digest that names what one rule owes one role about one kit, on any channel."""
        if self.kind == ANSWER:  # each answer is its own obligation
            return _digest(ANSWER, self.key)
        return obligation(self.rule, self.subject, self.round, self.role)

    @property
    def identity(self) -> str:
        """A digest, unique in the ledger, so that nobody gets the same message twice."""
        if self.kind == RESENT:
            return RESENT_OF + self.key
        if self.kind == ANSWER:
            return self.obligation
        parts = (self.rule, self.subject, self.round, self.role, self.channel, self.address)
        return identity(*parts, self.key)

    @property
    def tells_patient(self) -> bool:
        """Whether it is for the patient, and there is an address."""
        return self.role == PATIENT and bool(self.address)

    @property
    def is_digest(self) -> bool:
        """Whether it reports many events."""
        return self.kind == DIGEST


@dataclass(frozen=True)
class Case:
    """Something that a person must deal with, and the alerts that staff get about it."""

    kind: str  # one of relay.rules.alerts.KINDS
    key: str  # its subject: while a case of this kind and key is open no second one opens
    subject: str
    reason: str
    event_id: str = ""
    notification_id: str | None = None
    alerts: tuple[Notice, ...] = ()
    count: int = 1  # how many messages or events it is about
    # It is about every message that a fault of ours affects, of which this is one: see
    # relay.ledger.worklist.faults.
    is_fault: bool = False
    is_urgent: bool = False  # comes first on the worklist, and its alert waits for no other
    holds: bool = False  # messages to its kit's people wait until it is closed

    @property
    def digest(self) -> str:
        """A digest, unique among open cases."""
        return case_digest(self.kind, self.key)


def obligation(rule: str, subject: str, round_: int, role: str) -> str:
    """A digest that names what one rule owes one role about one kit and round."""
    return _digest(rule, subject, round_, role)


def identity(
    rule: str, subject: str, round_: int, role: str, channel: str, address: str, key: str = ""
) -> str:
    """A digest that names a notification for ever, even after its address is blanked."""
    return _digest(rule, subject, round_, role, channel, address, *filter(None, (key,)))


def case_digest(kind: str, key: str) -> str:
    """A digest that names a case while it is open."""
    return _digest(kind, key)


@dataclass(frozen=True)
class Decision:
    """Why a rule sent nothing. `is_final`: no later facts from the lab can change it."""

    rule: str
    reason: str
    is_final: bool = False


@dataclass(frozen=True)
class Plan:
    """The result of planning an event.

    `cancelled` has the ids of messages that it makes out of date, and why; `cases` has the
    questions to staff before held messages go out.
    """

    notices: tuple[Notice, ...] = ()
    decisions: tuple[Decision, ...] = ()
    cancelled: Mapping[str, str] = field(default_factory=dict)
    cases: tuple[Case, ...] = ()


@dataclass(frozen=True)
class Step:
    """An event of a kit, as the kit's other events see it."""

    name: str
    round: int
    received_at: datetime
    is_repeated: bool = False  # of an order: a retest asks for it again, so it meets no `unless`


@dataclass(frozen=True)
class Waiting:
    """A message that waits to be sent, or has failed, and the step that it is about."""

    id: str
    rule: str
    due_at: datetime
    step: Step
    known: tuple[Step, ...] = ()  # the steps so far of the kit or order that it is about
    has_failed: bool = False  # it waits only for staff, whom a case asks about it


# (rule, role, channel) of messages that are on their way or have arrived about this kit and round.
AlreadyNotified = frozenset[tuple[str, str, str]]


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Rule:
    """Who gets which message, and how, when an event arrives. `name` is its identity."""

    name: str
    event: str
    to: str
    channels: tuple[str, ...]
    template: str
    fallback: tuple[str, ...] = ()
    fallback_after: timedelta = timedelta()
    when: Condition | None = None
    after: timedelta = timedelta()
    hold: timedelta = timedelta()
    unless: tuple[str, ...] = ()
    send_window: Window | None = None
    digest: Digest | None = None
    language: Condition | None = None  # its value names a language's folder, next to the template
    even_if_late: bool = False
    on_unknown: str = "resend"
    discreet: bool = True
    title: str = ""  # the desk's name for it
    enabled: bool = True
    senders: Mapping[str, str] = field(default_factory=dict, hash=False)  # its own, by channel
    reply_to: str = ""  # where replies to its emails go, if not to their sender
    never: tuple[Never, ...] = ()  # config.toml's [never.…] tables about it or its template

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions that must be true of the facts, then those that must not."""
        return (*filter(None, (self.when,)), *(one.when for one in self.never))

    @property
    def asks(self) -> tuple[Condition, ...]:
        """The conditions that read facts; its templates read more."""
        return (*filter(None, (self.language,)), *self.conditions)

    @property
    def ways(self) -> tuple[str, ...]:
        """The channels that it may use: its own and its fallback's."""
        return (*self.channels, *self.fallback)

    def forbidden_by(self, names: Mapping[str, Any]) -> Never | None:
        """The [never.…] that forbids its messages with these facts, if any. Raises RenderError if
        that is unclear.
        """
        return next((one for one in self.never if one.when.holds(names)), None)


@dataclass(frozen=True)
class Never:
    """A [never.…] table: what no message of a rule may say, even if the rule's `when` is true."""

    name: str
    when: Condition
    because: str

    @property
    def reason(self) -> str:
        """The reason that is recorded with a message that it forbids."""
        return f"[never.{self.name}] forbids it: {self.because}"


@dataclass(frozen=True)
class Staff:
    """A [staff.…] table: a group that rules can name, and its addresses by channel."""

    addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def on(self, channel: str) -> tuple[str, ...]:
        """The group's addresses on a channel."""
        return self.addresses.get(channel, ())


@dataclass(frozen=True)
class Expectation:
    """`event` is expected `within` this time of `after`; if late, Relay alerts the group `to`."""

    name: str
    after: str
    event: str
    within: timedelta
    to: str


@dataclass(frozen=True)
class Policy:
    """The clinic-wide settings that every rule uses: time zone, window, staff."""

    zone: ZoneInfo
    send_window: Window
    staff: Mapping[str, Staff]
    alerts: str = ""  # the group that Relay alerts when something needs a person
    desk: str = ""  # the admin desk's address
    bank_holidays: Container[date] = frozenset()  # days on which no window opens
    countries: frozenset[str] = AT_HOME  # whose mobile numbers Relay texts


@dataclass(frozen=True)
class Ending:
    """How an attempt ended, and the new state of its notification."""

    outcome: str  # accepted, rejected, unknown
    status: str
    reason: str = ""
    provider_id: str | None = None
    code: str = ""
    retry_in: float | None = None  # seconds; only with status "created" or "scheduled"
    is_a_try: bool = True  # False for a message that only waits
    suppress: str = ""  # why the address gets nothing more on this channel
    awaits_receipt: bool = False
    is_kept: bool = False  # accepted by dry-run delivery, which sends nothing
    fallback_in: float = 0.0  # seconds it may take to arrive before the fallback goes out too
    pause: Pause | None = None  # what this shows about the whole channel
    waits_for: str = ""  # while it waits: what must be put right first
    case: Case | None = None  # a new case about it
    case_id: str | None = None  # or the id of the open one
    reached_nobody: bool = False  # cancelled, but the person must still hear of it another way
    answered: bool = False  # the provider has judged this particular message, so the channel works


@dataclass(frozen=True)
class Pause:
    """Why a channel is paused. `seconds` is how long the provider asked us to wait."""

    cause: str
    reason: str
    seconds: float | None = None
    case: Case | None = None  # if staff must act


# The last fifth of the day's limit is for urgent messages. By the shipped rules one text in four or
# five about a kit is urgent: on a day of ordinary news about as many of them are still to come when
# the rest is used up. It is rounded down, so a limit below five is too small to share.
KEPT_SHARE = 5
URGENT = EVENTS[RETEST].urgency  # and everything above it: results, and alerts to staff
URGENT_WORDS = "results, retests and alerts"


@dataclass(frozen=True)
class DailyLimit:
    """A day's limit on a channel, and the number of messages that count against it so far."""

    most: int
    spent: int = 0

    @property
    def kept(self) -> int:
        """How many of its messages only urgent ones may use."""
        return self.most // KEPT_SHARE

    def reach(self, urgency: int) -> float:
        """The highest count at which messages of an urgency still go out.

        An alert counts, but is never held up: it may be the one about the limit.
        """
        if urgency >= ALERT_URGENCY:
            return math.inf
        return self.most if urgency >= URGENT else self.most - self.kept

    def lets_through(self, urgency: int, ahead: int = 0) -> bool:
        """Whether a message of an urgency may go now, with `ahead` others before it."""
        return self.spent + ahead < self.reach(urgency)

    def reason(self, urgency: int) -> str:
        """A case's reason for messages of an urgency that wait because of the limit."""
        if self.kept and urgency < URGENT:
            return f"daily_sms_limit is {self.most}, with {self.kept} kept for {URGENT_WORDS}."
        return f"daily_sms_limit is {self.most}. Results and retests wait too."
