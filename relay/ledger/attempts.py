"""Claim before send: a notification is marked and its attempt written before anything leaves.

`claim` marks, `begin` confirms with the words, `finish` records the outcome, and `lapse` takes
back the claims of a dead worker.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import compress
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay import fault_injection
from relay.ledger.database import Database, now, urgent_first
from relay.ledger.holds import allowances, halts, pauses, waits
from relay.ledger.holds.allowances import Cap
from relay.ledger.holds.suppressions import is_stopped, stopped_by, suppress_channel
from relay.ledger.notifications import BEGUN, IS_KEPT, KIND, WITH_EVENT, WithEvent
from relay.ledger.schema import (
    IS_SENDING,
    IS_WAITING,
    WAITS_FOR_THE_LAB,
    attempts,
    events,
    notifications,
)
from relay.ledger.worklist.cases import close_settled, open_case, was_opened_since
from relay.ledger.worklist.replies import holding
from relay.messages import sms_segments
from relay.rules.channels import CHANNELS
from relay.rules.model import Ending
from relay.rules.receipts import RECEIPT_WAIT
from relay.rules.statuses import ALERT, ANSWER, FAILED, LAB_FAILED, MESSAGE, RESENT, WAITING

LEASE_SECONDS = 60  # longer than any send may take


@dataclass(frozen=True)
class Claim(WithEvent):
    """A notification that only this worker may send, once, with its event and its new attempt."""

    attempt_id: str
    number: int  # of the attempt: a later claim has a higher one
    tries: int
    rule: str
    template: str
    role: str
    channel: str
    address: str
    obligation: str
    urgency: int
    is_fallback: bool
    stopped_by: str | None  # who or what has stopped messages to its address
    content: Mapping[str, str] | None  # the plain words of an alert or an answer
    case_id: str | None  # of an alert: the case that it is about
    identity: str
    kind: str  # message, digest, alert, resent, answer
    may_be_held: bool  # a case may hold its kit's messages
    is_probe: bool  # its channel is paused: this message tests whether it works again
    may_ask: bool  # whether it is in the lane of messages that may ask the lab


_CARRIED = (
    "tries",
    "rule",
    "template",
    "role",
    "channel",
    "address",
    "obligation",
    "urgency",
    "is_fallback",
    "content",
    "case_id",
    "identity",
)


def claim(
    db: Database, channel: str, limit: int, cap: Cap | None = None, *, may_ask: bool = False
) -> list[Claim]:
    """Claim up to `limit` due notifications of a channel, urgent ones first, each with a new
    attempt: those that `may_ask` the lab, or those that need not.

    It owns its transaction: a claim must be committed before anything is sent.
    """
    with db.write() as connection:
        if may_ask and (pause := pauses.of_lab(connection)):
            limit = int(pause["is_due"])  # while the lab is away, one may probe it
        given = {"by": channel, "most": limit}
        found = list(connection.execute(due(connection.dialect.name, may_ask=may_ask), given))
        ids = [row.id for row in found]
        if found and cap:
            urgencies = [row.urgency for row in found]
            ids = list(compress(ids, allowances.allowed(connection, channel, cap, urgencies)))
        if found and not ids and cap and cap.case:
            case = replace(cap.case(found[0].urgency), event_id=found[0].event_id)
            if not was_opened_since(connection, case, cap.since):
                open_case(connection, case)
        turn = pauses.turn(connection, channel) if ids else None
        if not (ids := ids[:turn]):
            return []
        if cap:
            allowances.use(connection, channel, len(ids))
        rows = list(connection.execute(_CLAIMABLE, {"ids": ids}))
        connection.execute(_MARKING, {"ids": ids, "lease": fault_injection.hastened(LEASE_SECONDS)})
        claims = [_claim(row, turn is not None, may_ask) for row in rows]
        connection.execute(
            _TRYING,
            [
                {"id": one.attempt_id, "notification_id": one.id, "channel": channel}
                for one in claims
            ],
        )
        return claims


def _claim(row: sa.Row[Any], is_probe: bool, may_ask: bool) -> Claim:
    mine = {"attempt_id": uuid.uuid4().hex, "number": row.number + 1, "tries": row.tries + 1}
    return Claim.of(row, **mine, is_probe=is_probe, may_ask=may_ask)


# Each statement is built once: building costs more than running.

_TABLE = notifications.c
_IDS: sa.BindParameter[Any] = sa.bindparam("ids")
_CHANNEL: sa.BindParameter[str] = sa.bindparam("by")


@cache
def due(dialect: str, *, may_ask: bool = False) -> Any:
    """Build the query for a channel's due messages, in the lane that may ask the lab or not."""
    columns = (_TABLE.id, _TABLE.event_id, _TABLE.urgency)
    lane = WAITS_FOR_THE_LAB if may_ask else _TABLE.waits_for.is_(None)
    is_waiting = (_TABLE.channel == _CHANNEL, IS_WAITING, lane)
    return urgent_first(dialect, columns, is_waiting, _TABLE.due_at)


