"""The ledger's tables. Changes go through a migration; a test holds the two together."""

from __future__ import annotations

import secrets
import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from relay.ledger.database import UtcDateTime

REVISION = "0002"  # what this code works with; /readyz compares it with the database's

# An INSERT that can say what to do on a conflict, by the dialect's name.
INSERTS: dict[str, Any] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

RECEIVED, PROCESSED, UNROUTED, HELD = "received", "processed", "unrouted", "held"
# What is on its way or has reached somebody; the rest are ends that reached nobody.
WAITING = ("created", "scheduled")
ALIVE = (*WAITING, "sending", "sent", "delivered", "unknown")
FAILED = ("permanent-failure", "temporary-failure", "technical-failure", "validation-failed")
STATUSES = (*ALIVE, *FAILED, "cancelled")


def new_id(prefix: str) -> str:
    """An id that sorts by time: 'evt_' and 28 hex digits, 16 of them random."""
    return f"{prefix}_{time.time_ns() // 1_000_000:012x}{secrets.token_hex(8)}"


def _text(name: str, length: int, **kw: Any) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), **{"nullable": False, **kw})


def _time(name: str, **kw: Any) -> sa.Column[Any]:
    return sa.Column(name, UtcDateTime(), **kw)


def _number(name: str, default: int = 0) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False, server_default=str(default))


def _some(
    name: str, *columns: Any, where: sa.ColumnElement[bool], unique: bool = False
) -> sa.Index:
    """An index over the few rows that a hot statement looks at."""
    return sa.Index(name, *columns, unique=unique, postgresql_where=where, sqlite_where=where)


events = sa.Table(
    "events",
    metadata,
    _text("id", 40, primary_key=True),
    _text("name", 100),
    _text("identity", 100, unique=True),
    sa.Column("data", sa.JSON, nullable=False),
    _text("status", 20),
    _time("received_at", nullable=False),
    _number("duplicates"),
    _text("subject", 255, nullable=True),
    _number("round"),
    sa.Column("facts", sa.JSON(none_as_null=True)),
    sa.Column("decisions", sa.JSON(none_as_null=True)),
    _text("reason", 500, server_default=""),
    _number("urgency"),
    _number("tries"),
    _time("next_at"),
    _time("processed_at"),
)
_some(
    "ix_events_due",
    *(events.c.urgency.desc(), events.c.next_at),
    where=events.c.status == RECEIVED,
)
sa.Index("ix_events_subject", events.c.subject)

