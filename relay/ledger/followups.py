"""Messages that reached nobody: the rule's fallback, or a person, has to be seen to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from relay import fault_injection
from relay.lab.facts import Facts
from relay.ledger.cases import open_case
from relay.ledger.database import Database, now
from relay.ledger.leasing import due
from relay.ledger.noting import insert_notices, is_alive, is_digest
from relay.ledger.receipts import UNCONFIRMED
from relay.ledger.schema import attempts, events, notifications
from relay.rules.model import RECEIVED, Case, Notice

LEASE_SECONDS = 60.0


@dataclass(frozen=True)
class FollowUp:
    """A notification that failed, with its event."""

    id: str
    event_id: str
    event_name: str
    event_data: Mapping[str, Any]
    event_received_at: datetime
    facts: Facts
    rule: str
    subject: str
    round: int
    role: str
    channel: str
    family: str
    is_fallback: bool
    is_digest: bool
    status: str
    reason: str
    taken: int  # attempts that the provider accepted
    code: str | None  # of its last attempt
    unconfirmed: bool  # nobody told in time whether it arrived


_CARRIED = (
    *("id", "event_id", "rule", "subject", "round", "role", "channel", "family"),
    *("is_fallback", "status", "reason"),
)


def lease(db: Database, limit: int) -> list[FollowUp]:
    """Up to `limit` that are due; nobody else gets them for a while."""
    table = notifications.c
    # While its event is processed again it is not known yet who is told.
    is_open = sa.exists().where(events.c.id == table.event_id, events.c.status == RECEIVED)
    is_due = (table.follow_up_at <= now(), ~is_open)
    with db.write() as connection:
        leased = connection.execute(
            notifications.update()
            .where(table.id.in_(due(table.id, is_due, [table.follow_up_at], limit)), *is_due)
            .values(follow_up_at=now(fault_injection.hastened(LEASE_SECONDS)))
            .returning(table.id)
        ).scalars()
        if not (ids := list(leased)):
            return []
        query = _carrying().where(table.id.in_(ids))
        return [
            FollowUp(**{**row._mapping, "facts": Facts.from_json(row.facts)})
            for row in connection.execute(query)
        ]


def _carrying() -> sa.Select[Any]:
    """Notifications with their events and what is known of their attempts."""
    table = notifications.c
    mine = attempts.c.notification_id == table.id
    code = (
        sa.select(attempts.c.code)
        .where(mine)
        .order_by(attempts.c.started_at.desc())
        .limit(1)
        .scalar_subquery()
    )
    taken = sa.select(sa.func.count()).where(mine, attempts.c.outcome == "accepted")
    return sa.select(
        *(table[name] for name in _CARRIED),
        is_digest().label("is_digest"),
        code.label("code"),
        taken.scalar_subquery().label("taken"),
        sa.exists().where(mine, attempts.c.code == UNCONFIRMED).label("unconfirmed"),
        events.c.name.label("event_name"),
        events.c.data.label("event_data"),
        events.c.received_at.label("event_received_at"),
        events.c.facts,
    ).join(events, events.c.id == table.event_id)


def settle(
    db: Database,
    item: FollowUp,
    fallback: Sequence[Notice],
    unreached: Case | None,
    broken: Case | None,
) -> str:
    """See to a failed message; what was done: `waiting`, `fallback`, `case`, or empty.

    While another message of the same rule may still reach the person, a person of the clinic is
    told only of what is `broken`; else that somebody is `unreached`.
    """
    with db.write() as connection:
        if not _done(connection, item.id):
            return ""
        done = "waiting" if is_alive(connection, item.family) else ""
        if not done and fallback:
            insert_notices(connection, item.event_id, fallback)
            # Asked again whoever inserted them: another worker may have, at the same moment.
            done = "fallback" if is_alive(connection, item.family) else ""
        if case := broken if done else unreached:
            open_case(connection, case)
        return done or ("case" if case else "")


def let_be(db: Database, item: FollowUp, why: str) -> str:
    """Do nothing more about a failed message, and say so; what was done, as `settle` tells it."""
    with db.write() as connection:
        if _done(connection, item.id):
            connection.execute(
                notifications.update()
                .where(notifications.c.id == item.id)
                .values(reason=f"{item.reason} {why}"[:500])
            )
    return ""


def try_again(db: Database, item: FollowUp, seconds: float) -> None:
    """Send it once more, later."""
    with db.write() as connection:
        if _done(connection, item.id):
            connection.execute(
                notifications.update()
                .where(notifications.c.id == item.id, notifications.c.status == item.status)
                .values(status="created", due_at=now(fault_injection.hastened(seconds)))
            )


def _done(connection: sa.Connection, notification_id: str) -> bool:
    """Take the mark away; False when somebody else has done so."""
    done = connection.execute(
        notifications.update()
        .where(notifications.c.id == notification_id, notifications.c.follow_up_at.is_not(None))
        .values(follow_up_at=None)
    )
    return bool(done.rowcount)
