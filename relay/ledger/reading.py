"""What people and programs ask the ledger for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from relay.ledger.database import Database
from relay.ledger.schema import events, notifications

_LISTED = (
    *("id", "event_id", "rule", "subject", "channel", "status", "reason", "attempts"),
    *("due_at", "created_at", "sent_at", "provider_id"),
)


@dataclass(frozen=True)
class Filter:
    """Which notifications are asked for. Empty means all."""

    status: str | None = None
    event: str | None = None
    since: datetime | None = None
    event_id: str | None = None


def notifications_where(db: Database, wanted: Filter) -> Iterator[Mapping[str, Any]]:
    """Notifications with their event's name, oldest first; no addresses and no words."""
    query = _listing().order_by(notifications.c.created_at, notifications.c.id)
    for column, value in (
        (notifications.c.status, wanted.status),
        (events.c.name, wanted.event),
        (notifications.c.event_id, wanted.event_id),
    ):
        if value is not None:
            query = query.where(column == value)
    if wanted.since is not None:
        query = query.where(notifications.c.created_at >= wanted.since)
    with db.read() as connection:
        rows = connection.execution_options(yield_per=1000).execute(query)
        for row in rows.mappings():
            yield dict(row)


def _listing() -> sa.Select[Any]:
    return sa.select(
        *(notifications.c[name] for name in _LISTED),
        notifications.c.role.label("to"),
        events.c.name.label("event"),
    ).join(events, events.c.id == notifications.c.event_id)


def messages(db: Database, after: str = "", limit: int = 100) -> list[Mapping[str, Any]]:
    """Notifications that have ended one way or another, with words and addresses, by id."""
    query = (
        _listing()
        .add_columns(notifications.c.address, notifications.c.content)
        .where(notifications.c.id > after)
        .order_by(notifications.c.id)
        .limit(limit)
    )
    with db.read() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def latest(
    db: Database, limit: int = 50
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """The newest events and the newest notifications, for the desk."""
    newest_events = sa.select(
        *(events.c.id, events.c.name, events.c.status, events.c.reason),
        *(events.c.received_at, events.c.duplicates, events.c.subject),
    ).order_by(events.c.id.desc())
    newest = _listing().order_by(notifications.c.id.desc())
    with db.read() as connection:
        return (
            [dict(row) for row in connection.execute(newest_events.limit(limit)).mappings()],
            [dict(row) for row in connection.execute(newest.limit(limit)).mappings()],
        )


def latest_of(
    db: Database, event: str, limit: int = 2000
) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    """Data and facts of the newest event of a name, if it is among the last `limit` of all."""
    newest = sa.select(events.c.id, events.c.name).order_by(events.c.id.desc()).limit(limit)
    last = newest.subquery()
    id_ = sa.select(sa.func.max(last.c.id)).where(last.c.name == event).scalar_subquery()
    query = sa.select(events.c.data, events.c.facts)
    with db.read() as connection:
        row = connection.execute(query.where(events.c.id == id_)).first()
    return (row.data, row.facts) if row and row.facts else None


def unfinished(db: Database) -> int:
    """Events not processed yet and messages that are due and not sent yet."""
    with db.read() as connection:
        return sum(
            connection.execute(query).scalar_one()
            for query in (
                sa.select(sa.func.count()).where(events.c.status == "received"),
                sa.select(sa.func.count()).where(
                    notifications.c.status.in_(("created", "sending"))
                ),
            )
        )