quarantine = sa.Table(
    "quarantine",
    metadata,
    _text("id", 40, primary_key=True),
    _text("digest", 64, unique=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
    _text("error", 500),
    sa.Column("fields", sa.JSON, nullable=False),
    _number("posts", 1),
    _time("first_at", nullable=False),
    _time("last_at", nullable=False),
    _text("event_id", 40, nullable=True),  # the event it became when it was replayed
)

# A kit: an order or a registration by its own UUID, and what it belongs to.
journeys = sa.Table(
    "journeys",
    metadata,
    _text("subject", 255, primary_key=True),
    _text("resource", 20),
    _text("order_subject", 255, nullable=True),
    _text("original_subject", 255, nullable=True),  # of a retest: the registration it repeats
    _number("round"),
    _time("created_at", nullable=False),
)
sa.Index("ix_journeys_order", journeys.c.order_subject)
sa.Index("ix_journeys_original", journeys.c.original_subject)

# Every other name that the lab or the clinic calls it by: TRF code, foreign id.
aliases = sa.Table(
    "aliases",
    metadata,
    _text("resource", 20, primary_key=True),
    _text("alias", 255, primary_key=True),
    _text("subject", 255),
)

notifications = sa.Table(
    "notifications",
    metadata,
    _text("id", 40, primary_key=True),
    sa.Column("event_id", sa.String(40), sa.ForeignKey("events.id"), nullable=False),
    _text("rule", 100),
    _text("template", 100),
    _text("subject", 255),
    _number("round"),
    _text("role", 100),
    _text("channel", 20),
    _text("address", 255),
    _text("identity", 64, unique=True),
    _text("family", 64),
    _text("status", 20),
    _text("reason", 500, server_default=""),
    _number("urgency"),
    sa.Column("is_fallback", sa.Boolean, nullable=False, server_default=sa.false()),
    _number("attempts"),
    _number("tries"),  # since it was planned or replayed: what delays and giving up go by
    _time("due_at", nullable=False),
    _time("lease_until"),
    _time("created_at", nullable=False),
    _time("sent_at"),
    _time("delivered_at"),
    _time("receipt_by"),  # when nothing has told by then that it arrived, it is given up
    _time("follow_up_at"),  # it reached nobody: the rule's fallback, or a person, has to be seen to
    _text("provider_id", 100, nullable=True),
    sa.Column("content", sa.JSON(none_as_null=True)),  # the message as it went out
)
_some(
    "ix_notifications_due",
    *(notifications.c.channel, notifications.c.urgency.desc(), notifications.c.due_at),
    where=notifications.c.status.in_(WAITING),
)
_some(
    "ix_notifications_leased",
    notifications.c.lease_until,
    where=notifications.c.status == "sending",
)
_some(
    "ix_notifications_receipt",
    notifications.c.receipt_by,
    where=notifications.c.receipt_by.is_not(None),
)
_some(
    "ix_notifications_follow_up",
    notifications.c.follow_up_at,
    where=notifications.c.follow_up_at.is_not(None),
)
sa.Index("ix_notifications_address", notifications.c.channel, notifications.c.address)
sa.Index("ix_notifications_event", notifications.c.event_id)
sa.Index("ix_notifications_family", notifications.c.family)
sa.Index("ix_notifications_subject", notifications.c.subject)
sa.Index("ix_notifications_created", notifications.c.created_at)

attempts = sa.Table(
    "attempts",
    metadata,
    _text("id", 40, primary_key=True),
    sa.Column("notification_id", sa.String(40), sa.ForeignKey("notifications.id"), nullable=False),
    _text("channel", 20),
    _text("outcome", 20),  # started, accepted, rejected, unknown
    _text("provider_id", 100, nullable=True),
    _text("code", 40, server_default=""),
    _text("detail", 500, server_default=""),
    _time("started_at", nullable=False),
    _time("finished_at"),
    _time("look_at"),  # of an unknown one: when it is looked for at the provider
    _number("looks"),
)
_some("ix_attempts_look", attempts.c.look_at, where=attempts.c.look_at.is_not(None))
_some("ix_attempts_provider", attempts.c.provider_id, where=attempts.c.provider_id.is_not(None))
sa.Index("ix_attempts_notification", attempts.c.notification_id)
sa.Index("ix_attempts_day", attempts.c.channel, attempts.c.started_at)

suppressions = sa.Table(
    "suppressions",
    metadata,
    _text("channel", 20, primary_key=True),
    _text("address", 255, primary_key=True),
    _text("source", 100),
    _time("created_at", nullable=False),
)

# What providers told of an attempt after it was sent, each thing once.
receipts = sa.Table(
    "receipts",
    metadata,
    _text("id", 40, primary_key=True),
    _text("digest", 64, unique=True),
    sa.Column("attempt_id", sa.String(40), sa.ForeignKey("attempts.id"), nullable=False),
    _text("word", 40),  # the provider's
    _text("state", 20),  # ours: sent, delivered, temporary-failure, permanent-failure
    _text("code", 40, server_default=""),
    _text("reason", 500, server_default=""),
    _time("received_at", nullable=False),
)
sa.Index("ix_receipts_attempt", receipts.c.attempt_id)

# A channel whose provider refuses us, is away, or asked us to wait: nothing goes out but a probe.
pauses = sa.Table(
    "pauses",
    metadata,
    _text("channel", 20, primary_key=True),
    _text("cause", 20),  # refused, away, busy
    _text("reason", 500),
    _number("probes"),
    _time("since", nullable=False),
    _time("until", nullable=False),
)

# What a person has to see to: the worklist.
cases = sa.Table(
    "cases",
    metadata,
    _text("id", 40, primary_key=True),
    _text("digest", 64, unique=True),  # of what it is about, so that it is opened once
    _text("kind", 20),
    _text("subject", 255),
    sa.Column("event_id", sa.String(40), sa.ForeignKey("events.id"), nullable=False),
    _text("notification_id", 40, nullable=True),
    _text("reason", 500),
    _time("opened_at", nullable=False),
    _time("closed_at"),
    _text("closed_by", 100, nullable=True),
    _text("note", 500, server_default=""),
)
_some("ix_cases_open", cases.c.opened_at, where=cases.c.closed_at.is_(None))
sa.Index("ix_cases_event", cases.c.event_id)

audit = sa.Table(
    "audit",
    metadata,
    _text("id", 40, primary_key=True),
    _time("at", nullable=False),
    _text("actor", 100),
    _text("action", 40),
    _text("target", 255),
    _text("detail", 500, server_default=""),
)

heartbeats = sa.Table(
    "heartbeats",
    metadata,
    _text("name", 100, primary_key=True),
    _time("seen_at", nullable=False),
)
