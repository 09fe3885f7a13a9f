"""Heartbeats: which workers are alive."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.ledger.database import ago, now
from relay.ledger.schema import INSERTS, heartbeats

WORKER_GONE_AFTER = timedelta(seconds=90)


def beat(connection: Connection, name: str) -> None:
    """Write a worker's heartbeat, and forget workers that were last seen a day ago."""
    insert = INSERTS[connection.dialect.name](heartbeats).values(name=name, seen_at=now())
    connection.execute(
        insert.on_conflict_do_update(index_elements=[heartbeats.c.name], set_={"seen_at": now()})
    )
    connection.execute(heartbeats.delete().where(heartbeats.c.seen_at < ago(timedelta(days=1))))


def swept(connection: Connection, name: str) -> None:
    """Record that a worker has just swept."""
    mine = heartbeats.update().where(heartbeats.c.name == name)
    connection.execute(mine.values(swept_at=now()))


def stop_beating(connection: Connection, name: str) -> None:
    """Forget a worker that has stopped."""
    connection.execute(heartbeats.delete().where(heartbeats.c.name == name))


def workers_alive(connection: Connection) -> int:
    """Count the workers that were seen recently."""
    query = sa.select(sa.func.count()).where(heartbeats.c.seen_at >= ago(WORKER_GONE_AFTER))
    return int(connection.execute(query).scalar_one())
