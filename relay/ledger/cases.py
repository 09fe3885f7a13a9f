"""The worklist: what a person has to see to, once each, until somebody closes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.ledger.audit import Act, NotDone, keep
from relay.ledger.database import Database, now
from relay.ledger.notifications import insert_notices
from relay.ledger.schema import INSERTS, audit, cases, events, new_id, notifications, watches
from relay.rules.model import Case, case_digest

RELAY = "relay"  # who closes what has settled by itself
MARK = 20  # characters of a digest that a closed case keeps
URGENT = "release"  # goes out by itself unless somebody looks at it in time


def open_case(connection: Connection, case: Case) -> bool:
    """Put a case on the worklist and write to staff, unless it is open already."""
    id_ = new_id("cas")
    insert = INSERTS[connection.dialect.name](cases).values(
        id=id_,
        digest=case.digest,
        kind=case.kind,
        subject=case.subject[:255],
        event_id=case.event_id,
        notification_id=case.notification_id,
        reason=case.reason[:500],
        opened_at=now(),
    )
    # By RETURNING, here and elsewhere: an INSERT's rowcount is -1 on PostgreSQL.
    opened = insert.on_conflict_do_nothing().returning(cases.c.id)
    if connection.execute(opened).first() is None:
        return False
    alerts = [replace(alert, key=id_) for alert in case.alerts]
    insert_notices(connection, case.event_id, alerts)
    return True


def close_case(connection: Connection, case_id: str, by: str, note: str) -> bool:
    """Take a case off the worklist, in the transaction of what was done about it; False when it is
    closed already, or not known.
    """
    return bool(_close(connection, cases.c.id == case_id, by, note))


def close_settled_in(connection: Connection, kind: str, key: str, note: str) -> None:
    """Close what has settled by itself."""
    _close(connection, cases.c.digest == case_digest(kind, key), RELAY, note)


def close_cases_of(connection: Connection, messages: Sequence[str], note: str) -> None:
    """Close what is open about messages of which nobody has to think any more."""
    _close(connection, cases.c.notification_id.in_(messages), RELAY, note)


def _close(connection: Connection, which: sa.ColumnElement[bool], by: str, note: str) -> int:
    # Its digest is given up, so that the same may be opened again.
    return connection.execute(
        cases.update()
        .where(which, cases.c.closed_at.is_(None))
        .values(
            closed_at=now(),
            closed_by=by[:100],
            note=note[:500],
            digest=sa.func.substr(cases.c.digest, 1, MARK) + ":" + cases.c.id,
        )
    ).rowcount


def open_cases(db: Database, kind: str = "", limit: int = 200) -> list[Mapping[str, Any]]:
    """The worklist, or one kind of case: what goes out by itself, then the oldest first. Each with
    its event's name.
    """
    query = _cases().where(cases.c.closed_at.is_(None))
    if kind:
        query = query.where(cases.c.kind == kind)
    query = query.order_by(cases.c.kind != URGENT, cases.c.opened_at, cases.c.id)
    with db.read() as connection:
        return [dict(row) for row in connection.execute(query.limit(limit)).mappings()]


def get_case(db: Database, case_id: str) -> dict[str, Any] | None:
    """A case by its id, open or closed."""
    with db.read() as connection:
        row = connection.execute(_cases().where(cases.c.id == case_id)).mappings().first()
    return dict(row) if row else None


def count_open(db: Database) -> int:
    """How many cases are open."""
    query = sa.select(sa.func.count()).select_from(cases).where(cases.c.closed_at.is_(None))
    with db.read() as connection:
        return connection.execute(query).scalar_one()


def open_kinds(db: Database) -> dict[str, int]:
    """How many cases of each kind are open."""
    query = sa.select(cases.c.kind, sa.func.count()).where(cases.c.closed_at.is_(None))
    with db.read() as connection:
        return {kind: many for kind, many in connection.execute(query.group_by(cases.c.kind))}


def open_for_all(db: Database, case: Case) -> bool:
    """Open a case that is about no event; it is kept with the newest. False while there is none."""
    with db.write() as connection:
        return open_for_all_in(connection, case)


def open_for_all_in(connection: Connection, case: Case) -> bool:
    """The same, in the transaction of what it is about."""
    newest = sa.select(events.c.id).order_by(events.c.id.desc()).limit(1)
    event_id = connection.execute(newest).scalar()
    return bool(event_id) and open_case(connection, replace(case, event_id=str(event_id)))


def close_settled(db: Database, kind: str, key: str, note: str) -> None:
    """Close what has settled by itself."""
    with db.write() as connection:
        close_settled_in(connection, kind, key, note)


def _cases() -> sa.Select[Any]:
    """Cases with the names of their events."""
    joined = cases.join(events, events.c.id == cases.c.event_id)
    return sa.select(cases, events.c.name.label("event")).select_from(joined)


CASE_ACT = "case "  # begins what the audit trail calls an act about a case
CLOSE, OPEN = "close", "open"
Do = Callable[[Connection], str]  # what is done about a case, and what to tell of it
CLOSED_ALREADY = "That case is already closed."
_OPEN_ALREADY = "That case is already open."
_NEWER = "A newer case about this is already on the worklist."


def see_to(db: Database, case_id: str, act: Act, note: str, do: Do) -> str:
    """Do something about a case, close it, and keep who did; what `do` says of it.

    Raises NotDone, and then nothing is changed.
    """
    with db.write() as connection:
        said = do(connection)
        if not close_case(connection, case_id, act.actor, note):
            raise NotDone(CLOSED_ALREADY)
        keep(connection, act)
        return said


def closed_cases(db: Database, limit: int = 20) -> list[Mapping[str, Any]]:
    """The cases that were closed last, each with whether it `can_open` again."""
    last = _closed().order_by(cases.c.closed_at.desc()).limit(limit)
    with db.read() as connection:
        rows = [dict(row) for row in connection.execute(last).mappings()]
        return [{**row, "can_open": bool(_original_digest(connection, row))} for row in rows]


def reopen(db: Database, case_id: str, act: Act) -> None:
    """Put a case on the worklist again that somebody has just closed. Raises NotDone."""
    with db.write() as connection:
        row = connection.execute(_closed().where(cases.c.id == case_id)).mappings().first()
        digest = _original_digest(connection, dict(row)) if row else ""
        if not digest:
            raise NotDone(_OPEN_ALREADY)
        if connection.execute(sa.select(cases.c.id).where(cases.c.digest == digest)).first():
            raise NotDone(_NEWER)
        mine = cases.update().where(cases.c.id == case_id, cases.c.closed_at.is_not(None))
        connection.execute(mine.values(closed_at=None, closed_by=None, digest=digest))
        keep(connection, act)


def _closed() -> sa.Select[Any]:
    """Closed cases, with what was done last about each, and whom its message was owed."""
    last = (
        sa.select(audit.c.action)
        .where(audit.c.target == cases.c.id)
        .order_by(audit.c.at.desc(), audit.c.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    joined = cases.join(events, events.c.id == cases.c.event_id)
    joined = joined.join(notifications, notifications.c.id == cases.c.notification_id, isouter=True)
    columns = (last.label("action"), notifications.c.family, events.c.round)
    query = sa.select(cases, events.c.name.label("event"), *columns).select_from(joined)
    return query.where(cases.c.closed_at.is_not(None))


def _original_digest(connection: Connection, row: Mapping[str, Any]) -> str:
    """What names a case while it is open, found out again by its first characters; empty where it
    was not just closed, or is about what has passed.
    """
    if row["closed_by"] == RELAY or row["action"] != CASE_ACT + CLOSE:
        return ""
    digests = (case_digest(row["kind"], key) for key in _keys(connection, row) if key)
    mark = row["digest"][:MARK]
    return next((digest for digest in digests if digest.startswith(mark)), "")


def _keys(connection: Connection, row: Mapping[str, Any]) -> Iterator[str | None]:
    """What a case may be about: whatever opens one has chosen one of these."""
    yield from (row["family"], row["notification_id"], row["event_id"], row["subject"])
    if row["kind"] == "missing":
        names = connection.execute(sa.select(watches.c.name)).scalars()
        yield from (f"{name}:{row['subject']}:{row['round']}" for name in names)
