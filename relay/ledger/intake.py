"""What comes in: events once each, and what was refused."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from relay.errors import Refused
from relay.events import Incoming
from relay.ledger.database import Database, ago, now
from relay.ledger.schema import RECEIVED, UNROUTED, events, new_id, quarantine


@dataclass(frozen=True)
class Recorded:
    """The event's row. `status` is the word that the lab is answered with."""

    id: str
    status: str  # accepted, duplicate, unrouted


def upsert(connection: Connection, table: sa.Table) -> Any:
    """An INSERT that can say what to do on a conflict, in this database's dialect."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table)


def record(db: Database, incoming: Incoming, window: timedelta) -> Recorded:
    """Commit an event, or count it on the first of its kind within `window`."""
    with db.write() as connection:
        return record_in(connection, incoming, window)


def record_in(connection: Connection, incoming: Incoming, window: timedelta) -> Recorded:
    """`record` inside a transaction that is open already."""
    fresh = new_id("evt")
    recent = events.c.received_at > ago(window)
    insert = upsert(connection, events).values(
        id=fresh,
        name=incoming.name,
        identity=incoming.identity,
        data=dict(incoming.data),
        status=RECEIVED if incoming.kind else UNROUTED,
        urgency=incoming.kind.urgency if incoming.kind else 0,
        received_at=now(),
        next_at=now(),
    )
    statement = insert.on_conflict_do_update(
        index_elements=[events.c.identity],
        set_={"duplicates": events.c.duplicates + sa.case((recent, 1), else_=0)},
    ).returning(events.c.id, sa.case((recent, True), else_=False).label("recent"))
    row = connection.execute(statement).one()
    if row.id == fresh:
        return Recorded(fresh, "accepted" if incoming.kind else "unrouted")
    if row.recent:
        return Recorded(row.id, "duplicate")
    _retire(connection, row.id, incoming.identity)
    return record_in(connection, incoming, window)


def _retire(connection: Connection, event_id: str, identity: str) -> None:
    """Free the identity of an event that is older than the window."""
    connection.execute(
        events.update()
        .where(events.c.id == event_id)
        .values(identity=f"{identity}:{event_id[-8:]}")
    )


def keep_refused(db: Database, body: bytes, refused: Refused) -> str:
    """Put a refused body into quarantine, once; its id."""
    with db.write() as connection:
        insert = upsert(connection, quarantine).values(
            id=new_id("qrt"),
            digest=hashlib.sha256(body).hexdigest(),
            body=body,
            error=refused.error[:500],
            fields=refused.fields,
            first_at=now(),
            last_at=now(),
        )
        statement = insert.on_conflict_do_update(
            index_elements=[quarantine.c.digest],
            set_={"posts": quarantine.c.posts + 1, "last_at": now()},
        ).returning(quarantine.c.id)
        return str(connection.execute(statement).scalar_one())


def quarantined(db: Database) -> list[Mapping[str, Any]]:
    """Bodies that were refused and have not become events since, oldest first."""
    query = quarantine.select().where(quarantine.c.event_id.is_(None)).order_by(quarantine.c.id)
    with db.read() as connection:
        return list(connection.execute(query).mappings())


def release(db: Database, quarantine_id: str, incoming: Incoming, window: timedelta) -> Recorded:
    """Record a quarantined body as the event that it can be read as now."""
    with db.write() as connection:
        recorded = record_in(connection, incoming, window)
        connection.execute(
            quarantine.update().where(quarantine.c.id == quarantine_id).values(event_id=recorded.id)
        )
        return recorded
