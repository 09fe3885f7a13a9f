"""Attempts that a provider may or may not have accepted, until they are reconciled with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay import fault_injection
from relay.ledger.attempts import is_superseded, record_outcome
from relay.ledger.database import Database, leasing, now
from relay.ledger.schema import attempts, notifications
from relay.ledger.worklist.cases import open_case
from relay.rules.model import Case, Ending

LEASE_SECONDS = 60.0


@dataclass(frozen=True)
class UnknownAttempt:
    """An unknown attempt that is due to be searched for, with the words that it carried."""

    id: str  # the notification's
    attempt_id: str
    looks: int  # searches, with this one
    number: int  # of the message's latest attempt
    started_at: datetime
    event_id: str
    rule: str
    subject: str
    channel: str
    address: str
    content: Mapping[str, str] | None


_CARRIED = ("id", "event_id", "rule", "subject", "channel", "address", "content")


def lease_unknown(db: Database, limit: int) -> list[UnknownAttempt]:
    """Lease up to `limit` unknown attempts that are due to be searched for.

    No other worker gets them for a while. It owns its transaction: a lease holds once committed.
    """
    given = {"most": limit, "lease": fault_injection.hastened(LEASE_SECONDS)}
    with db.write() as connection:
        if not (ids := list(connection.execute(_leasing(), given).scalars())):
            return []
        query = (
            sa.select(
                *(notifications.c[name] for name in _CARRIED),
                attempts.c.id.label("attempt_id"),
                notifications.c.attempts.label("number"),
                (attempts.c.looks + 1).label("looks"),  # counted once the provider has answered
                attempts.c.started_at,
            )
            .join(attempts, attempts.c.notification_id == notifications.c.id)
            .where(attempts.c.id.in_(ids))
        )
        return [UnknownAttempt(**row._mapping) for row in connection.execute(query)]


@cache
def _leasing() -> Any:
    table = attempts.c
    is_due = (table.look_at <= now(), table.outcome == "unknown")
    return leasing(table.look_at, *is_due).returning(table.id)


def taken_ids(connection: Connection, look: UnknownAttempt) -> frozenset[str]:
    """The provider's ids of other messages to the same address, which cannot be this one."""
    query = (
        sa.select(attempts.c.provider_id)
        .join(notifications, notifications.c.id == attempts.c.notification_id)
        .where(
            notifications.c.channel == look.channel,
            notifications.c.address == look.address,
            attempts.c.provider_id.is_not(None),
        )
    )
    return frozenset(connection.execute(query).scalars())


def adopt(
    connection: Connection, look: UnknownAttempt, provider_id: str, *, awaits_receipt: bool
) -> bool:
    """Record an unknown attempt as accepted, because the provider has it. Return False if its
    outcome is known already, or the provider's id is another attempt's.
    """
    ending = Ending("accepted", "sent", provider_id=provider_id, awaits_receipt=awaits_receipt)
    mine = sa.select(attempts.c.id).where(attempts.c.provider_id == provider_id)
    # One search per address at a time: two with the same words must not adopt the same message.
    lock = sa.select(notifications.c.id).where(
        notifications.c.channel == look.channel, notifications.c.address == look.address
    )
    connection.execute(lock.order_by(notifications.c.id).with_for_update())
    if connection.execute(mine).first():
        return False
    return record_outcome(connection, look.id, look.attempt_id, ending, ("unknown",))


def look_later(
    connection: Connection, look: UnknownAttempt, seconds: float, *, counts: bool = True
) -> None:
    """Schedule another search for an attempt in `seconds`. A search `counts` unless the provider
    could not be asked.
    """
    values: dict[str, Any] = {"look_at": now(fault_injection.hastened(seconds))}
    if counts:
        values["looks"] = attempts.c.looks + 1
    connection.execute(
        attempts.update()
        .where(attempts.c.id == look.attempt_id, attempts.c.outcome == "unknown")
        .values(**values)
    )


def give_up_unknown(
    connection: Connection, look: UnknownAttempt, reason: str, case: Case | None
) -> bool:
    """Stop searching for an attempt: send the message again, or with a `case` leave it to a person.

    Return False if its outcome is known already. The attempt stays unknown, so that a late receipt
    can still adopt it.
    """
    values: dict[str, Any] = {"reason": reason[:500]}
    if not case:
        values |= {"status": "created", "due_at": now()}
    unsettled = sa.exists().where(attempts.c.id == look.attempt_id, attempts.c.outcome == "unknown")
    done = connection.execute(
        notifications.update()
        .where(
            notifications.c.id == look.id,
            notifications.c.status == "unknown",
            # On the row itself, as in `attempts.begin`: later conditions may see an older snapshot.
            notifications.c.attempts == look.number,
            unsettled,
            ~is_superseded(look.attempt_id),
        )
        .values(**values)
    )
    connection.execute(
        attempts.update()
        .where(attempts.c.id == look.attempt_id)
        .values(look_at=None, looks=look.looks)
    )
    if done.rowcount and case:
        open_case(connection, case)
    return bool(done.rowcount)
