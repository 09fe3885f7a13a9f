"""Receipts: providers' reports after a send. Together they determine a message's status."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay import fault_injection
from relay.ledger.attempts import RECEIPT_SECONDS, record_outcome
from relay.ledger.database import Database, ago, leasing, new_id, now
from relay.ledger.holds import pauses
from relay.ledger.holds.suppressions import suppress_channel, unsuppress
from relay.ledger.notifications import IS_KEPT, UNDER_WAY
from relay.ledger.schema import INSERTS, IS_WAITING, attempts, notifications, receipts
from relay.ledger.worklist.cases import close_settled
from relay.rules.channels import carried_with
from relay.rules.model import Ending
from relay.rules.receipts import STATES, Receipt, StoredReceipt, verdict
from relay.rules.statuses import FAILED, OURS, UNCONFIRMED

AT_ONCE = 100  # receipts in one transaction
ARRIVED = "It arrived after all."
LATELY = timedelta(days=7)  # how old a message may be that is bounced by address only
SKEW = timedelta(seconds=60)  # the provider's clock and ours


class Heard(NamedTuple):
    """A new receipt, and the message that it is about."""

    event_id: str
    notification_id: str
    attempt_id: str
    state: str


def record(db: Database, channel: str, reported: Sequence[Receipt]) -> list[Heard]:
    """Keep receipts of a channel's provider, update their notifications, and return the new ones.

    A receipt that names none of our attempts is ignored: another system may use the same account.
    A bounce that names only an address suppresses it, even if another system wrote to it. It owns
    its transactions, a few receipts each: one repeated after a failure does not count as new.
    """
    return [
        heard
        for begin in range(0, len(reported), AT_ONCE)
        for heard in db.transact(_record, channel, reported[begin : begin + AT_ONCE])
    ]


def _record(connection: Connection, channel: str, reported: Sequence[Receipt]) -> list[Heard]:
    known = [
        one or last_to(connection, channel, receipt)
        for one, receipt in zip(attempts_of(connection, channel, reported), reported, strict=True)
    ]
    rows = _locked(connection, {one.notification_id for one in known if one})
    news = keep(connection, [(one.id, of) for one, of in zip(known, reported, strict=True) if one])
    heard = []
    for one, receipt in zip(known, reported, strict=True):
        if one is None:
            # It is not kept, so it may be a repeat: it lifts no stop that is newer than it.
            change_stops(connection, channel, receipt.address, receipt, receipt.happened_at)
        elif (digest := _digest(one.id, receipt)) in news:
            news.remove(digest)
            row = rows[one.notification_id]
            change_stops(connection, row.channel, receipt.address or row.address, receipt)
            heard.append((Heard(row.event_id, row.id, one.id, receipt.state), row, receipt))
    _adopt(connection, {new.attempt_id: (row, of) for new, row, of in reversed(heard)})
    follow(connection, {row.id for _, row, _ in heard})
    arrived: dict[str, list[str]] = {}
    for new, row, receipt in heard:
        if receipt.state not in ("", "sent") and receipt.code != OURS:
            arrived.setdefault(row.channel, []).append(new.attempt_id)
    for its, ids in arrived.items():
        pauses.arrived(connection, its, ids)
    return [new for new, *_ in heard]


def _adopt(connection: Connection, by_attempt: Mapping[str, tuple[sa.Row[Any], Receipt]]) -> None:
    """Mark attempts as accepted: a provider that reports on one must have accepted it."""
    unsettled = ("started", "unknown")
    query = sa.select(attempts.c.id).where(attempts.c.id.in_(by_attempt))
    for id_ in connection.execute(query.where(attempts.c.outcome.in_(unsettled))).scalars().all():
        row, receipt = by_attempt[id_]
        provider_id = receipt.provider_id or None
        accepted = Ending("accepted", "sent", provider_id=provider_id, awaits_receipt=True)
        record_outcome(connection, row.id, id_, accepted, unsettled)


def change_stops(
    connection: Connection,
    channel: str,
    address: str,
    receipt: Receipt,
    before: datetime | None = None,
) -> None:
    """Suppress an address as a receipt says, or lift the provider's own stop, if older than
    `before`. Stops by staff, or by the person in another way, stay.
    """
    if receipt.suppress and address:
        suppress_channel(connection, channel, address, receipt.suppress)
    if receipt.lifts:
        unsuppress(connection, channel, address, source=receipt.lifts, before=before)


def attempts_of(connection: Connection, channel: str, reported: Sequence[Receipt]) -> list[Any]:
    """The attempt that each receipt is about, found by its own id, else by the provider's; None if
    it names none of ours.
    """
    table = attempts.c
    query = sa.select(table.id, table.notification_id, table.provider_id)
    query = query.where(table.channel.in_(carried_with(channel)))
    known: dict[str, Any] = {}
    for column, name in ((table.provider_id, "provider_id"), (table.id, "attempt_id")):
        ids = {getattr(one, name) for one in reported} - {""}
        found = connection.execute(query.where(column.in_(ids)))
        known |= {row._mapping[column]: row for row in found}
    # A receipt that names both explains another that names only the provider's.
    both = {one.provider_id: known[one.attempt_id] for one in reported if one.attempt_id in known}
    known = both | known
    return [known.get(one.attempt_id) or known.get(one.provider_id) for one in reported]


def last_to(connection: Connection, channel: str, receipt: Receipt) -> Any:
    """The last attempt to the address of a receipt that names no message."""
    if not receipt.address or receipt.attempt_id or receipt.provider_id or receipt.lifts:
        return None
    table, sent = attempts.c, notifications.c
    lately = (sent.sent_at >= ago(LATELY), table.outcome == "accepted", ~IS_KEPT)
    query = (
        sa.select(table.id, table.notification_id)
        .join(notifications)
        .where(sent.channel.in_(carried_with(channel)), sent.address == receipt.address)
        .where(*lately)
    )
    if receipt.happened_at:  # prefer one that was out by then to a newer one
        query = query.order_by(sent.sent_at > receipt.happened_at + SKEW)
    return connection.execute(query.order_by(table.started_at.desc()).limit(1)).first()


def _locked(connection: Connection, ids: Collection[str]) -> dict[str, sa.Row[Any]]:
    """Notifications by their ids, locked in one order: two batches may name them in any order."""
    query = sa.select(notifications).where(notifications.c.id.in_(ids))
    found = connection.execute(query.order_by(notifications.c.id).with_for_update())
    return {row.id: row for row in found}


def _digest(attempt_id: str, receipt: Receipt) -> str:
    at = receipt.happened_at
    parts = (attempt_id, receipt.word, receipt.code, str(int(at.timestamp())) if at else "")
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def keep(connection: Connection, reported: Sequence[tuple[str, Receipt]]) -> set[str]:
    """Insert receipts, each with its attempt's id, and return the digests of the new ones."""
    rows = [
        {
            "id": new_id("rcp"),
            "digest": _digest(attempt_id, receipt),
            "attempt_id": attempt_id,
            "word": receipt.word[:40],
            "state": receipt.state,
            "code": receipt.code[:40],
            "reason": receipt.reason[:500],
            "received_at": now(),
            "happened_at": receipt.happened_at,
        }
        for attempt_id, receipt in reported
    ]
    if not rows:
        return set()
    insert = INSERTS[connection.dialect.name](receipts).values(rows)
    added = insert.on_conflict_do_nothing().returning(receipts.c.digest)
    return {*connection.execute(added).scalars()}


