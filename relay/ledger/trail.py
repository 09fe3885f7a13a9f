"""All that the ledger has about one event, kit or message: for `explain` and the desk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.ledger.database import Database
from relay.ledger.schema import (
    aliases,
    attempts,
    cases,
    events,
    journeys,
    notifications,
    quarantine,
    receipts,
)

Row = Mapping[str, Any]
_MESSAGE = (
    *("id", "event_id", "rule", "template", "role", "channel", "status", "reason", "is_fallback"),
    *("due_at", "created_at", "sent_at", "delivered_at", "round", "digest", "identity"),
)


@dataclass(frozen=True)
class Trail:
    """An event with its messages, oldest first; each with its attempts, each with its receipts.

    A digest has its `items` besides, and an item what it is `told_in`.
    """

    event: Row
    messages: Sequence[Row]
    cases: Sequence[Row]


def find(db: Database, wanted: str) -> list[Trail]:
    """The events that an id is about: an event's, a message's, an attempt's, or a kit's by any of
    its names. Of a message only itself is told. None where nothing goes by it.
    """
    with db.read() as connection:
        message = _message_id(connection, wanted)
        if message:
            query = sa.select(notifications.c.event_id).where(notifications.c.id == message)
            ids = list(connection.execute(query).scalars())
        else:
            ids = _event_ids(connection, wanted)
        return [_trail(connection, id_, message) for id_ in ids]


def refused(db: Database, wanted: str) -> Row | None:
    """A body in quarantine, without the body."""
    shown = [column for column in quarantine.c if column.name != "body"]
    with db.read() as connection:
        row = connection.execute(sa.select(*shown).where(quarantine.c.id == wanted)).mappings()
        found = row.first()
    return dict(found) if found else None


def _message_id(connection: Connection, wanted: str) -> str:
    """The message that an id is about, if it is a message's or one of its attempts'."""
    by_attempt = sa.select(attempts.c.notification_id).where(
        sa.or_(attempts.c.id == wanted, attempts.c.provider_id == wanted)
    )
    own = sa.select(notifications.c.id).where(notifications.c.id == wanted)
    return str(connection.execute(sa.union(own, by_attempt)).scalar() or "")


def _event_ids(connection: Connection, wanted: str) -> list[str]:
    named = sa.select(aliases.c.subject).where(aliases.c.alias == wanted)
    kits = {wanted, *connection.execute(named).scalars()}
    table = journeys.c
    linked = sa.select(table.subject, table.order_subject, table.original_subject)
    for _ in range(2):  # from a retest to its original, and from there to the order
        rows = connection.execute(
            linked.where(sa.or_(table.subject.in_(kits), table.order_subject.in_(kits)))
        )
        kits |= {name for row in rows for name in row if name}
    query = (
        sa.select(events.c.id)
        .where(sa.or_(events.c.id == wanted, events.c.subject.in_(kits)))
        .order_by(events.c.received_at, events.c.id)
    )
    return list(connection.execute(query).scalars())


def _trail(connection: Connection, event_id: str, message: str) -> Trail:
    shown = [column for column in events.c if column.name not in ("facts", "identity")]
    event = connection.execute(sa.select(*shown).where(events.c.id == event_id)).mappings().one()
    told = sa.select(*(notifications.c[name] for name in _MESSAGE)).where(
        notifications.c.event_id == event_id
    )
    if message:
        told = told.where(notifications.c.id == message)
    rows = connection.execute(told.order_by(notifications.c.id)).mappings()
    about = cases.select().where(cases.c.event_id == event_id).order_by(cases.c.opened_at)
    return Trail(
        dict(event),
        [
            {**row, "attempts": _attempts(connection, row["id"]), **_digest(connection, dict(row))}
            for row in rows
        ],
        [dict(row) for row in connection.execute(about).mappings()],
    )


def _digest(connection: Connection, row: Row) -> Row:
    """What a digest tells, and which digest tells an item."""
    table, digest = notifications.c, row["digest"]
    shown = sa.select(table.id, table.status, table.subject, table.event_id, events.c.name)
    query = shown.join(events, events.c.id == table.event_id).order_by(table.id)
    if not digest:
        return {"items": (), "told_in": None}
    if digest == row["identity"]:
        items = query.where(table.digest == digest, table.identity != digest)
        return {"items": list(connection.execute(items).mappings()), "told_in": None}
    found = connection.execute(query.where(table.identity == digest)).mappings().first()
    return {"items": (), "told_in": found}


def _attempts(connection: Connection, message_id: str) -> list[Row]:
    query = attempts.select().where(attempts.c.notification_id == message_id)
    told = receipts.select().order_by(receipts.c.received_at, receipts.c.id)
    return [
        {
            **row,
            "receipts": [
                dict(receipt)
                for receipt in connection.execute(
                    told.where(receipts.c.attempt_id == row["id"])
                ).mappings()
            ],
        }
        for row in connection.execute(query.order_by(attempts.c.started_at)).mappings()
    ]
