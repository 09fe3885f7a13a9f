"""Retention: old rows lose their details, here and at providers that still have the text."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay import fault_injection
from relay.ledger import people
from relay.ledger.audit import LOGIN_REFUSED, open_to_change
from relay.ledger.database import Database, ago, leasing, now
from relay.ledger.holds.suppressions import fingerprint
from relay.ledger.notifications import is_item_of, is_kept_attempt
from relay.ledger.schema import (
    PERSONAL,
    TELLING,
    attempts,
    audit,
    cases,
    ended_sessions,
    events,
    inbound_texts,
    login_failures,
    notifications,
    quarantine,
    sessions,
)
from relay.ledger.worklist.cases import RELAY
from relay.rules.channels import DELETED_BY_ID
from relay.rules.statuses import WAITING

AGAIN_SECONDS = 3600.0  # after which a provider is asked again to delete a text
_table = attempts.c
# An attempt that a provider has, or may have.
IS_GIVEN = sa.and_(_table.outcome != "rejected", ~is_kept_attempt())
# SendGrid cannot delete a single email: it keeps emails for days, and no longer.
_MAY_BE_THERE = sa.and_(_table.channel.in_(DELETED_BY_ID), IS_GIVEN)


_KEPT = (attempts, inbound_texts)  # whose provider has a copy


@dataclass(frozen=True)
class KeptText:
    """A text that its provider may still have, by our id and the provider's."""

    id: str
    channel: str
    provider_id: str


def mark_for_deletion(
    connection: Connection, messages: Sequence[str], after: float = 0.0
) -> list[str]:
    """Schedule the deletion of messages' copies at the provider, in `after` seconds; return the
    provider's ids of them. Their attempts are no longer searched for.
    """
    mine = _table.notification_id.in_(messages)
    connection.execute(attempts.update().where(mine).values(look_at=None))
    there = (
        attempts.update()
        .where(mine, _MAY_BE_THERE)
        .values(erase_at=now(fault_injection.hastened(after)))
    )
    # A message in flight gets its id later, and is deleted then.
    known = connection.execute(there.returning(_table.provider_id)).scalars()
    return [str(id_) for id_ in known if id_]


def asked_again() -> now:
    """SQL for the time to ask a provider again to delete a text."""
    return now(fault_injection.hastened(AGAIN_SECONDS))


def lease_texts(db: Database, channels: Sequence[str], limit: int) -> list[KeptText]:
    """Lease up to `limit` texts that these channels' providers should delete.

    They are due again in an hour unless they are `mark_deleted`. It owns its transaction: a lease
    holds once it is committed.
    """
    given = {"most": limit, "at": list(channels), "lease": fault_injection.hastened(AGAIN_SECONDS)}
    with db.write() as connection:
        leased = (row for one in _KEPT for row in connection.execute(_leasing(one), given))
        return [KeptText(row.id, row.channel, row.provider_id) for row in leased]


@cache
def _leasing(table: sa.Table) -> Any:
    it = table.c
    at: sa.BindParameter[Any] = sa.bindparam("at")
    is_due = (it.erase_at <= now(), it.provider_id.is_not(None), it.channel.in_(at))
    return leasing(it.erase_at, *is_due).returning(it.id, it.channel, it.provider_id)


def kept_texts(connection: Connection, provider_ids: Iterable[str]) -> list[KeptText]:
    """The texts that have these ids at their providers."""
    ids = [*provider_ids]
    ours, theirs = attempts.c, inbound_texts.c
    asked = (
        sa.select(ours.id, ours.channel, ours.provider_id).where(ours.provider_id.in_(ids)),
        sa.select(theirs.id, theirs.channel, theirs.provider_id).where(
            theirs.id.in_([*map(fingerprint, ids)])
        ),
    )
    found = connection.execute(sa.union(*asked).order_by("provider_id"))
    return [KeptText(*row) for row in found]


def mark_deleted(connection: Connection, provider_id: str) -> None:
    """Note that the provider has deleted a text."""
    for table, mine in (
        (attempts, _table.provider_id == provider_id),
        (inbound_texts, inbound_texts.c.id == fingerprint(provider_id)),
    ):
        connection.execute(table.update().where(mine).values(erase_at=None))


_ON_ITS_WAY = (*WAITING, "sending")


