"""Lists of notifications, and searches for kits by name or by address."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.lab.facts import Facts, full_name, search_key
from relay.ledger.schema import IS_WAITING, events, journeys, notifications, small
from relay.privacy.person import marks
from relay.rules.channels import sharing

_LISTED = (
    "id",
    "event_id",
    "rule",
    "subject",
    "channel",
    "status",
    "reason",
    "attempts",
    "due_at",
    "created_at",
    "sent_at",
    "provider_id",
)


# The edition that made a message's words; until there are words, the one that planned it.
MADE_BY = sa.func.coalesce(notifications.c.edition, events.c.edition)


@dataclass(frozen=True)
class Filter:
    """The notifications to list. An empty field does not narrow the list."""

    status: str | None = None
    event: str | None = None
    since: datetime | None = None
    event_id: str | None = None


def notifications_where(connection: Connection, wanted: Filter) -> Iterator[Mapping[str, Any]]:
    """Yield notifications with their event's name, oldest first, without addresses and words."""
    query = listing().order_by(notifications.c.created_at, notifications.c.id)
    for column, value in (
        (notifications.c.status, wanted.status),
        (events.c.name, wanted.event),
        (notifications.c.event_id, wanted.event_id),
    ):
        if value is not None:
            query = query.where(column == value)
    if wanted.since is not None:
        query = query.where(notifications.c.created_at >= wanted.since)
    with connection.execute(query.execution_options(yield_per=1000)) as rows:
        yield from (dict(row) for row in rows.mappings())


def listing() -> sa.Select[Any]:
    """A query for the listed columns of notifications, with their event's name and edition."""
    return sa.select(
        *(notifications.c[name] for name in _LISTED),
        notifications.c.role.label("to"),
        events.c.name.label("event"),
        MADE_BY.label("edition"),
    ).join(events, events.c.id == notifications.c.event_id)


def messages(connection: Connection, after: str = "", limit: int = 100) -> list[Mapping[str, Any]]:
    """The first `limit` notifications after an id, with words and addresses, in order of id."""
    query = (
        listing()
        .add_columns(notifications.c.address, notifications.c.content)
        .where(notifications.c.id > after)
        .order_by(notifications.c.id)
        .limit(limit)
    )
    return [dict(row) for row in connection.execute(query).mappings()]


def latest_of(
    connection: Connection, event: str, limit: int = 2000
) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    """Data and facts of the newest event of a name, if among the last `limit` of all; else None."""
    newest = sa.select(events.c.id, events.c.name).order_by(events.c.id.desc()).limit(limit)
    last = newest.subquery()
    id_ = sa.select(sa.func.max(last.c.id)).where(last.c.name == event).scalar_subquery()
    query = sa.select(events.c.data, events.c.facts)
    row = connection.execute(query.where(events.c.id == id_)).first()
    return (row.data, row.facts) if row and row.facts else None


def unfinished(connection: Connection) -> int:
    """Count the events not processed yet, and the messages to be sent or being sent."""
    return sum(
        connection.execute(query).scalar_one()
        for query in (
            sa.select(sa.func.count()).where(events.c.status == "received"),
            sa.select(sa.func.count()).where(notifications.c.status.in_(("created", "sending"))),
        )
    )


def facts_of(connection: Connection, ids: Collection[str]) -> dict[str, Facts]:
    """The lab's facts about each of these events, by id."""
    query = sa.select(events.c.id, events.c.facts).where(events.c.id.in_(ids))
    return {id_: Facts.from_json(facts) for id_, facts in connection.execute(query)}


MOST = 200  # rows that a search looks at: it must not list everybody
_LAST = "\U0010ffff"  # sorts after any letter
_SHORT = 3  # letters that are enough to be a prefix; fewer must be a whole word


@dataclass(frozen=True)
class Found:
    """A kit that was found, with its latest step among the rows searched."""

    subject: str
    event: str
    at: datetime
    person: str


def find_by_name(connection: Connection, readings: Sequence[str]) -> tuple[list[Found], bool]:
    """Kits of people whose search key begins in one of these ways, by name, and whether there may
    be more.
    """
    return _found(connection, *named_queries(readings))


def events_by_name(connection: Connection, readings: Sequence[str]) -> list[str]:
    """The ids of events about people whose search key begins in one of these ways."""
    ids = (query.with_only_columns(events.c.id).limit(MOST) for query in named_queries(readings))
    return [*dict.fromkeys(id_ for query in ids for id_ in connection.execute(query).scalars())]


