"""Refused posts: kept, then accepted after all or put aside."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.errors import Refused
from relay.lab.events import REFUSED, Incoming
from relay.ledger.audit import Act, keep
from relay.ledger.database import first_id, new_id, now
from relay.ledger.events import Recorded, record
from relay.ledger.schema import IN_QUARANTINE, INSERTS, quarantine
from relay.ledger.worklist.cases import open_for_all, recount
from relay.rules.model import Case

Row = Mapping[str, Any]
MOST_POSTS, MOST_BYTES = 2_000, 16 * 1024 * 1024  # of refused bodies kept in a day
MORE = "More posts were refused on this day than Relay keeps: these are only counted."
# All but the body, which may hold anything: it is read separately.
_SHOWN = [column for column in quarantine.c if column.name != "body"]


def keep_refused(
    connection: Connection, body: bytes, refused: Refused, case: Case | None = None
) -> str:
    """Put a refused body into quarantine, once however often it is posted; return its id. The first
    for its event opens `case`. Bodies beyond the daily limit are only counted.
    """
    digest, error, fields = hashlib.sha256(body).hexdigest(), refused.error[:500], refused.fields
    if _is_full(connection, digest, len(body)):
        digest, body, error, fields = f"more of {datetime.now(UTC):%Y-%m-%d}", b"", MORE, {}
    insert = INSERTS[connection.dialect.name](quarantine).values(
        id=new_id("qrt"),
        digest=digest,
        body=body,
        error=error,
        fields=fields,
        first_at=now(),
        last_at=now(),
    )
    statement = insert.on_conflict_do_update(
        index_elements=[quarantine.c.digest],
        set_={"posts": quarantine.c.posts + 1, "last_at": now()},
    ).returning(quarantine.c.id, quarantine.c.posts)
    id_, posts = connection.execute(statement).one()
    if posts == 1 and case and not open_for_all(connection, case, at_first=True):
        _recount(connection)
    return str(id_)


def _is_full(connection: Connection, digest: str, size: int) -> bool:
    """Whether the last day's posts fill the quarantine, and this is not one of them."""
    table, length = quarantine.c, sa.func.length(quarantine.c.body)
    of_a_day = table.id >= first_id("qrt", datetime.now(UTC) - timedelta(days=1))
    query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(length), 0)).where(of_a_day)
    many, bytes_ = connection.execute(query).one()
    if many < MOST_POSTS and bytes_ + size <= MOST_BYTES:
        return False
    known = sa.select(table.id).where(table.digest == digest)
    return connection.execute(known).first() is None


def _recount(connection: Connection) -> None:
    """Update each event's case with how many of its posts wait, or close it if none does."""
    waiting = sa.select(quarantine.c.error, sa.func.count().label("many")).where(IN_QUARANTINE)
    many = {row.error: row.many for row in connection.execute(waiting.group_by(quarantine.c.error))}
    left = {name: many.get(error, 0) for name, error in REFUSED.items()}
    recount(connection, "refused", left, "Somebody has dealt with each of its posts.")


def ids(connection: Connection) -> list[str]:
    """The ids of refused posts that nobody has dealt with, the oldest first."""
    query = sa.select(quarantine.c.id).where(IN_QUARANTINE).order_by(quarantine.c.id)
    return list(connection.execute(query).scalars())


def latest(connection: Connection, limit: int = 50) -> list[Row]:
    """The refused posts that nobody has dealt with, the last posted first."""
    query = sa.select(*_SHOWN).where(IN_QUARANTINE).order_by(quarantine.c.last_at.desc())
    return [dict(row) for row in connection.execute(query.limit(limit)).mappings()]


def aside(connection: Connection, limit: int = 20) -> list[Row]:
    """The refused posts put aside most recently, the newest first."""
    is_aside = (quarantine.c.closed_at.is_not(None), quarantine.c.event_id.is_(None))
    query = sa.select(*_SHOWN).where(*is_aside)
    query = query.order_by(quarantine.c.closed_at.desc()).limit(limit)
    return [dict(row) for row in connection.execute(query).mappings()]


def get(connection: Connection, quarantine_id: str) -> Row | None:
    """A refused post by its id, without its body; None if there is none."""
    row = connection.execute(sa.select(*_SHOWN).where(quarantine.c.id == quarantine_id))
    found = row.mappings().first()
    return dict(found) if found else None


def body(connection: Connection, quarantine_id: str) -> bytes | None:
    """The body of a refused post; None once it has become an event."""
    query = sa.select(quarantine.c.body).where(
        quarantine.c.id == quarantine_id, quarantine.c.event_id.is_(None)
    )
    found = connection.execute(query).scalar()
    return None if found is None else bytes(found)


def release(
    connection: Connection,
    quarantine_id: str,
    incoming: Incoming,
    window: timedelta,
    act: Act | None = None,
) -> Recorded:
    """Record the event that a refused body can now be read as. Doing it twice makes one event."""
    mine = quarantine.c.id == quarantine_id
    query = sa.select(quarantine.c.event_id).where(mine).with_for_update()
    if became := connection.execute(query).scalar():
        return Recorded(became, "duplicate")
    recorded = record(connection, incoming, window)
    connection.execute(quarantine.update().where(mine).values(event_id=recorded.id))
    _recount(connection)
    keep(connection, act, recorded.id)
    return recorded


def put_aside(connection: Connection, quarantine_id: str, act: Act, note: str) -> bool:
    """Take a refused post off the worklist for good; False if somebody has already dealt with it.

    Its body stays until retention deletes it, and `replay` with its id still tries it.
    """
    done = _put_aside(connection, quarantine.c.id == quarantine_id, act, note)
    if done:
        keep(connection, act)
    return bool(done)


def put_all_aside(connection: Connection, until: datetime, act: Act, note: str) -> int:
    """Take off the worklist every refused post last posted by `until`; return how many."""
    done = _put_aside(connection, quarantine.c.last_at <= until, act, note)
    if done:
        keep(connection, act, str(done))
    return done


def _put_aside(connection: Connection, which: sa.ColumnElement[bool], act: Act, note: str) -> int:
    values = {"closed_at": now(), "closed_by": act.actor[:100], "note": note[:500]}
    done = connection.execute(quarantine.update().where(which, IN_QUARANTINE).values(values))
    _recount(connection)
    return int(done.rowcount)


def take_back(connection: Connection, quarantine_id: str, act: Act) -> bool:
    """Put a refused post back on the worklist; False unless it was put aside and is still kept."""
    table = quarantine.c
    mine = (table.id == quarantine_id, table.closed_at.is_not(None), table.event_id.is_(None))
    values = {"closed_at": None, "closed_by": None, "note": ""}
    done = connection.execute(quarantine.update().where(*mine).values(values)).rowcount
    if done:
        keep(connection, act)
    return bool(done)
