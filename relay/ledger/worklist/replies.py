"""Texts from people that are not keywords: each opens a case, which does not contain its words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.lab.facts import PERSONS, Facts
from relay.ledger.database import new_id, now
from relay.ledger.holds.suppressions import fingerprint, stopped_by
from relay.ledger.schema import INSERTS, cases, events, inbound_texts, journeys, notifications
from relay.ledger.views.queries import to
from relay.ledger.worklist.cases import open_case, own_event
from relay.rules.model import Case

_table = inbound_texts.c


@dataclass(frozen=True)
class LastMessage:
    """The last message to a number, which a text from that number is about."""

    event_id: str
    subject: str
    round: int
    role: str
    facts: Facts


def last_message_to(connection: Connection, channel: str, address: str) -> LastMessage | None:
    """The newest message to a patient's or customer's address, preferring those that went out."""
    table = notifications.c
    query = (
        sa.select(table.event_id, table.subject, table.round, table.role, events.c.facts)
        .join(events, events.c.id == table.event_id)
        .where(to(channel, address), table.role.in_(PERSONS))
        .order_by(table.sent_at.is_(None), table.sent_at.desc(), table.id.desc())
    )
    row = connection.execute(query.limit(1)).first()
    return LastMessage(*row[:4], Facts.from_json(row.facts)) if row else None


def keep(
    connection: Connection, channel: str, text_id: str, address: str, words: str, case: Case
) -> str:
    """Keep a text and open its case; return the case's id, or "" if the text is not new. A case
    about no kit is kept with an event of ours.
    """
    id_ = fingerprint(text_id) if text_id else new_id("txt")
    insert = INSERTS[connection.dialect.name](inbound_texts).values(
        id=id_,
        channel=channel,
        word=case.kind,
        received_at=now(),
        address=address[:255],
        words=words[:4000],
        provider_id=text_id[:100] or None,
    )
    added = insert.on_conflict_do_nothing().returning(_table.id)
    if connection.execute(added).first() is None:
        return ""
    event_id = case.event_id or own_event(connection)
    case_id = open_case(connection, replace(case, key=id_, event_id=event_id))
    connection.execute(inbound_texts.update().where(_table.id == id_).values(case_id=case_id))
    return case_id


@dataclass(frozen=True)
class Reply:
    """A text that has a case."""

    id: str
    channel: str
    address: str  # empty once it is erased
    words: str
    received_at: datetime
    stopped_by: str | None  # who or what has stopped messages to its address


_CARRIED = tuple(_table[name] for name in ("id", "channel", "address", "words", "received_at"))


def of_cases(connection: Connection, ids: Sequence[str]) -> Mapping[str, Reply]:
    """The texts that cases are about, by case id. Those older than `retention` are missing."""
    stops = stopped_by(_table.channel, _table.address).label("stopped_by")
    query = sa.select(_table.case_id, *_CARRIED, stops).where(_table.case_id.in_(ids))
    found: Any = connection.execute(query) if ids else ()
    return {row.case_id: Reply(*row[1:]) for row in found}


def holding() -> sa.ColumnElement[bool]:
    """A condition: any open case holds its kit's messages."""
    return sa.exists().where(cases.c.closed_at.is_(None), cases.c.holds)


def held_by(connection: Connection, subject: str) -> str:
    """The id of the open case that holds a kit's messages: the kit's own, its order's, or for an
    order one of its registrations'; empty if none does.
    """
    query = sa.select(cases.c.id, cases.c.subject)
    for case in connection.execute(query.where(cases.c.closed_at.is_(None), cases.c.holds)):
        if subject in _with_order(connection, case.subject) or case.subject in _with_order(
            connection, subject
        ):
            return str(case.id)
    return ""


def _with_order(connection: Connection, subject: str) -> set[Any]:
    """A kit's subject, its order's, and that of the registration that it repeats."""
    query = sa.select(journeys.c.order_subject, journeys.c.original_subject)
    row = connection.execute(query.where(journeys.c.subject == subject)).first()
    return {subject, *(row or ())}
