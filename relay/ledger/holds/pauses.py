"""Pauses of channels and of the lab: work that needs them waits, but for one probe at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay import fault_injection
from relay.ledger.database import now
from relay.ledger.schema import INSERTS, attempts, lab_pauses, pauses
from relay.ledger.worklist.cases import close_settled, open_case
from relay.rules.model import Pause
from relay.rules.statuses import AWAY, BUSY, DROPPED, REFUSED

LAB = "lab"  # used in place of a channel's name
# An accepted message shows that these causes are over; only a receipt shows it for DROPPED.
AT_SENDING = (REFUSED, AWAY, BUSY)
# Seconds until the first, second, … probe; the last delay repeats.
PROBES = (30.0, 60.0, 120.0, 300.0)
RESUMED = "A trial message went through, so sending has resumed."
ANSWERS = "The lab has answered a trial request, so Relay has gone on."


def table_of(channel: str) -> sa.Table:
    """The table that holds a channel's pause, or the lab's."""
    return lab_pauses if channel == LAB else pauses


def pause(connection: Connection, channel: str, event_id: str, why: Pause) -> None:
    """Pause a channel. If it is paused already, the longer of the two times counts."""
    wait = PROBES[0] if why.seconds is None else why.seconds
    table = table_of(channel)
    insert = INSERTS[connection.dialect.name](table).values(
        channel=channel,
        cause=why.cause,
        reason=why.reason[:500],
        since=now(),
        until=now(fault_injection.hastened(wait)),
    )
    given, there = insert.excluded, table.c
    # A cause that a person has to put right is not replaced by one that passes by itself.
    weighs = sa.or_(given.cause.in_((REFUSED, DROPPED)), there.cause.in_((AWAY, BUSY)))
    kept = {
        "until": sa.case((given.until > there.until, given.until), else_=there.until),
        "cause": sa.case((weighs, given.cause), else_=there.cause),
        "reason": sa.case((weighs, given.reason), else_=there.reason),
        # Messages sent before the last drop prove nothing.
        "since": sa.case((given.cause == DROPPED, given.since), else_=there.since),
    }
    connection.execute(insert.on_conflict_do_update(index_elements=[there.channel], set_=kept))
    if why.case:
        open_case(connection, replace(why.case, event_id=event_id))


def resume(connection: Connection, channel: str, *causes: str) -> bool:
    """End a channel's pause if it has one of these causes, or none is named, and close its case:
    the provider accepts messages again. Return False if there was no such pause.
    """
    return _end(connection, channel, *([table_of(channel).c.cause.in_(causes)] if causes else []))


def arrived(connection: Connection, channel: str, attempt_ids: Sequence[str]) -> None:
    """End a channel's pause for dropped messages, if one of these attempts began after that."""
    sent_at = sa.select(sa.func.max(attempts.c.started_at)).where(attempts.c.id.in_(attempt_ids))
    is_since = pauses.c.since < sent_at.scalar_subquery()
    _end(connection, channel, pauses.c.cause == DROPPED, is_since)


def _end(connection: Connection, channel: str, *which: sa.ColumnElement[bool]) -> bool:
    table = table_of(channel)
    ended = connection.execute(table.delete().where(table.c.channel == channel, *which)).rowcount
    if ended:
        kind, said = (LAB, ANSWERS) if channel == LAB else ("paused", RESUMED)
        close_settled(connection, kind, channel, said)
    return bool(ended)


def resume_all(connection: Connection) -> None:
    """End every pause, to find out anew whether each provider accepts messages."""
    for row in paused(connection):
        resume(connection, row["channel"])


def turn(connection: Connection, channel: str) -> int | None:
    """How many messages a channel may send now, or how many events may ask the lab: None for no
    limit, 0 during a pause, 1 for a probe.
    """
    table = table_of(channel)
    found = connection.execute(_asking(table), {"by": channel}).first()
    if found is None:
        return None
    if found.closed:
        return 0
    if found.cause == BUSY:
        resume(connection, channel)
        return None
    # The others wait while this probe is out, longer after each probe.
    wait = PROBES[min(found.probes + 1, len(PROBES) - 1)]
    taken = connection.execute(
        table.update()
        .where(table.c.channel == channel, table.c.until <= now())
        .values(until=now(fault_injection.hastened(wait)), probes=table.c.probes + 1)
    )
    return 1 if taken.rowcount else 0


def give_back(connection: Connection, channel: str) -> None:
    """Let another message be the probe at once, because this one was not handed over: it was no
    longer wanted, or not yet, and so proves nothing about the provider.
    """
    connection.execute(
        pauses.update()
        .where(pauses.c.channel == channel, pauses.c.probes > 0)
        .values(until=now(), probes=pauses.c.probes - 1)
    )


@cache
def _asking(table: sa.Table) -> sa.Select[Any]:
    is_closed = (table.c.until > now()).label("closed")
    query = sa.select(table.c.cause, table.c.probes, is_closed)
    return query.where(table.c.channel == sa.bindparam("by"))


def paused(connection: Connection) -> list[Mapping[str, Any]]:
    """The pauses of channels, with their cause and start; the lab's first, if there is one."""
    both = sa.union_all(lab_pauses.select(), pauses.select())
    return [dict(row) for row in connection.execute(both).mappings()]


def of_lab(connection: Connection) -> Mapping[str, Any] | None:
    """The lab's pause, with whether a probe is due (`is_due`); None while the lab answers."""
    row = connection.execute(_OF_LAB).mappings().first()
    return dict(row) if row else None


_OF_LAB = sa.select(lab_pauses, (lab_pauses.c.until <= now()).label("is_due"))
