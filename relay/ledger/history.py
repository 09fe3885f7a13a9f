"""History: each finished kit leaves the working tables as one row, and comes back whole when
anything new about it arrives.

So no other code has to know of history: before an event is planned, `bring_back` puts the rows of
its kit where they were, and planning reads them as if they had never left. Moving kits away takes
an exclusive lock that all planning shares: nobody plans for a kit that is just leaving.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.lab.events import Kind
from relay.lab.facts import Facts
from relay.ledger import packing
from relay.ledger.database import Database, ago, now
from relay.ledger.packing import TABLES, Row, Rows
from relay.ledger.schema import (
    INSERTS,
    aliases,
    audit,
    cases,
    erasures,
    events,
    history,
    history_names,
    journeys,
    metadata,
    notifications,
)
from relay.rules.statuses import WAITING

AT_ONCE = 50  # events whose kits one transaction looks at; it keeps others from planning
_LOCK = 7_236_842  # the number of our own advisory lock
_OURS = re.compile(r"(?:evt|msg|cas)_([0-9a-f]{15})[0-9a-f]{13}")
_LINKS = (journeys.c.subject, journeys.c.order_subject, journeys.c.original_subject)


def bring_back(connection: Connection, names: Collection[str]) -> bool:
    """Put the kits with any of these names back where they were; return False if none is in
    history. No kit leaves before the end of the transaction.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_PLANNING)
    ids = _named(connection, names)
    if ids:
        put_back(connection, ids)
    return bool(ids)


_PLANNING = sa.select(sa.func.pg_advisory_xact_lock_shared(_LOCK))
_MOVING = sa.select(sa.func.pg_advisory_xact_lock(_LOCK))


def put_back(connection: Connection, ids: Collection[int]) -> int:
    """Put kits back by their ids in history; return how many there were."""
    taken = history.delete().where(history.c.id.in_(ids)).returning(history.c.id, history.c.kit)
    found = connection.execute(taken).all()
    for id_, blob in found:
        kit = packing.unpack(blob)
        _insert(connection, kit)
        _unname(connection, id_, kit)
    return len(found)


def _insert(connection: Connection, kit: Rows) -> None:
    own = {row["identity"] for row in kit[notifications]}
    query = sa.select(notifications.c.identity).where(notifications.c.identity.in_(own))
    taken = {*connection.execute(query).scalars()}  # by a release that did not know of history
    for row in kit[notifications]:
        if row["identity"] in taken:
            row["identity"] = row["id"]
    for table in TABLES:
        insert = INSERTS[connection.dialect.name](table)
        if table is aliases:  # a name that another kit now has leads to neither
            insert = insert.on_conflict_do_update(
                index_elements=[aliases.c.resource, aliases.c.alias],
                set_={"is_shared": sa.true()},
                where=aliases.c.subject != insert.excluded.subject,
            )
        elif table is journeys:
            insert = insert.on_conflict_do_nothing()
        if kit[table]:
            given = [{c.key: row[c.name] for c in table.c} for row in kit[table]]
            connection.execute(insert, given)


def _unname(connection: Connection, id_: int, kit: Rows) -> None:
    mine = history_names.c.name.in_(_names(kit))
    connection.execute(history_names.delete().where(mine, history_names.c.history_id == id_))


