"""The clock's work on the ledger, and what it says of its own state."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError

from relay.errors import LedgerUnavailable
from relay.ledger import expiring
from relay.ledger.cases import RELAY
from relay.ledger.database import Database, ago, now
from relay.ledger.household import audit, heartbeats
from relay.ledger.schema import (
    INSERTS,
    PERSONAL,
    REVISION,
    TELLING,
    cases,
    events,
    new_id,
    notifications,
    quarantine,
)
from relay.rules.model import WAITING

WORKER_GONE_AFTER = timedelta(seconds=90)
PURGED_AT_ONCE = 1000
_AFTER = "aud_g"  # sorts behind every id that `new_id` gives the audit trail
_ON_ITS_WAY = (*WAITING, "sending")


def beat(db: Database, name: str) -> None:
    """Say that a worker is alive."""
    with db.write() as connection:
        insert = INSERTS[connection.dialect.name](heartbeats).values(name=name, seen_at=now())
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=[heartbeats.c.name], set_={"seen_at": now()}
            )
        )
        connection.execute(heartbeats.delete().where(heartbeats.c.seen_at < ago(timedelta(days=1))))


def swept(db: Database, name: str) -> None:
    """Say that a worker has swept."""
    with db.write() as connection:
        mine = heartbeats.update().where(heartbeats.c.name == name)
        connection.execute(mine.values(swept_at=now()))


def stop_beating(db: Database, name: str) -> None:
    """Say that a worker has stopped by itself."""
    with db.write() as connection:
        connection.execute(heartbeats.delete().where(heartbeats.c.name == name))


def workers_alive(db: Database) -> int:
    """How many workers were seen lately."""
    query = sa.select(sa.func.count()).where(heartbeats.c.seen_at >= ago(WORKER_GONE_AFTER))
    with db.read() as connection:
        return int(connection.execute(query).scalar_one())


def revision(db: Database) -> str | None:
    """The schema's revision in the database; None when it was never migrated."""
    try:
        with db.engine.connect() as connection:
            return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    except SQLAlchemyError as error:
        if isinstance(error, ProgrammingError) or "no such table" in str(error):
            return None
        raise LedgerUnavailable("the ledger is out of reach") from error


def is_migrated(db: Database) -> bool:
    """Whether the database is as this code needs it, or as a later version does: old and new run
    side by side while a release goes out, and migrations only add.
    """
    found = revision(db)
    return found == REVISION or is_newer(found)


def is_newer(found: str | None) -> bool:
    """Whether a revision is of a later version than this code's."""
    return bool(found) and str(found).isdecimal() and int(str(found)) > int(REVISION)


def purge(db: Database, retention: timedelta, seconds: float = math.inf) -> int:
    """Blank contact details, words and payloads older than `retention`; how many rows it was.

    After so many seconds it ends, though there may be more.

    What happened and why stays: ids, times, statuses, reasons. What is on its way is kept whole.
    By a few rows at a time, so that nobody waits for a lock of it. Texts are deleted at the
    provider too, by `expiring`.
    """
    old, ends = ago(retention), time.monotonic() + seconds
    return sum(
        _in_turns(db, table, where, moment, values, ends)
        for table, where, moment, values in (
            (notifications, _told_before(old), notifications.c.created_at, _NOBODY),
            (events, _about_before(old), events.c.received_at, _NOTHING),
            (quarantine, quarantine.c.last_at < old, quarantine.c.last_at, None),
            (cases, _noted_before(old), cases.c.closed_at, {"note": ""}),
        )
    )


_NOBODY: Mapping[str, Any] = {"address": "", "content": None}
_NOTHING: Mapping[str, Any] = {"facts": None, "data": {}, "person": None}


def _in_turns(
    db: Database,
    table: sa.Table,
    where: sa.ColumnElement[bool],
    moment: sa.Column[Any],
    values: Mapping[str, Any] | None,
    ends: float,
) -> int:
    """Change the rows there are, the oldest first, or delete them where no `values` are given."""
    turn = sa.select(table.c.id).where(where).order_by(moment).limit(PURGED_AT_ONCE)
    turn = turn.with_for_update(skip_locked=True, of=table)
    done = 0
    while True:
        with db.write() as connection:
            ids = list(connection.execute(turn).scalars())
            these = table.c.id.in_(ids)
            change = table.delete() if values is None else table.update().values(**values)
            if ids:
                connection.execute(change.where(these))
                if table is notifications:
                    expiring.mark(connection, ids)
        done += len(ids)
        if len(ids) < PURGED_AT_ONCE or time.monotonic() >= ends:
            return done


def _told_before(old: now) -> sa.ColumnElement[bool]:
    """Messages that still say who was told, or what."""
    table = notifications.c
    is_over = (table.created_at < old, table.due_at < old)  # the first has the index
    return sa.and_(PERSONAL, *is_over, table.status.not_in(_ON_ITS_WAY))


def _about_before(old: now) -> sa.ColumnElement[bool]:
    """Events that still say whom they are about, and of which nobody waits to be told."""
    digest = notifications.alias()
    waiting = sa.or_(
        sa.exists().where(
            notifications.c.event_id == events.c.id, notifications.c.status.in_(_ON_ITS_WAY)
        ),
        sa.exists().where(  # to be told in a digest
            notifications.c.event_id == events.c.id,
            digest.c.identity == notifications.c.digest,
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


def _noted_before(old: now) -> sa.ColumnElement[bool]:
    """Cases with what staff wrote when they closed them."""
    return sa.and_(cases.c.closed_at < old, cases.c.note != "", cases.c.closed_by != RELAY)


def write_audit(db: Database, actor: str, action: str, target: str, detail: str = "") -> None:
    """Keep who did what. Addresses and names do not belong here: ids only."""
    with db.write() as connection:
        write_audit_in(connection, actor, action, target, detail)


def write_audit_in(
    connection: Connection, actor: str, action: str, target: str, detail: str
) -> None:
    """The same, in the transaction of what was done."""
    connection.execute(
        audit.insert().values(
            id=new_id("aud"),
            at=now(),
            actor=actor,
            action=action,
            target=target[:255],
            detail=detail[:500],
        )
    )


def audited(db: Database, action: str, interval: timedelta, target: str = "") -> int:
    """How often that was done within the last `interval`: at all, or to one target."""
    query = sa.select(sa.func.count()).where(audit.c.action == action, audit.c.at > ago(interval))
    if target:
        query = query.where(audit.c.target == target)
    with db.read() as connection:
        return int(connection.execute(query).scalar_one())


def audit_of(db: Database, target: str, limit: int = 20) -> list[Mapping[str, Any]]:
    """What was done to one target, the newest first."""
    query = audit.select().where(audit.c.target == target).order_by(audit.c.at.desc())
    with db.read() as connection:
        return [dict(row) for row in connection.execute(query.limit(limit)).mappings()]


def audit_before(db: Database, last: str, limit: int) -> list[Mapping[str, Any]]:
    """What was done, the newest first: of all, or of what stands behind the id `last`."""
    # What begins otherwise is a mark of something that is done once: nobody's act.
    query = audit.select().where(audit.c.id < (last or _AFTER), audit.c.id < _AFTER)
    query = query.order_by(audit.c.id.desc()).limit(limit)
    with db.read() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]
