"""Processing again what failed, was held or was not understood. What was sent is not sent again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.lab.events import EVENTS
from relay.ledger.acting import Act, keep
from relay.ledger.cases import settle_case
from relay.ledger.database import Database, now
from relay.ledger.noting import maybe_sent
from relay.ledger.schema import attempts, events, notifications, receipts
from relay.rules.model import ALIVE, FAILED, RECEIVED, UNROUTED, WAITING


def replay_event(db: Database, event_id: str) -> bool:
    """Process an event again, its failed messages with it. What was sent is not sent again."""
    with db.write() as connection:
        return replay_event_in(connection, event_id)


def replay_event_in(connection: Connection, event_id: str) -> bool:
    """The same, in a transaction that is open already."""
    done = process_again(connection, event_id)
    if done:
        settle_case(connection, "held", event_id, "It was replayed.")
    return done


def process_again(connection: Connection, event_id: str) -> bool:
    """The same where somebody closes the event's case, if it has one."""
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
    table = notifications.c
    told_in = sa.select(table.digest).where(table.event_id == event_id, table.digest.is_not(None))
    # One by one: with OR PostgreSQL reads the whole table.
    revive(connection, _unsent(), table.event_id == event_id)
    revive(connection, _unsent(), table.identity.in_(list(connection.execute(told_in).scalars())))
    return True


def replay_events(db: Database, event_ids: Sequence[str], act: Act) -> int:
    """The same with several, kept as one act; how many it was."""
    with db.write() as connection:
        done = sum(replay_event_in(connection, id_) for id_ in event_ids)
        if done:
            keep(connection, act, str(done))
        return done


def replay_notification(db: Database, notification_id: str) -> bool:
    """Send a failed message again that somebody has named, unless it may have arrived.

    So also one that went out, where its provider has told that it did not arrive.
    """
    with db.write() as connection:
        named = notifications.c.id == notification_id
        return bool(revive(connection, _failed(), ~may_have_arrived(), named))


def may_have_arrived() -> sa.ColumnElement[bool]:
    """Whether any attempt of a notification was, or may have been, taken, and nobody has told that
    it failed afterwards.
    """
    told = sa.exists().where(receipts.c.attempt_id == attempts.c.id, receipts.c.state.in_(FAILED))
    return sa.exists().where(
        attempts.c.notification_id == notifications.c.id, attempts.c.outcome != "rejected", ~told
    )


def made_up_for() -> sa.ColumnElement[bool]:
    """Whether a fallback of a notification's rule has gone out, or is about to."""
    other = notifications.alias()
    return sa.exists().where(
        other.c.family == notifications.c.family, other.c.is_fallback, other.c.status.in_(ALIVE)
    )


def _failed() -> sa.ColumnElement[bool]:
    """Failed with an address, and not made up for by a fallback."""
    return sa.and_(
        notifications.c.status.in_(FAILED), notifications.c.address != "", ~made_up_for()
    )


def _unsent() -> sa.ColumnElement[bool]:
    """Failed and surely not sent: what goes again though nobody has named it."""
    return sa.and_(_failed(), ~maybe_sent())


def revive(connection: Connection, *which: sa.ColumnElement[bool]) -> int:
    """Let messages go once more; how many they were."""
    return connection.execute(
        notifications.update()
        .where(*which)
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
    """Messages that failed and surely did not go out."""
    query = sa.select(notifications.c.id).where(_unsent())
    with db.read() as connection:
        return list(connection.execute(query.order_by(notifications.c.id)).scalars())


def decide_unknown(connection: Connection, notification_id: str, *, send: bool) -> bool:
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
