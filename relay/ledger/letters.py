"""Letters: words that staff send once to all who had a rule's message on a day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.lab.facts import PERSONS
from relay.ledger.audit import Act, NotDone, keep
from relay.ledger.database import new_id, now
from relay.ledger.holds.suppressions import stopped_by
from relay.ledger.notifications import KIND
from relay.ledger.schema import events, letters, notifications
from relay.ledger.views.daily_counts import Day
from relay.ledger.views.queries import MADE_BY
from relay.ledger.worklist import replies
from relay.rules.addresses import normalised
from relay.rules.channels import CHANNEL_NAMES
from relay.rules.statuses import GONE, MESSAGE, RESENT

WRITE, SEND, DROP = "letter write", "letter send", "letter drop"
CLOSED = "That letter is sent or thrown away."
_table = letters.c


@dataclass(frozen=True)
class Letter:
    """A message to all who had a rule's message on a day, by one edition or any."""

    id: str
    rule: str
    day: str
    edition: int | None
    subject: str
    words: str
    author: str
    written_at: datetime


@dataclass(frozen=True)
class Reader:
    """A person whom a letter goes to, by the latest message that it is about."""

    event_id: str
    subject: str
    round: int
    role: str
    channel: str
    address: str


def listed(connection: Connection) -> Sequence[Letter]:
    """The letters that wait to be sent, the newest first."""
    names = (_table[name] for name in Letter.__dataclass_fields__)
    query = sa.select(*names).where(_table.closed_at.is_(None)).order_by(_table.id.desc())
    return [Letter(**row) for row in connection.execute(query).mappings()]


def write(connection: Connection, by: str, **values: Any) -> str:
    """Keep a letter that somebody has yet to send; return its id."""
    id_ = new_id("ltr")
    connection.execute(letters.insert().values(id=id_, author=by, written_at=now(), **values))
    keep(connection, Act(by, WRITE, id_, f"{values['rule']}, {values['day']}"))
    return id_


def close(connection: Connection, letter: Letter, act: Act) -> None:
    """Close a letter that was sent or thrown away. Raises NotDone if it is closed already."""
    mine = letters.update().where(_table.id == letter.id, _table.closed_at.is_(None))
    if not connection.execute(mine.values(closed_at=now())).rowcount:
        raise NotDone(CLOSED)
    keep(connection, act)


def readers(
    connection: Connection, rule: str, day: Day, edition: int | None = None
) -> Mapping[str, Reader]:
    """Each patient or customer who had a rule's message on a day, by channel and address: once, for
    any number of channels and kits, leaving out people who are suppressed or whose kit waits for a
    person.
    """
    row = notifications.c
    fields = (row[name] for name in Reader.__dataclass_fields__)
    query = (
        sa.select(*fields)
        .join(events, events.c.id == row.event_id)
        .where(row.sent_at >= day.begins, row.sent_at < day.ends, row.status.in_(GONE))
        .where(row.rule == rule, row.role.in_(PERSONS), KIND.in_((MESSAGE, RESENT)))
        .where(sa.func.length(row.address) > 0, stopped_by(row.channel, row.address).is_(None))
        .order_by(row.id)
    )
    if edition is not None:
        query = query.where(MADE_BY.in_([edition]))
    may_be_held = connection.execute(sa.select(replies.holding())).scalar()
    rows = (Reader(**one) for one in connection.execute(query).mappings())
    made: dict[str, Reader] = {}
    reached = set()  # by an earlier channel
    for one in sorted(rows, key=lambda one: CHANNEL_NAMES.index(one.channel)):
        person, address = (one.subject, one.role), f"{one.channel} {normalised(one.address)}"
        if may_be_held and replies.held_by(connection, one.subject):
            continue
        if person not in reached:
            made.setdefault(address, one)
        reached.add(person)
    return made