def number(name: str) -> int:
    """The number that stands for a name, in capitals or not: a signed 64-bit hash."""
    digest = hashlib.blake2b(name.lower().encode(), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


def _named(connection: Connection, names: Collection[str]) -> set[int]:
    numbers = sorted({number(name) for name in names if name})
    query = sa.select(history_names.c.history_id).where(history_names.c.name.in_(numbers))
    return {*connection.execute(query).scalars()}


def _names(kit: Rows) -> list[int]:
    """All names that a kit may have, as numbers."""
    called = {link for row in kit[journeys] for link in (row[c.name] for c in _LINKS) if link}
    called |= {name for row in kit[aliases] for name in (row["alias"], row["subject"])}
    called |= {name for row in kit[events] for name in (row["subject"], row["named"]) if name}
    return sorted(set(map(number, called)))


def names_used(kind: Kind, data: Mapping[str, Any], facts: Facts) -> set[str]:
    """All names of kits in an event and in the lab's facts about it."""
    order, registration = facts.order or {}, facts.registration or {}
    ids = (kind.id_field, "retest_testregistration_id")
    found = [data.get(name) for name in ids]
    found += [order.get(name) for name in ("id", "order_number", "tracking_number")]
    found += [registration.get(name) for name in ("id", "trf_code", "foreign_id", "parent_id")]
    for part in order.get("test_registrations") or ():
        found += [part.get("id"), part.get("trf_code")]
    return {str(name).strip() for name in found if name}


class Turn(NamedTuple):
    """A turn of moving kits away: how many, and the last event looked at; None at the end."""

    moved: int
    after: str | None


def archive_finished(connection: Connection, quiet: timedelta, after: str = "") -> Turn:
    """Move away kits of the next events behind the id `after`, if they are finished and nothing has
    happened to them for `quiet`.

    A kit goes with its order, its registrations and their retests, or not at all: a step of one
    counts for the others. The newest event stays, because cases about no event are kept with it.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_MOVING)
    is_erasing = sa.exists().where(erasures.c.address != "")
    old, newest, waits = connection.execute(
        sa.select(ago(quiet), sa.select(sa.func.max(events.c.id)).scalar_subquery(), is_erasing)
    ).one()
    page = sa.select(events.c.id, events.c.subject, events.c.received_at)
    found = connection.execute(
        page.where(events.c.id > after).order_by(events.c.id).limit(AT_ONCE)
    ).all()
    aged = {row.subject for row in found if row.subject and row.received_at <= old}
    if waits or not any(row.received_at <= old for row in found):
        return Turn(0, None)
    kits = _kits(connection, aged)
    over = [
        kit
        for kit in kits
        if packing.is_over(kit, old)
        and not any(row["id"] == newest for row in kit[events])
        and not _is_awaited(connection, kit)
    ]
    _keep(connection, over)
    _delete(connection, over)
    return Turn(len(over), found[-1].id)


def _kits(connection: Connection, subjects: Collection[str]) -> list[Rows]:
    """The kits with these subjects, each with all its rows, which this locks."""
    rows = _rows(connection, _linked(connection, subjects), subjects)
    roots = _roots(rows[journeys], subjects)
    kit_of: dict[str, str] = {}
    kits: dict[str, dict[sa.Table, list[Row]]] = defaultdict(lambda: {t: [] for t in TABLES})
    for table in TABLES:
        link = next((column.name for column in table.c if column.foreign_keys), None)
        for row in rows[table]:
            kit = kit_of[row[link]] if link else roots[row["subject"]]
            kit_of[row.get("id", "")] = kit
            kits[kit][table].append(row)
    return [*kits.values()]


def _linked(connection: Connection, subjects: Collection[str]) -> list[Row]:
    """The rows of `journeys` that link to these subjects or to one another, in either direction."""
    found: dict[str, Row] = {}
    known, new = set[str](), {*subjects}
    while new:
        known |= new
        for link in _LINKS:  # one by one: with OR, PostgreSQL reads the whole table
            for row in connection.execute(journeys.select().where(link.in_(new))).mappings():
                found[row["subject"]] = dict(row)
        new = {
            row[link.name] for row in found.values() for link in _LINKS if row[link.name]
        } - known
    return [*found.values()]


def _roots(links: Iterable[Row], subjects: Iterable[str]) -> dict[str, str]:
    """Each subject → one subject that represents its whole kit."""
    root: dict[str, str] = {subject: subject for subject in subjects}

    def of(subject: str) -> str:
        while root.setdefault(subject, subject) != subject:
            subject = root[subject]
        return subject

    for row in links:
        for link in _LINKS:
            root[of(row[link.name] or row["subject"])] = of(row["subject"])
    return {subject: of(subject) for subject in [*root]}


def _rows(connection: Connection, links: list[Row], subjects: Collection[str]) -> Rows:
    named = {*subjects, *(row["subject"] for row in links)}
    rows: dict[sa.Table, list[Row]] = {journeys: links}
    for table in TABLES[1:]:
        link = next((column for column in table.c if column.foreign_keys), None)
        if link is None:
            wanted, is_mine = named, table.c.subject
        else:
            (target,) = link.foreign_keys
            wanted, is_mine = {row["id"] for row in rows[target.column.table]}, link
        query = table.select().where(is_mine.in_(wanted)).order_by(*_order(table))
        found = connection.execute(query.with_for_update()).mappings()
        rows[table] = [dict(row) for row in found]
    return rows


def _order(table: sa.Table) -> Iterable[sa.Column[Any]]:
    """The columns that sort rows by time, which the ids of attempts and receipts do not."""
    moments = [table.c[name] for name in ("started_at", "received_at") if name in table.c]
    return [*moments, *table.primary_key]


def _is_awaited(connection: Connection, kit: Rows) -> bool:
    """Whether another kit's digest that has an item of this kit is still to go out."""
    digests = {row["digest"] for row in kit[notifications] if row["digest"]}
    table = notifications.c
    query = sa.select(table.id).where(
        table.identity.in_(digests), table.status.in_((*WAITING, "sending", "unknown"))
    )
    return bool(digests) and connection.execute(query.limit(1)).first() is not None


def _keep(connection: Connection, kits: Collection[Rows]) -> None:
    if not kits:
        return
    rows = [
        {
            "first": min(_times(kit)),
            "last": max(_times(kit)),
            "ended_at": max(packing.moments(kit)),
            "kit": packing.pack(kit),
        }
        for kit in kits
    ]
    insert = history.insert().values(moved_at=now())
    made = insert.returning(history.c.id, sort_by_parameter_order=True)
    ids = connection.execute(made, rows).scalars()
    names = [
        {"name": name, "history_id": id_}
        for id_, kit in zip(ids, kits, strict=True)
        for name in _names(kit)
    ]
    connection.execute(INSERTS[connection.dialect.name](history_names), names)


def _times(kit: Rows) -> Iterator[int]:
    for table in (events, notifications, cases):
        for row in kit[table]:
            if (moment := _time(row["id"])) is not None:
                yield moment


def _time(id_: str) -> int | None:
    """The time that begins an id of ours, in 1/4,096 of a millisecond; None if it has none."""
    found = _OURS.fullmatch(id_)
    return int(found[1], 16) if found else None


def _delete(connection: Connection, kits: Collection[Rows]) -> None:
    for table in reversed(TABLES):
        key = table.c.id if "id" in table.c else table.c.subject
        gone = {row[key.name] for kit in kits for row in kit[table]}
        if gone:
            connection.execute(table.delete().where(key.in_(gone)))


def delete_expired(connection: Connection, keep: timedelta, limit: int = 1000) -> int:
    """Delete kits whose last moment is longer ago than `keep` from history, the oldest first;
    return how many there were.
    """
    over = sa.select(history.c.id, history.c.kit).where(history.c.ended_at < ago(keep))
    query = over.order_by(history.c.ended_at).limit(limit).with_for_update(skip_locked=True)
    found = connection.execute(query).all()
    for id_, blob in found:
        _unname(connection, id_, packing.unpack(blob))
    connection.execute(history.delete().where(history.c.id.in_([row.id for row in found])))
    return len(found)


def in_turns(
    db: Database, quiet: timedelta, keep: timedelta, is_time: Callable[[], bool], after: str = ""
) -> Turn:
    """Move finished kits, and delete those in history for longer than `keep`, while it `is_time`;
    return how many kits were moved, and where to go on.

    It owns its transactions, a few kits each.
    """
    moved, place = 0, after
    while is_time():
        turn = db.transact(archive_finished, quiet, place)
        moved += turn.moved
        if turn.after is None:
            while is_time() and db.transact(delete_expired, keep):
                pass
            return Turn(moved, None)
        place = turn.after
    return Turn(moved, place)


def ids_with(connection: Connection, id_: str) -> list[int]:
    """The ids in history of kits that contain an event, a message or a case with this id."""
    if (moment := _time(id_)) is None:
        return []
    query = sa.select(history.c.id, history.c.kit).where(
        history.c.last >= moment, history.c.first <= moment
    )
    with connection.execute(query.execution_options(yield_per=1000)) as rows:
        return [row.id for row in rows if id_ in packing.text(row.kit)]


@contextmanager
def opened(
    connection: Connection, names: Collection[str], *, by_id: bool = True
) -> Iterator[Connection | None]:
    """Open the history of kits with any of these names, or an event or a message with such an id,
    as a ledger of its own in memory: any code that reads a ledger can read it. Yield None if there
    is none.
    """
    ids = _named(connection, names)
    if by_id and not ids:
        ids = {id_ for name in names for id_ in ids_with(connection, name)}
    if not ids:
        yield None
        return
    query = sa.select(history.c.kit).where(history.c.id.in_(ids)).order_by(history.c.id)
    kits = [packing.unpack(blob) for blob in connection.execute(query).scalars()]
    messages = [row["id"] for kit in kits for row in kit[notifications]]
    asked = connection.execute(audit.select().where(audit.c.target.in_(messages))).mappings()
    acts = [dict(row) for row in asked]
    engine = sa.create_engine("sqlite://")
    try:
        with engine.connect() as ledger:
            metadata.create_all(ledger)
            for kit in kits:
                _insert(ledger, kit)
            if acts:
                ledger.execute(audit.insert(), acts)
            yield ledger
    finally:
        engine.dispose()
