"""The worklist: what a person has to see to, once each, until somebody closes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.ledger.database import Database, now
from relay.ledger.noting import insert_notices
from relay.ledger.schema import INSERTS, cases, events, new_id
from relay.rules.model import Case, case_digest

RELAY = "relay"  # who closes what has settled by itself
MARK = 20  # characters of a digest that a closed case keeps
URGENT = "release"  # goes out by itself unless somebody looks at it in time


def open_case(connection: Connection, case: Case) -> bool:
    """Put a case on the worklist and write to staff, unless it is open already."""
    id_ = new_id("cas")
    insert = INSERTS[connection.dialect.name](cases).values(
        id=id_,
        digest=case.digest,
        kind=case.kind,
        subject=case.subject[:255],
        event_id=case.event_id,
        notification_id=case.notification_id,
        reason=case.reason[:500],
        opened_at=now(),
    )
    # By RETURNING, here and elsewhere: an INSERT's rowcount is -1 on PostgreSQL.
    opened = insert.on_conflict_do_nothing().returning(cases.c.id)
    if connection.execute(opened).first() is None:
        return False
    alerts = [replace(alert, key=id_) for alert in case.alerts]
    insert_notices(connection, case.event_id, alerts)
    return True


def close_case(connection: Connection, case_id: str, by: str, note: str) -> bool:
    """Take a case off the worklist, in the transaction of what was done about it; False when it is
    closed already, or not known.
    """
    return bool(_close(connection, cases.c.id == case_id, by, note))


def settle_case(connection: Connection, kind: str, key: str, note: str) -> None:
    """Close what has settled by itself."""
    _close(connection, cases.c.digest == case_digest(kind, key), RELAY, note)


def close_cases_of(connection: Connection, messages: Sequence[str], note: str) -> None:
    """Close what is open about messages of which nobody has to think any more."""
    _close(connection, cases.c.notification_id.in_(messages), RELAY, note)


def _close(connection: Connection, which: sa.ColumnElement[bool], by: str, note: str) -> int:
    # Its digest is given up, so that the same may be opened again.
    return connection.execute(
        cases.update()
        .where(which, cases.c.closed_at.is_(None))
        .values(
            closed_at=now(),
            closed_by=by[:100],
            note=note[:500],
            digest=sa.func.substr(cases.c.digest, 1, MARK) + ":" + cases.c.id,
        )
    ).rowcount


def open_cases(db: Database, kind: str = "", limit: int = 200) -> list[Mapping[str, Any]]:
    """The worklist, or one kind of case: what goes out by itself, then the oldest first. Each with
    its event's name.
    """
    query = _cases().where(cases.c.closed_at.is_(None))
    if kind:
        query = query.where(cases.c.kind == kind)
    query = query.order_by(cases.c.kind != URGENT, cases.c.opened_at, cases.c.id)
    with db.read() as connection:
        return [dict(row) for row in connection.execute(query.limit(limit)).mappings()]


def get_case(db: Database, case_id: str) -> dict[str, Any] | None:
    """A case by its id, open or closed."""
    with db.read() as connection:
        row = connection.execute(_cases().where(cases.c.id == case_id)).mappings().first()
    return dict(row) if row else None


def count_open(db: Database) -> int:
    """How many cases are open."""
    query = sa.select(sa.func.count()).select_from(cases).where(cases.c.closed_at.is_(None))
    with db.read() as connection:
        return connection.execute(query).scalar_one()


def open_kinds(db: Database) -> dict[str, int]:
    """How many cases of each kind are open."""
    query = sa.select(cases.c.kind, sa.func.count()).where(cases.c.closed_at.is_(None))
    with db.read() as connection:
        return {kind: many for kind, many in connection.execute(query.group_by(cases.c.kind))}


def open_for_all(db: Database, case: Case) -> bool:
    """Open a case that is about no event; it is kept with the newest. False while there is none."""
    with db.write() as connection:
        return open_for_all_in(connection, case)


def open_for_all_in(connection: Connection, case: Case) -> bool:
    """The same, in the transaction of what it is about."""
    newest = sa.select(events.c.id).order_by(events.c.id.desc()).limit(1)
    event_id = connection.execute(newest).scalar()
    return bool(event_id) and open_case(connection, replace(case, event_id=str(event_id)))


def settle(db: Database, kind: str, key: str, note: str) -> None:
    """Close what has settled by itself."""
    with db.write() as connection:
        settle_case(connection, kind, key, note)


def _cases() -> sa.Select[Any]:
    """Cases with the names of their events."""
    joined = cases.join(events, events.c.id == cases.c.event_id)
    return sa.select(cases, events.c.name.label("event")).select_from(joined)