# For a delivery the previous release kept only the time at which it heard of it.
HAPPENED_AT = sa.func.coalesce(
    receipts.c.happened_at, sa.case((receipts.c.state == "delivered", receipts.c.received_at))
)


def follow(connection: Connection, ids: Collection[str]) -> None:
    """Move notifications to the status that their receipts add up to: forward only, unless a
    delivered message has bounced since.
    """
    mine = attempts.c.notification_id.in_(ids)
    # A rejected attempt, or one not begun, is not out: the outcome of the one before it counts.
    is_out = sa.or_(attempts.c.outcome.in_(("accepted", "unknown")), UNDER_WAY)
    gone_out = sa.select(attempts.c.notification_id, attempts.c.id).join(notifications)
    gone_out = gone_out.where(mine, is_out).order_by(attempts.c.started_at)
    latest: dict[str, str] = {row.notification_id: row.id for row in connection.execute(gone_out)}
    parts = (receipts.c[name] for name in ("state", "attempt_id", "code", "reason"))
    query = sa.select(attempts.c.notification_id, *parts, HAPPENED_AT)
    query = query.join_from(receipts, attempts)
    stored: dict[str, list[StoredReceipt]] = {}
    for its, *values in connection.execute(query.where(mine, receipts.c.state.in_(STATES))):
        stored.setdefault(its, []).append(StoredReceipt(*values))
    arrived = []
    for row in _locked(connection, ids).values():
        best = verdict(stored.get(row.id, ()), latest.get(row.id, ""))
        if best and best.state == "delivered":
            arrived += [row] if row.status != "delivered" else []
        elif best and best.state in FAILED and row.status in STATES:
            _failed(connection, row, best)
        elif row.status == "delivered":
            _awaited_again(connection, row)
    if arrived:
        _delivered(connection, arrived)


def _delivered(connection: Connection, rows: Sequence[sa.Row[Any]]) -> None:
    table = notifications.c
    arrived = {"status": "delivered", "reason": "", "delivered_at": now(), "lease_until": None}
    connection.execute(
        notifications.update()
        .where(table.id.in_([row.id for row in rows]))
        .values(**arrived, receipt_by=None, follow_up_at=None, waits_for=None)
    )
    # If this is itself a fallback, those that wait are to others: staff, one for each person.
    owed = {row.obligation for row in rows if not row.is_fallback}
    waiting = (table.obligation.in_(owed), table.is_fallback, IS_WAITING)
    reason = "It is no longer needed: the first message arrived after all."
    connection.execute(
        notifications.update().where(*waiting).values(status="cancelled", reason=reason)
    )
    close_settled(connection, "unreached", [row.obligation for row in rows], ARRIVED)


