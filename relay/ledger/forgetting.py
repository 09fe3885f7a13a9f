"""One person's erasure: what has to change in which row, and the change.

What is asked before is what is done, and asked again afterwards it is the proof: a row that still
had something of theirs would have to change.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.lab.events import EVENTS
from relay.lab.facts import PERSONS, Facts
from relay.ledger import expiring
from relay.ledger.cases import close_cases_of
from relay.ledger.columns import metadata
from relay.ledger.database import Database
from relay.ledger.household import erasures
from relay.ledger.schema import attempts, events, notifications
from relay.ledger.tracing import Progress, Row, suspects, written
from relay.privacy.names import search_key
from relay.privacy.person import Person, key, records
from relay.rules.model import WAITING

REASON = "The person's data was erased."
MAYBE = f"{REASON} This was on its way, and may have arrived."
_ON_ITS_WAY = ("sending", "unknown")
_WORD = "Erased."
# The one thing that stays: by it alone the person goes on getting nothing.
_STAYS = {("suppressions", "address")}
_IDS = ("subject", "order_subject", "original_subject")
# Messages by their events' facts, so events come last. What was asked for knows whom it is about
# until it is done, and then blanks that itself: this erasure's row as well as another's.
TABLES = tuple(
    sorted(
        (table for table in metadata.sorted_tables if table is not erasures),
        key=lambda one: (one is events, one is notifications),
    )
)
Keep = Callable[[Connection], None]  # is called in each transaction that erases something


@dataclass(frozen=True)
class Change:
    """A row that has something of the person's. Without `values` it goes as a whole."""

    table: sa.Table
    row: Row
    values: Mapping[str, Any] | None
    is_theirs: bool = False  # a message to them

    @property
    def is_stopped(self) -> bool:
        """Whether it is a message of theirs that waits, and will not go out."""
        return self.is_theirs and self.row["status"] in WAITING


@dataclass
class Handed:
    """What providers have of the person: texts by their ids, emails by the address."""

    texts: set[str] = field(default_factory=set)
    emails: set[str] = field(default_factory=set)


def learn(db: Database, person: Person, progress: Progress) -> Person:
    """The person with the names and other addresses that the ledger has of them."""
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
    """What was sent to the address was for whom the lab named, and so was what went with it."""
    theirs = [
        row for row in found if row["role"] in PERSONS and key(row["address"]) == person.address
    ]
    told = _facts(db, theirs)
    table = notifications.c
    meant = {(row["event_id"], row["role"]) for row in theirs}
    query = sa.select(table.event_id, table.role, table.address).where(
        table.event_id.in_({event_id for event_id, _ in meant})
    )
    with db.read() as connection:
        rows = list(connection.execute(query)) if meant else []
    person = person.also_at(row.address for row in rows if (row.event_id, row.role) in meant)
    return person.known_as(*(_recipient(row, told) or {} for row in theirs))


def changes(db: Database, person: Person, progress: Progress) -> Iterator[list[Change]]:
    """All that has to change for nothing of the person to be left, some rows at a time."""
    tokens: dict[str, str] = {}
    for table in TABLES:
        for found in suspects(db, table, person.hints(), progress):
            told = _facts(db, found) if table is notifications else {}
            made = [_change(person, table, row, told, tokens) for row in found]
            if wanted := [change for change in made if change]:
                yield wanted


def apply(db: Database, made: Sequence[Change], handed: Handed, keep: Keep) -> None:
    """Make changes in one transaction, which ends with `keep`; what providers have of it is added
    to `handed`.
    """
    with db.write() as connection:
        theirs = [change.row for change in made if change.is_theirs]
        # Before their attempts, as everywhere: see relay.ledger.delivery.
        messages = [change.row["id"] for change in made if change.table is notifications]
        mine = sa.select(notifications.c.id).where(notifications.c.id.in_(messages))
        connection.execute(mine.order_by(notifications.c.id).with_for_update(key_share=True))
        ids = [row["id"] for row in theirs]
        handed.texts |= {*expiring.mark(connection, ids, expiring.AGAIN_SECONDS)}
        emailed = _emailed(connection, ids)
        handed.emails |= {row["address"] for row in theirs if row["id"] in emailed}
        for change in made:
            keys = {column.name: change.row[column.name] for column in change.table.primary_key}
            if change.values is None:
                connection.execute(change.table.delete().filter_by(**keys))
            else:
                statement = change.table.update().filter_by(**keys)
                connection.execute(statement.values(**change.values))
        close_cases_of(connection, ids, REASON)
        keep(connection)


def _emailed(connection: Connection, ids: list[str]) -> set[str]:
    """Those messages that a provider of emails has, or may have."""
    table = attempts.c
    emails = (table.notification_id.in_(ids), table.channel == "email")
    query = sa.select(table.notification_id).where(*emails, expiring.IS_GIVEN)
    return {*connection.execute(query).scalars()}


def _facts(db: Database, messages: Iterable[Row]) -> dict[str, Facts]:
    """The facts that messages carry, by event."""
    ids = {row["event_id"] for row in messages}
    query = sa.select(events.c.id, events.c.facts).where(events.c.id.in_(ids))
    with db.read() as connection:
        return {row.id: Facts.from_json(row.facts) for row in connection.execute(query)}


def _change(
    person: Person, table: sa.Table, row: Row, told: Mapping[str, Facts], tokens: dict[str, str]
) -> Change | None:
    if table is notifications:
        return _message(person, row, told, tokens)
    values = _words(person, table, row, tokens)
    if table is events:
        values |= _event(person, row)
    elif values and table.name in ("quarantine", "aliases"):
        return Change(table, row, None)
    return Change(table, row, values) if values else None


def _words(person: Person, table: sa.Table, row: Row, tokens: dict[str, str]) -> dict[str, Any]:
    """What stands instead of each text that names the person. One id is replaced by one other."""
    instead: dict[str, Any] = {}
    for column in written(table):
        value, name = row[column.name], column.name
        if (table.name, name) in _STAYS | _BY_THEMSELVES:
            continue
        if value is None or not person.is_in(_text(value)):
            continue
        if name in _IDS:
            instead[name] = tokens.setdefault(value, f"erased-{secrets.token_hex(8)}")
        elif isinstance(column.type, sa.JSON):
            instead[name] = None if column.nullable else {}
        else:
            instead[name] = _WORD
    return instead


# Columns that are judged by whose they are, not by their words.
_BY_THEMSELVES = {("notifications", "address"), ("events", "facts"), ("events", "person")}


def _text(value: Any) -> str:
    if isinstance(value, bytes | memoryview):
        return bytes(value).decode("utf-8", "replace")
    return value if isinstance(value, str) else json.dumps(value)


def _recipient(row: Row, told: Mapping[str, Facts]) -> Row | None:
    """What the lab told of whom a message is for; None of staff."""
    if row["role"] not in PERSONS:
        return None
    return getattr(told.get(row["event_id"], Facts()), row["role"]) or {}


def _message(
    person: Person, row: Row, told: Mapping[str, Facts], tokens: dict[str, str]
) -> Change | None:
    """What becomes of a message: theirs is blanked, and stopped where it has not gone out. Of what
    others were told about them the words go.
    """
    values = _words(person, notifications, row, tokens)
    theirs = person.goes_by(row["address"], _recipient(row, told))
    about = records(told.get(row["event_id"], Facts()))
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


def _event(person: Person, row: Row) -> dict[str, Any]:
    """What becomes of what an event tells of people. Documented ids of `data` stay."""
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
