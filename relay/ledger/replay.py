"""Processing again of events and messages that failed, were held, unknown or posted again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay import fault_injection
from relay.lab.events import EVENTS
from relay.lab.facts import PERSONS
from relay.ledger.audit import Act, NotDone, keep
from relay.ledger.database import now
from relay.ledger.holds.suppressions import stopped_by
from relay.ledger.notifications import (
    IS_KEPT,
    KIND,
    insert_notices,
    is_item_of,
    is_kept_attempt,
    maybe_sent,
    reaches,
)
from relay.ledger.schema import IS_WAITING, attempts, events, notifications, receipts
from relay.ledger.worklist.cases import close_settled
from relay.rules.model import RESENT_OF, Notice, identity
from relay.rules.resend import EVENT, FailedMessage, decide
from relay.rules.statuses import (
    ALIVE,
    DIGEST,
    FAILED,
    GOES_AGAIN,
    HELD,
    MESSAGE,
    PROCESSED,
    RECEIVED,
    RESENT,
    UNROUTED,
    WAITING,
)


def replay_event(connection: Connection, event_id: str) -> bool:
    """Process an event again, with its failed messages. Sent messages are not sent again."""
    done = process_again(connection, event_id)
    if done:
        close_settled(connection, "held", event_id, "It was replayed.")
    return done


def process_again(connection: Connection, event_id: str) -> bool:
    """Process an event again, leaving its case open for the caller to close. See `replay_event`."""
    row = connection.execute(
        sa.select(events.c.name, events.c.status).where(events.c.id == event_id)
    ).first()
    if row is None or row.name not in EVENTS or row.status == RECEIVED:
        return False
    connection.execute(
        events.update()
        .where(events.c.id == event_id)
        .values(
            status=RECEIVED,
            next_at=now(),
            tries=0,
            leases=0,
            reason="",
            urgency=EVENTS[row.name].urgency,
        )
    )
    if row.status == UNROUTED:  # all events of that name share one case
        close_settled(connection, "held", row.name, "It was replayed.")
    table, digest = notifications.c, notifications.alias()
    its_digests = sa.select(digest.c.id).join(notifications, is_item_of(digest))
    its_digests = its_digests.where(table.event_id == event_id)
    # One by one: with OR, PostgreSQL reads the whole table. A fallback only if nothing else goes.
    revive(connection, unsent(), table.event_id == event_id, ~table.is_fallback)
    revive(connection, unsent(), table.event_id == event_id, table.is_fallback)
    revive(connection, unsent(), table.id.in_(list(connection.execute(its_digests).scalars())))
    return True


def replay_events(connection: Connection, event_ids: Sequence[str], act: Act) -> int:
    """Process several events again, as one act in the audit trail; return how many there were."""
    done = sum(replay_event(connection, id_) for id_ in event_ids)
    if done:
        keep(connection, act, str(done))
    return done


def replay_notification(connection: Connection, notification_id: str) -> bool:
    """Send again a message that a person has named: one that failed and cannot have arrived, or one
    that a person has stopped. Return False for any other.
    """
    table = notifications.c
    named = table.id == notification_id
    stopped = sa.and_(named, table.stopped_by.is_not(None), table.status == "cancelled")
    # One person's decision overrides another's: it goes now, without waiting for a third.
    connection.execute(notifications.update().where(stopped).values(due_at=now()))
    return bool(
        revive(connection, stopped, table.address != "") or replay_failed(connection, named)
    )


def replay_failed(connection: Connection, which: sa.ColumnElement[bool], wait: float = 0.0) -> int:
    """Send again those of the messages that failed and cannot have arrived, at once or in `wait`
    seconds; return how many there were.
    """
    send = partial(_go_in, wait) if wait else revive
    return send(connection, failed(), ~may_have_arrived(), which)


def _go_in(wait: float, connection: Connection, *which: sa.ColumnElement[bool]) -> int:
    """Schedule another try of failed messages in `wait` seconds: until then they stay failed."""
    values = {"waits_for": GOES_AGAIN, "follow_up_at": now(wait)}
    return connection.execute(notifications.update().where(*which).values(values)).rowcount


def cancel_retries(connection: Connection, which: sa.ColumnElement[bool]) -> int:
    """Cancel the scheduled retries of failed messages; return how many there were."""
    mine = (which, notifications.c.waits_for == GOES_AGAIN, notifications.c.status.in_(FAILED))
    values = {"waits_for": None, "follow_up_at": None}
    return connection.execute(notifications.update().where(*mine).values(values)).rowcount


def may_have_arrived() -> sa.ColumnElement[bool]:
    """A condition: the provider accepted an attempt of a notification, or may have, and has not
    since reported that it failed.
    """
    failed = sa.exists().where(receipts.c.attempt_id == attempts.c.id, receipts.c.state.in_(FAILED))
    return sa.exists().where(
        attempts.c.notification_id == notifications.c.id, attempts.c.outcome != "rejected", ~failed
    )


# Made once: making the columns of an alias costs more than the query.
_another, _repeat, _newer = (notifications.alias() for _ in range(3))


def made_up_for() -> sa.ColumnElement[bool]:
    """A condition: a fallback has gone out for a notification, or is about to; for a fallback, any
    other message has; or a person had the notification repeated. A fallback that went out before a
    repeat does not replace the repeat.
    """
    table, other = notifications.c, _another
    since = sa.case((KIND == RESENT, table.id), else_="")
    by_another = sa.exists().where(
        other.c.obligation == table.obligation,
        other.c.id != table.id,
        sa.or_(other.c.is_fallback, table.is_fallback),
        reaches(other, since),
    )
    return sa.or_(by_another, is_repeated())


def is_repeated() -> sa.ColumnElement[bool]:
    """A condition: another message repeats a notification, because a person asked for that."""
    mine = _repeat.c.identity == RESENT_OF + notifications.c.id
    return sa.exists().where(mine, _repeat.c.status != "cancelled")


def newer() -> sa.ScalarSelect[str]:
    """The id of the last message after a notification from the same rule, about the same kit, to
    the same person by the same channel; for staff, to the same address.
    """
    table, other = notifications.c, _newer
    return (
        sa.select(sa.func.max(other.c.id))
        .where(
            other.c.obligation == table.obligation,
            other.c.channel == table.channel,
            other.c.id > table.id,
            other.c.status != "cancelled",
            sa.or_(table.role.in_(PERSONS), other.c.address == table.address),
        )
        .scalar_subquery()
    )


def failed() -> sa.ColumnElement[bool]:
    """A condition: a notification has an address and failed, and no other message replaces it."""
    return sa.and_(
        notifications.c.status.in_(FAILED), notifications.c.address != "", ~made_up_for()
    )


def unsent() -> sa.ColumnElement[bool]:
    """A condition: a notification failed and was certainly not sent, so it may go again unasked."""
    return sa.and_(failed(), ~maybe_sent())


def revive(connection: Connection, *which: sa.ColumnElement[bool]) -> int:
    """Send once more the messages that the conditions match; return how many there were."""
    return connection.execute(
        notifications.update()
        .where(*which)
        # A message that failed before it was due keeps its time: it may be held for a person.
        .values(
            status=WAITING[0],
            reason="",
            due_at=sa.case((notifications.c.due_at > now(), notifications.c.due_at), else_=now()),
            tries=0,
            follow_up_at=None,
            stopped_by=None,
            waits_for=None,
        )
    ).rowcount


def _each(connection: Connection, column: sa.Column[str], ids: Sequence[str]) -> Iterator[str]:
    """Yield a column of the rows with these ids."""
    for some in _batches(ids):
        query = sa.select(column).where(column.table.c.id.in_(some))
        yield from connection.execute(query).scalars()


def _batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[begin : begin + 500] for begin in range(0, len(ids), 500))


def names_of(connection: Connection, ids: Sequence[str]) -> set[str]:
    """The names of the events with these ids."""
    return set(_each(connection, events.c.name, ids))


def kept(connection: Connection, accounts: Mapping[str, bool]) -> Sequence[Any]:
    """Messages to people that were only kept here, on channels that now have an account, as rows of
    `id`, `rule`, `subject`, `role`, `channel`, `address`, `created_at`.
    """
    table = notifications.c
    channels = [channel for channel, has_account in accounts.items() if has_account]
    shown = ("id", "rule", "subject", "role", "channel", "address", "created_at")
    query = sa.select(*(table[name] for name in shown)).where(
        _only_kept(), table.channel.in_(channels)
    )
    return connection.execute(query.order_by(table.id)).all()


def _only_kept() -> sa.ColumnElement[bool]:
    table = notifications.c
    is_one = KIND.in_((MESSAGE, DIGEST, RESENT))
    return sa.and_(table.status == "sent", IS_KEPT, is_one, table.address != "", ~is_repeated())


def release_kept(connection: Connection, ids: Sequence[str]) -> int:
    """Send messages that were only kept here; return how many there were. Each keeps its row, so
    nobody gets one twice, whatever else is replayed.
    """
    done = 0
    for some in _batches(ids):
        mine = notifications.c.id.in_(some)
        done += revive(connection, mine, _only_kept())
        is_waiting = (mine, notifications.c.status == WAITING[0])
        # No provider has it: another try that fails may be replayed, and a search finds nothing.
        went = attempts.update().where(attempts.c.notification_id.in_(some), is_kept_attempt())
        connection.execute(went.values(outcome="rejected"))
        blank = {"provider_id": None, "is_kept": False, "sent_at": None}
        connection.execute(notifications.update().where(*is_waiting).values(**blank))
    return done


def statuses(connection: Connection, ids: Sequence[str]) -> Counter[str]:
    """Count the messages with these ids by status."""
    return Counter(_each(connection, notifications.c.status, ids))


def ids_to_replay(connection: Connection, status: str) -> list[str]:
    """The ids of `unrouted` events whose name Relay knows now, or of `held` events."""
    query = sa.select(events.c.id).where(events.c.status == status).order_by(events.c.id)
    if status == UNROUTED:
        query = query.where(events.c.name.in_(tuple(EVENTS)))
    return list(connection.execute(query).scalars())


def failed_ids(connection: Connection) -> list[str]:
    """The ids of messages that failed and were certainly not sent."""
    query = sa.select(notifications.c.id).where(unsent())
    return list(connection.execute(query.order_by(notifications.c.id)).scalars())


def decide_unknown(connection: Connection, which: sa.ColumnElement[bool], *, send: bool) -> int:
    """Decide unknown messages as a person says, but none still searched for; return how many.

    With `send`, send them once more; otherwise count them as sent.
    """
    if send:
        values: dict[str, Any] = {"status": WAITING[0], "due_at": now(), "tries": 0}
        reason = "A person chose to send it again."
    else:
        values, reason = {"status": "sent"}, "A person found that it went out."
    looked_for = sa.exists().where(
        attempts.c.notification_id == notifications.c.id, attempts.c.look_at.is_not(None)
    )
    unsettled = (notifications.c.status == "unknown", ~looked_for)
    settled = notifications.update().where(which, *unsettled).values(reason=reason, **values)
    return connection.execute(settled).rowcount


# Its event has then been processed. If nothing of the rule can reach the person, staff hear of it.
LOOKED_AT_AFTER = 120.0  # seconds
_SAID = "Its event was processed again."
_KEPT = (
    "id",
    "event_id",
    "obligation",
    "rule",
    "subject",
    "round",
    "role",
    "channel",
    "address",
    "urgency",
    "status",
    "stopped_by",
)
_FIELDS = (
    *_KEPT,
    "kind",
    "event_name",
    "event_received_at",
    "is_stopped",
    "was_taken",
    "may_have_arrived",
    "made_up_for",
    "newer",
)


def try_again(connection: Connection, notification_id: str, old: str, wait: float = 0.0) -> str:
    """Try a message again in the right way, at once or in `wait` seconds; return that way:
    resend.MESSAGE or EVENT. Raises NotDone.

    `old` says why it is out of date, if it is.
    """
    lock(connection, notification_id)
    it = failed_messages(connection, [notification_id]).get(notification_id)
    if it is None:
        raise NotDone("It no longer exists.")
    by, why = decide(it, old)
    if not by:
        raise NotDone(f"You cannot try it again. {why}")
    if wait:
        _go_in(wait, connection, notifications.c.id == it.id)
    elif by == EVENT:
        plan_anew(connection, it)
    else:
        revive(connection, notifications.c.id == it.id)
    return by


def lock(connection: Connection, notification_id: str) -> None:
    """Lock the event, then the message, but not their keys, so that others may refer to both."""
    mine = sa.select(notifications.c.event_id).where(notifications.c.id == notification_id)
    event = sa.select(events.c.id).where(events.c.id == mine.scalar_subquery())
    connection.execute(event.with_for_update(key_share=True))
    message = sa.select(notifications.c.id).where(notifications.c.id == notification_id)
    connection.execute(message.with_for_update(key_share=True))


def plan_anew(connection: Connection, it: FailedMessage) -> None:
    """Process its event again, and check afterwards whether that reaches anybody.

    A cancelled message that no provider accepted can be planned again, even without an address.
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
    """Messages with all that decides whether they can be tried again, by their ids."""
    found = connection.execute(_telling().where(notifications.c.id.in_(ids)))
    return {row.id: _failed_message(row) for row in found}


