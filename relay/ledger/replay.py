"""Processes again what failed, was held, was unknown, or was posted again."""

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
    """Process an event again, with its failed messages. What was sent is not sent again."""
    done = process_again(connection, event_id)
    if done:
        close_settled(connection, "held", event_id, "It was replayed.")
    return done


def process_again(connection: Connection, event_id: str) -> bool:
    """Process an event again, and leave its case open: the caller closes it. See `replay_event`."""
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
    if row.status == UNROUTED:  # its case is one for all of its name
        close_settled(connection, "held", row.name, "It was replayed.")
    table, digest = notifications.c, notifications.alias()
    its_digests = sa.select(digest.c.id).join(notifications, is_item_of(digest))
    its_digests = its_digests.where(table.event_id == event_id)
    # One by one: with OR PostgreSQL reads the whole table. A fallback only where nothing else goes.
    revive(connection, unsent(), table.event_id == event_id, ~table.is_fallback)
    revive(connection, unsent(), table.event_id == event_id, table.is_fallback)
    revive(connection, unsent(), table.id.in_(list(connection.execute(its_digests).scalars())))
    return True


def replay_events(connection: Connection, event_ids: Sequence[str], act: Act) -> int:
    """Process several events again, as one act in the audit trail; how many there were."""
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
        revive(connection, stopped, table.address != "") or replay_failed(connection, named)
    )


def replay_failed(connection: Connection, which: sa.ColumnElement[bool], wait: float = 0.0) -> int:
    """Send those of the messages again that failed and cannot have arrived, at once or in `wait`
    seconds; how many that were.
    """
    send = partial(_go_in, wait) if wait else revive
    return send(connection, failed(), ~may_have_arrived(), which)


def _go_in(wait: float, connection: Connection, *which: sa.ColumnElement[bool]) -> int:
    """Let failed messages go again in a while: until then they stay as they are."""
    values = {"waits_for": GOES_AGAIN, "follow_up_at": now(wait)}
    return connection.execute(notifications.update().where(*which).values(values)).rowcount


def let_be(connection: Connection, which: sa.ColumnElement[bool]) -> int:
    """Let failed messages not go again after all, as long as they wait to; how many did."""
    mine = (which, notifications.c.waits_for == GOES_AGAIN, notifications.c.status.in_(FAILED))
    values = {"waits_for": None, "follow_up_at": None}
    return connection.execute(notifications.update().where(*mine).values(values)).rowcount


def may_have_arrived() -> sa.ColumnElement[bool]:
    """A condition: an attempt of a notification was, or may have been, taken by its provider, which
    has not reported since that it failed.
    """
    failed = sa.exists().where(receipts.c.attempt_id == attempts.c.id, receipts.c.state.in_(FAILED))
    return sa.exists().where(
        attempts.c.notification_id == notifications.c.id, attempts.c.outcome != "rejected", ~failed
    )


# Made once: to make the columns of an alias costs more than to ask.
_another, _repeat, _newer = (notifications.alias() for _ in range(3))


def made_up_for() -> sa.ColumnElement[bool]:
    """Whether a fallback of a notification's rule has gone out, or is about to; of a fallback,
    whether anything else has; or a person had the notification repeated. A fallback that went out
    before a repeat does not make up for that.
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
    """A condition: another message repeats a notification, since a person wanted that."""
    mine = _repeat.c.identity == RESENT_OF + notifications.c.id
    return sa.exists().where(mine, _repeat.c.status != "cancelled")


def newer() -> sa.ScalarSelect[str]:
    """The last message that came after a notification, from the same rule, about the same kit, to
    the same person by the same channel; of staff, to the same address.
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
    """A condition: a notification has an address and failed, and no other way takes its place."""
    return sa.and_(
        notifications.c.status.in_(FAILED), notifications.c.address != "", ~made_up_for()
    )


def unsent() -> sa.ColumnElement[bool]:
    """A condition: a notification failed and was surely not sent, so it goes again unasked."""
    return sa.and_(failed(), ~maybe_sent())


def revive(connection: Connection, *which: sa.ColumnElement[bool]) -> int:
    """Let the messages that a condition matches go once more; how many there were."""
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
            waits_for=None,
        )
    ).rowcount


def _each(connection: Connection, column: sa.Column[str], ids: Sequence[str]) -> Iterator[str]:
    """A column of some rows."""
    for some in _batches(ids):
        query = sa.select(column).where(column.table.c.id.in_(some))
        yield from connection.execute(query).scalars()


def _batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[begin : begin + 500] for begin in range(0, len(ids), 500))


def names_of(connection: Connection, ids: Sequence[str]) -> set[str]:
    """The names of some events."""
    return set(_each(connection, events.c.name, ids))


