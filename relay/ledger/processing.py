"""An event's way from received to processed: leased, put back, held, planned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.events import EVENTS
from relay.facts import Facts
from relay.ledger import journeys
from relay.ledger.database import Database, now
from relay.ledger.journeys import Place
from relay.ledger.schema import (
    ALIVE,
    HELD,
    INSERTS,
    PROCESSED,
    RECEIVED,
    attempts,
    events,
    new_id,
    notifications,
)
from relay.notices import Notice, Plan, Told

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
        .cte("due")  # as a plain subquery PostgreSQL may run it again, and lease too many
    )
    with db.write() as connection:
        rows = connection.execute(
            events.update()
            .where(events.c.id.in_(sa.select(due.c.id)), events.c.status == RECEIVED)
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


def settle(
    db: Database, event: Event, facts: Facts, decide: Callable[[Place, Told], Plan]
) -> list[str]:
    """Commit what an event leads to, with what its facts tell of its kit, in one transaction.

    `decide` is asked for the plan, given the kit's place and what is told about it already. The
    ids of the new notifications.
    """
    with db.write() as connection:
        place = journeys.place(connection, EVENTS[event.name], event.data, facts)
        plan = decide(place, _told(connection, place))
        done = connection.execute(
            events.update()
            .where(events.c.id == event.id, events.c.status == RECEIVED)
            .values(
                status=PROCESSED,
                subject=place.subject,
                round=place.round,
                facts=facts.to_json(),
                decisions=[asdict(decision) for decision in plan.decisions],
                reason="",
                processed_at=now(),
            )
        )
        return insert_notices(connection, event.id, plan.notices) if done.rowcount else []


def _told(connection: Connection, place: Place) -> Told:
    """What is on its way or has reached somebody about a kit in this round."""
    table = notifications.c
    query = sa.select(table.rule, table.role, table.channel).where(
        table.subject == place.subject, table.round == place.round, table.status.in_(ALIVE)
    )
    return frozenset((row.rule, row.role, row.channel) for row in connection.execute(query))


def maybe_sent() -> sa.ColumnElement[bool]:
    """Whether a provider has, or may have, taken a notification."""
    # By name, since SQLAlchemy does not correlate a subquery inside ON CONFLICT.
    notification_id: sa.ColumnElement[str] = sa.literal_column("notifications.id")
    return sa.exists().where(
        attempts.c.notification_id == notification_id,
        # No IN: SQLAlchemy cannot expand one in an INSERT of many rows.
        sa.or_(*(attempts.c.outcome == word for word in ("started", "accepted", "unknown"))),
    )


@cache
def _noting(dialect: str) -> Any:
    """The statement that adds notifications: built once, since that costs more than running it."""
    insert = INSERTS[dialect](notifications).values(created_at=now())
    again = ("event_id", "template", "status", "reason", "due_at", "urgency")
    return insert.on_conflict_do_update(
        index_elements=[notifications.c.identity],
        set_={name: insert.excluded[name] for name in again},
        where=sa.and_(notifications.c.status == "cancelled", ~maybe_sent()),
    ).returning(notifications.c.id)


def insert_notices(connection: Connection, event_id: str, notices: Sequence[Notice]) -> list[str]:
    """Rows for notices; the ids of those that are new, or were cancelled and are wanted again."""
    if not notices:
        return []
    rows = [
        {
            **vars(notice),
            "reason": notice.reason[:500],
            "id": new_id("msg"),
            "event_id": event_id,
            "identity": notice.identity,
            "family": notice.family,
        }
        for notice in notices
    ]
    # As parameters: SQLAlchemy compiles an INSERT with many VALUES anew each time, for 3 ms.
    told = connection.execute(_noting(connection.dialect.name), rows)
    return [str(row.id) for row in told]


def add_notices(db: Database, event_id: str, notices: Sequence[Notice]) -> list[str]:
    """Rows for a rule's fallback; the ids of those that are new."""
    with db.write() as connection:
        return insert_notices(connection, event_id, notices)
