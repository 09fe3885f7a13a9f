"""The audit trail: what people do, written in the transaction of the act itself, or not at all.

It is for people to read. What Relay itself goes by stands in tables of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.ledger.database import ago, new_id, now
from relay.ledger.schema import INSERTS, acknowledged_events, audit, ended_sessions

# Where what is done comes from: a session of the desk, and a mark of its address. Of the request
# that is being answered; the desk sets it.
ORIGIN: ContextVar[tuple[str, str]] = ContextVar("ORIGIN", default=("", ""))
NO_NOTE = "Write a note first. Relay keeps it, with who did this and when."
LOGIN_REFUSED = "login refused"
STOP, RESUME, CANCEL = "stop", "resume", "cancel latest"  # the stop button
PUBLISH = "edition publish"
RESEND = "resend"  # what the trail calls it when a person has a message sent again
UNDO_RESEND = "resend undone"


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
        written = replace(act, detail=detail) if detail else act
        write_audit(connection, written.actor, written.action, written.target, written.detail)


_AFTER = "aud_g"  # sorts behind every id that `new_id` gives the audit trail


def write_audit(
    connection: Connection, actor: str, action: str, target: str, detail: str = ""
) -> None:
    """Write who did what to the audit trail, in the transaction of what was done.

    Addresses and names do not belong here: ids only.
    """
    session, source = ORIGIN.get()
    connection.execute(
        audit.insert().values(
            id=new_id("aud"),
            at=now(),
            actor=actor,
            action=action,
            target=target[:255],
            detail=detail[:500],
            session=session,
            source=source,
        )
    )


def open_to_change(connection: Connection) -> None:
    """Let the rest of a transaction change the trail, which PostgreSQL refuses else: an erasure
    takes a person out of it, and refused logins are deleted once they are old.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SET LOCAL relay.erases = 'yes'"))


def audited(connection: Connection, action: str, interval: timedelta, detail: str = "") -> int:
    """Count how often an action was done within the last `interval`, or with a `detail`."""
    query = sa.select(sa.func.count()).where(audit.c.action == action, audit.c.at > ago(interval))
    query = query.where(audit.c.detail.startswith(detail)) if detail else query
    return int(connection.execute(query).scalar_one())


def count_by(connection: Connection, actor: str, actions: Collection[str]) -> int:
    """Count what somebody did of these actions within the last hour."""
    lately = (audit.c.action.in_(actions), audit.c.at > ago(timedelta(hours=1)))
    query = sa.select(sa.func.count()).where(audit.c.actor == actor, *lately)
    return int(connection.execute(query).scalar_one())


def about(connection: Connection, targets: Collection[str]) -> list[Mapping[str, Any]]:
    """All lines about one of these targets, the oldest first."""
    query = audit.select().where(audit.c.target.in_(targets)).order_by(audit.c.at, audit.c.id)
    return [dict(row) for row in connection.execute(query).mappings()]


def all_lines(connection: Connection, since: datetime) -> Iterator[Mapping[str, Any]]:
    """The whole trail since a moment, the oldest first, a few thousand lines at a time."""
    query = audit.select().where(audit.c.at >= since, audit.c.id < _AFTER).order_by(audit.c.id)
    with connection.execute(query.execution_options(yield_per=5000)) as found:
        yield from (dict(row) for row in found.mappings())


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
    for statement in _carrying(connection.dialect.name):
        connection.execute(statement)


@cache
def _carrying(dialect: str) -> list[Any]:
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
    made = []
    for table, action, values in acts:
        lately = (audit.c.action == action, audit.c.at > ago(timedelta(days=1)))
        found = sa.select(*values.values()).where(*lately).group_by(audit.c.target)
        insert = INSERTS[dialect](table).from_select([*values], found)
        made.append(insert.on_conflict_do_nothing())
    return made


# What the trail's words mean. A word that is not here is told as it is.
ACT_WORDS = {
    "login": "Logged in",
    LOGIN_REFUSED: "Wrong password",
    "end session": "Ended a session",
    "user add": "Added an account",
    "user role": "Changed an account's role",
    "user disable": "Disabled an account",
    "user reset": "Invited an account's owner anew",
    "join": "Took up an account",
    "search": "Searched",
    "found": "Saw it in a search",
    "open kit": "Opened a kit, masked",
    "look up": "Looked up an address",
    "what-if": "Tried an edit on people's data",
    "access": "Asked who had looked",
    "logout": "Logged out",
    "reveal": "Looked at masked details",
    "send-test": "Sent a test",
    "suppress": "Stopped an address",
    "unsuppress": "Allowed an address again",
    "forget asked": "Asked to erase a person",
    "forget": "Erased a person",
    "replay": "Processed something again",
    RESEND: "Sent a message again",
    UNDO_RESEND: "Took back a message",
    "purge": "Blanked old details",
    STOP: "Stopped messages",
    RESUME: "Resumed what was stopped",
    CANCEL: "Cancelled a rule's latest messages",
    PUBLISH: "Published an edition",
    "draft start": "Began a draft",
    "draft save": "Saved a draft",
    "draft ask": "Asked for a draft's approval",
    "draft drop": "Threw a draft away",
    "case close": "Closed a case",
    "case open": "Reopened a case",
    "case resend": "Sent a message again",
    "case send": "Sent a message",
    "case believe": "Marked a message as arrived",
    "case replay": "Processed an event again",
    "case release": "Released a message",
    "case stop": "Stopped a message",
    "post again": "Tried a refused post again",
    "post aside": "Put a refused post aside",
    "posts aside": "Put all refused posts aside",
    "post back": "Put a refused post back",
    "acknowledge event": "Acknowledged an unknown event",
    "process events": "Processed unknown events",
}
