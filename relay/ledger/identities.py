"""What was told about a kit stays told when the lab links the kit to another: its identity moves.

A registration turns out to repeat another, or to have been known by another name. In the
transaction that learns it, its events and messages become those of (original, round), so that no
replay and no other name tells the same a second time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.lab.events import REGISTRATION, about
from relay.lab.facts import PERSONS
from relay.ledger.notifications import KIND
from relay.ledger.schema import cases, events, notifications
from relay.rules.model import ALIVE, ITEM, MESSAGE, WAITING, case_digest, identity, obligation

_TWICE = "The same is told already: the lab has linked this test to another."
_KEYED = ("release", "unreached")  # kinds of case that are about an obligation


def move(connection: Connection, former: str, subject: str, rounds: int) -> None:
    """Make what was told under a registration's former subject that of `subject`, `rounds` on."""
    mine = sa.and_(events.c.subject == former, events.c.name.in_(about(REGISTRATION)))
    ids = list(connection.execute(sa.select(events.c.id).where(mine)).scalars())
    if former == subject or not ids:
        return
    connection.execute(
        events.update()
        .where(events.c.id.in_(ids))
        .values(subject=subject, round=events.c.round + rounds)
    )
    table = notifications.c
    of_it = sa.and_(table.event_id.in_(ids), table.subject == former)
    wanted = (
        *(table[name] for name in ("id", "rule", "round", "role", "channel", "address", "status")),
        table.obligation.label("obligation"),
        KIND.label("kind"),
    )
    moved = connection.execute(sa.select(*wanted).where(of_it).with_for_update()).all()
    touched: set[str] = set()
    for row in moved:
        touched.add(_move_message(connection, row, subject, row.round + rounds))
    for one in sorted(touched):
        _tell_once(connection, one)


def _move_message(connection: Connection, row: sa.Row[Any], subject: str, round_: int) -> str:
    """Give a message its new identity; the obligation that it now belongs to."""
    values: dict[str, Any] = {"subject": subject, "round": round_}
    new = obligation(row.rule, subject, round_, row.role)
    # An alert's or a digest's identity is no kit's. Of a blank address it cannot be known.
    if row.kind in (MESSAGE, ITEM):
        values["obligation"] = new
        _move_cases(connection, row.obligation, new)
        if row.address or row.status == "validation-failed":
            name = identity(row.rule, subject, round_, row.role, row.channel, row.address)
            is_taken = sa.select(notifications.c.id).where(notifications.c.identity == name)
            taken = connection.execute(is_taken).first() is not None
            values["identity"] = obligation(name, row.id, 0, "") if taken else name
    connection.execute(notifications.update().where(notifications.c.id == row.id).values(**values))
    return new


def _move_cases(connection: Connection, former: str, new: str) -> None:
    """Cases about what was owed are about what is owed now, unless such a case is open already."""
    for kind in _KEYED:
        digest = case_digest(kind, new)
        there = sa.exists().where(cases.alias().c.digest == digest)
        connection.execute(
            cases.update()
            .where(cases.c.digest == case_digest(kind, former), ~there)
            .values(digest=digest, about=digest)
        )


def _tell_once(connection: Connection, owed: str) -> None:
    """Of messages that owe the same to the same person one goes out: what has gone comes first."""
    table = notifications.c
    query = (
        sa.select(table.id, table.role, table.channel, table.address, table.status)
        .where(table.obligation == owed, table.status.in_(ALIVE))
        .order_by(table.status.in_(WAITING), table.id)
        .with_for_update()
    )
    seen: set[Sequence[str]] = set()
    for row in connection.execute(query).all():
        to = (row.channel,) if row.role in PERSONS else (row.channel, row.address)
        if to in seen and row.status in WAITING:
            connection.execute(
                notifications.update()
                .where(table.id == row.id)
                .values(status="cancelled", reason=_TWICE)
            )
        seen.add(to)
