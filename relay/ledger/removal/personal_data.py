"""One person's erasure: every row that may mention them, and what has to change in it.

The search before an erasure also proves it afterwards: a row that still held anything of theirs
would have to change. Tables are read a few thousand rows at a time, so no statement takes long.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.lab.events import EVENTS
from relay.lab.facts import PERSONS, Facts, persons_in, search_key
from relay.lab.plain_text import fold
from relay.ledger import history, packing
from relay.ledger.audit import open_to_change
from relay.ledger.database import Database
from relay.ledger.removal import retention
from relay.ledger.schema import (
    attempts,
    cases,
    editions,
    erasures,
    events,
    inbound_texts,
    metadata,
    notifications,
)
from relay.ledger.schema import history as history_table
from relay.ledger.worklist.cases import RELAY, close_case, close_cases_of
from relay.privacy import odd_bytes
from relay.privacy.person import Person, key
from relay.rules.channels import DELETED_BY_ADDRESS
from relay.rules.statuses import WAITING

AT_ONCE = 5000
Row = Mapping[str, Any]
Progress = Callable[[str, int], None]  # gets a table, and how many rows of it were read
# Ids and fingerprints made by Relay and the providers.
_NOT_WORDS = {
    "id",
    "identity",
    "family",
    "digest",
    "provider_id",
    "event_id",
    "notification_id",
    "attempt_id",
    "digest_id",
    "case_id",
    "about",
}
_MARKS = " -().+/"  # characters that people put between a phone number's digits


def text_columns(table: sa.Table) -> list[sa.Column[Any]]:
    """The columns of a table that may hold words: text, JSON and bytes."""
    kinds = (sa.String, sa.JSON, sa.LargeBinary)
    return [c for c in table.c if isinstance(c.type, kinds) and c.name not in _NOT_WORDS]


def suspects(
    db: Database, table: sa.Table, hints: Iterable[str], progress: Progress
) -> Iterator[Sequence[Row]]:
    """Yield the rows that contain a hint, a batch at a time; for a table with bytes, all rows.

    It owns its reads, one for each batch: the caller writes between two batches.
    """
    whole = any(isinstance(column.type, sa.LargeBinary) for column in table.c)
    wanted = tuple(hints)
    after: tuple[Any, ...] | None = None
    while True:
        with db.read() as connection:
            until = bound(connection, table, after)
            turn = table.select().where(*_range(table, after, until))
            query = turn if whole else _found(table, wanted, after, until)
            found = [dict(row) for row in connection.execute(query).mappings()]
        if found:
            yield found
        progress(table.name, AT_ONCE)
        if until is None:
            return
        after = until


def bound(
    connection: Connection, table: sa.Table, after: tuple[Any, ...] | None
) -> tuple[Any, ...] | None:
    """The key at which a batch of the search ends; None at the end of the table."""
    keys = tuple(table.primary_key)
    query = sa.select(*keys).where(*_range(table, after, None)).order_by(*keys)
    row = connection.execute(query.offset(AT_ONCE - 1).limit(1)).first()
    return tuple(row) if row else None


def _range(
    table: sa.Table, after: tuple[Any, ...] | None, until: tuple[Any, ...] | None
) -> Iterator[sa.ColumnElement[bool]]:
    keys = sa.tuple_(*table.primary_key)
    if after is not None:
        yield keys > sa.tuple_(*map(sa.literal, after))
    if until is not None:
        yield keys <= sa.tuple_(*map(sa.literal, until))


def _found(
    table: sa.Table,
    hints: tuple[str, ...],
    after: tuple[Any, ...] | None,
    until: tuple[Any, ...] | None,
) -> sa.Select[Any]:
    """A query for the rows of a batch that have a hint anywhere.

    All words of a row are joined into one lower-case text, and a second text leaves out the marks
    between digits. OFFSET keeps PostgreSQL from building the text anew for each hint.
    """
    words: list[Any] = [
        sa.func.coalesce(sa.cast(column, sa.Text), "") for column in text_columns(table)
    ]
    text = sa.func.lower(reduce(lambda one, other: one + "\n" + other, words)).label("all_words")
    turn = sa.select(*table.c, text).where(*_range(table, after, until)).offset(0).subquery()
    small: Any = turn.c.all_words
    bare: Any = reduce(lambda left, mark: sa.func.replace(left, mark, ""), _MARKS, small)
    hits = (
        bare.contains(hint) if hint.isdigit() else small.contains(hint, autoescape=True)
        for hint in hints
    )
    return sa.select(*(turn.c[column.key] for column in table.c)).where(sa.or_(*hits))


REASON = "The person's data was erased."
MAYBE = f"{REASON} This was already on its way, and may have arrived."
_ON_ITS_WAY = ("sending", "unknown")
_WORD = "Erased."
# The one thing that stays, because only this keeps the person from getting messages again.
_STAYS = {("suppressions", "address")}
_IDS = ("subject", "order_subject", "original_subject")
# Messages are judged by their events' facts, so events come last. Requests for erasures keep the
# person until they are done, and then blank that themselves, this one like any other. An edition
# is the clinic's own words: its phone number there is not a person's.
TABLES = tuple(
    sorted(
        (
            table
            for table in metadata.sorted_tables
            if table not in (erasures, editions) and text_columns(table)
        ),
        key=lambda one: (one is events, one is notifications),
    )
)


@dataclass(frozen=True)
class Change:
    """A row with something of the person's, and its new `values`; with None it is deleted."""

    table: sa.Table
    row: Row
    values: Mapping[str, Any] | None
    is_theirs: bool = False  # a message to them

    @property
    def is_stopped(self) -> bool:
        """Whether it is a waiting message to them, which will not go out."""
        return self.is_theirs and self.row["status"] in WAITING


