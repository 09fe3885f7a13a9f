"""What the ledger tells a monitoring system: the last hour, and what waits now.

Every question goes by an index and looks at an hour's rows: a scrape costs the same on any ledger.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.ledger.database import Database, ago, now
from relay.ledger.schema import (
    IN_QUARANTINE,
    attempts,
    cases,
    events,
    first_id,
    notifications,
    pauses,
    quarantine,
)
from relay.rules.channels import CHANNEL_NAMES
from relay.rules.model import RECEIVED, WAITING

HOUR = timedelta(hours=1)
CLOCKS_DIFFER = timedelta(minutes=10)  # an event's id has the web process's clock in it
MOST = 5_000  # attempts of an hour whose times are read, the latest
AT_ONCE = timedelta(seconds=1)  # what was due within it of being planned had not to wait


@dataclass(frozen=True)
class Measured:
    """One reading of the ledger. What is counted was counted over the last hour."""

    events: Mapping[tuple[str, str], int]  # by name and status
    messages: Mapping[tuple[str, str], int]  # by channel and status
    attempts: Mapping[tuple[str, str], int]  # by channel and outcome
    took: Mapping[str, Sequence[float]]  # seconds to a provider's answer, by channel
    reached: Sequence[float]  # seconds from a webhook to the provider, of what had not to wait
    segments: int  # of texts that a provider took
    quarantined: int  # and not seen to since
    waiting: Mapping[str, int]  # messages that are due now, by channel
    oldest: float  # seconds that the message waiting longest has been due
    events_waiting: int  # now
    paused: frozenset[str]  # channels, now
    cases: int  # open now


def measure(db: Database) -> Measured:
    """Read it all, over one connection. Raises LedgerUnavailable."""
    with db.read() as connection:
        tried = connection.execute(_tried()).all()
        due = connection.execute(_due()).all()
        return Measured(
            events=_counted(connection, events.c.name, events.c.status, *_recent_events()),
            messages=_counted(
                connection,
                *(notifications.c.channel, notifications.c.status),
                notifications.c.created_at > ago(HOUR),
            ),
            attempts=_counted(connection, attempts.c.channel, attempts.c.outcome, *_lately()),
            took=_took(tried),
            reached=[
                (row.finished_at - row.received_at).total_seconds()
                for row in tried
                if row.outcome == "accepted" and row.finished_at
                if row.attempts == 1 and row.due_at - row.created_at < AT_ONCE
            ],
            segments=int(connection.execute(_segments()).scalar_one()),
            quarantined=_many(connection, quarantine, *_refused_lately()),
            waiting={row.channel: row.many for row in due},
            oldest=max([0.0, *((row.clock - row.oldest).total_seconds() for row in due)]),
            events_waiting=_many(connection, events, events.c.status == RECEIVED),
            paused=frozenset(connection.execute(sa.select(pauses.c.channel)).scalars()),
            cases=_many(connection, cases, cases.c.closed_at.is_(None)),
        )


def _recent_events() -> tuple[sa.ColumnElement[bool], ...]:
    """The last hour's events, by their ids: these sort by time, and have the index."""
    first = first_id("evt", datetime.now(UTC) - HOUR - CLOCKS_DIFFER)
    return events.c.id >= first, events.c.received_at > ago(HOUR)


def _refused_lately() -> tuple[sa.ColumnElement[bool], ...]:
    """The last hour's refused posts, but for those that somebody has seen to."""
    return IN_QUARANTINE, quarantine.c.last_at > ago(HOUR)


def _lately() -> tuple[sa.ColumnElement[bool], ...]:
    """The last hour's attempts."""
    return attempts.c.channel.in_(CHANNEL_NAMES), attempts.c.started_at > ago(HOUR)


def _segments() -> sa.Select[Any]:
    """What the texts took that went out: once for each attempt that a provider accepted."""
    return (
        sa.select(sa.func.coalesce(sa.func.sum(notifications.c.segments), 0))
        .join_from(attempts, notifications, notifications.c.id == attempts.c.notification_id)
        .where(*_lately(), attempts.c.channel == "sms", attempts.c.outcome == "accepted")
    )


def _tried() -> sa.Select[Any]:
    table = notifications.c
    return (
        sa.select(
            *(attempts.c.channel, attempts.c.outcome, attempts.c.started_at),
            *(attempts.c.finished_at, table.attempts, table.due_at, table.created_at),
            events.c.received_at,
        )
        .join_from(attempts, notifications, table.id == attempts.c.notification_id)
        .join(events, events.c.id == table.event_id)
        .where(*_lately())
        .order_by(attempts.c.started_at.desc())
        .limit(MOST)
    )


def _due() -> sa.Select[Any]:
    table = notifications.c
    return (
        sa.select(
            table.channel,
            sa.func.count().label("many"),
            sa.func.min(table.due_at, type_=table.due_at.type).label("oldest"),
            now().label("clock"),
        )
        .where(table.status.in_(WAITING), table.due_at <= now())
        .group_by(table.channel)
    )


def _counted(
    connection: Connection, first: Any, second: Any, *where: sa.ColumnElement[bool]
) -> dict[tuple[str, str], int]:
    query = sa.select(first, second, sa.func.count()).where(*where).group_by(first, second)
    return {(one, other): many for one, other, many in connection.execute(query)}


def _took(tried: Sequence[Any]) -> dict[str, list[float]]:
    """How long each channel's provider took to answer."""
    took: dict[str, list[float]] = defaultdict(list)
    for row in tried:
        if row.finished_at and row.outcome in ("accepted", "rejected"):
            took[row.channel].append((row.finished_at - row.started_at).total_seconds())
    return took


def _many(connection: Connection, table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
    query = sa.select(sa.func.count()).select_from(table).where(*where)
    return int(connection.execute(query).scalar_one())
