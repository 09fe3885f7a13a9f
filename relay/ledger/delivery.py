"""How an attempt ended, and what its notification becomes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay import fault_injection
from relay.ledger import pausing
from relay.ledger.cases import settle_case
from relay.ledger.claiming import LEASE_SECONDS, Claim
from relay.ledger.database import Database, now
from relay.ledger.pausing import Pause
from relay.ledger.schema import attempts, notifications
from relay.ledger.suppressing import suppress_in
from relay.messages import sms_segments
from relay.rules.channels import CHANNELS
from relay.rules.model import FAILED, WAITING

# Seconds after which an unknown attempt is looked for, counted from its end.
LOOKS = {name: way.looks for name, way in CHANNELS.items()}
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
    text = content["text"] if claim.channel == "sms" else ""
    given = {
        "notification": claim.id,
        "attempt": claim.attempt_id,
        "words": json.dumps(content),
        "segments": sms_segments.size(text).segments,
        "lease": fault_injection.hastened(LEASE_SECONDS),
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
        .values(
            lease_until=now(sa.bindparam("lease")),
            content=words,
            segments=sa.bindparam("segments"),
        )
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
    is_unknown, is_accepted = ending.outcome == "unknown", ending.outcome == "accepted"
    looks = LOOKS.items() if is_unknown else ()
    settled = connection.execute(
        _settling(is_unknown),
        {
            **{"its": notification_id, "this": attempt_id, "unsettled": unsettled},
            "outcome": ending.outcome,
            "provider_id": ending.provider_id,
            "code": ending.code[:40],
            "detail": ending.reason[:500],
            **{
                f"look_{channel}": fault_injection.hastened(first) for channel, (first, *_) in looks
            },
        },
    ).first()
    if settled is None:
        return False
    if is_accepted and settled.looks:  # a person may have been asked by now
        settle_case(connection, "unknown", notification_id, "It has gone out.")
    values, moments = _values(ending)
    this = {} if is_accepted else {"this": attempt_id}
    connection.execute(_following(is_accepted, moments), {"its": notification_id, **this, **values})
    if ending.suppress:  # also where the notification does not follow: it is about the address
        to = sa.select(notifications.c.channel, notifications.c.address)
        row = connection.execute(to.where(notifications.c.id == notification_id)).one()
        suppress_in(connection, row.channel, row.address, ending.suppress)
    return True


def is_superseded(attempt_id: Any) -> sa.ColumnElement[bool]:
    """Whether a notification has been claimed again since an attempt of it."""
    mine, later = attempts.alias(), attempts.alias()
    return sa.exists().where(
        mine.c.id == attempt_id,
        later.c.notification_id == mine.c.notification_id,
        later.c.started_at > mine.c.started_at,
    )


def _values(ending: Ending) -> tuple[dict[str, Any], frozenset[str]]:
    """What a notification becomes, and which moments of `_MOMENTS` are set with it."""
    values: dict[str, Any] = {"status": ending.status, "reason": ending.reason[:500]}
    moments = set()
    if ending.retry_in is not None:
        values["retry_in"] = float(ending.retry_in)
        moments.add("due_at")
    if not ending.is_a_try:
        moments.add("tries")
    if ending.outcome == "accepted":
        values["provider_id"] = ending.provider_id
        moments.add("sent_at")
    if ending.awaits_receipt:
        values["receipt_in"] = fault_injection.hastened(RECEIPT_SECONDS)
        moments.add("receipt_by")
    if ending.status in FAILED or ending.reached_nobody:
        moments.add("follow_up_at")
    return values, frozenset(moments)


_MOMENTS: dict[str, Any] = {
    "due_at": now(sa.bindparam("retry_in")),
    "tries": notifications.c.tries - 1,
    "sent_at": now(),
    "receipt_by": now(sa.bindparam("receipt_in")),
    "follow_up_at": now(),
}

# Statements are built once: that costs more than running them.


@cache
def _settling(is_unknown: bool) -> Any:
    table = notifications.c
    # The notification is locked first, as everywhere: receipts come while a worker commits.
    locked = (
        sa.select(table.id).where(table.id == sa.bindparam("its")).with_for_update(key_share=True)
    )
    looks = [
        (attempts.c.channel == channel, now(sa.bindparam(f"look_{channel}"))) for channel in LOOKS
    ]
    return (
        attempts.update()
        .where(
            attempts.c.notification_id == locked.scalar_subquery(),
            attempts.c.id == sa.bindparam("this"),
            attempts.c.outcome.in_(sa.bindparam("unsettled", expanding=True)),
        )
        .values(
            finished_at=now(),
            look_at=sa.case(*looks, else_=sa.null()) if is_unknown else None,
        )
        .returning(attempts.c.looks)
    )


@cache
def _following(is_accepted: bool, moments: frozenset[str]) -> Any:
    table = notifications.c
    if is_accepted:
        # Also where it waits to be sent again: it need not be, now that it has gone out.
        follows: sa.ColumnElement[bool] = table.status.in_(_OPEN + WAITING)
    else:
        follows = sa.and_(table.status.in_(_OPEN), ~is_superseded(sa.bindparam("this")))
    return (
        notifications.update()
        .where(table.id == sa.bindparam("its"), follows)
        .values(lease_until=None, **{name: _MOMENTS[name] for name in sorted(moments)})
    )
