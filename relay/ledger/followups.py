"""What is still to be done about attempts: unknown ones are looked for, failed ones fall back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay import fault_injection
from relay.lab.facts import Facts
from relay.ledger.attempts import is_superseded, record_outcome
from relay.ledger.cases import open_case
from relay.ledger.database import Database, lease_due, now
from relay.ledger.notifications import KIND, insert_notices, is_alive
from relay.ledger.schema import attempts, events, notifications
from relay.rules.model import RESENT, Case, Ending, Notice
from relay.rules.statuses import RECEIVED, UNCONFIRMED

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
    obligation: str
    is_fallback: bool
    kind: str  # message, digest, item, alert, resent
    status: str
    reason: str
    taken: int  # attempts that the provider accepted
    code: str | None  # of its last attempt
    unconfirmed: bool  # nobody told in time whether it arrived


_CARRIED = (
    "id",
    "event_id",
    "rule",
    "subject",
    "round",
    "role",
    "channel",
    "obligation",
    "is_fallback",
    "status",
    "reason",
)


def lease_follow_ups(db: Database, limit: int) -> list[FollowUp]:
    """Up to `limit` that are due; nobody else gets them for a while.

    It owns its transaction: a lease holds once it is committed.
    """
    table = notifications.c
    # While its event is processed again it is not known yet who is told.
    is_open = sa.exists().where(events.c.id == table.event_id, events.c.status == RECEIVED)
    is_due = (table.follow_up_at <= now(), ~is_open)
    with db.write() as connection:
        leased = connection.execute(
            notifications.update()
            .where(table.id.in_(lease_due(table.id, is_due, [table.follow_up_at], limit)), *is_due)
            .values(follow_up_at=now(fault_injection.hastened(LEASE_SECONDS)))
            .returning(table.id)
        ).scalars()
        if not (ids := list(leased)):
            return []
        query = carrying().where(table.id.in_(ids))
        return [
            FollowUp(**{**row._mapping, "facts": Facts.from_json(row.facts)})
            for row in connection.execute(query)
        ]


def carrying() -> sa.Select[Any]:
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
        *(table[name].label(name) for name in _CARRIED),
        KIND.label("kind"),
        code.label("code"),
        taken.scalar_subquery().label("taken"),
        sa.exists().where(mine, attempts.c.code == UNCONFIRMED).label("unconfirmed"),
        events.c.name.label("event_name"),
        events.c.data.label("event_data"),
        events.c.received_at.label("event_received_at"),
        events.c.facts,
    ).join(events, events.c.id == table.event_id)


def finish_follow_up(
    connection: Connection,
    item: FollowUp,
    fallback: Sequence[Notice],
    unreached: Case | None,
    broken: Case | None,
) -> str:
    """See to a failed message; what was done: `waiting`, `fallback`, `case`, or empty.

    While another message of the same rule may still reach the person, a person of the clinic is
    told only of what is `broken`; else that somebody is `unreached`.
    """
    if not _done(connection, item.id):
        return ""
    since = item.id if item.kind == RESENT else ""
    done = "waiting" if is_alive(connection, item.obligation, since) else ""
    if not done and fallback:
        insert_notices(connection, item.event_id, fallback)
        # Asked again whoever inserted them: another worker may have, at the same moment.
        done = "fallback" if is_alive(connection, item.obligation, since) else ""
    if case := broken if done else unreached:
        open_case(connection, case)
    return done or ("case" if case else "")


def let_be(connection: Connection, item: FollowUp, why: str) -> str:
    """Do nothing more about a failed message, and say so; an empty word, as for nothing done."""
    if _done(connection, item.id):
        connection.execute(
            notifications.update()
            .where(notifications.c.id == item.id)
            .values(reason=f"{item.reason} {why}"[:500])
        )
    return ""


def try_again(connection: Connection, item: FollowUp, seconds: float) -> None:
    """Send it once more, later."""
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


UNKNOWN_LEASE_SECONDS = 60.0


@dataclass(frozen=True)
class UnknownAttempt:
    """An unknown attempt that is due to be looked for, and what it carried."""

    id: str  # the notification's
    attempt_id: str
    looks: int  # with this one
    started_at: datetime
    event_id: str
    rule: str
    subject: str
    channel: str
    address: str
    content: Mapping[str, str] | None


_UNKNOWN_CARRIED = ("id", "event_id", "rule", "subject", "channel", "address", "content")


def lease_unknown(db: Database, limit: int) -> list[UnknownAttempt]:
    """Up to `limit` attempts that are due to be looked for; nobody else gets them for a while.

    It owns its transaction: a lease holds once it is committed.
    """
    table = attempts.c
    is_unknown = table.outcome == "unknown"
    first = lease_due(table.id, [table.look_at <= now(), is_unknown], [table.look_at], limit)
    with db.write() as connection:
        leased = connection.execute(
            attempts.update()
            .where(table.id.in_(first), is_unknown)
            .values(look_at=now(fault_injection.hastened(UNKNOWN_LEASE_SECONDS)))
            .returning(attempts.c.id)
        ).scalars()
        if not (ids := list(leased)):
            return []
        query = (
            sa.select(
                *(notifications.c[name] for name in _UNKNOWN_CARRIED),
                attempts.c.id.label("attempt_id"),
                (attempts.c.looks + 1).label("looks"),  # counted once the provider has told
                attempts.c.started_at,
            )
            .join(attempts, attempts.c.notification_id == notifications.c.id)
            .where(attempts.c.id.in_(ids))
        )
        return [UnknownAttempt(**row._mapping) for row in connection.execute(query)]


def taken_ids(connection: Connection, look: UnknownAttempt) -> frozenset[str]:
    """The provider's ids of other messages to the same address: they are not the one."""
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
    """It had gone out. False when it is settled by now, or the id is another attempt's."""
    ending = Ending("accepted", "sent", provider_id=provider_id, awaits_receipt=awaits_receipt)
    mine = sa.select(attempts.c.id).where(attempts.c.provider_id == provider_id)
    # One look at an address at a time: two of the same words must not adopt the same message.
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
    """Look again in `seconds`. One that `counts` not could not ask the provider."""
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
    """It was not found: send it again, or with a `case` leave it to a person. False when settled.

    The attempt stays unknown, so that a receipt that comes late can still adopt it.
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
