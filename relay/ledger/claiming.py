"""The claim: a notification is marked, and its attempt written, before anything leaves."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.facts import Facts
from relay.ledger.database import Database, now
from relay.ledger.schema import WAITING, attempts, events, notifications, suppressions

LEASE_SECONDS = 60  # longer than any send may take
_CAP_LOCK = 7_236_842  # an advisory lock's number, ours alone


@dataclass(frozen=True)
class Claim:
    """One notification that this worker alone may send, once."""

    id: str
    attempt_id: str
    tries: int
    event_id: str
    event_name: str
    event_data: Mapping[str, Any]
    event_received_at: datetime
    facts: Facts
    rule: str
    template: str
    subject: str
    round: int
    role: str
    channel: str
    address: str
    family: str
    urgency: int
    is_fallback: bool
    facts_at: datetime
    suppressed: bool


_CARRIED = (
    *("id", "tries", "event_id", "rule", "template", "subject", "round", "role"),
    *("channel", "address", "family", "urgency", "is_fallback"),
)


@dataclass(frozen=True)
class Cap:
    """A limit on cost: at most so many attempts of a channel since a moment."""

    most: int
    since: datetime


def claim(db: Database, channel: str, limit: int, cap: Cap | None = None) -> list[Claim]:
    """Up to `limit` due notifications of a channel, the urgent first, each with a new attempt."""
    table = notifications.c
    due = (
        sa.select(table.id)
        .where(table.channel == channel, table.status.in_(WAITING), table.due_at <= now())
        .order_by(table.urgency.desc(), table.due_at)
        .with_for_update(skip_locked=True)
    )
    with db.write() as connection:
        if cap:
            limit = min(limit, _left(connection, channel, cap))
        ids = list(connection.execute(due.limit(limit)).scalars()) if limit > 0 else []
        if not ids:
            return []
        rows = _claimable(connection, ids)
        connection.execute(
            notifications.update()
            .where(table.id.in_(ids), table.status.in_(WAITING))
            .values(
                status="sending",
                lease_until=now(LEASE_SECONDS),
                attempts=table.attempts + 1,
                tries=table.tries + 1,
            )
        )
        claims = [_claim(row) for row in rows]
        connection.execute(
            attempts.insert().values(channel=channel, outcome="started", started_at=now()),
            [{"id": one.attempt_id, "notification_id": one.id} for one in claims],
        )
        return claims


def _claimable(connection: Connection, ids: list[str]) -> list[sa.Row[Any]]:
    table = notifications.c
    suppressed = sa.exists().where(
        suppressions.c.channel == table.channel, suppressions.c.address == table.address
    )
    query = (
        sa.select(
            *(table[name] for name in _CARRIED),
            suppressed.label("suppressed"),
            events.c.name.label("event_name"),
            events.c.data.label("event_data"),
            events.c.received_at.label("event_received_at"),
            events.c.facts,
            events.c.processed_at.label("facts_at"),
        )
        .join(events, events.c.id == table.event_id)
        .where(table.id.in_(ids))
        .order_by(table.urgency.desc(), table.due_at)
    )
    return list(connection.execute(query))


def _claim(row: sa.Row[Any]) -> Claim:
    values = {**row._mapping, "facts": Facts.from_json(row.facts), "tries": row.tries + 1}
    return Claim(attempt_id=uuid.uuid4().hex, **values)


def _left(connection: Connection, channel: str, cap: Cap) -> int:
    """How many more attempts a cap lets through. Workers ask one after the other."""
    if connection.dialect.name == "postgresql":  # SQLite's writers wait for one another anyway
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CAP_LOCK)))
    query = sa.select(sa.func.count()).where(
        attempts.c.channel == channel,
        attempts.c.started_at >= cap.since,
        attempts.c.outcome != "rejected",
    )
    return cap.most - int(connection.execute(query).scalar_one())