def _telling() -> sa.Select[Any]:
    table = notifications.c
    return sa.select(
        *(table[name].label(name) for name in _KEPT),
        table.identity,
        events.c.name.label("event_name"),
        events.c.received_at.label("event_received_at"),
        events.c.status.label("event_status"),
        events.c.facts,
        events.c.data,
        # Not EXISTS: PostgreSQL would read all stops for it.
        stopped_by(table.channel, table.address).is_not(None).label("is_stopped"),
        maybe_sent().label("was_taken"),
        may_have_arrived().label("may_have_arrived"),
        made_up_for().label("made_up_for"),
        newer().label("newer"),
        KIND.label("kind"),
    ).join(events, events.c.id == table.event_id)


def _failed_message(row: sa.Row[Any]) -> FailedMessage:
    return FailedMessage(
        **{name: row._mapping[name] for name in _FIELDS},
        is_blank=is_blank(row),
        event_is_waiting=row.event_status == RECEIVED,
    )


def is_blank(row: sa.Row[Any]) -> bool:
    """Whether it was for somebody whose data the ledger no longer has."""
    never_had_one = identity(row.rule, row.subject, row.round, row.role, row.channel, "")
    is_lost = not row.address and row.identity != never_had_one
    if row.kind == RESENT and not row.was_taken:
        is_lost = False  # its identity proves nothing: the lab may have had no address for it
    is_erased = (row.facts or {}).get(row.role) == {}  # as Person.redacted leaves it
    return is_lost or is_erased or not row.data


