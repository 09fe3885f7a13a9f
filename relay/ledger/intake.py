"""What comes in: events once each, and what was refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay import fault_injection
from relay.errors import Refused
from relay.lab.events import Incoming
from relay.ledger.database import Database, now
from relay.ledger.schema import INSERTS, events, new_id, quarantine
from relay.rules.model import RECEIVED, UNROUTED

AT_ONCE = 8  # events in one statement


@dataclass(frozen=True)
class Recorded:
    """The event's row. `status` is the word that the lab is answered with."""

    id: str
    status: str  # accepted, duplicate, unrouted


@cache
def _recording(dialect: str, count: int) -> Any:
    """The statement that takes events in. Their rows are the outbox too: workers look for them."""
    one: sa.ColumnElement[int] = sa.literal_column("1")
    none: sa.ColumnElement[int] = sa.literal_column("0")
    recent = sa.case((events.c.received_at > now(sa.bindparam("since")), one), else_=none)
    insert: Any = INSERTS[dialect](events).values([_values(dialect, n) for n in range(count)])
    return insert.on_conflict_do_update(
        index_elements=[events.c.identity],
        set_={"duplicates": events.c.duplicates + recent},
    ).returning(events.c.identity, events.c.id, recent)


def _values(dialect: str, number: int) -> dict[str, Any]:
    data: Any = sa.bindparam(f"data_{number}", type_=sa.Text)
    return {
        **{name: sa.bindparam(f"{name}_{number}") for name in _GIVEN if name != "data"},
        "data": sa.cast(data, sa.JSON) if dialect == "postgresql" else data,
        "received_at": now(),
        "next_at": now(),
    }


_GIVEN = ("id", "name", "identity", "data", "status", "urgency")


def _row(incoming: Incoming) -> dict[str, Any]:
    return {
        "id": new_id("evt"),
        "name": incoming.name,
        "identity": incoming.identity,
        "data": json.dumps(incoming.data),
        "status": RECEIVED if incoming.kind else UNROUTED,
        "urgency": incoming.kind.urgency if incoming.kind else 0,
    }


def _parameters(rows: Sequence[Mapping[str, Any]], since: float) -> dict[str, Any]:
    numbered = {f"{name}_{n}": row[name] for n, row in enumerate(rows) for name in _GIVEN}
    return {**numbered, "since": since}


def record(db: Database, incoming: Incoming, window: timedelta) -> Recorded:
    """Commit an event, or count it on the first of its kind within `window`."""
    together = db.together(_record, key=lambda given: given[0]["identity"], most=AT_ONCE)
    while True:
        row = _row(incoming)
        id_, recent = together.run((row, -window.total_seconds()))
        if found := _recorded(row, id_, recent):
            return found
        with db.write() as connection:
            _retire(connection, id_, incoming.identity)


def _record(
    db: Database, given: Sequence[tuple[Mapping[str, Any], float]]
) -> list[tuple[str, int]]:
    """Commit what several threads took at the same moment; each one's id and whether it is recent.

    Idempotent: it may be run again when its answer was lost.
    """
    statement = db.prepared(_recording, len(given))
    parameters = _parameters([row for row, _ in given], given[0][1])
    fault_injection.crash_point("intake.before-commit")
    rows = db.run(statement, parameters)
    fault_injection.crash_point("intake.after-commit")
    told = {identity: (id_, recent) for identity, id_, recent in rows}
    return [told[row["identity"]] for row, _ in given]


def record_in(connection: Connection, incoming: Incoming, window: timedelta) -> Recorded:
    """`record` inside a transaction that is open already."""
    statement = _recording(connection.dialect.name, 1)
    while True:
        row = _row(incoming)
        given = _parameters([row], -window.total_seconds())
        _, id_, recent = connection.execute(statement, given).one()
        if found := _recorded(row, id_, recent):
            return found
        _retire(connection, id_, incoming.identity)


def _recorded(row: Mapping[str, Any], id_: str, recent: int) -> Recorded | None:
    """What a row came to; None when it is older than the window and has to make room."""
    if id_ == row["id"]:
        return Recorded(id_, "unrouted" if row["status"] == UNROUTED else "accepted")
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
        insert = INSERTS[connection.dialect.name](quarantine).values(
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
