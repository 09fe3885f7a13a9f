"""The current state: what waits and why, for the desk; counts and times, for the metrics."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.ledger import workers as ledger_workers
from relay.ledger.database import ago, first_id, now
from relay.ledger.holds import halts
from relay.ledger.holds import pauses as ledger_pauses
from relay.ledger.holds.allowances import spent
from relay.ledger.schema import (
    IN_QUARANTINE,
    IS_SENDING,
    IS_WAITING,
    attempts,
    cases,
    events,
    heartbeats,
    notifications,
    quarantine,
    receipts,
)
from relay.ledger.workers import WORKER_GONE_AFTER
from relay.ledger.worklist import unknown_events
from relay.rules.channels import CHANNEL_NAMES, IN_SEGMENTS
from relay.rules.model import DailyLimit
from relay.rules.schedule import midnight
from relay.rules.statuses import PROCESSED, RECEIVED

LATE = timedelta(minutes=15)  # work that has waited this long does not merely wait its turn
_LATEST = 300  # events, by the primary key, so that a page is fast
_REASONS = 5  # for waiting, those with the oldest events


@dataclass(frozen=True)
class Late:
    """Work that has waited too long: why or on which channel, how much, and since when."""

    named: str
    many: int
    since: datetime


@dataclass(frozen=True)
class Blockers:
    """The things that may hold up any message now."""

    at: datetime
    workers: int
    pauses: Mapping[str, Mapping[str, Any]]  # of channels, and of the lab
    limits: Mapping[str, DailyLimit]  # of the day, by channel


def blockers(connection: Connection, zone: ZoneInfo, most_texts: int) -> Blockers:
    """Return what holds up messages now. The day and its limit on texts are the clinic's."""
    at = datetime.now(UTC)
    began = midnight(at, zone)
    return Blockers(
        at,
        ledger_workers.workers_alive(connection),
        {row["channel"]: row for row in ledger_pauses.paused(connection)},
        {name: DailyLimit(most_texts, spent(connection, name, began)) for name in IN_SEGMENTS},
    )


def late_events(connection: Connection) -> list[Late]:
    """The events that came long ago and are not processed yet, by the reason for their delay."""
    table = events.c
    oldest = sa.func.min(table.received_at)
    return _late(
        connection,
        sa.select(table.reason, sa.func.count(), oldest)
        .where(table.status == RECEIVED, table.received_at < ago(LATE))
        .group_by(table.reason)
        .order_by(oldest)
        .limit(_REASONS),
    )


def latest_decisions(connection: Connection) -> dict[str, list[dict[str, str]]]:
    """The rules that sent nothing for the latest events, and why, by event name, newest first."""
    table = events.c
    query = sa.select(table.name, table.decisions).where(table.status == PROCESSED)
    found: dict[str, list[dict[str, str]]] = defaultdict(list)
    for name, decisions in connection.execute(query.order_by(table.id.desc()).limit(_LATEST)):
        found[name].append({one["rule"]: one["reason"] for one in decisions or ()})
    return found


def late_messages(connection: Connection) -> list[Late]:
    """The messages that should have gone out long ago and are not stopped, by channel."""
    table = notifications.c
    return _late(
        connection,
        sa.select(table.channel, sa.func.count(), sa.func.min(table.due_at))
        .where(IS_WAITING, table.due_at < ago(LATE), halts.GOES_ON)
        .group_by(table.channel)
        .order_by(table.channel),
    )


def _late(connection: Connection, query: sa.Select[Any]) -> list[Late]:
    return [Late(*row) for row in connection.execute(query)]


def has_posted(connection: Connection) -> bool:
    """Whether the lab has ever posted an event that is still here."""
    query = sa.select(events.c.id).where(events.c.source == "lab").order_by(events.c.id).limit(1)
    return connection.execute(query).first() is not None