def named_queries(readings: Sequence[str]) -> list[sa.Select[Any]]:
    """A query for each way in which a search key may begin, a name's newest event first."""
    table = events.c
    # Each range separately, in the order of its index, so that a common name reads only a few rows.
    return [
        _steps()
        .where(table.subject.is_not(None), begins)
        .order_by(table.person, table.received_at.desc())
        for reading in readings
        for begins in _begins(reading)
    ]


def find_by_address(connection: Connection, channel: str, address: str) -> tuple[list[Found], bool]:
    """Kits with a message to an address, the newest first, and whether there may be more."""
    table = notifications.c
    query = (
        _steps()
        .join(notifications, table.event_id == events.c.id)
        .where(to(channel, address))
        .order_by(table.created_at.desc())
    )
    return _found(connection, query)


def other_kits(connection: Connection, facts: Facts, subjects: set[str]) -> list[Found]:
    """The other kits, not of these subjects, of the person whom facts are about: one with the same
    name and the same id at the lab, or an address in common. The newest first.
    """
    person, mine = search_key(facts), marks(facts)
    if not person or not mine:
        return []
    query = _steps().where(events.c.person == person).order_by(events.c.received_at.desc())
    rows = connection.execute(query.limit(MOST)).all()
    theirs = [row for row in rows if mine & marks(Facts.from_json(row.facts))]
    own = {*kits(connection, subjects).values()} | subjects
    found = _by_kit(connection, theirs)
    return [one for (kit, _), one in found.items() if kit not in own]


def count_by_address(connection: Connection, channel: str, address: str) -> dict[str, int]:
    """Count the messages to an address, and the kits, orders and events that they are about."""
    table = notifications.c
    query = sa.select(
        sa.func.count().label("messages"),
        sa.func.count().filter(IS_WAITING).label("messages that wait"),
        sa.func.count(table.event_id.distinct()).label("events"),
        sa.func.count(table.subject.distinct()).label("kits"),
    ).where(to(channel, address))
    counts = connection.execute(query).mappings().one()
    return {words: number for words, number in counts.items() if number}


def to(channel: str, address: str) -> sa.ColumnElement[bool]:
    """A condition: a message is to an address, in capitals or not. Most are in lower case."""
    table, wanted = notifications.c, address.lower()
    has_capitals = table.address != small(table.address)
    # Each by its own index: with OR, neither database uses both.
    mine = sa.select(table.id).where(table.channel.in_(sharing(channel)))
    written = (table.address == wanted, sa.and_(small(table.address) == wanted, has_capitals))
    return table.id.in_(sa.union_all(*map(mine.where, written)))


def _steps() -> sa.Select[Any]:
    return sa.select(events.c.subject, events.c.name, events.c.received_at, events.c.facts)


def _begins(reading: str) -> list[sa.ColumnElement[bool]]:
    """Conditions for a prefix, as ranges, which use an index; a short name must be a whole word."""
    person: sa.ColumnElement[Any] = events.c.person
    if len(reading) >= _SHORT:
        return [sa.and_(person >= reading, person < reading + _LAST)]
    return [person == reading, sa.and_(person >= f"{reading} ", person < f"{reading} {_LAST}")]


def _found(connection: Connection, *queries: sa.Select[Any]) -> tuple[list[Found], bool]:
    rows: list[sa.Row[Any]] = []
    for query in queries:
        rows += connection.execute(query.limit(MOST - len(rows)))
    return list(_by_kit(connection, rows).values()), len(rows) == MOST


def _by_kit(connection: Connection, rows: Sequence[sa.Row[Any]]) -> dict[tuple[str, str], Found]:
    """The first of these steps for each person and order, or kit without an order."""
    kit = kits(connection, {row.subject for row in rows if row.subject})
    found: dict[tuple[str, str], Found] = {}
    for row in rows:
        person = full_name(Facts.from_json(row.facts))
        if row.subject:
            one = Found(row.subject, row.name, row.received_at, person)
            found.setdefault((kit.get(row.subject, row.subject), person), one)
    return found


def kits(connection: Connection, subjects: set[str]) -> dict[str, str]:
    """The order that each subject belongs to, so that a kit is listed once."""
    table = journeys.c
    query = sa.select(table.subject, table.order_subject).where(table.subject.in_(subjects))
    return {row.subject: row.order_subject or row.subject for row in connection.execute(query)}
