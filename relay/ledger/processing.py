"""An event's way from received to processed: leased, put back, held, planned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.events import EVENTS
from relay.facts import Facts
from relay.ledger.database import Database, now
from relay.ledger.intake import upsert
from relay.ledger.schema import (
    ALIVE,
    FAILED,
    HELD,
    PROCESSED,
    RECEIVED,
    UNROUTED,
    WAITING,
    attempts,
    events,
    new_id,
    notifications,
)
from relay.rules import Notice, Plan, Told

LEASE_SECONDS = 90


@dataclass(frozen=True)
class Event:
    """An event's row, as jobs read it."""

    id: str
    name: str
    data: Mapping[str, Any]
    received_at: datetime
    tries: int
    subject: str | None
    round: int
    facts: Facts


_COLUMNS = (
    *(events.c.id, events.c.name, events.c.data, events.c.received_at),
    *(events.c.tries, events.c.subject, events.c.round, events.c.facts),
)


def _event(row: Any) -> Event:
    return Event(**{**row._mapping, "facts": Facts.from_json(row.facts)})


def lease_events(db: Database, limit: int) -> list[Event]:
    """Up to `limit` events that are due, the urgent first; nobody else gets them for a while."""
    due = (
        sa.select(events.c.id)
        .where(events.c.status == RECEIVED, events.c.next_at <= now())
        .order_by(events.c.urgency.desc(), events.c.next_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    with db.write() as connection:
        rows = connection.execute(
            events.update()
            .where(events.c.id.in_(due.scalar_subquery()), events.c.status == RECEIVED)
            .values(next_at=now(LEASE_SECONDS), tries=events.c.tries + 1)
            .returning(*_COLUMNS)
        )
        return [_event(row) for row in rows]


def get_event(db: Database, event_id: str) -> Event | None:
    """An event by its id."""
    with db.read() as connection:
        row = connection.execute(sa.select(*_COLUMNS).where(events.c.id == event_id)).first()
    return _event(row) if row else None


def put_back(db: Database, event_id: str, delay: float, reason: str) -> None:
    """Try an event again in `delay` seconds."""
    _finish_event(db, event_id, next_at=now(delay), reason=reason[:500])


def hold(db: Database, event_id: str, reason: str) -> None:
    """Stop trying: a person has to look at it."""
    _finish_event(db, event_id, status=HELD, reason=reason[:500], processed_at=now())


def _finish_event(db: Database, event_id: str, **values: Any) -> None:
    with db.write() as connection:
        connection.execute(
            events.update()
            .where(events.c.id == event_id, events.c.status == RECEIVED)
            .values(**values)
        )


def told(db: Database, subject: str, round_: int) -> Told:
    """What is on its way or has reached somebody about a kit in this round."""
    table = notifications.c
    query = sa.select(table.rule, table.role, table.channel).where(
        table.subject == subject, table.round == round_, table.status.in_(ALIVE)
    )
    with db.read() as connection:
        return frozenset((row.rule, row.role, row.channel) for row in connection.execute(query))


def save_plan(
    db: Database, event: Event, subject: str, round_: int, facts: Facts, plan: Plan
) -> list[str]:
    """Commit what an event leads to, with the event itself; the ids of the new notifications."""
    with db.write() as connection:
        done = connection.execute(
            events.update()
            .where(events.c.id == event.id, events.c.status == RECEIVED)
            .values(
                status=PROCESSED,
                subject=subject,
                round=round_,
                facts=facts.to_json(),
                decisions=[asdict(decision) for decision in plan.decisions],
                reason="",
                processed_at=now(),
            )
        )
        return insert_notices(connection, event.id, plan.notices) if done.rowcount else []


def insert_notices(connection: Connection, event_id: str, notices: Sequence[Notice]) -> list[str]:
    """Rows for notices that nobody has been told yet; the ids of those that are new."""
    if not notices:
        return []
    rows = [
        {
            **{key: value for key, value in asdict(notice).items()},
            "id": new_id("msg"),
            "event_id": event_id,
            "identity": notice.identity,
            "family": notice.family,
            "created_at": now(),
        }
        for notice in notices
    ]
    statement = (
        upsert(connection, notifications)
        .values(rows)
        .on_conflict_do_nothing(index_elements=[notifications.c.identity])
        .returning(notifications.c.id)
    )
    return [str(row.id) for row in connection.execute(statement)]


def add_notices(db: Database, event_id: str, notices: Sequence[Notice]) -> list[str]:
    """Rows for a rule's fallback; the ids of those that are new."""
    with db.write() as connection:
        return insert_notices(connection, event_id, notices)


def replay_event(db: Database, event_id: str) -> bool:
    """Process an event again, its failed messages with it. What was sent is not sent again."""
    with db.write() as connection:
        row = connection.execute(
            sa.select(events.c.name, events.c.status).where(events.c.id == event_id)
        ).first()
        if row is None or row.name not in EVENTS or row.status == RECEIVED:
            return False
        connection.execute(
            events.update()
            .where(events.c.id == event_id)
            .values(
                status=RECEIVED, next_at=now(), tries=0, reason="", urgency=EVENTS[row.name].urgency
            )
        )
        _revive(connection, notifications.c.event_id == event_id)
        return True


def replay_notification(db: Database, notification_id: str) -> bool:
    """Send a failed message again, unless a provider may have taken it already."""
    with db.write() as connection:
        return bool(_revive(connection, notifications.c.id == notification_id))


def _revive(connection: Connection, which: sa.ColumnElement[bool]) -> int:
    maybe_sent = sa.exists().where(
        attempts.c.notification_id == notifications.c.id,
        attempts.c.outcome.in_(("started", "accepted", "unknown")),
    )
    return connection.execute(
        notifications.update()
        .where(
            which,
            notifications.c.status.in_(FAILED),
            notifications.c.address != "",
            ~maybe_sent,
        )
        .values(status=WAITING[0], reason="", due_at=now())
    ).rowcount


def ids_to_replay(db: Database, status: str) -> list[str]:
    """Events that wait for a person: `unrouted` ones whose name is known by now, or `held` ones."""
    query = sa.select(events.c.id).where(events.c.status == status).order_by(events.c.id)
    if status == UNROUTED:
        query = query.where(events.c.name.in_(tuple(EVENTS)))
    with db.read() as connection:
        return list(connection.execute(query).scalars())


def failed_ids(db: Database) -> list[str]:
    """Messages that ended in failure."""
    query = sa.select(notifications.c.id).where(notifications.c.status.in_(FAILED))
    with db.read() as connection:
        return list(connection.execute(query.order_by(notifications.c.id)).scalars())
