"""Processing again what failed, was held or was not understood. What was sent is not sent again."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.events import EVENTS
from relay.ledger.cases import settle_case
from relay.ledger.database import Database, now
from relay.ledger.noting import maybe_sent
from relay.ledger.schema import attempts, events, notifications
from relay.ledger.statuses import ALIVE, FAILED, RECEIVED, UNROUTED, WAITING


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
        settle_case(connection, "held", event_id, "It was replayed.")
        told_in = sa.select(notifications.c.digest).where(notifications.c.event_id == event_id)
        digests = notifications.c.identity.in_(told_in.where(notifications.c.digest.is_not(None)))
        _revive(connection, sa.or_(notifications.c.event_id == event_id, digests))
        return True


def replay_notification(db: Database, notification_id: str) -> bool:
    """Send a failed message again, unless a provider may have taken it already."""
    with db.write() as connection:
        return bool(_revive(connection, notifications.c.id == notification_id))


def _revivable() -> sa.ColumnElement[bool]:
    """Failed with an address, surely not sent, and not made up for by a fallback."""
    other = notifications.alias()
    made_up_for = sa.exists().where(
        other.c.family == notifications.c.family, other.c.is_fallback, other.c.status.in_(ALIVE)
    )
    return sa.and_(
        notifications.c.status.in_(FAILED),
        notifications.c.address != "",
        ~maybe_sent(),
        ~made_up_for,
    )


def _revive(connection: Connection, which: sa.ColumnElement[bool]) -> int:
    return connection.execute(
        notifications.update()
        .where(which, _revivable())
        # What failed before it was due keeps its time: it may be held for a person's word.
        .values(
            status=WAITING[0],
            reason="",
            due_at=sa.case((notifications.c.due_at > now(), notifications.c.due_at), else_=now()),
            tries=0,
            follow_up_at=None,
        )
    ).rowcount


def ids_to_replay(db: Database, status: str) -> list[str]:
    """Events that wait for a person: `unrouted` ones whose name is known by now, or `held` ones."""
    query = sa.select(events.c.id).where(events.c.status == status).order_by(events.c.id)
    if status == UNROUTED:
        query = query.where(events.c.name.in_(tuple(EVENTS)))
    with db.read() as connection:
        return list(connection.execute(query).scalars())


def failed_ids(db: Database) -> list[str]:
    """Messages that failed and can be sent again."""
    query = sa.select(notifications.c.id).where(_revivable())
    with db.read() as connection:
        return list(connection.execute(query.order_by(notifications.c.id)).scalars())


def decide_unknown(db: Database, notification_id: str, *, send: bool) -> bool:
    """A person's word on a message of which nobody knows whether it went out.

    `send` sends it once more, otherwise it counts as sent. False when it is settled by now, or is
    still being looked for.
    """
    if send:
        values: dict[str, Any] = {"status": WAITING[0], "due_at": now(), "tries": 0}
        reason = "A person has it sent again."
    else:
        values, reason = {"status": "sent"}, "A person found that it went out."
    looked_for = sa.exists().where(
        attempts.c.notification_id == notifications.c.id, attempts.c.look_at.is_not(None)
    )
    with db.write() as connection:
        done = connection.execute(
            notifications.update()
            .where(
                notifications.c.id == notification_id,
                notifications.c.status == "unknown",
                ~looked_for,
            )
            .values(reason=reason, **values)
        )
        return bool(done.rowcount)
