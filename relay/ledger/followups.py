"""Follow-up of messages that failed, or did not arrive within their rule's time: another try, their
fallback, or a case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay import fault_injection
from relay.ledger import replay
from relay.ledger.database import Database, leasing, now
from relay.ledger.notifications import KIND, WITH_EVENT, WithEvent, insert_notices, is_alive
from relay.ledger.schema import attempts, events, notifications
from relay.ledger.worklist.cases import open_case
from relay.rules.model import Case, Notice
from relay.rules.statuses import GONE, RECEIVED, RESENT, UNCONFIRMED

LEASE_SECONDS = 60.0


@dataclass(frozen=True)
class FollowUp(WithEvent):
    """A notification that failed or has not arrived in time, with its event."""

    rule: str
    role: str
    channel: str
    obligation: str
    is_fallback: bool
    kind: str  # message, digest, item, alert, resent
    status: str
    reason: str
    taken: int  # attempts that the provider accepted
    code: str | None  # of its last attempt
    unconfirmed: bool  # no receipt came in time
    waits_for: str | None  # GOES_AGAIN if a person asked for another try


_CARRIED = ("rule", "role", "channel", "obligation", "is_fallback", "status", "reason", "waits_for")


def lease_follow_ups(db: Database, limit: int) -> list[FollowUp]:
    """Lease up to `limit` due follow-ups: no other worker gets them for a while.

    It owns its transaction: a lease holds once it is committed.
    """
    given = {"most": limit, "lease": fault_injection.hastened(LEASE_SECONDS)}
    with db.write() as connection:
        if not (ids := list(connection.execute(_leasing(), given).scalars())):
            return []
        query = carrying().where(notifications.c.id.in_(ids))
        return [FollowUp.of(row) for row in connection.execute(query)]


@cache
def _leasing() -> Any:
    table = notifications.c
    # While its event is processed again, we do not know yet who gets a message.
    is_open = sa.exists().where(events.c.id == table.event_id, events.c.status == RECEIVED)
    is_due = (table.follow_up_at <= now(), ~is_open)
    return leasing(table.follow_up_at, *is_due).returning(table.id)


def carrying() -> sa.Select[Any]:
    """Build a query for notifications, each with its event and a summary of its attempts."""
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
        *WITH_EVENT,
        *(table[name].label(name) for name in _CARRIED),
        KIND.label("kind"),
        code.label("code"),
        taken.scalar_subquery().label("taken"),
        sa.exists().where(mine, attempts.c.code == UNCONFIRMED).label("unconfirmed"),
    ).join(events, events.c.id == table.event_id)


def finish_follow_up(
    connection: Connection,
    item: FollowUp,
    fallback: Sequence[Notice],
    unreached: Case | None,
    broken: Case | None,
    *,
    late: str = "",
) -> str:
    """End the follow-up of a message; return its result: `waiting`, `fallback`, `case`, or empty.

    The fallback's notices are inserted unless another message of the same rule may still reach the
    person. In both cases only the `broken` case is opened, if there is one; otherwise the
    `unreached` one. If the rule sets a time to arrive, `late` is the reason that a late message is
    given; such a message holds up no fallback.
    """
    # One at a time: if two end at once, each would leave the fallback to the other.
    table = notifications.c
    family = sa.select(table.id).where(table.obligation == item.obligation).order_by(table.id)
    connection.execute(family.with_for_update(key_share=True))
    if not _done(connection, item):
        return ""

    def may_reach() -> bool:
        since = item.id if item.kind == RESENT else ""
        return is_alive(connection, item.obligation, since, must_arrive=bool(late))

    done = "waiting" if may_reach() else ""
    if not done and fallback:
        insert_notices(connection, item.event_id, fallback)
        # Asked again, because another worker may have inserted them at the same moment.
        done = "fallback" if may_reach() else ""
        if done and item.status in GONE:
            _say(connection, item, late)
    if case := broken if done else unreached:
        open_case(connection, case)
    return done or ("case" if case else "")


def end_without_action(connection: Connection, item: FollowUp, why: str) -> str:
    """End the follow-up of a message with nothing done, adding `why` to its reason; return ""."""
    if _done(connection, item):
        _say(connection, item, why)
    return ""


def _say(connection: Connection, item: FollowUp, why: str) -> None:
    mine = notifications.update().where(notifications.c.id == item.id)
    connection.execute(mine.values(reason=f"{item.reason} {why}".strip()[:500]))


def try_again(connection: Connection, item: FollowUp, seconds: float) -> bool:
    """End the follow-up of a failed message by sending it once more, in `seconds`, as if for the
    first time; return False if another message replaces it, or its follow-up has already ended.
    """
    mine = (notifications.c.id == item.id, notifications.c.status == item.status)
    due = now(fault_injection.hastened(seconds))
    again = connection.execute(
        notifications.update()
        .where(*mine, notifications.c.follow_up_at.is_not(None), ~replay.made_up_for())
        .values(status="created", due_at=due, tries=0, follow_up_at=None)
    )
    return bool(again.rowcount)


def go_again(connection: Connection, item: FollowUp, old: str) -> str:
    """End the follow-up of a failed message with the retry that a person asked for and did not take
    back: see `replay.try_again`. Raises NotDone.
    """
    return replay.try_again(connection, item.id, old) if _done(connection, item) else ""


def _done(connection: sa.Connection, item: FollowUp) -> bool:
    """Clear the follow-up mark; False if it was cleared already, or the status has changed."""
    mine = (notifications.c.id == item.id, notifications.c.status == item.status)
    done = connection.execute(
        notifications.update()
        .where(*mine, notifications.c.follow_up_at.is_not(None))
        .values(follow_up_at=None, waits_for=None)
    )
    return bool(done.rowcount)
