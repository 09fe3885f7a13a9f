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
from relay.ledger.intake import upsert
from relay.ledger.schema import ALIVE, WAITING, attempts, events, notifications, suppressions

LEASE_SECONDS = 60  # longer than any send may take


@dataclass(frozen=True)
class Claim:
    """One notification that this worker alone may send, once."""

    id: str
    attempt_id: str
    attempts: int
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


@dataclass(frozen=True)
class Ending:
    """How an attempt ended and what its notification becomes."""

    outcome: str  # accepted, rejected, unknown
    status: str
    reason: str = ""
    provider_id: str | None = None
    code: str = ""
    retry_in: float | None = None  # seconds; only with status "created"
    opted_out: bool = False  # the provider says that the person wants nothing more this way
    content: Mapping[str, str] | None = None


_CARRIED = (
    *("id", "attempts", "event_id", "rule", "template", "subject", "round", "role"),
    *("channel", "address", "family", "urgency", "is_fallback"),
)


def claim(db: Database, channel: str, limit: int) -> list[Claim]:
    """Up to `limit` due notifications of a channel, the urgent first, each with a new attempt."""
    table = notifications.c
    due = (
        sa.select(table.id)
        .where(table.channel == channel, table.status.in_(WAITING), table.due_at <= now())
        .order_by(table.urgency.desc(), table.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    with db.write() as connection:
        ids = list(connection.execute(due).scalars())
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
            )
        )
        claims = [_claim(row) for row in rows]
        connection.execute(
            attempts.insert().values(
                [
                    {
                        "id": one.attempt_id,
                        "notification_id": one.id,
                        "channel": channel,
                        "outcome": "started",
                        "started_at": now(),
                    }
                    for one in claims
                ]
            )
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
    values = {**row._mapping, "facts": Facts.from_json(row.facts), "attempts": row.attempts + 1}
    return Claim(attempt_id=uuid.uuid4().hex, **values)


def finish(db: Database, claim_: Claim, ending: Ending) -> bool:
    """Commit how an attempt ended. False when somebody else has settled it meanwhile."""
    with db.write() as connection:
        return _finish(connection, claim_.id, claim_.attempt_id, ending, ("started", "unknown"))


def _finish(
    connection: Connection,
    notification_id: str,
    attempt_id: str,
    ending: Ending,
    unsettled: tuple[str, ...],
) -> bool:
    settled = connection.execute(
        attempts.update()
        .where(attempts.c.id == attempt_id, attempts.c.outcome.in_(unsettled))
        .values(
            outcome=ending.outcome,
            provider_id=ending.provider_id,
            code=ending.code[:40],
            detail=ending.reason[:500],
            finished_at=now(),
        )
    )
    if not settled.rowcount:
        return False
    values: dict[str, Any] = {"status": ending.status, "reason": ending.reason[:500]}
    values |= {"lease_until": None}
    if ending.retry_in is not None:
        values["due_at"] = now(ending.retry_in)
    if ending.outcome == "accepted":
        values |= {"sent_at": now(), "provider_id": ending.provider_id}
    if ending.content is not None:
        values["content"] = dict(ending.content)
    row = connection.execute(
        notifications.update()
        .where(
            notifications.c.id == notification_id,
            notifications.c.status.in_(("sending", "unknown")),
        )
        .values(**values)
        .returning(notifications.c.channel, notifications.c.address)
    ).first()
    if ending.opted_out and row:
        _suppress(connection, row.channel, row.address, f"provider, {ending.code}")
    return True


def _suppress(connection: Connection, channel: str, address: str, source: str) -> None:
    connection.execute(
        upsert(connection, suppressions)
        .values(channel=channel, address=address, source=source, created_at=now())
        .on_conflict_do_nothing()
    )


LAPSED = Ending(
    "unknown",
    "unknown",
    "The worker stopped while this was being sent; it is not known whether it went out.",
)


def lapse(db: Database) -> int:
    """Mark what a worker that has gone had claimed: it may have been sent. How many there were."""
    query = (
        sa.select(notifications.c.id, attempts.c.id.label("attempt_id"))
        .join(attempts, attempts.c.notification_id == notifications.c.id)
        .where(
            notifications.c.status == "sending",
            notifications.c.lease_until < now(),
            attempts.c.outcome == "started",
        )
    )
    with db.read() as connection:
        if not (rows := list(connection.execute(query))):
            return 0
    with db.write() as connection:
        return sum(
            _finish(connection, row.id, row.attempt_id, LAPSED, ("started",)) for row in rows
        )


def family_is_alive(db: Database, family: str) -> bool:
    """Whether any message that one rule owes one role about one kit may still reach them."""
    query = sa.select(notifications.c.id).where(
        notifications.c.family == family, notifications.c.status.in_(ALIVE)
    )
    with db.read() as connection:
        return connection.execute(query.limit(1)).first() is not None


def sent_since(db: Database, channel: str, since: datetime) -> int:
    """Attempts of a channel that may have cost something since then."""
    query = sa.select(sa.func.count()).where(
        attempts.c.channel == channel,
        attempts.c.started_at >= since,
        attempts.c.outcome != "rejected",
    )
    with db.read() as connection:
        return int(connection.execute(query).scalar_one())