_REPEATED = "Another message repeats it."


def add_repeat(connection: Connection, it: FailedMessage, notice: Notice, act: Act) -> str:
    """Add the message that repeats another, as a person's act in the audit trail; return its id.

    This cancels a waiting fallback and closes the cases about the message. Raises NotDone if the
    message was already repeated, for instance by a faster press of the button.
    """
    made = insert_notices(connection, it.event_id, [notice])
    if not made:
        raise NotDone("It was sent again already.")
    table = notifications.c
    waits = (table.obligation == it.obligation, table.is_fallback, IS_WAITING)
    connection.execute(
        notifications.update()
        .where(*waits, table.id != made[0])
        .values(status="cancelled", reason=_REPEATED)
    )
    close_settled(connection, "unreached", it.obligation, _REPEATED)
    keep(connection, replace(act, target=made[0]))
    return made[0]


def cancel_repeat(connection: Connection, repeat_id: str, reason: str) -> bool:
    """Cancel a message that repeats another and follow up the other again: a fallback or a case
    that it made needless may be needed after all. Return False if it no longer waits.
    """
    table = notifications.c
    waits = (table.id == repeat_id, KIND == RESENT, IS_WAITING)
    cancelled = notifications.update().where(*waits).values(status="cancelled", reason=reason)
    row = connection.execute(cancelled.returning(table.identity)).first()
    if row is None:
        return False
    first = (table.id == row.identity.removeprefix(RESENT_OF), table.follow_up_at.is_(None))
    # Even a sent message may have had a fallback, because it had not arrived in time.
    again = notifications.update().where(*first, table.status.in_((*FAILED, "sent")))
    connection.execute(again.values(follow_up_at=now()))
    return True


