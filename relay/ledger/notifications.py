"""Rows for planned notices: each once, whoever plans it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.ledger.database import Database, UtcDateTime, now
from relay.ledger.schema import INSERTS, attempts, new_id, notifications
from relay.rules.model import ALIVE, FAILED, Notice


def maybe_sent() -> sa.ColumnElement[bool]:
    """Whether a provider has, or may have, taken a notification."""
    # By name, since SQLAlchemy does not correlate a subquery inside ON CONFLICT.
    notification_id: sa.ColumnElement[str] = sa.literal_column("notifications.id")
    return sa.exists().where(
        attempts.c.notification_id == notification_id,
        # No IN: SQLAlchemy cannot expand one in an INSERT of many rows.
        sa.or_(*(attempts.c.outcome == word for word in ("started", "accepted", "unknown"))),
    )


def is_digest() -> sa.ColumnElement[bool]:
    """Whether a notification is a digest itself, not one of its items."""
    return sa.func.coalesce(notifications.c.digest == notifications.c.identity, sa.false())


@cache
def _inserting(dialect: str) -> Any:
    """The statement that adds notifications: built once, since that costs more than running it."""
    failed = sa.bindparam("failed", type_=sa.Boolean)
    # What goes at once is due by the database's clock: ours may be fast, and it would wait for it.
    at_once = sa.bindparam("at_once", type_=sa.Boolean)
    due = sa.bindparam("due", type_=UtcDateTime())
    insert = INSERTS[dialect](notifications).values(
        created_at=now(),
        due_at=sa.case((sa.and_(at_once, due > now()), now()), else_=due),
        follow_up_at=sa.case((failed, now()), else_=sa.null()),
    )
    again = ("event_id", "template", "status", "reason", "due_at", "urgency", "follow_up_at")
    is_free = notifications.c.digest.is_(None)  # what is in a digest is told there
    return insert.on_conflict_do_update(
        index_elements=[notifications.c.identity],
        set_={name: insert.excluded[name] for name in (*again, "address", "digest")},
        where=sa.and_(notifications.c.status == "cancelled", is_free, ~maybe_sent()),
    ).returning(notifications.c.id)


def insert_notices(connection: Connection, event_id: str, notices: Sequence[Notice]) -> list[str]:
    """Rows for notices; the ids of those that are new, or were cancelled and are wanted again."""
    if not notices:
        return []
    rows = [
        {
            **{n: value for n, value in vars(notice).items() if n not in ("key", "due_at")},
            "due": notice.due_at,
            "at_once": notice.status == "created",
            "reason": notice.reason[:500],
            "failed": notice.status in FAILED,
            "id": new_id("msg"),
            "event_id": event_id,
            "identity": notice.identity,
            "obligation": notice.obligation,
        }
        for notice in notices
    ]
    # As parameters: SQLAlchemy compiles an INSERT with many VALUES anew each time, for 3 ms.
    told = connection.execute(_inserting(connection.dialect.name), rows)
    return [str(row.id) for row in told]


def add_notices(db: Database, event_id: str, notices: Sequence[Notice]) -> list[str]:
    """Rows for a rule's fallback; the ids of those that are new."""
    with db.write() as connection:
        return insert_notices(connection, event_id, notices)


def is_alive(connection: Connection, obligation: str) -> bool:
    """Whether any message that one rule owes one role about one kit may still reach them."""
    query = sa.select(notifications.c.id).where(
        notifications.c.obligation == obligation, notifications.c.status.in_(ALIVE)
    )
    return connection.execute(query.limit(1)).first() is not None