_CLAIMABLE: sa.Select[Any] = (
    sa.select(
        *WITH_EVENT,
        *(_TABLE[name].label(name) for name in _CARRIED),
        _TABLE.attempts.label("number"),
        stopped_by(_TABLE.channel, _TABLE.address).label("stopped_by"),
        KIND.label("kind"),
        holding().label("may_be_held"),
    )
    .join(events)
    .where(_TABLE.id.in_(_IDS))
    .order_by(_TABLE.urgency.desc(), _TABLE.due_at)
)
_MARKING = (
    notifications.update()
    .where(_TABLE.id.in_(_IDS), IS_WAITING)
    .values(
        status="sending",
        waits_for=None,
        lease_until=now(sa.bindparam("lease")),
        attempts=_TABLE.attempts + 1,
        tries=_TABLE.tries + 1,
        # Words that `begin` has not kept were not sent. Alerts and answers bring their own words.
        content=sa.case((KIND.in_((ALERT, ANSWER)), _TABLE.content)),
    )
)
_TRYING = attempts.insert().values(outcome="started", started_at=now())


# Seconds from the end of an unknown attempt until each search for it at the provider.
LOOKS = {name: row.lookup_delays for name, row in CHANNELS.items()}
_OPEN = ("sending", "unknown")
RECEIPT_SECONDS = RECEIPT_WAIT.total_seconds()


def begin(
    db: Database, claim: Claim, content: Mapping[str, str], edition: int | None = None
) -> bool:
    """Keep the words that are about to be sent, with the edition that made them, and renew the
    lease; return False if the claim has lapsed, its address has been suppressed, or somebody has
    stopped all messages like it.

    This is the last step before a send. A later search for this attempt knows its words, and a
    worker that was frozen for longer than its lease sends nothing. It owns its transaction: one
    prepared statement, on the busiest path.
    """
    text = content["text"] if CHANNELS[claim.channel].in_segments else ""
    given = {
        "notification": claim.id,
        "this": claim.attempt_id,
        "number": claim.number,
        "words": json.dumps(content),
        "segments": sms_segments.size(text).segments,
        "made_by": edition,
        "lease": fault_injection.hastened(LEASE_SECONDS),
    }
    if not db.is_sqlite:
        return bool(db.run(db.prepared(_beginning), given))
    with db.write() as connection:  # SQLite cannot change two tables in one statement
        is_mine = connection.execute(_KEEPING_WORDS, given).first() is not None
        return is_mine and bool(connection.execute(_BEGUN, given).rowcount)