def has_receipts(connection: Connection, channel: str) -> bool:
    """Whether a channel's provider has reported on one of the latest thousand attempts."""
    mine = sa.select(attempts.c.id).where(attempts.c.channel == channel)
    latest = mine.order_by(attempts.c.started_at.desc()).limit(1000)
    query = sa.select(receipts.c.id).where(receipts.c.attempt_id.in_(latest)).limit(1)
    return connection.execute(query).first() is not None


def waiting(connection: Connection) -> dict[str, int]:
    """Count the messages that are still to go out, now or later, by channel."""
    table, found = notifications.c, dict[str, int]()
    for which in (IS_WAITING, IS_SENDING):
        query = sa.select(table.channel, sa.func.count()).where(which).group_by(table.channel)
        for channel, many in connection.execute(query):
            found[channel] = found.get(channel, 0) + many
    return found


def on_worklist(connection: Connection) -> dict[str, int]:
    """Count each part of the worklist: open cases, refused posts that nobody has dealt with, and
    unknown event names that nobody has acknowledged.
    """
    return {
        "cases": _many(connection, cases, cases.c.closed_at.is_(None)),
        "refused": _many(connection, quarantine, IN_QUARANTINE),
        "unknown": unknown_events.count(connection),
    }


def queue(connection: Connection) -> Mapping[str, Any]:
    """Count events that wait, messages due, those for later, and those being sent."""
    table = notifications.c
    is_due = table.due_at <= now()
    coming = sa.select(
        sa.func.count().label("events"), sa.func.min(events.c.received_at).label("oldest_event")
    ).where(events.c.status == RECEIVED)
    going = sa.select(
        sa.func.count().filter(is_due).label("due"),
        sa.func.min(table.due_at).filter(is_due).label("oldest_due"),
        sa.func.count().filter(~is_due).label("later"),
    ).where(IS_WAITING)
    flying = sa.select(sa.func.count().label("sending")).where(table.status == "sending")
    found = [connection.execute(query).mappings().one() for query in (coming, going, flying)]
    return {name: value for row in found for name, value in row.items()}


def workers(connection: Connection) -> list[Mapping[str, Any]]:
    """The workers seen within the last day, the most recent first."""
    alive = (heartbeats.c.seen_at >= ago(WORKER_GONE_AFTER)).label("alive")
    query = sa.select(heartbeats, alive).order_by(heartbeats.c.seen_at.desc())
    return [dict(row) for row in connection.execute(query).mappings()]


def server(connection: Connection) -> str:
    """The database's name and version."""
    is_sqlite = connection.dialect.name == "sqlite"
    ask = "SELECT sqlite_version()" if is_sqlite else "SHOW server_version"
    version = connection.execute(sa.text(ask)).scalar_one()
    return f"{'SQLite' if is_sqlite else 'PostgreSQL'} {version}"


HOUR = timedelta(hours=1)
CLOCKS_DIFFER = timedelta(minutes=10)  # an event's id holds the web process's time
MOST = 5_000  # the latest attempts of an hour, whose times are read
AT_ONCE = timedelta(seconds=1)  # a message due this soon after it was planned did not have to wait


@dataclass(frozen=True)
class Measured:
    """One reading of the ledger. Counts are of the last hour."""

    events: Mapping[tuple[str, str], int]  # by name and status
    messages: Mapping[tuple[str, str], int]  # by channel and status
    attempts: Mapping[tuple[str, str], int]  # by channel and outcome
    took: Mapping[str, Sequence[float]]  # seconds to a provider's answer, by channel
    reached: Sequence[float]  # seconds from webhook to provider, if it did not have to wait
    segments: int  # of texts that a provider accepted
    quarantined: int  # and not dealt with since
    waiting: Mapping[str, int]  # messages due now, by channel, without stopped ones
    stops: Counter[str]  # in force now, by kind: all, channel, rule
    stopped: int  # messages that wait for the end of a stop now
    oldest: float  # seconds for which the longest-waiting message has been due
    events_waiting: int  # now
    paused: frozenset[str]  # channels, and the lab, now
    cases: int  # open now


