"""How the ledger is: what waits, which workers are alive, and what it is kept in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from relay.ledger import pauses as ledger_pauses
from relay.ledger import workers as ledger_workers
from relay.ledger.attempts import spent
from relay.ledger.database import Database, ago, now
from relay.ledger.schema import events, heartbeats, notifications
from relay.ledger.workers import WORKER_GONE_AFTER
from relay.rules.model import RECEIVED, WAITING
from relay.rules.schedule import midnight

LATE = timedelta(minutes=15)  # what has waited so long has not only to wait its turn
_REASONS = 5  # of what waits: those that have held it up longest


@dataclass(frozen=True)
class Late:
    """What has waited for too long: why, or on which channel; how many, and since when."""

    named: str
    many: int
    since: datetime


@dataclass(frozen=True)
class Standing:
    """What may hold up a message now, whatever it is about."""

    at: datetime
    workers: int
    pauses: Mapping[str, Mapping[str, Any]]  # of the channels that are paused
    spent: Mapping[str, int]  # the limits of the day that are reached, by channel


def standing(db: Database, zone: ZoneInfo, most_texts: int) -> Standing:
    """What holds messages up now. The day and its limit on texts are the clinic's."""
    at = datetime.now(UTC)
    began = midnight(at, zone)
    return Standing(
        at,
        ledger_workers.workers_alive(db),
        {row["channel"]: row for row in ledger_pauses.paused(db)},
        {"sms": most_texts} if sent_since(db, "sms", began) >= most_texts else {},
    )


def late_events(db: Database) -> list[Late]:
    """Events that came long ago and are not processed yet, by why they were put back."""
    table = events.c
    oldest = sa.func.min(table.received_at)
    return _late(
        db,
        sa.select(table.reason, sa.func.count(), oldest)
        .where(table.status == RECEIVED, table.received_at < ago(LATE))
        .group_by(table.reason)
        .order_by(oldest)
        .limit(_REASONS),
    )


def late_messages(db: Database) -> list[Late]:
    """Messages that should have gone out long ago, by channel."""
    table = notifications.c
    return _late(
        db,
        sa.select(table.channel, sa.func.count(), sa.func.min(table.due_at))
        .where(table.status.in_(WAITING), table.due_at < ago(LATE))
        .group_by(table.channel)
        .order_by(table.channel),
    )


def _late(db: Database, query: sa.Select[Any]) -> list[Late]:
    with db.read() as connection:
        return [Late(*row) for row in connection.execute(query)]


def waiting(db: Database) -> dict[str, int]:
    """Messages that are still to go out, due or for later, by channel."""
    table, found = notifications.c, dict[str, int]()
    with db.read() as connection:
        for which in (table.status.in_(WAITING), table.status == "sending"):
            query = sa.select(table.channel, sa.func.count()).where(which).group_by(table.channel)
            for channel, many in connection.execute(query):
                found[channel] = found.get(channel, 0) + many
    return found


def queue(db: Database) -> Mapping[str, Any]:
    """What waits: events, messages that are due, messages for later, and what is being sent."""
    table = notifications.c
    is_due = table.due_at <= now()
    coming = sa.select(
        sa.func.count().label("events"), sa.func.min(events.c.received_at).label("oldest_event")
    ).where(events.c.status == RECEIVED)
    going = sa.select(
        sa.func.count().filter(is_due).label("due"),
        sa.func.min(table.due_at).filter(is_due).label("oldest_due"),
        sa.func.count().filter(~is_due).label("later"),
    ).where(table.status.in_(WAITING))
    flying = sa.select(sa.func.count().label("sending")).where(table.status == "sending")
    with db.read() as connection:
        found = [connection.execute(query).mappings().one() for query in (coming, going, flying)]
    return {name: value for row in found for name, value in row.items()}


def workers(db: Database) -> list[Mapping[str, Any]]:
    """The workers of the last day, the last seen first."""
    alive = (heartbeats.c.seen_at >= ago(WORKER_GONE_AFTER)).label("alive")
    query = sa.select(heartbeats, alive).order_by(heartbeats.c.seen_at.desc())
    with db.read() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def sent_since(db: Database, channel: str, since: datetime) -> int:
    """How many of a day's limit are used up."""
    with db.read() as connection:
        return spent(connection, channel, since)


def server(db: Database) -> str:
    """The database and its version."""
    ask = "SELECT sqlite_version()" if db.is_sqlite else "SHOW server_version"
    with db.read() as connection:
        version = connection.execute(sa.text(ask)).scalar_one()
    return f"{'SQLite' if db.is_sqlite else 'PostgreSQL'} {version}"