def _keeping_words(words: Any) -> Any:
    return (
        notifications.update()
        .where(
            notifications.c.id == sa.bindparam("notification"),
            notifications.c.status == "sending",
            # On the row itself: after waiting for a lock, PostgreSQL rereads only the locked row.
            notifications.c.attempts == sa.bindparam("number"),
            ~is_stopped(notifications.c.channel, notifications.c.address),
            ~halts.is_halted(),
        )
        .values(
            lease_until=now(sa.bindparam("lease")),
            content=words,
            segments=sa.bindparam("segments"),
            edition=sa.bindparam("made_by"),
        )
        .returning(notifications.c.id)
    )


# The notification is locked first, as everywhere; then the attempt is marked.
_THIS_ATTEMPT = sa.and_(attempts.c.id == sa.bindparam("this"), attempts.c.outcome == "started")
_KEEPING_WORDS = _keeping_words(sa.bindparam("words", type_=sa.Text))
_BEGUN = attempts.update().where(_THIS_ATTEMPT).values(begun_at=now())


def _beginning(dialect: str) -> Any:
    words = sa.cast(sa.bindparam("words", type_=sa.Text), sa.JSON)
    kept = _keeping_words(words).cte("kept")
    is_mine = attempts.c.notification_id.in_(sa.select(kept.c.id))
    return _BEGUN.where(is_mine).returning(attempts.c.id)


def redirect(connection: Connection, claim: Claim, address: str) -> str | None:
    """Set a claimed message's address; return who or what has stopped that address, or None."""
    table = notifications.c
    mine = notifications.update().where(table.id == claim.id, table.status == "sending")
    stops = sa.select(stopped_by(table.channel, table.address)).where(table.id == claim.id)
    connection.execute(mine.values(address=address))
    return connection.execute(stops).scalar_one()


def finish(db: Database, claim: Claim, ending: Ending) -> bool:
    """Commit how an attempt ended; return False if its outcome was recorded elsewhere meanwhile.

    It owns its transaction, as `claim` and `begin` do: the caller tries again until it is
    committed. An ordinary success takes one prepared statement.
    """
    if not db.is_sqlite and _is_plain(claim, ending):
        values, moments = _values(ending)
        given = {"its": claim.id, "this": claim.attempt_id, **_outcome(ending), **values}
        if db.run(db.prepared(_finishing, moments), given):
            return True
    return db.transact(record_ending, claim, ending)


def _is_plain(claim: Claim, ending: Ending) -> bool:
    """Whether an ending affects only its message: an accepted one pauses and stops nothing."""
    return ending.outcome == "accepted" and not ending.fallback_in and not claim.is_probe


def record_ending(connection: Connection, claim: Claim, ending: Ending) -> bool:
    """Record how an attempt ended, and what that means for its channel; return False if the outcome
    was recorded elsewhere.
    """
    unsettled = ("started", "unknown")
    settled = record_outcome(connection, claim.id, claim.attempt_id, ending, unsettled)
    if settled and ending.waits_for:
        waits.make_wait(connection, claim.id, ending.waits_for, ending.case_id)
        if ending.case:
            open_case(connection, replace(ending.case, event_id=claim.event_id))
    if ending.fallback_in:  # also if a receipt came before this
        await_delivery(connection, claim.id, ending.fallback_in)
    if settled and ending.pause:
        pauses.pause(connection, claim.channel, claim.event_id, ending.pause)
    elif claim.is_probe and ending.answered:  # also if a receipt came before this
        is_last_word = ending.outcome == "accepted" and not ending.awaits_receipt
        pauses.resume(connection, claim.channel, *(() if is_last_word else pauses.AT_SENDING))
    elif settled and claim.is_probe and not was_begun(connection, claim.attempt_id):
        pauses.give_back(connection, claim.channel)
    return settled


