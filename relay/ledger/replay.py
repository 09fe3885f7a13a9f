"""Processing again what failed, was held, was not understood, or is posted again.

Looking again is always safe: a plan sends nobody what was sent before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay import fault_injection
from relay.lab.events import EVENTS
from relay.ledger.audit import Act, NotDone, keep
from relay.ledger.cases import close_settled
from relay.ledger.database import now
from relay.ledger.notifications import KIND, is_item_of, maybe_sent
from relay.ledger.schema import attempts, events, notifications, receipts
from relay.ledger.suppressions import is_stopped
from relay.rules.model import DIGEST, MESSAGE, identity
from relay.rules.resend import EVENT, FailedMessage, decide
from relay.rules.statuses import ALIVE, FAILED, HELD, PROCESSED, RECEIVED, UNROUTED, WAITING


def replay_event(connection: Connection, event_id: str) -> bool:
    """Process an event again, its failed messages with it. What was sent is not sent again."""
    done = process_again(connection, event_id)
    if done:
        close_settled(connection, "held", event_id, "It was replayed.")
    return done


def process_again(connection: Connection, event_id: str) -> bool:
    """As `replay_event`, but leave the event's case to the caller, who closes it."""
    row = connection.execute(
        sa.select(events.c.name, events.c.status).where(events.c.id == event_id)
    ).first()
    if row is None or row.name not in EVENTS or row.status == RECEIVED:
        return False
    connection.execute(
        events.update()
        .where(events.c.id == event_id)
        .values(
            status=RECEIVED, next_at=now(), tries=0, reason="", urgency=EVENTS[row.name].urgency
        )
    )
    table, digest = notifications.c, notifications.alias()
    told_in = sa.select(digest.c.id).join(notifications, is_item_of(digest))
    told_in = told_in.where(table.event_id == event_id)
    # One by one: with OR PostgreSQL reads the whole table. A fallback only where nothing else goes.
    revive(connection, unsent(), table.event_id == event_id, ~table.is_fallback)
    revive(connection, unsent(), table.event_id == event_id, table.is_fallback)
    revive(connection, unsent(), table.id.in_(list(connection.execute(told_in).scalars())))
    return True


def replay_events(connection: Connection, event_ids: Sequence[str], act: Act) -> int:
    """Process several events again, kept as one act; how many it was."""
    done = sum(replay_event(connection, id_) for id_ in event_ids)
    if done:
        keep(connection, act, str(done))
    return done


def replay_notification(connection: Connection, notification_id: str) -> bool:
    """Send a message again that somebody has named: one that failed and cannot have arrived, or one
    that a person has stopped; False for any other.
    """
    table = notifications.c
    named = table.id == notification_id
    stopped = sa.and_(named, table.stopped_by.is_not(None), table.status == "cancelled")
    # A person's word against a person's: it goes now, and is not held for another one.
    connection.execute(notifications.update().where(stopped).values(due_at=now()))
    return bool(
        revive(connection, stopped, table.address != "")
        or revive(connection, failed(), ~may_have_arrived(), named)
    )


def may_have_arrived() -> sa.ColumnElement[bool]:
    """Whether any attempt of a notification was, or may have been, taken, and nobody has told that
    it failed afterwards.
    """
    told = sa.exists().where(receipts.c.attempt_id == attempts.c.id, receipts.c.state.in_(FAILED))
    return sa.exists().where(
        attempts.c.notification_id == notifications.c.id, attempts.c.outcome != "rejected", ~told
    )


def made_up_for() -> sa.ColumnElement[bool]:
    """Whether a fallback of a notification's rule has gone out, or is about to; of a fallback,
    whether anything else has.
    """
    other = notifications.alias()
    return sa.exists().where(
        other.c.obligation == notifications.c.obligation,
        other.c.id != notifications.c.id,
        sa.or_(other.c.is_fallback, notifications.c.is_fallback),
        other.c.status.in_(ALIVE),
    )


def failed() -> sa.ColumnElement[bool]:
    """Failed with an address, and not made up for by another way."""
    return sa.and_(
        notifications.c.status.in_(FAILED), notifications.c.address != "", ~made_up_for()
    )


def unsent() -> sa.ColumnElement[bool]:
    """Failed and surely not sent: what goes again though nobody has named it."""
    return sa.and_(failed(), ~maybe_sent())


def revive(connection: Connection, *which: sa.ColumnElement[bool]) -> int:
    """Let messages go once more; how many they were."""
    return connection.execute(
        notifications.update()
        .where(*which)
        # What failed before it was due keeps its time: it may be held for a person's word.
        .values(
            status=WAITING[0],
            reason="",
            due_at=sa.case((notifications.c.due_at > now(), notifications.c.due_at), else_=now()),
            tries=0,
            follow_up_at=None,
            stopped_by=None,
        )
    ).rowcount


def ids_to_replay(connection: Connection, status: str) -> list[str]:
    """Events that wait for a person: `unrouted` ones whose name is known by now, or `held` ones."""
    query = sa.select(events.c.id).where(events.c.status == status).order_by(events.c.id)
    if status == UNROUTED:
        query = query.where(events.c.name.in_(tuple(EVENTS)))
    return list(connection.execute(query).scalars())


def failed_ids(connection: Connection) -> list[str]:
    """Messages that failed and surely did not go out."""
    query = sa.select(notifications.c.id).where(unsent())
    return list(connection.execute(query.order_by(notifications.c.id)).scalars())


