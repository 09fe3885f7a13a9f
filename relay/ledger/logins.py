"""Logins to the desk: sessions that have ended, and wrong passwords."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.ledger.database import ago, now
from relay.ledger.schema import INSERTS, ended_sessions, first_id, login_failures, new_id
from relay.rules.schedule import utc_now

LONGEST_SESSION = timedelta(hours=12)  # from the login, however busy it is
LONGEST_PAUSE = timedelta(days=1)  # no wrong password counts for longer
_CLOCKS_DIFFER = timedelta(minutes=10)  # an id has the web process's clock in it


def end_session(connection: Connection, session_id: str) -> None:
    """Mark a session as ended, for good."""
    insert = INSERTS[connection.dialect.name](ended_sessions)
    ended = insert.values(id=session_id, ended_at=now()).on_conflict_do_nothing()
    connection.execute(ended)


def has_ended(connection: Connection, session_id: str) -> bool:
    """Whether a session was ended by logging out."""
    query = sa.select(ended_sessions.c.id).where(ended_sessions.c.id == session_id)
    return connection.execute(query).first() is not None


def add_failure(connection: Connection, visitor: str) -> None:
    """Count a wrong password of a visitor, who is named by a mark and not by an address."""
    row = {"id": new_id("lgf"), "visitor": visitor, "failed_at": now()}
    connection.execute(login_failures.insert().values(row))


def count_failures(connection: Connection, interval: timedelta, visitor: str = "") -> int:
    """Count the wrong passwords within the last `interval`: a visitor's, or everybody's."""
    table = login_failures.c
    query = sa.select(sa.func.count()).where(table.failed_at > ago(interval))
    if visitor:
        query = query.where(table.visitor == visitor)
    else:  # along the primary key: ids sort by time
        query = query.where(table.id >= first_id("lgf", utc_now() - interval - _CLOCKS_DIFFER))
    return int(connection.execute(query).scalar_one())