def await_delivery(connection: Connection, notification_id: str, seconds: float) -> None:
    """Schedule the follow-up of a sent message in `seconds`, in case it has not arrived by then:
    its rule has a fallback for that.
    """
    table = notifications.c
    is_first = sa.and_(~table.is_fallback, KIND.in_((MESSAGE, RESENT)), ~IS_KEPT)
    is_out = sa.and_(table.status == "sent", table.follow_up_at.is_(None))
    mine = notifications.update().where(table.id == notification_id, is_first, is_out)
    connection.execute(mine.values(follow_up_at=now(fault_injection.hastened(seconds))))


def was_begun(connection: Connection, attempt_id: str) -> bool:
    """Whether the words of an attempt were kept: if so, it may have reached the provider."""
    begun = sa.select(attempts.c.begun_at).where(attempts.c.id == attempt_id)
    return connection.execute(begun).scalar() is not None


def record_outcome(
    connection: Connection,
    notification_id: str,
    attempt_id: str,
    ending: Ending,
    unsettled: tuple[str, ...],
) -> bool:
    """Write an ending to an attempt whose outcome is one of `unsettled`, and to its notification.

    Return False if the attempt has another outcome. The notification's status follows its latest
    attempt, and any that was accepted.
    """
    which = {"its": notification_id, "this": attempt_id}
    is_accepted = ending.outcome == "accepted"
    settled = connection.execute(
        _settling(ending.outcome == "unknown"),
        {
            **which,
            "unsettled": unsettled,
            **_outcome(ending),
            **{f"look_{by}": fault_injection.hastened(first) for by, (first, *_) in LOOKS.items()},
        },
    ).first()
    if settled is None:
        return False
    values, moments = _values(ending)
    follows = connection.execute(_following(is_accepted, moments), {**which, **values}).rowcount
    if settled.looks and (is_accepted or (follows and ending.outcome == "rejected")):
        # A person may have been asked whether it went out.
        said = "It has gone out." if is_accepted else "That try did not go out."
        close_settled(connection, "unknown", notification_id, said)
    if ending.suppress:  # even if the notification does not follow: this is about the address
        to = sa.select(notifications.c.channel, notifications.c.address)
        row = connection.execute(to.where(notifications.c.id == notification_id)).one()
        suppress_channel(connection, row.channel, row.address, ending.suppress)
    return True


def lab_failures(connection: Connection, claim: Claim) -> int:
    """Count the attempts of a claimed message that ended because the lab failed for its kit."""
    mine = (attempts.c.notification_id == claim.id, attempts.c.code == LAB_FAILED)
    query = sa.select(sa.func.count()).where(*mine)
    return int(connection.execute(query).scalar_one())


def is_superseded(attempt_id: Any) -> sa.ColumnElement[bool]:
    """A condition: the notification was claimed again after this attempt of it."""
    mine, later = attempts.alias(), attempts.alias()
    return sa.exists().where(
        mine.c.id == attempt_id,
        later.c.notification_id == mine.c.notification_id,
        later.c.started_at > mine.c.started_at,
    )


def _outcome(ending: Ending) -> dict[str, Any]:
    """The column values of an attempt that has ended."""
    return {
        "outcome": ending.outcome,
        "provider_id": ending.provider_id,
        "code": ending.code[:40],
        "detail": ending.reason[:500],
    }


def _values(ending: Ending) -> tuple[dict[str, Any], frozenset[str]]:
    """The new values of a notification, and which of `_MOMENTS` are set with them."""
    values: dict[str, Any] = {"status": ending.status, "reason": ending.reason[:500]}
    moments = set()
    if ending.retry_in is not None:
        values["retry_in"] = float(ending.retry_in)
        moments.add("due_at")
    if not ending.is_a_try:
        moments.add("tries")
    if ending.outcome == "accepted":
        values |= {"provider_id": ending.provider_id, "is_kept": ending.is_kept}
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

# Each statement is built once: building costs more than running.

# The notification is locked first, as everywhere: receipts may come while a worker commits.
_LOCKED = (
    sa.select(notifications.c.id)
    .where(notifications.c.id == sa.bindparam("its"))
    .with_for_update(key_share=True)
    .scalar_subquery()
)


