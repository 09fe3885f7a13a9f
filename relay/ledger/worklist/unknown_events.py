"""Unknown events: names that the lab has posted and Relay does not know.

Each event is kept, and leads to no message. People acknowledge a name, not each event: after that
the worklist no longer shows the name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.ledger.audit import write_audit
from relay.ledger.database import now
from relay.ledger.schema import INSERTS, acknowledged_events, events
from relay.rules.statuses import UNROUTED

ACKNOWLEDGED = "acknowledge event"  # what the audit trail calls it
MANY = 1000  # events of a name, beyond which we stop counting
_NAMES = 100  # names, beyond which we stop counting
_UNKNOWN = events.c.status == UNROUTED


def count(connection: Connection) -> int:
    """Count the unknown event names that nobody has acknowledged."""
    new = sa.select(sa.literal(1)).where(*_is_new(each := _names())).select_from(each)
    query = sa.select(sa.func.count()).select_from(new.limit(_NAMES).subquery())
    return int(connection.execute(query).scalar_one())


def names(connection: Connection, limit: int = 50) -> list[Mapping[str, Any]]:
    """The unknown event names that nobody has acknowledged, each with its first and last time and a
    count of its events, `many`, which stops at MANY + 1.
    """
    each = _names()
    query = sa.select(each.c.name).where(*_is_new(each)).order_by(each.c.name).limit(limit)
    found = list(connection.execute(query).scalars())
    return [dict(connection.execute(_summary(name)).mappings().one()) for name in found]


def acknowledged(connection: Connection, limit: int = 50) -> list[Mapping[str, Any]]:
    """The event names acknowledged most recently, each with by whom, when and the note."""
    query = acknowledged_events.select().order_by(acknowledged_events.c.acknowledged_at.desc())
    return [dict(row) for row in connection.execute(query.limit(limit)).mappings()]


def acknowledge(connection: Connection, name: str, by: str, note: str) -> bool:
    """Take an unknown event name off the worklist; False if no such name is on it."""
    query = sa.select(events.c.id).where(_UNKNOWN, events.c.name == name).limit(1)
    is_known = connection.execute(query.where(~_is_seen(events.c.name))).first() is not None
    if is_known:
        insert = INSERTS[connection.dialect.name](acknowledged_events).values(
            name=name, actor=by[:100], note=note[:500], acknowledged_at=now()
        )
        connection.execute(insert.on_conflict_do_nothing())
        write_audit(connection, by, ACKNOWLEDGED, name, note)
    return is_known


def ids(connection: Connection, name: str, limit: int) -> list[str]:
    """The ids of the oldest events of an unknown name."""
    query = sa.select(events.c.id).where(_UNKNOWN, events.c.name == name)
    return list(connection.execute(query.order_by(events.c.received_at).limit(limit)).scalars())


def _names() -> sa.CTE:
    """Each name once: one step of the index per name, however many events have it."""
    first = sa.select(sa.func.min(events.c.name).label("name")).where(_UNKNOWN)
    names = first.cte("names", recursive=True)
    after = sa.select(sa.func.min(events.c.name)).where(_UNKNOWN, events.c.name > names.c.name)
    step = sa.select(after.correlate(names).scalar_subquery()).where(names.c.name.is_not(None))
    return names.union_all(step)


def _is_new(names: sa.CTE) -> tuple[sa.ColumnElement[bool], ...]:
    return names.c.name.is_not(None), ~_is_seen(names.c.name)


def _is_seen(name: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """A condition: somebody has acknowledged this event name."""
    return sa.exists().where(acknowledged_events.c.name == name)


def _summary(name: str) -> sa.Select[Any]:
    """A query for what is known of the events of one name."""
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
        ends[0].label("first_at"),
        ends[1].label("last_at"),
        last.label("last_id"),
    )
