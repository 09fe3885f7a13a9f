"""Held messages: a person is asked, and releases or stops them.

A case is about everything that one rule owes one person about a kit: it has the first of these
messages, and the others share its obligation.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.ledger.database import Database
from relay.ledger.holds.suppressions import stopped_by
from relay.ledger.notifications import KIND, WITH_EVENT, WithEvent
from relay.ledger.schema import IS_WAITING, cases, events, notifications
from relay.ledger.worklist.cases import close_settled, open_case
from relay.rules.model import Case
from relay.rules.statuses import RELEASE, WAITING

AT_ONCE = 500  # waiting messages in memory at a time
_WENT = ("sent", "delivered", "unknown")
_HELD = ("rule", "role", "channel", "address", "obligation", "due_at")


@dataclass(frozen=True)
class Held(WithEvent):
    """A message that waits, with its event."""

    rule: str
    role: str
    channel: str
    address: str
    obligation: str
    due_at: datetime
    kind: str
    stopped_by: str | None  # who or what has stopped messages to its address


def held_with(connection: Connection, ids: Sequence[str]) -> list[Held]:
    """The messages with these ids that wait, and those of the same obligations that wait too."""
    mine = notifications.alias()
    obligations = sa.select(mine.c.obligation).where(mine.c.id.in_(ids))
    query = _waiting().where(notifications.c.obligation.in_(obligations))
    return [Held.of(row) for row in connection.execute(query)]


def waiting_after(connection: Connection, id_: str, rules: Collection[str]) -> list[Held]:
    """The next waiting messages of these rules after an id, up to AT_ONCE, in order of id."""
    query = _waiting().where(notifications.c.id > id_, notifications.c.rule.in_(rules))
    return [Held.of(row) for row in connection.execute(query.limit(AT_ONCE))]


def _waiting() -> sa.Select[Any]:
    table = notifications.c
    return (
        sa.select(
            *WITH_EVENT,
            *(table[name].label(name) for name in _HELD),
            KIND.label("kind"),
            stopped_by(table.channel, table.address).label("stopped_by"),
        )
        .join(events, events.c.id == table.event_id)
        .where(IS_WAITING)
        .order_by(table.id)
    )


def ask(connection: Connection, case: Case) -> None:
    """Open the case of an obligation, if it has a waiting message."""
    waits = (
        sa.select(notifications.c.id)
        .where(notifications.c.obligation == case.key, IS_WAITING)
        .order_by(notifications.c.id)
    )
    if held := list(connection.execute(waits).scalars()):
        open_case(connection, replace(case, notification_id=held[0], count=len(held)))


def rule_of(connection: Connection, notification_id: str) -> str:
    """A message's rule; empty if there is no such message."""
    query = sa.select(notifications.c.rule).where(notifications.c.id == notification_id)
    return str(connection.execute(query).scalar() or "")


def release(connection: Connection, notification_id: str, due_at: datetime, by: str) -> bool:
    """Release a message, and those that wait with it, for `due_at`; False if none waits."""
    table = notifications.c
    then = sa.literal(due_at, table.due_at.type)
    sooner = sa.case((table.due_at > then, then), else_=table.due_at)
    return _change(connection, notification_id, due_at=sooner, reason=f"Released by {by}.")


def stop(connection: Connection, notification_id: str, by: str, note: str) -> bool:
    """Cancel a message, and those that wait with it; False if none waits."""
    reason = f"Stopped by {by}. {note}".rstrip()
    return _change(
        connection,
        notification_id,
        status="cancelled",
        reason=reason[:500],
        stopped_by=by[:100],
    )


def _change(connection: Connection, notification_id: str, **values: Any) -> bool:
    mine = notifications.alias()
    obligation = sa.select(mine.c.obligation).where(mine.c.id == notification_id).scalar_subquery()
    waiting = (
        sa.select(notifications.c.id)
        .where(notifications.c.obligation == obligation, IS_WAITING)
        .order_by(notifications.c.id)
        .with_for_update()
    )
    ids = list(connection.execute(waiting).scalars())
    changed = notifications.update().where(notifications.c.id.in_(ids)).values(**values)
    return bool(ids and connection.execute(changed).rowcount)


def close_released(db: Database) -> int:
    """Close the cases whose messages no longer wait, each with their outcome; return how many.

    It owns its transactions, a few cases each.
    """
    return db.in_turns(_OVER, _close)


# Built once: making the columns of an alias costs more than the query.
_first, _other = notifications.alias(), notifications.alias()
_waits = sa.exists().where(
    _other.c.obligation == _first.c.obligation, _other.c.status.in_((*WAITING, "sending"))
)
_OVER = (
    sa.select(_first.c.obligation)
    .join(cases, cases.c.notification_id == _first.c.id)
    .where(cases.c.kind == RELEASE, cases.c.closed_at.is_(None), ~_waits)
)


def _close(connection: Connection, obligations: Sequence[str]) -> None:
    for obligation in obligations:
        close_settled(connection, RELEASE, obligation, _note(connection, obligation))


def _note(connection: Connection, obligation: str) -> str:
    query = sa.select(notifications.c.status, notifications.c.reason).where(
        notifications.c.obligation == obligation
    )
    ended = list(connection.execute(query.order_by(notifications.c.id)))
    if any(row.status in _WENT for row in ended):
        return "It went out, as nobody stopped it in time."
    return f"It was not sent. {' '.join(dict.fromkeys(row.reason for row in ended))}".rstrip()
