"""Events whose name Relay does not know. They are kept, and nothing is sent for them.

Somebody acknowledges a name, not each event: that the lab tells of it is known from then on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from relay.ledger import upkeep
from relay.ledger.database import Database
from relay.ledger.household import audit
from relay.ledger.schema import events
from relay.rules.model import UNROUTED

ACKNOWLEDGED = "acknowledge event"  # what the audit trail calls it; the name is its target
MANY = 1000  # past which they are not counted
_NAMES = 100  # past which names are not counted
_UNKNOWN = events.c.status == UNROUTED


def count(db: Database) -> int:
    """How many names nobody has acknowledged."""
    new = sa.select(sa.literal(1)).where(*_is_new(names := _names())).select_from(names)
    query = sa.select(sa.func.count()).select_from(new.limit(_NAMES).subquery())
    with db.read() as connection:
        return int(connection.execute(query).scalar_one())


def latest(db: Database, limit: int = 50) -> list[Mapping[str, Any]]:
    """Names that nobody has acknowledged, each with how often it came, since when and until when.

    `many` stops at one more than MANY.
    """
    names = _names()
    query = sa.select(names.c.name).where(*_is_new(names)).order_by(names.c.name).limit(limit)
    with db.read() as connection:
        found = list(connection.execute(query).scalars())
        return [dict(connection.execute(_told(name)).mappings().one()) for name in found]


def acknowledged(db: Database, limit: int = 50) -> list[Mapping[str, Any]]:
    """Those that were acknowledged last: the audit trail's lines."""
    query = audit.select().where(audit.c.action == ACKNOWLEDGED).order_by(audit.c.at.desc())
    with db.read() as connection:
        return [dict(row) for row in connection.execute(query.limit(limit)).mappings()]


def acknowledge(db: Database, name: str, by: str, note: str) -> bool:
    """Take a name off the worklist; False when none such waits for it."""
    query = sa.select(events.c.id).where(_UNKNOWN, events.c.name == name).limit(1)
    with db.write() as connection:
        is_known = connection.execute(query.where(~_seen(events.c.name))).first() is not None
        if is_known:
            upkeep.write_audit_in(connection, by, ACKNOWLEDGED, name, note)
        return is_known


def ids(db: Database, name: str, limit: int) -> list[str]:
    """The oldest events of a name."""
    query = sa.select(events.c.id).where(_UNKNOWN, events.c.name == name)
    with db.read() as connection:
        return list(connection.execute(query.order_by(events.c.received_at).limit(limit)).scalars())


def _names() -> sa.CTE:
    """Each name once: a step of the index a name, however many events have it."""
    first = sa.select(sa.func.min(events.c.name).label("name")).where(_UNKNOWN)
    names = first.cte("names", recursive=True)
    after = sa.select(sa.func.min(events.c.name)).where(_UNKNOWN, events.c.name > names.c.name)
    step = sa.select(after.correlate(names).scalar_subquery()).where(names.c.name.is_not(None))
    return names.union_all(step)


def _is_new(names: sa.CTE) -> tuple[sa.ColumnElement[bool], ...]:
    return names.c.name.is_not(None), ~_seen(names.c.name)


def _seen(name: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Whether somebody has acknowledged a name."""
    return sa.exists().where(audit.c.action == ACKNOWLEDGED, audit.c.target == name)


def _told(name: str) -> sa.Select[Any]:
    """What is known of the events of one name."""
    mine = sa.select(events.c.id).where(_UNKNOWN, events.c.name == name)
    counted = mine.limit(MANY + 1).subquery()
    last = mine.order_by(events.c.received_at.desc()).limit(1).scalar_subquery()
    ends = [
        sa.select(end(events.c.received_at, type_=events.c.received_at.type))
        .where(_UNKNOWN, events.c.name == name)
        .scalar_subquery()
        for end in (sa.func.min, sa.func.max)
    ]
    return sa.select(
        sa.literal(name).label("name"),
        sa.select(sa.func.count()).select_from(counted).scalar_subquery().label("many"),
        *(ends[0].label("first_at"), ends[1].label("last_at"), last.label("last_id")),
    )
