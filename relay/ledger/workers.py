"""Which workers are alive: each writes a heartbeat."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.ledger.database import ago, now
from relay.ledger.schema import INSERTS, heartbeats

WORKER_GONE_AFTER = timedelta(seconds=90)


def beat(connection: Connection, name: str) -> None:
    """Say that a worker is alive."""
    insert = INSERTS[connection.dialect.name](heartbeats).values(name=name, seen_at=now())
    connection.execute(
        insert.on_conflict_do_update(index_elements=[heartbeats.c.name], set_={"seen_at": now()})
    )
    connection.execute(heartbeats.delete().where(heartbeats.c.seen_at < ago(timedelta(days=1))))


def swept(connection: Connection, name: str) -> None:
    """Say that a worker has swept."""
    mine = heartbeats.update().where(heartbeats.c.name == name)
    connection.execute(mine.values(swept_at=now()))


def stop_beating(connection: Connection, name: str) -> None:
    """Say that a worker has stopped by itself."""
    connection.execute(heartbeats.delete().where(heartbeats.c.name == name))


def workers_alive(connection: Connection) -> int:
    """How many workers were seen lately."""
    query = sa.select(sa.func.count()).where(heartbeats.c.seen_at >= ago(WORKER_GONE_AFTER))
    return int(connection.execute(query).scalar_one())
