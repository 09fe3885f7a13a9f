"""How the ledger is: what waits, which workers are alive, and what it is kept in."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from relay.ledger.claiming import spent
from relay.ledger.database import Database, ago, now
from relay.ledger.household import heartbeats
from relay.ledger.schema import events, notifications
from relay.ledger.statuses import RECEIVED, WAITING
from relay.ledger.upkeep import WORKER_GONE_AFTER


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