@cache
def _settling(is_unknown: bool) -> Any:
    looks = [
        (attempts.c.channel == channel, now(sa.bindparam(f"look_{channel}"))) for channel in LOOKS
    ]
    return (
        attempts.update()
        .where(
            attempts.c.notification_id == _LOCKED,
            attempts.c.id == sa.bindparam("this"),
            attempts.c.outcome.in_(sa.bindparam("unsettled")),
        )
        .values(
            finished_at=now(),
            look_at=sa.case(*looks) if is_unknown else None,
        )
        .returning(attempts.c.looks)
    )


@cache
def _following(is_accepted: bool, moments: frozenset[str]) -> Any:
    table = notifications.c
    if is_accepted:
        # Even if it waits to be sent again: there is no need, now that it has gone out.
        follows: sa.ColumnElement[bool] = table.status.in_(_OPEN + WAITING)
    else:
        follows = sa.and_(table.status.in_(_OPEN), ~is_superseded(sa.bindparam("this")))
    return (
        notifications.update()
        .where(table.id == sa.bindparam("its"), follows)
        .values(lease_until=None, **{name: _MOMENTS[name] for name in sorted(moments)})
    )


def _finishing(_dialect: str, moments: frozenset[str]) -> Any:
    """Build `_settling` and `_following` as one statement, for an accepted, unsearched attempt."""
    table = notifications.c
    settled = (
        attempts.update()
        .where(attempts.c.notification_id == _LOCKED, _THIS_ATTEMPT)
        .values(
            **{name: sa.bindparam(name) for name in ("outcome", "provider_id", "code", "detail")},
            finished_at=now(),
        )
        .returning(attempts.c.notification_id)
        .cte("settled")
    )
    return (
        notifications.update()
        .where(
            table.id.in_(sa.select(settled.c.notification_id)),
            sa.or_(*(table.status == word for word in (*_OPEN, *WAITING))),
        )
        .values(
            **{name: sa.bindparam(name) for name in ("status", "reason", "provider_id", "is_kept")},
            lease_until=sa.null(),
            **{name: _MOMENTS[name] for name in sorted(moments)},
        )
        .returning(table.id)
    )


LAPSED = Ending(
    "unknown",
    "unknown",
    "The worker stopped while sending this; it may or may not have gone out.",
)
NOT_BEGUN = Ending(
    "rejected",
    "created",
    "The worker stopped before sending this.",
    retry_in=0.0,
)
TRIES = 30  # after which a message that no worker gets ready within its lease is given up
NEVER_BEGUN = Ending(
    "rejected",
    "technical-failure",
    f"No worker could get this ready to be sent, though it was tried {TRIES} times.",
)


def _lapsed(row: sa.Row[Any]) -> Ending:
    if row.begun:
        return LAPSED
    return NEVER_BEGUN if row.tries >= TRIES else NOT_BEGUN


def lapse(db: Database) -> int:
    """End the claims of workers that have gone; return how many there were.

    A claim that had not begun was certainly not sent, and goes back to `created` unless it has been
    tried too often; one that had begun is `unknown`. It owns its transactions, a few claims each.
    """
    gone = sa.select(_TABLE.id).join(attempts).where(attempts.c.outcome == "started")
    found = gone.add_columns(attempts.c.id.label("attempt_id"), BEGUN.label("begun"), _TABLE.tries)

    def settle_these(connection: Connection, ids: Sequence[str]) -> None:
        # Queried again, now locked: a slow worker may have begun to send one at this very moment.
        for row in list(connection.execute(found.where(_TABLE.id.in_(ids)))):
            record_outcome(connection, row.id, row.attempt_id, _lapsed(row), ("started",))

    lapsed = gone.where(IS_SENDING, _TABLE.lease_until < now()).order_by(_TABLE.lease_until)
    return db.in_turns(lapsed, settle_these)