def try_now(connection: Connection, event_id: str) -> bool:
    """Try now an event that waits for another try; return False if it was tried a moment ago, or
    does not wait.
    """
    last = sa.func.coalesce(events.c.tried_at, events.c.received_at)
    is_old = last <= now(-fault_injection.hastened(AGAIN_SECONDS))
    waits = (events.c.status == RECEIVED, events.c.tries > 0, events.c.next_at > now())
    mine = events.update().where(events.c.id == event_id, is_old, *waits)
    return bool(connection.execute(mine.values(next_at=now())).rowcount)


AGAIN_SECONDS = 60.0  # since the last try of any kind: the lab must not make us ask it all the time


def retry_reposted(connection: Connection, event_id: str) -> bool:
    """Look again at an event that the lab has posted again, if that can lead to a message; return
    whether it is due now.

    One that waits is tried at once, one that is held is released and its case closed, and one that
    was processed is processed again if some rule reached nobody.
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
        return try_now(connection, event_id)
    if row.status == HELD:
        close_settled(connection, "held", event_id, "The lab posted it again.")
        return process_again(connection, event_id)
    has_more = is_silent(row.decisions) or reached_nobody(connection, event_id)
    return row.status == PROCESSED and has_more and process_again(connection, event_id)


def is_silent(decisions: list[dict[str, str]] | None) -> bool:
    """Whether some rule sent nothing for an event, and may do so with the lab's new facts."""
    return any(
        not (one.get("is_final") or one["reason"].startswith("Told already"))  # as 0005 wrote it
        for one in decisions or ()
    )


def reached_nobody(connection: Connection, event_id: str) -> bool:
    """Whether all messages of some rule about an event have ended without reaching anybody."""
    other = _another
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