def kept(connection: Connection, accounts: Mapping[str, bool]) -> Sequence[Any]:
    """Messages to people that were only kept here, by channels that have an account now: `id`,
    `rule`, `subject`, `role`, `channel`, `address`, `created_at`.
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


def take_up_kept(connection: Connection, ids: Sequence[str]) -> int:
    """Let messages go that were only kept here, each as the row that it is: so what one says to
    somebody is said once, whatever is replayed besides. How many there were.
    """
    done = 0
    for some in _batches(ids):
        mine = notifications.c.id.in_(some)
        done += revive(connection, mine, _only_kept())
        is_waiting = (mine, notifications.c.status == WAITING[0])
        # Nobody has taken it: another try that fails may be replayed, and a look-up finds nothing.
        went = attempts.update().where(attempts.c.notification_id.in_(some), is_kept_attempt())
        connection.execute(went.values(outcome="rejected"))
        blank = {"provider_id": None, "is_kept": False, "sent_at": None}
        connection.execute(notifications.update().where(*is_waiting).values(**blank))
    return done


def statuses(connection: Connection, ids: Sequence[str]) -> Counter[str]:
    """How many of some messages have which status."""
    return Counter(_each(connection, notifications.c.status, ids))


def ids_to_replay(connection: Connection, status: str) -> list[str]:
    """The ids of `unrouted` events whose name Relay knows now, or of `held` events."""
    query = sa.select(events.c.id).where(events.c.status == status).order_by(events.c.id)
    if status == UNROUTED:
        query = query.where(events.c.name.in_(tuple(EVENTS)))
    return list(connection.execute(query).scalars())


def failed_ids(connection: Connection) -> list[str]:
    """The ids of messages that failed and were surely not sent."""
    query = sa.select(notifications.c.id).where(unsent())
    return list(connection.execute(query.order_by(notifications.c.id)).scalars())


def decide_unknown(connection: Connection, which: sa.ColumnElement[bool], *, send: bool) -> int:
    """Settle unknown messages by a person's word; how many: not what is settled or looked for.

    With `send` they are sent once more; otherwise they count as sent.
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
    """Do what is right about a message, at once or in `wait` seconds; by what it was:
    resend.MESSAGE or EVENT. Raises NotDone.

    `old` says why it is no news any more, if it is none.
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
    """The event first, as where one is settled. No key is locked: that others may refer to both."""
    mine = sa.select(notifications.c.event_id).where(notifications.c.id == notification_id)
    event = sa.select(events.c.id).where(events.c.id == mine.scalar_subquery())
    connection.execute(event.with_for_update(key_share=True))
    message = sa.select(notifications.c.id).where(notifications.c.id == notification_id)
    connection.execute(message.with_for_update(key_share=True))


def plan_anew(connection: Connection, it: FailedMessage) -> None:
    """Process its event again, and look afterwards whether that reaches anybody.

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
    """How messages stand, by their ids."""
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
        # No EXISTS, for which PostgreSQL reads all stops.
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
    """Whether it was for somebody of whom the ledger has nothing any more."""
    never_had_one = identity(row.rule, row.subject, row.round, row.role, row.channel, "")
    is_lost = not row.address and row.identity != never_had_one
    if row.kind == RESENT and not row.was_taken:
        is_lost = False  # its identity does not tell: the lab may have had no address for it
    is_erased = (row.facts or {}).get(row.role) == {}  # as relay.erasure leaves it
    return is_lost or is_erased or not row.data


_REPEATED = "Another message repeats it."


def add_repeat(connection: Connection, it: FailedMessage, notice: Notice, act: Act) -> str:
    """Add the message that repeats another, for which a person is to answer; its id.

    A fallback that waits is not needed then, nor a person for the cases about it. Raises NotDone
    where the message is repeated already, though another press was faster.
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
    """Cancel a message that repeats another and follow the other up again: a fallback or a case
    that it made needless may be needed after all. False where it no longer waits.
    """
    table = notifications.c
    waits = (table.id == repeat_id, KIND == RESENT, IS_WAITING)
    cancelled = notifications.update().where(*waits).values(status="cancelled", reason=reason)
    row = connection.execute(cancelled.returning(table.identity)).first()
    if row is None:
        return False
    first = (table.id == row.identity.removeprefix(RESENT_OF), table.follow_up_at.is_(None))
    # One that is out may have had a fallback as well, because it had not arrived in time.
    again = notifications.update().where(*first, table.status.in_((*FAILED, "sent")))
    connection.execute(again.values(follow_up_at=now()))
    return True


def try_now(connection: Connection, event_id: str) -> bool:
    """Let an event that waits to be tried again be tried now; False where it was just now, or does
    not wait.
    """
    last = sa.func.coalesce(events.c.tried_at, events.c.received_at)
    is_old = last <= now(-fault_injection.hastened(AGAIN_SECONDS))
    waits = (events.c.status == RECEIVED, events.c.tries > 0, events.c.next_at > now())
    mine = events.update().where(events.c.id == event_id, is_old, *waits)
    return bool(connection.execute(mine.values(next_at=now())).rowcount)


AGAIN_SECONDS = 60.0  # since the last try of any kind: the lab must not make us ask it all the time


def take_up(connection: Connection, event_id: str) -> bool:
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
    """Whether some rule's messages have all ended without reaching anybody."""
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
