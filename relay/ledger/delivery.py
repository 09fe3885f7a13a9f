"""How an attempt ended, and what its notification becomes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay import pace
from relay.ledger import pausing
from relay.ledger.claiming import LEASE_SECONDS, Claim
from relay.ledger.database import Database, now
from relay.ledger.pausing import Pause
from relay.ledger.schema import attempts, notifications
from relay.ledger.statuses import FAILED, WAITING
from relay.ledger.suppressing import suppress_in

# Seconds after which an unknown attempt is looked for, counted from its end.
LOOKS: dict[str, tuple[float, ...]] = {"sms": (120, 600), "email": (900,)}
_OPEN = ("sending", "unknown")
RECEIPT_SECONDS = 72 * 3600.0  # nothing heard by then: temporary-failure


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
    suppress: str = ""  # why the address gets nothing more this way
    awaits_receipt: bool = False
    pause: Pause | None = None  # what this tells of the whole channel
    reached_nobody: bool = False  # cancelled, but the person still has to be told another way
    answered: bool = False  # the provider has judged this very message, so the channel works


def begin(db: Database, claim: Claim, content: Mapping[str, str]) -> bool:
    """Keep what is about to be sent, and take the lease anew; False when the claim has lapsed.

    The last thing before a send: whoever looks for this attempt knows its words, and a worker that
    was frozen for longer than its lease sends nothing.
    """
    given = {
        "notification": claim.id,
        "attempt": claim.attempt_id,
        "words": json.dumps(content),
        "lease": pace.seconds(LEASE_SECONDS),
    }
    return bool(db.run(db.prepared(_beginning), given))


def _beginning(dialect: str) -> Any:
    mine = sa.exists().where(
        attempts.c.id == sa.bindparam("attempt"), attempts.c.outcome == "started"
    )
    words: Any = sa.bindparam("words", type_=sa.Text)
    if dialect == "postgresql":
        words = sa.cast(words, sa.JSON)
    return (
        notifications.update()
        .where(
            notifications.c.id == sa.bindparam("notification"),
            notifications.c.status == "sending",
            mine,
        )
        .values(lease_until=now(sa.bindparam("lease")), content=words)
        .returning(notifications.c.id)
    )


def finish(db: Database, claim: Claim, ending: Ending) -> bool:
    """Commit how an attempt ended. False when somebody else has settled it meanwhile."""
    with db.write() as connection:
        unsettled = ("started", "unknown")
        settled = settle(connection, claim.id, claim.attempt_id, ending, unsettled)
        if settled and ending.pause:
            pausing.pause(connection, claim.channel, claim.event_id, ending.pause)
        elif claim.is_probe and ending.answered:  # also where a receipt was faster than we
            pausing.resume(connection, claim.channel)
        return settled


def settle(
    connection: Connection,
    notification_id: str,
    attempt_id: str,
    ending: Ending,
    unsettled: tuple[str, ...],
) -> bool:
    """Mark an attempt and its notification, if the attempt is still in one of `unsettled`.

    The notification follows its latest attempt, and any that was accepted.
    """
    table = notifications.c
    # The notification is locked first, as everywhere: receipts come while a worker commits.
    locked = sa.select(table.id).where(table.id == notification_id).with_for_update(key_share=True)
    settled = connection.execute(
        attempts.update()
        .where(
            attempts.c.notification_id == locked.scalar_subquery(),
            attempts.c.id == attempt_id,
            attempts.c.outcome.in_(unsettled),
        )
        .values(
            outcome=ending.outcome,
            provider_id=ending.provider_id,
            code=ending.code[:40],
            detail=ending.reason[:500],
            finished_at=now(),
            look_at=_look_at(ending.outcome),
        )
    )
    if not settled.rowcount:
        return False
    if ending.outcome == "accepted":
        # Also where it waits to be sent again: it need not be, now that it has gone out.
        follows: sa.ColumnElement[bool] = table.status.in_(_OPEN + WAITING)
    else:
        follows = sa.and_(table.status.in_(_OPEN), ~is_superseded(attempt_id))
    mine = table.id == notification_id
    connection.execute(notifications.update().where(mine, follows).values(**_values(ending)))
    if ending.suppress:  # also where the notification does not follow: it is about the address
        row = connection.execute(sa.select(table.channel, table.address).where(mine)).one()
        suppress_in(connection, row.channel, row.address, ending.suppress)
    return True


def is_superseded(attempt_id: str) -> sa.ColumnElement[bool]:
    """Whether a notification has been claimed again since an attempt of it."""
    mine, later = attempts.alias(), attempts.alias()
    return sa.exists().where(
        mine.c.id == attempt_id,
        later.c.notification_id == mine.c.notification_id,
        later.c.started_at > mine.c.started_at,
    )


def _look_at(outcome: str) -> Any:
    """When an unknown attempt is first looked for."""
    if outcome != "unknown":
        return None
    cases = [
        (attempts.c.channel == channel, now(pace.seconds(looks[0])))
        for channel, looks in LOOKS.items()
    ]
    return sa.case(*cases, else_=sa.null())


def _values(ending: Ending) -> dict[str, Any]:
    values: dict[str, Any] = {"status": ending.status, "reason": ending.reason[:500]}
    values |= {"lease_until": None}
    if ending.retry_in is not None:
        values["due_at"] = now(ending.retry_in)
    if not ending.is_a_try:
        values["tries"] = notifications.c.tries - 1
    if ending.outcome == "accepted":
        values |= {"sent_at": now(), "provider_id": ending.provider_id}
    if ending.awaits_receipt:
        values["receipt_by"] = now(pace.seconds(RECEIPT_SECONDS))
    if ending.status in FAILED or ending.reached_nobody:
        values["follow_up_at"] = now()
    return values


LAPSED = Ending(
    "unknown",
    "unknown",
    "The worker stopped while this was being sent; it is not known whether it went out.",
)
NOT_BEGUN = Ending(
    "rejected",
    "created",
    "The worker stopped before this was sent.",
    retry_in=0.0,
)


def lapse(db: Database) -> int:
    """Settle what a worker that has gone had claimed: it may have been sent. How many there were.

    A claim without content never came as far as `begin`, so it was surely not sent.
    """
    query = (
        sa.select(
            notifications.c.id,
            attempts.c.id.label("attempt_id"),
            notifications.c.content.is_not(None).label("begun"),
        )
        .join(attempts, attempts.c.notification_id == notifications.c.id)
        .where(
            notifications.c.status == "sending",
            notifications.c.lease_until < now(),
            attempts.c.outcome == "started",
        )
        .order_by(notifications.c.id)  # two sweeps at once lock rows in the same order
    )
    with db.read() as connection:
        if connection.execute(query).first() is None:
            return 0
    with db.write() as connection:
        # Asked again, locked: a slow worker may have begun to send one of them this very moment.
        return sum(
            settle(
                connection,
                row.id,
                row.attempt_id,
                LAPSED if row.begun else NOT_BEGUN,
                ("started",),
            )
            for row in list(connection.execute(query.with_for_update(of=notifications)))
        )