def _awaited_again(connection: Connection, row: sa.Row[Any]) -> None:
    """Wait for a receipt again: the delivered attempt has bounced, and a later one has none yet."""
    wait = now(fault_injection.hastened(RECEIPT_SECONDS))
    undone = {"status": "sent", "delivered_at": None, "receipt_by": wait}
    connection.execute(notifications.update().where(notifications.c.id == row.id).values(**undone))


def _failed(connection: Connection, row: sa.Row[Any], best: StoredReceipt) -> None:
    is_undone = row.status == "delivered"
    if not is_undone and STATES.index(row.status) > STATES.index(best.state):
        return
    values: dict[str, Any] = {"status": best.state, "receipt_by": None, "delivered_at": None}
    if row.status not in FAILED or row.follow_up_at:  # otherwise it says what was done about it
        values["reason"] = best.reason
    if row.status not in FAILED and row.address:  # otherwise the person has been erased
        values["follow_up_at"] = now()
    connection.execute(notifications.update().where(notifications.c.id == row.id).values(**values))
    connection.execute(
        attempts.update().where(attempts.c.id == best.attempt_id).values(code=best.code)
    )


OVERDUE = sa.and_(notifications.c.receipt_by <= now(), notifications.c.status == "sent")
ASK_AGAIN_SECONDS = 600.0  # also the lease: no other worker asks meanwhile
ASKED_SECONDS = RECEIPT_SECONDS + 24 * 3600.0  # after a send: then it is given up without asking


@dataclass(frozen=True)
class Overdue:
    """A message whose receipt did not come in time; its provider may know more."""

    id: str  # the notification's
    event_id: str
    attempt_id: str
    channel: str
    provider_id: str


_AT: sa.BindParameter[Any] = sa.bindparam("at")


def is_asked_for(channels: Collection[str] | sa.BindParameter[Any]) -> sa.ColumnElement[bool]:
    """A condition: the provider can be asked for a message's outcome, by the provider's own id."""
    return sa.and_(notifications.c.channel.in_(channels), notifications.c.provider_id.is_not(None))


def lease_overdue(db: Database, channels: Collection[str], limit: int) -> list[Overdue]:
    """Lease up to `limit` messages of these channels whose receipt did not come in time: no other
    worker gets them for a while. It owns its transaction, and looks before it writes.
    """
    table, at = notifications.c, {"at": list(channels)}
    with db.read() as connection:
        if connection.execute(_overdue(), at).first() is None:
            return []
    given = {"most": limit, "lease": fault_injection.hastened(ASK_AGAIN_SECONDS), **at}
    with db.write() as connection:
        ids = connection.execute(_leasing(), given).scalars()
        query = (
            sa.select(table.id, table.event_id, table.channel, table.provider_id)
            .add_columns(attempts.c.id.label("attempt_id"))
            .join(attempts)
            .where(table.id.in_(list(ids)), attempts.c.provider_id == table.provider_id)
        )
        return [Overdue(**row._mapping) for row in connection.execute(query)]


@cache
def _overdue() -> Any:
    return sa.select(notifications.c.id).where(OVERDUE, is_asked_for(_AT))


@cache
def _leasing() -> Any:
    table = notifications.c
    return leasing(table.receipt_by, OVERDUE, is_asked_for(_AT)).returning(table.id)


def give_up(db: Database, asked: Collection[str] = ()) -> int:
    """End messages whose receipt did not come in time; return how many there were. If their channel
    is in `asked`, wait up to a day longer for the provider's answer. A late `delivered` still
    counts. It owns its transactions, a few messages each.
    """
    last = now(-fault_injection.hastened(ASKED_SECONDS))
    waits = sa.and_(is_asked_for(asked), notifications.c.sent_at > last)
    overdue = sa.select(notifications.c.id).where(OVERDUE, ~waits)
    return db.in_turns(overdue.order_by(notifications.c.receipt_by), _give_up)


def give_up_asked(connection: Connection, id_: str) -> None:
    """End a message if its provider does not know either whether it arrived."""
    reason = "No receipt came within 72 hours, and its provider was asked and knows no more."
    _give_up(connection, [id_], reason)


def _give_up(
    connection: Connection, ids: Sequence[str], reason: str = "No receipt came within 72 hours."
) -> None:
    table = notifications.c
    ended = connection.execute(
        notifications.update()
        .where(table.id.in_(ids), table.status == "sent")
        .values(status="temporary-failure", reason=reason, receipt_by=None, follow_up_at=now())
        .returning(table.id)
    ).scalars()
    connection.execute(
        attempts.update()
        .where(attempts.c.notification_id.in_(list(ended)), attempts.c.outcome == "accepted")
        .values(code=UNCONFIRMED)
    )
