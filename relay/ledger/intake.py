"""What comes in: events once each, and what was refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from relay.errors import Refused
from relay.events import Incoming
from relay.ledger.database import Database, now
from relay.ledger.schema import RECEIVED, UNROUTED, events, new_id, quarantine

_INSERTS: dict[str, Any] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}


@dataclass(frozen=True)
class Recorded:
    """The event's row. `status` is the word that the lab is answered with."""

    id: str
    status: str  # accepted, duplicate, unrouted


def upsert(connection: Connection, table: sa.Table) -> Any:
    """An INSERT that can say what to do on a conflict, in this database's dialect."""
    return _INSERTS[connection.dialect.name](table)


@cache
def _recording(dialect: str) -> Any:
    """The one statement that takes an event in. Its row is the outbox too: workers look for it."""
    one: sa.ColumnElement[int] = sa.literal_column("1")
    none: sa.ColumnElement[int] = sa.literal_column("0")
    recent = sa.case((events.c.received_at > now(sa.bindparam("since")), one), else_=none)
    data: Any = sa.bindparam("event_data", type_=sa.Text)
    if dialect == "postgresql":
        data = sa.cast(data, sa.JSON)
    insert: Any = _INSERTS[dialect](events).values(
        id=sa.bindparam("event_id"),
        name=sa.bindparam("event_name"),
        identity=sa.bindparam("event_identity"),
        data=data,
        status=sa.bindparam("event_status"),
        urgency=sa.bindparam("event_urgency"),
        received_at=now(),
        next_at=now(),
    )
    return insert.on_conflict_do_update(
        index_elements=[events.c.identity],
        set_={"duplicates": events.c.duplicates + recent},
    ).returning(events.c.id, recent)


def _parameters(incoming: Incoming, window: timedelta) -> dict[str, Any]:
    return {
        "event_id": new_id("evt"),
        "event_name": incoming.name,
        "event_identity": incoming.identity,
        "event_data": json.dumps(incoming.data),
        "event_status": RECEIVED if incoming.kind else UNROUTED,
        "event_urgency": incoming.kind.urgency if incoming.kind else 0,
        "since": -window.total_seconds(),
    }


def record(db: Database, incoming: Incoming, window: timedelta) -> Recorded:
    """Commit an event, or count it on the first of its kind within `window`."""
    statement = db.prepared(_recording)
    while True:
        given = _parameters(incoming, window)
        id_, recent = db.run(statement, given)
        if found := _recorded(given, id_, recent):
            return found
        with db.write() as connection:
            _retire(connection, id_, incoming.identity)


def record_in(connection: Connection, incoming: Incoming, window: timedelta) -> Recorded:
    """`record` inside a transaction that is open already."""
    statement = _recording(connection.dialect.name)
    while True:
        given = _parameters(incoming, window)
        id_, recent = connection.execute(statement, given).one()
        if found := _recorded(given, id_, recent):
            return found
        _retire(connection, id_, incoming.identity)


def _recorded(given: dict[str, Any], id_: str, recent: int) -> Recorded | None:
    """What a row came to; None when it is older than the window and has to make room."""
    if id_ == given["event_id"]:
        return Recorded(id_, "unrouted" if given["event_status"] == UNROUTED else "accepted")
    return Recorded(id_, "duplicate") if recent else None


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
        return [dict(row) for row in connection.execute(query).mappings()]


def release(db: Database, quarantine_id: str, incoming: Incoming, window: timedelta) -> Recorded:
    """Record a quarantined body as the event that it can be read as now."""
    with db.write() as connection:
        recorded = record_in(connection, incoming, window)
        connection.execute(
            quarantine.update().where(quarantine.c.id == quarantine_id).values(event_id=recorded.id)
        )
        return recorded