def purge(db: Database, retention: timedelta, seconds: float = math.inf) -> int:
    """Blank contact details, words and payloads older than `retention`; return how many rows.

    It ends after `seconds`, though there may be more. Ids, times, statuses and reasons stay, and
    rows of messages on their way are kept whole. Texts from people, ended sessions and wrong
    passwords are deleted once nothing needs them. Texts are deleted at the provider too, and those
    from people before their rows: see `lease_texts`. It owns its transactions, a few rows each, so
    that nobody waits long for its locks.
    """
    old, ends = ago(retention), time.monotonic() + seconds
    failed, ended = login_failures.c.failed_at, ended_sessions.c.ended_at
    came, seen = inbound_texts.c.received_at, sessions.c.seen_at
    over = ago(people.LONGEST_SESSION + timedelta(days=1))
    return sum(
        _in_turns(db, table, where, moment, values, ends)
        for table, where, moment, values in (
            (notifications, old_messages(old), notifications.c.created_at, _NOBODY),
            (events, old_events(old), events.c.received_at, _NOTHING),
            (quarantine, quarantine.c.last_at < old, quarantine.c.last_at, None),
            (cases, old_case_notes(old), cases.c.closed_at, {"note": ""}),
            (inbound_texts, sa.and_(came < old, _says), came, _UNSAID),
            (inbound_texts, sa.and_(came < old, inbound_texts.c.erase_at.is_(None)), came, None),
            (login_failures, failed < ago(people.LONGEST_PAUSE), failed, None),
            (ended_sessions, ended < over, ended, None),
            (sessions, seen < over, seen, None),
            (audit, old_refusals(old), audit.c.at, None),
        )
    )


_NOBODY: Mapping[str, Any] = {"address": "", "content": None}
_NOTHING: Mapping[str, Any] = {"facts": None, "data": {}, "person": None}
_says = sa.or_(inbound_texts.c.address != "", inbound_texts.c.words != "")
_UNSAID: Mapping[str, Any] = {
    "address": "",
    "words": "",
    "erase_at": sa.case((inbound_texts.c.provider_id.is_not(None), now())),
}


def _in_turns(
    db: Database,
    table: sa.Table,
    where: sa.ColumnElement[bool],
    moment: sa.Column[Any],
    values: Mapping[str, Any] | None,
    ends: float,
) -> int:
    """Change rows, the oldest first, or delete them if no `values` are given; return how many."""
    change = table.delete() if values is None else table.update().values(**values)

    def blank(connection: Connection, ids: Sequence[str]) -> None:
        if table is audit:
            open_to_change(connection)
        connection.execute(change.where(table.c.id.in_(ids)))
        if table is notifications:
            mark_for_deletion(connection, ids)

    return db.in_turns(sa.select(table.c.id).where(where).order_by(moment), blank, ends)


def old_refusals(old: now) -> sa.ColumnElement[bool]:
    """A condition: a line is a refused login older than `old`. No other line is ever deleted."""
    return sa.and_(audit.c.action == LOGIN_REFUSED, audit.c.at < old)


def old_messages(old: now) -> sa.ColumnElement[bool]:
    """A condition: a message is older than `old`, and still has an address or words."""
    table = notifications.c
    is_over = (table.created_at < old, table.due_at < old)  # the first has the index
    return sa.and_(PERSONAL, *is_over, table.status.not_in(_ON_ITS_WAY))


def old_events(old: now) -> sa.ColumnElement[bool]:
    """A condition: an event is older than `old`, has details, and no message about it waits."""
    digest = notifications.alias()
    waiting = sa.or_(
        sa.exists().where(
            notifications.c.event_id == events.c.id, notifications.c.status.in_(_ON_ITS_WAY)
        ),
        sa.exists().where(  # as an item of a digest
            notifications.c.event_id == events.c.id,
            is_item_of(digest),
            digest.c.status.in_(_ON_ITS_WAY),
        ),
    )
    has_data = sa.cast(events.c.data, sa.Text) != "{}"
    return sa.and_(
        TELLING,
        sa.or_(events.c.facts.is_not(None), has_data),
        events.c.received_at < old,
        ~waiting,
    )


def old_case_notes(old: now) -> sa.ColumnElement[bool]:
    """A condition: a person closed a case before `old`, and their note is still there."""
    return sa.and_(cases.c.closed_at < old, cases.c.note != "", cases.c.closed_by != RELAY)
