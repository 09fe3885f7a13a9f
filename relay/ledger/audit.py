"""The audit trail: acts of people, each written in the transaction of the act itself or not at all.

It is for people to read. Relay's own decisions use other tables.
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

# Where an act comes from: the desk's session, and a mark of the address, of the request that is
# being answered. The desk sets it.
ORIGIN: ContextVar[tuple[str, str]] = ContextVar("ORIGIN", default=("", ""))
NO_NOTE = "Write a note first. Relay keeps it, with who did this and when."
LOGIN_REFUSED = "login refused"
STOP, RESUME, CANCEL = "stop", "resume", "cancel latest"  # the stop button
PUBLISH = "edition publish"
RESEND = "resend"  # the act of having a message sent again
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
    """Write an act to the audit trail, in the transaction of the act itself, with another `detail`
    if one is given. Do nothing for None: the caller then writes its own.
    """
    if act:
        written = replace(act, detail=detail) if detail else act
        write_audit(connection, written.actor, written.action, written.target, written.detail)


_AFTER = "aud_g"  # sorts after every id that `new_id` gives the audit trail


def write_audit(
    connection: Connection, actor: str, action: str, target: str, detail: str = ""
) -> None:
    """Write who did what to the audit trail, in the transaction of the act itself.

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
    """Let the rest of a transaction change the trail, which PostgreSQL otherwise refuses: an
    erasure removes a person from it, and old refused logins are deleted.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SET LOCAL relay.erases = 'yes'"))


def audited(connection: Connection, action: str, interval: timedelta, detail: str = "") -> int:
    """Count an action within the last `interval`; with `detail`, only lines that begin with it."""
    query = sa.select(sa.func.count()).where(audit.c.action == action, audit.c.at > ago(interval))
    query = query.where(audit.c.detail.startswith(detail)) if detail else query
    return int(connection.execute(query).scalar_one())


def count_by(connection: Connection, actor: str, actions: Collection[str]) -> int:
    """Count the acts of these kinds by one person within the last hour."""
    lately = (audit.c.action.in_(actions), audit.c.at > ago(timedelta(hours=1)))
    query = sa.select(sa.func.count()).where(audit.c.actor == actor, *lately)
    return int(connection.execute(query).scalar_one())


def about(connection: Connection, targets: Collection[str]) -> list[Mapping[str, Any]]:
    """All lines about one of these targets, the oldest first."""
    query = audit.select().where(audit.c.target.in_(targets)).order_by(audit.c.at, audit.c.id)
    return [dict(row) for row in connection.execute(query).mappings()]


def all_lines(connection: Connection, since: datetime) -> Iterator[Mapping[str, Any]]:
    """Yield the trail since a moment, oldest line first, reading a few thousand lines at a time."""
    query = audit.select().where(audit.c.at >= since, audit.c.id < _AFTER).order_by(audit.c.id)
    with connection.execute(query.execution_options(yield_per=5000)) as found:
        yield from (dict(row) for row in found.mappings())


def audit_of(connection: Connection, target: str, limit: int = 20) -> list[Mapping[str, Any]]:
    """The newest rows of the audit trail about one target."""
    query = audit.select().where(audit.c.target == target).order_by(audit.c.at.desc())
    return [dict(row) for row in connection.execute(query.limit(limit)).mappings()]


def audit_before(connection: Connection, last: str, limit: int) -> list[Mapping[str, Any]]:
    """The newest rows of the audit trail, or those before the id `last`."""
    # Other ids are marks that the previous release leaves of texts: nobody's act.
    query = audit.select().where(audit.c.id < (last or _AFTER), audit.c.id < _AFTER)
    query = query.order_by(audit.c.id.desc()).limit(limit)
    return [dict(row) for row in connection.execute(query).mappings()]


def carry_over(connection: Connection) -> None:
    """Copy to their own tables the lines that the previous release writes only to the audit trail.

    It does so during a deploy (schema 0004). To be removed in the next release.
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


# The meanings of the trail's words. A word that is not here is shown as it is.
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
