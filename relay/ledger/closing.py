"""Cases that a person sees to: done and closed in one; those closed last; opened again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.ledger.acting import Act, NotDone, keep
from relay.ledger.cases import MARK, RELAY, close_case
from relay.ledger.database import Database
from relay.ledger.household import audit, watches
from relay.ledger.schema import cases, events, notifications
from relay.rules.model import case_digest

ACT = "case "  # begins what the audit trail calls an act about a case
CLOSE, OPEN = "close", "open"
Do = Callable[[Connection], str]  # what is done about a case, and what to tell of it
CLOSED_ALREADY = "That case was closed already."
_OPEN_ALREADY = "That case is open already."
_NEWER = "The same is on the worklist already, in a newer case."


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


def closed(db: Database, limit: int = 20) -> list[Mapping[str, Any]]:
    """The cases that were closed last, each with whether it `can_open` again."""
    last = _closed().order_by(cases.c.closed_at.desc()).limit(limit)
    with db.read() as connection:
        rows = [dict(row) for row in connection.execute(last).mappings()]
        return [{**row, "can_open": bool(_digest(connection, row))} for row in rows]


def open_again(db: Database, case_id: str, act: Act) -> None:
    """Put a case on the worklist again that somebody has just closed. Raises NotDone."""
    with db.write() as connection:
        row = connection.execute(_closed().where(cases.c.id == case_id)).mappings().first()
        digest = _digest(connection, dict(row)) if row else ""
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


def _digest(connection: Connection, row: Mapping[str, Any]) -> str:
    """What names a case while it is open, found out again by its first characters; empty where it
    was not just closed, or is about what has passed.
    """
    if row["closed_by"] == RELAY or row["action"] != ACT + CLOSE:
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
