"""A post that comes again: what it does besides being counted depends on what became of the first.

The lab posts an event again when it has something new to say, or did not see our answer. Looking
again is always safe: a plan tells nobody what they were told.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay import fault_injection
from relay.ledger.cases import close_settled
from relay.ledger.database import now
from relay.ledger.notifications import KIND
from relay.ledger.replay import process_again
from relay.ledger.schema import events, notifications
from relay.rules.model import ALIVE, HELD, MESSAGE, PROCESSED, RECEIVED

AGAIN_SECONDS = 60.0  # since the last try of any kind: the lab must not make us ask it all the time


def take_up(connection: Connection, event_id: str) -> bool:
    """Look again at an event that the lab has posted again, where that can tell somebody something;
    whether it is due now.

    One that waits is tried at once, one that is held is taken up and its case closed, and one that
    is processed is processed again where some rule has told nobody.
    """
    row = connection.execute(
        sa.select(events.c.id, events.c.status, events.c.decisions)
        .where(events.c.id == event_id)
        .with_for_update()
    ).first()
    if row is None:
        return False
    mine = events.c.id == event_id
    connection.execute(events.update().where(mine).values(posted_again_at=now()))
    if row.status == RECEIVED:
        last = sa.func.coalesce(events.c.tried_at, events.c.received_at)
        is_old = last <= now(-fault_injection.hastened(AGAIN_SECONDS))
        waits = events.update().where(mine, events.c.tries > 0, is_old, events.c.next_at > now())
        return bool(connection.execute(waits.values(next_at=now())).rowcount)
    if row.status == HELD:
        close_settled(connection, "held", event_id, "The lab posted it again.")
        return process_again(connection, event_id)
    has_more = _is_silent(row.decisions) or _reached_nobody(connection, event_id)
    return row.status == PROCESSED and has_more and process_again(connection, event_id)


def _is_silent(decisions: list[dict[str, str]] | None) -> bool:
    """Whether some rule told nobody of an event, and may do so by what the lab says now."""
    return any(
        not (one.get("is_final") or one["reason"].startswith("Told already"))  # as 0005 wrote it
        for one in decisions or ()
    )


def _reached_nobody(connection: Connection, event_id: str) -> bool:
    """Whether some rule's messages have all ended without reaching anybody."""
    other = notifications.alias()
    owed = sa.exists().where(
        other.c.obligation == notifications.c.obligation, other.c.status.in_(ALIVE)
    )
    lost = sa.select(notifications.c.id).where(
        notifications.c.event_id == event_id,
        notifications.c.stopped_by.is_(None),
        KIND == MESSAGE,
        ~owed,
    )
    return connection.execute(lost.limit(1)).first() is not None
