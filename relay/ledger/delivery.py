"""How an attempt ended, and what its notification becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.ledger.claiming import LEASE_SECONDS, Claim
from relay.ledger.database import Database, now
from relay.ledger.processing import insert_notices
from relay.ledger.schema import ALIVE, INSERTS, attempts, notifications, suppressions
from relay.notices import Notice


@dataclass(frozen=True)
class Ending:
    """How an attempt ended and what its notification becomes."""

    outcome: str  # accepted, rejected, unknown
    status: str
    reason: str = ""
    provider_id: str | None = None
    code: str = ""
    retry_in: float | None = None  # seconds; only with status "created" or "scheduled"
    is_a_try: bool = True  # False for what only waits
    opted_out: bool = False  # the provider says that the person wants nothing more this way
    content: Mapping[str, str] | None = None


def finish(db: Database, claim_: Claim, ending: Ending, fallback: Sequence[Notice] = ()) -> bool:
    """Commit how an attempt ended. False when somebody else has settled it meanwhile.

    With it comes the rule's `fallback`, if nothing else of the rule can reach the person now.
    """
    with db.write() as connection:
        unsettled = ("started", "unknown")
        settled = _finish(connection, claim_.id, claim_.attempt_id, ending, unsettled)
        if settled and fallback and not _is_alive(connection, claim_.family):
            insert_notices(connection, claim_.event_id, fallback)
        return settled


def renew(db: Database, claim_: Claim) -> bool:
    """Take the lease anew just before a send that was long in coming; False when it has lapsed."""
    mine = sa.exists().where(attempts.c.id == claim_.attempt_id, attempts.c.outcome == "started")
    with db.write() as connection:
        renewed = connection.execute(
            notifications.update()
            .where(notifications.c.id == claim_.id, notifications.c.status == "sending", mine)
            .values(lease_until=now(LEASE_SECONDS))
        )
        return bool(renewed.rowcount)


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
    if not ending.is_a_try:
        values["tries"] = notifications.c.tries - 1
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
        INSERTS[connection.dialect.name](suppressions)
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


def _is_alive(connection: Connection, family: str) -> bool:
    """Whether any message that one rule owes one role about one kit may still reach them."""
    query = sa.select(notifications.c.id).where(
        notifications.c.family == family, notifications.c.status.in_(ALIVE)
    )
    return connection.execute(query.limit(1)).first() is not None