def measure(connection: Connection) -> Measured:
    """Take one reading of the ledger. Raises LedgerUnavailable."""
    tried = connection.execute(_tried()).all()
    due = connection.execute(_due()).all()
    return Measured(
        events=_counted(connection, events.c.name, events.c.status, *recent_events()),
        messages=_counted(
            connection,
            notifications.c.channel,
            notifications.c.status,
            notifications.c.created_at > ago(HOUR),
        ),
        attempts=_counted(connection, attempts.c.channel, attempts.c.outcome, *lately()),
        took=_took(tried),
        reached=[
            (row.finished_at - row.received_at).total_seconds()
            for row in tried
            if row.outcome == "accepted" and row.finished_at
            if row.attempts == 1 and row.due_at - row.created_at < AT_ONCE
        ],
        segments=int(connection.execute(_segments()).scalar_one()),
        quarantined=_many(connection, quarantine, *refused_lately()),
        waiting={row.channel: row.many for row in due},
        oldest=max([0.0, *((row.clock - row.oldest).total_seconds() for row in due)]),
        stops=Counter(halt.what.partition(" ")[0] for halt in halts.standing(connection)),
        stopped=_many(connection, notifications, halts.WAITS),
        events_waiting=_many(connection, events, events.c.status == RECEIVED),
        paused=frozenset(row["channel"] for row in ledger_pauses.paused(connection)),
        cases=_many(connection, cases, cases.c.closed_at.is_(None)),
    )


def recent_events() -> tuple[sa.ColumnElement[bool], ...]:
    """Conditions: an event arrived within the last hour. By its id, which sorts by time."""
    first = first_id("evt", datetime.now(UTC) - HOUR - CLOCKS_DIFFER)
    return events.c.id >= first, events.c.received_at > ago(HOUR)


def refused_lately() -> tuple[sa.ColumnElement[bool], ...]:
    """Conditions: a post was refused within the last hour, and nobody has dealt with it."""
    return IN_QUARANTINE, quarantine.c.last_at > ago(HOUR)


def lately() -> tuple[sa.ColumnElement[bool], ...]:
    """Conditions: an attempt was started within the last hour."""
    return attempts.c.channel.in_(CHANNEL_NAMES), attempts.c.started_at > ago(HOUR)


def _segments() -> sa.Select[Any]:
    """A query for the segments of the texts that went out, each accepted attempt once."""
    return (
        sa.select(sa.func.coalesce(sa.func.sum(notifications.c.segments), 0))
        .join_from(attempts, notifications, notifications.c.id == attempts.c.notification_id)
        .where(*lately(), attempts.c.channel.in_(IN_SEGMENTS), attempts.c.outcome == "accepted")
    )


def _tried() -> sa.Select[Any]:
    table = notifications.c
    return (
        sa.select(
            attempts.c.channel,
            attempts.c.outcome,
            attempts.c.started_at,
            attempts.c.finished_at,
            table.attempts,
            table.due_at,
            table.created_at,
            events.c.received_at,
        )
        .join_from(attempts, notifications, table.id == attempts.c.notification_id)
        .join(events, events.c.id == table.event_id)
        .where(*lately())
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
        .where(IS_WAITING, table.due_at <= now(), halts.GOES_ON)
        .group_by(table.channel)
    )


def _counted(
    connection: Connection, first: Any, second: Any, *where: sa.ColumnElement[bool]
) -> dict[tuple[str, str], int]:
    query = sa.select(first, second, sa.func.count()).where(*where).group_by(first, second)
    return {(one, other): many for one, other, many in connection.execute(query)}


def _took(tried: Sequence[Any]) -> dict[str, list[float]]:
    """The seconds that each channel's provider took to answer."""
    took: dict[str, list[float]] = defaultdict(list)
    for row in tried:
        if row.finished_at and row.outcome in ("accepted", "rejected"):
            took[row.channel].append((row.finished_at - row.started_at).total_seconds())
    return took


def _many(connection: Connection, table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
    query = sa.select(sa.func.count()).select_from(table).where(*where)
    return int(connection.execute(query).scalar_one())
