"""One more try of a message that has reached nobody: what `relay.retries` decides, done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay import fault_injection
from relay.ledger.acting import NotDone
from relay.ledger.database import Database, now
from relay.ledger.noting import is_digest, maybe_sent
from relay.ledger.replaying import made_up_for, may_have_arrived, replay_event_in, revive
from relay.ledger.schema import events, notifications, suppressions
from relay.rules.model import RECEIVED, identity
from relay.rules.retries import EVENT, FailedMessage, decide

# Its event is processed by then. If still nothing of the rule can reach the person, staff are told.
LOOKED_AT_AFTER = 120.0  # seconds
_SAID = "Its event was processed again."
_KEPT = ("id", "event_id", "family", "rule", "subject", "round", "status")
_TOLD = (
    *(*_KEPT, "event_name", "event_received_at"),
    *("is_stopped", "was_taken", "may_have_arrived", "made_up_for", "is_digest"),
)


def standings(db: Database, ids: Sequence[str]) -> dict[str, FailedMessage]:
    """How messages stand, by their ids."""
    with db.read() as connection:
        return _standings(connection, ids)


def try_again(connection: Connection, notification_id: str, old: str) -> str:
    """Do what is right about a message; by what it was: retries.MESSAGE or EVENT. Raises NotDone.

    `old` says why it is no news any more, if it is none.
    """
    _lock(connection, notification_id)
    it = _standings(connection, [notification_id]).get(notification_id)
    if it is None:
        raise NotDone("It is not there any more.")
    by, why = decide(it, old)
    if not by:
        raise NotDone(f"It cannot be tried again. {why}")
    if by == EVENT:
        _plan_anew(connection, it)
    else:
        revive(connection, notifications.c.id == it.id)
    return by


def _lock(connection: Connection, notification_id: str) -> None:
    """The event first, as where one is settled. No key is locked: that others may refer to both."""
    mine = sa.select(notifications.c.event_id).where(notifications.c.id == notification_id)
    event = sa.select(events.c.id).where(events.c.id == mine.scalar_subquery())
    connection.execute(event.with_for_update(key_share=True))
    message = sa.select(notifications.c.id).where(notifications.c.id == notification_id)
    connection.execute(message.with_for_update(key_share=True))


def _plan_anew(connection: Connection, it: FailedMessage) -> None:
    """Process its event again, and look afterwards whether that reaches anybody.

    What is cancelled and was not taken by a provider can be planned anew, also without an address.
    """
    table = notifications.c
    replay_event_in(connection, it.event_id)
    without = sa.and_(table.address == "", table.status == "validation-failed")
    connection.execute(
        notifications.update()
        .where(sa.or_(table.id == it.id, sa.and_(table.family == it.family, without)))
        .values(
            status=sa.case((maybe_sent(), table.status), else_="cancelled"),
            reason=sa.func.substr(sa.func.rtrim(table.reason + " " + _SAID), 1, 500),
            follow_up_at=now(fault_injection.hastened(LOOKED_AT_AFTER)),
            tries=0,
        )
    )


def _standings(connection: Connection, ids: Sequence[str]) -> dict[str, FailedMessage]:
    found = connection.execute(_telling().where(notifications.c.id.in_(ids)))
    return {row.id: _standing(row) for row in found}


def _telling() -> sa.Select[Any]:
    table = notifications.c
    is_stopped = sa.exists().where(
        suppressions.c.channel == table.channel, suppressions.c.address == table.address
    )
    return sa.select(
        *(table[name] for name in _KEPT),
        *(table.role, table.channel, table.address, table.identity),
        *(events.c.name.label("event_name"), events.c.received_at.label("event_received_at")),
        *(events.c.status.label("event_status"), events.c.facts, events.c.data),
        is_stopped.label("is_stopped"),
        maybe_sent().label("was_taken"),
        may_have_arrived().label("may_have_arrived"),
        made_up_for().label("made_up_for"),
        is_digest().label("is_digest"),
    ).join(events, events.c.id == table.event_id)


def _standing(row: sa.Row[Any]) -> FailedMessage:
    return FailedMessage(
        **{name: row._mapping[name] for name in _TOLD},
        has_address=bool(row.address),
        is_blank=_is_blank(row),
        event_is_waiting=row.event_status == RECEIVED,
    )


def _is_blank(row: sa.Row[Any]) -> bool:
    """Whether it was for somebody of whom the ledger has nothing any more."""
    never_had_one = identity(row.rule, row.subject, row.round, row.role, row.channel, "")
    is_lost = not row.address and row.identity != never_had_one
    is_erased = (row.facts or {}).get(row.role) == {}  # as relay.erasure leaves it
    return is_lost or is_erased or not row.data