def decide_unknown(connection: Connection, notification_id: str, *, send: bool) -> bool:
    """A person's word on a message of which nobody knows whether it went out.

    `send` sends it once more, otherwise it counts as sent. False when it is settled by now, or is
    still being looked for.
    """
    if send:
        values: dict[str, Any] = {"status": WAITING[0], "due_at": now(), "tries": 0}
        reason = "A person chose to send it again."
    else:
        values, reason = {"status": "sent"}, "A person found that it went out."
    looked_for = sa.exists().where(
        attempts.c.notification_id == notifications.c.id, attempts.c.look_at.is_not(None)
    )
    done = connection.execute(
        notifications.update()
        .where(
            notifications.c.id == notification_id,
            notifications.c.status == "unknown",
            ~looked_for,
        )
        .values(reason=reason, **values)
    )
    return bool(done.rowcount)


# Its event is processed by then. If still nothing of the rule can reach the person, staff are told.
LOOKED_AT_AFTER = 120.0  # seconds
_SAID = "Its event was processed again."
_KEPT = ("id", "event_id", "obligation", "rule", "subject", "round", "status")
_TOLD = (
    *_KEPT,
    "event_name",
    "event_received_at",
    "is_stopped",
    "was_taken",
    "may_have_arrived",
    "made_up_for",
    "is_digest",
)


def try_again(connection: Connection, notification_id: str, old: str) -> str:
    """Do what is right about a message; by what it was: resend.MESSAGE or EVENT. Raises NotDone.

    `old` says why it is no news any more, if it is none.
    """
    lock(connection, notification_id)
    it = failed_messages(connection, [notification_id]).get(notification_id)
    if it is None:
        raise NotDone("It no longer exists.")
    by, why = decide(it, old)
    if not by:
        raise NotDone(f"You cannot try it again. {why}")
    if by == EVENT:
        plan_anew(connection, it)
    else:
        revive(connection, notifications.c.id == it.id)
    return by


def lock(connection: Connection, notification_id: str) -> None:
    """The event first, as where one is settled. No key is locked: that others may refer to both."""
    mine = sa.select(notifications.c.event_id).where(notifications.c.id == notification_id)
    event = sa.select(events.c.id).where(events.c.id == mine.scalar_subquery())
    connection.execute(event.with_for_update(key_share=True))
    message = sa.select(notifications.c.id).where(notifications.c.id == notification_id)
    connection.execute(message.with_for_update(key_share=True))


def plan_anew(connection: Connection, it: FailedMessage) -> None:
    """Process its event again, and look afterwards whether that reaches anybody.

    What is cancelled and was not taken by a provider can be planned anew, also without an address.
    """
    table = notifications.c
    replay_event(connection, it.event_id)
    without = sa.and_(table.address == "", table.status == "validation-failed")
    connection.execute(
        notifications.update()
        .where(sa.or_(table.id == it.id, sa.and_(table.obligation == it.obligation, without)))
        .values(
            status=sa.case((maybe_sent(), table.status), else_="cancelled"),
            reason=sa.func.substr(sa.func.rtrim(table.reason + " " + _SAID), 1, 500),
            follow_up_at=now(fault_injection.hastened(LOOKED_AT_AFTER)),
            tries=0,
        )
    )


def failed_messages(connection: Connection, ids: Sequence[str]) -> dict[str, FailedMessage]:
    """How messages stand, by their ids."""
    found = connection.execute(_telling().where(notifications.c.id.in_(ids)))
    return {row.id: _failed_message(row) for row in found}


def _telling() -> sa.Select[Any]:
    table = notifications.c
    return sa.select(
        *(table[name].label(name) for name in _KEPT),
        table.role,
        table.channel,
        table.address,
        table.identity,
        events.c.name.label("event_name"),
        events.c.received_at.label("event_received_at"),
        events.c.status.label("event_status"),
        events.c.facts,
        events.c.data,
        is_stopped(table.channel, table.address).label("is_stopped"),
        maybe_sent().label("was_taken"),
        may_have_arrived().label("may_have_arrived"),
        made_up_for().label("made_up_for"),
        (KIND == DIGEST).label("is_digest"),
    ).join(events, events.c.id == table.event_id)


def _failed_message(row: sa.Row[Any]) -> FailedMessage:
    return FailedMessage(
        **{name: row._mapping[name] for name in _TOLD},
        has_address=bool(row.address),
        is_blank=is_blank(row),
        event_is_waiting=row.event_status == RECEIVED,
    )


def is_blank(row: sa.Row[Any]) -> bool:
    """Whether it was for somebody of whom the ledger has nothing any more."""
    never_had_one = identity(row.rule, row.subject, row.round, row.role, row.channel, "")
    is_lost = not row.address and row.identity != never_had_one
    is_erased = (row.facts or {}).get(row.role) == {}  # as relay.erasure leaves it
    return is_lost or is_erased or not row.data


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
    has_more = is_silent(row.decisions) or reached_nobody(connection, event_id)
    return row.status == PROCESSED and has_more and process_again(connection, event_id)


def is_silent(decisions: list[dict[str, str]] | None) -> bool:
    """Whether some rule told nobody of an event, and may do so by what the lab says now."""
    return any(
        not (one.get("is_final") or one["reason"].startswith("Told already"))  # as 0005 wrote it
        for one in decisions or ()
    )


def reached_nobody(connection: Connection, event_id: str) -> bool:
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