@dataclass
class Handed:
    """The person's messages that providers may have: texts by ids, emails by addresses."""

    texts: set[str] = field(default_factory=set)
    emails: set[str] = field(default_factory=set)


def learn(db: Database, person: Person, progress: Progress) -> Person:
    """Return the person with all names and other addresses that the ledger has of them.

    It owns its reads, one for each batch of its search: see `suspects`.
    """
    while True:
        known = person
        for found in suspects(db, events, known.hints(), progress):
            for row in found:
                person = person.learn(Facts.from_json(row["facts"]))
        for found in suspects(db, notifications, known.hints(), progress):
            person = _learn_by_messages(db, person, found)
        if person == known:
            return person


def _learn_by_messages(db: Database, person: Person, found: Sequence[Row]) -> Person:
    """Learn from messages to the address: they were for the person whom the lab named."""
    theirs = [
        row for row in found if row["role"] in PERSONS and key(row["address"]) == person.address
    ]
    facts_by_event = _facts(db, theirs)
    table = notifications.c
    meant = {(row["event_id"], row["role"]) for row in theirs}
    query = sa.select(table.event_id, table.role, table.address).where(
        table.event_id.in_({event_id for event_id, _ in meant})
    )
    with db.read() as connection:
        rows = list(connection.execute(query)) if meant else []
    person = person.also_at(row.address for row in rows if (row.event_id, row.role) in meant)
    return person.known_as(*(recipient(row, facts_by_event) or {} for row in theirs))


def changes(db: Database, person: Person, progress: Progress) -> Iterator[list[Change]]:
    """Yield every change needed to leave nothing of the person, a batch of rows at a time.

    It owns its reads, one for each batch: the caller makes the changes between two batches.
    """
    tokens: dict[str, str] = {}
    person = replace(person, alone=frozenset(_surnames_alone(db, person)))
    for table in TABLES:
        for found in suspects(db, table, person.hints(), progress):
            facts_by_event = _facts(db, found) if table in (notifications, cases) else {}
            made = [_change(person, table, row, facts_by_event, tokens) for row in found]
            if wanted := [change for change in made if change]:
                yield wanted


def apply(connection: Connection, made: Sequence[Change], handed: Handed) -> None:
    """Make changes, and add to `handed` those of the messages that providers have; the caller keeps
    it in the same transaction.
    """
    open_to_change(connection)  # a note in the audit trail may have the person's name
    theirs = [change.row for change in made if change.is_theirs]
    # Before their attempts, as everywhere: see relay.ledger.attempts.
    messages = [change.row["id"] for change in made if change.table is notifications]
    mine = sa.select(notifications.c.id).where(notifications.c.id.in_(messages))
    connection.execute(mine.order_by(notifications.c.id).with_for_update(key_share=True))
    ids = [row["id"] for row in theirs]
    handed.texts |= {*retention.mark_for_deletion(connection, ids, retention.AGAIN_SECONDS)}
    emailed = _emailed(connection, ids)
    handed.emails |= {row["address"] for row in theirs if row["id"] in emailed}
    for change in made:
        keys = {column.name: change.row[column.name] for column in change.table.primary_key}
        if change.table is history_table:  # its rows are then searched in the next round
            history.put_back(connection, [change.row["id"]])
        elif change.values is None:
            connection.execute(change.table.delete().filter_by(**keys))
        else:
            statement = change.table.update().filter_by(**keys)
            connection.execute(statement.values(**change.values))
        if change.table is inbound_texts and change.row["case_id"]:  # its text is gone
            close_case(connection, change.row["case_id"], RELAY, REASON)
            handed.texts |= {change.row["provider_id"]} - {None}
    close_cases_of(connection, ids, REASON)


def _emailed(connection: Connection, ids: list[str]) -> set[str]:
    """Those of the messages that may be with a provider that deletes by address."""
    table = attempts.c
    emails = (table.notification_id.in_(ids), table.channel.in_(DELETED_BY_ADDRESS))
    query = sa.select(table.notification_id).where(*emails, retention.IS_GIVEN)
    return {*connection.execute(query).scalars()}


