"""The clock's work on the ledger, and what it says of its own state."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError

from relay.errors import LedgerUnavailable
from relay.ledger.database import Database, ago, now
from relay.ledger.household import audit, heartbeats
from relay.ledger.schema import INSERTS, REVISION, events, new_id, notifications, quarantine
from relay.ledger.statuses import HELD, UNROUTED, WAITING

WORKER_GONE_AFTER = timedelta(seconds=90)


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
    """Whether the database is as this code needs it."""
    return revision(db) == REVISION


def purge(db: Database, retention: timedelta) -> int:
    """Blank contact details, words and payloads older than `retention`; how many rows it was.

    What happened and why stays: ids, times, statuses, reasons. What is on its way is kept whole.
    """
    on_its_way = (*WAITING, "sending")
    old = sa.and_(
        notifications.c.created_at < ago(retention),
        notifications.c.status.not_in(on_its_way),
        sa.or_(notifications.c.address != "", notifications.c.content.is_not(None)),
    )
    digest = notifications.alias()
    waiting = sa.or_(
        sa.exists().where(
            notifications.c.event_id == events.c.id, notifications.c.status.in_(on_its_way)
        ),
        sa.exists().where(  # to be told in a digest
            notifications.c.event_id == events.c.id,
            digest.c.identity == notifications.c.digest,
            digest.c.status.in_(on_its_way),
        ),
    )
    never_fetched = sa.and_(
        events.c.status.in_((UNROUTED, HELD)), sa.cast(events.c.data, sa.Text) != "{}"
    )
    old_events = sa.and_(
        events.c.received_at < ago(retention),
        sa.or_(events.c.facts.is_not(None), never_fetched),
        ~waiting,
    )
    with db.write() as connection:
        return sum(
            connection.execute(statement).rowcount
            for statement in (
                notifications.update().where(old).values(address="", content=None),
                events.update().where(old_events).values(facts=None, data={}, person=None),
                quarantine.delete().where(quarantine.c.last_at < ago(retention)),
            )
        )


def write_audit(db: Database, actor: str, action: str, target: str, detail: str = "") -> None:
    """Keep who did what. Addresses and names do not belong here: ids only."""
    with db.write() as connection:
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
