"""The audit trail: what people do, written in the transaction of the act itself, or not at all.

It is for people to read. What Relay itself goes by stands in tables of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.ledger.database import ago, now
from relay.ledger.schema import INSERTS, acknowledged_events, audit, ended_sessions, new_id

NO_NOTE = "Write a note first. Relay keeps it, with who did this and when."
RESEND = "resend"  # what the trail calls it when a person has a message sent again


class NotDone(Exception):
    """A person asked for something that cannot be done. Its text says why; nothing is committed."""


@dataclass(frozen=True)
class Act:
    """Who did what to which target. Addresses and names do not belong here: ids only."""

    actor: str
    action: str
    target: str = ""
    detail: str = ""


def keep(connection: Connection, act: Act | None, detail: str = "") -> None:
    """Write an act to the audit trail, in the transaction of what was done, with another `detail`
    where one is given. Does nothing for None: the caller then writes its own.
    """
    if act:
        told = replace(act, detail=detail) if detail else act
        write_audit(connection, told.actor, told.action, told.target, told.detail)


_AFTER = "aud_g"  # sorts behind every id that `new_id` gives the audit trail


def write_audit(
    connection: Connection, actor: str, action: str, target: str, detail: str = ""
) -> None:
    """Write who did what to the audit trail, in the transaction of what was done.

    Addresses and names do not belong here: ids only.
    """
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


def audited(connection: Connection, action: str, interval: timedelta) -> int:
    """Count how often an action was done within the last `interval`."""
    query = sa.select(sa.func.count()).where(audit.c.action == action, audit.c.at > ago(interval))
    return int(connection.execute(query).scalar_one())


def audit_of(connection: Connection, target: str, limit: int = 20) -> list[Mapping[str, Any]]:
    """The newest rows of the audit trail about one target."""
    query = audit.select().where(audit.c.target == target).order_by(audit.c.at.desc())
    return [dict(row) for row in connection.execute(query.limit(limit)).mappings()]


def audit_before(connection: Connection, last: str, limit: int) -> list[Mapping[str, Any]]:
    """The newest rows of the audit trail, or those before the id `last`."""
    # What begins otherwise is a mark that the release before leaves of a text: nobody's act.
    query = audit.select().where(audit.c.id < (last or _AFTER), audit.c.id < _AFTER)
    query = query.order_by(audit.c.id.desc()).limit(limit)
    return [dict(row) for row in connection.execute(query).mappings()]


def carry_over(connection: Connection) -> None:
    """Copy to tables of their own what the release before this one writes to the audit trail only.

    It does so during a deploy (schema 0004). To be removed a release later.
    """
    acts = (
        (ended_sessions, "logout", {"id": audit.c.target, "ended_at": sa.func.max(audit.c.at)}),
        (
            acknowledged_events,
            "acknowledge event",
            {
                "name": audit.c.target,
                "actor": sa.func.max(audit.c.actor),
                "note": sa.func.max(audit.c.detail),
                "acknowledged_at": sa.func.max(audit.c.at),
            },
        ),
    )
    for table, action, values in acts:
        lately = (audit.c.action == action, audit.c.at > ago(timedelta(days=1)))
        found = sa.select(*values.values()).where(*lately).group_by(audit.c.target)
        insert = INSERTS[connection.dialect.name](table).from_select([*values], found)
        connection.execute(insert.on_conflict_do_nothing())