def _surnames_alone(db: Database, person: Person) -> Iterator[str]:
    """Yield those of their surnames, folded, that nobody else in the ledger has."""
    own = [fold(f"{last} {first}") for first, last in person.names]
    for surname in {fold(last) for _, last in person.names} - {""}:
        others = events.c.person.startswith(f"{surname} ", autoescape=True)
        query = sa.select(events.c.id).where(others, events.c.person.not_in(own)).limit(1)
        with db.read() as connection:
            if connection.execute(query).first() is None:
                yield surname


def _facts(db: Database, messages: Iterable[Row]) -> dict[str, Facts]:
    """The facts that messages carry, by event."""
    ids = {row["event_id"] for row in messages}
    query = sa.select(events.c.id, events.c.facts).where(events.c.id.in_(ids))
    with db.read() as connection:
        return {row.id: Facts.from_json(row.facts) for row in connection.execute(query)}


def _change(
    person: Person,
    table: sa.Table,
    row: Row,
    facts_by_event: Mapping[str, Facts],
    tokens: dict[str, str],
) -> Change | None:
    if table is notifications:
        return message(person, row, facts_by_event, tokens)
    values = _words(person, table, row, tokens)
    if table is events:
        values |= event(person, row)
    elif table is cases and person.is_meant_in(row["note"]):
        about = persons_in(facts_by_event.get(row["event_id"], Facts()))
        values |= {"note": _WORD} if any(map(person.owns, about)) else {}
    elif values and table.name in ("quarantine", "aliases"):
        return Change(table, row, None)
    elif values and table is inbound_texts:  # its words are theirs, even if they name others
        values = {"address": "", "words": "", "erase_at": retention.asked_again()}
    return Change(table, row, values) if values else None


def _words(person: Person, table: sa.Table, row: Row, tokens: dict[str, str]) -> dict[str, Any]:
    """The new value for each column that names the person. An id always gets the same new one."""
    instead: dict[str, Any] = {}
    for column in text_columns(table):
        value, name = row[column.name], column.name
        if (table.name, name) in _STAYS | _BY_THEMSELVES:
            continue
        said = packing.text(value) if table is history_table and value else value
        is_named = person.is_noted_in if name in _NOTES else person.is_in
        if value is None or not is_named(_text(said)):
            continue
        if name in _IDS:
            instead[name] = tokens.setdefault(value, f"erased-{secrets.token_hex(8)}")
        elif isinstance(column.type, sa.JSON):
            instead[name] = None if column.nullable else {}
        else:
            instead[name] = _WORD
    return instead


# Words of staff about people, in everyday form: "rang Mrs Smith".
_NOTES = ("note", "detail")
# Columns that are judged by their owner, not by their words.
_BY_THEMSELVES = {("notifications", "address"), ("events", "facts"), ("events", "person")}


def _text(value: Any) -> str:
    if isinstance(value, bytes | memoryview):
        return odd_bytes.read(bytes(value))
    return value if isinstance(value, str) else json.dumps(value)


def recipient(row: Row, facts_by_event: Mapping[str, Facts]) -> Row | None:
    """The lab's record of the person a message is for; empty if unknown, None for staff."""
    if row["role"] not in PERSONS:
        return None
    return getattr(facts_by_event.get(row["event_id"], Facts()), row["role"]) or {}


def message(
    person: Person, row: Row, facts_by_event: Mapping[str, Facts], tokens: dict[str, str]
) -> Change | None:
    """The change to a message; None if it has nothing of the person's. A message to them is
    blanked, and stopped if it has not gone out. One to others loses its words if they name the
    person.
    """
    values = _words(person, notifications, row, tokens)
    theirs = person.goes_by(row["address"], recipient(row, facts_by_event))
    about = persons_in(facts_by_event.get(row["event_id"], Facts()))
    if (
        row["content"]
        and any(map(person.owns, about))
        and person.is_meant_in(_text(row["content"]))
    ):
        values["content"] = None
    if not (theirs or values):
        return None
    status: Any = notifications.c.status
    stopped = status.in_(WAITING + _ON_ITS_WAY)
    if theirs:
        values |= {"address": "", "content": None, "follow_up_at": None, "receipt_by": None}
    if theirs or "content" in values:
        reason = sa.case((status.in_(WAITING), REASON), else_=MAYBE)
        values["status"] = sa.case((stopped, "cancelled"), else_=status)
        kept = values.get("reason", notifications.c.reason)
        values["reason"] = sa.case((stopped, reason), else_=kept)
    return Change(notifications, row, values, theirs)


def event(person: Person, row: Row) -> dict[str, Any]:
    """The new values of an event, without the person's data. The documented ids of `data` stay."""
    values: dict[str, Any] = {}
    facts = Facts.from_json(row["facts"])
    kept = person.redacted(facts)
    if kept != facts:
        values["facts"] = kept.to_json()
    if row["person"] and (kept != facts or (row["facts"] is None and person.is_in(row["person"]))):
        values["person"] = search_key(kept)
    if person.is_in(_text(row["data"])):
        fields = EVENTS[row["name"]].data_fields if row["name"] in EVENTS else ()
        values["data"] = {
            name: value
            for name, value in row["data"].items()
            if name in fields and not person.is_in(_text(value))
        }
    return values
