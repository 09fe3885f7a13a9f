"""The watches of [expect.…]: how far each has looked, and which kits have not moved on.

A watch reads events by their ids, which begin with their time of arrival: that is a range of the
primary key, however many events there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay import fault_injection
from relay.lab.events import EVENTS, REGISTRATION, Incoming, about
from relay.ledger.database import Database, first_id, now
from relay.ledger.events import record
from relay.ledger.schema import INSERTS, cases, events, journeys, watches
from relay.ledger.worklist.cases import ABOUT, close_settled, open_case, was_about
from relay.rules.model import Case, Expectation, Notice, case_digest
from relay.rules.staleness import later
from relay.rules.statuses import PROCESSED, RECEIVED

KIND = "missing"
SOURCE = "watch"  # the source of an event that a watch has recorded
EVERY = 300.0  # seconds between two looks
BATCH = 500


@dataclass(frozen=True)
class Kit:
    """A kit that has reached the first step of an expectation, and whether it has the second."""

    event_id: str  # the event of the first step
    data: Mapping[str, Any]
    is_processed: bool
    subject: str
    round: int
    registration: str | None  # for an order: one of its registrations, if known
    own: str | None  # its registration's own id, which for a retest differs from `subject`
    order: str | None
    met: bool

    @property
    def at(self) -> datetime:
        """When the event arrived."""
        return datetime.fromtimestamp(int(self.event_id[4:16], 16) / 1000, UTC)

    def key(self, expected: Expectation) -> str:
        """The key of the case about this kit."""
        return self.keys(expected)[0]

    def keys(self, expected: Expectation) -> list[str]:
        """The possible keys of its case, which may have been opened before the lab linked the kit:
        about the registration alone, or about the whole order.
        """
        known = ((self.subject, self.round), (self.own, 0), (self.order, 0))
        return [f"{expected.name}:{subject}:{round_}" for subject, round_ in known if subject]


def lease(db: Database, begins: Mapping[str, datetime], limit: int) -> dict[str, datetime]:
    """Lease up to `limit` due watches: name → the time up to which it has looked.

    `begins` has the time at which each begins if it is new. It owns its transactions: it looks
    before it writes, and a lease holds once it is committed.
    """
    query = sa.select(watches.c.name, (watches.c.next_at <= now()).label("due")).where(
        watches.c.name.in_(begins)
    )
    with db.read() as connection:
        is_due = {row.name: row.due for row in connection.execute(query)}
    due = [name for name in begins if is_due.get(name, True)][:limit]
    if not due:
        return {}
    with db.write() as connection:
        insert = INSERTS[connection.dialect.name](watches).values(next_at=now())
        connection.execute(
            insert.on_conflict_do_nothing(),
            [{"name": name, "looked_to": begins[name]} for name in sorted(due)],
        )
        leased = connection.execute(
            watches.update()
            .where(watches.c.name.in_(due), watches.c.next_at <= now())
            .values(next_at=now(fault_injection.hastened(EVERY)))
            .returning(watches.c.name, watches.c.looked_to)
        )
        return {row.name: row.looked_to for row in leased}


def looked(connection: Connection, name: str, to: datetime) -> None:
    """Record how far a watch has looked. It never goes back."""
    connection.execute(
        watches.update()
        .where(watches.c.name == name, watches.c.looked_to < to)
        .values(looked_to=to)
    )


def behind(db: Database, expected: Expectation, since: datetime, until: datetime) -> Iterator[Kit]:
    """Yield the kits that reached the first step between two times and have not reached the second,
    leaving out those that have or had a case.

    They include events not processed yet, whose kit is not known. It owns its reads, one for each
    batch: the caller asks the lab about these kits, and must hold no connection meanwhile.
    """
    low, high = first_id("evt", since), first_id("evt", until)
    while True:
        chosen = (
            _came_to(expected)
            .where(events.c.id >= low, events.c.id < high)
            .order_by(events.c.id)
            .limit(BATCH)
        )
        with db.read() as connection:
            found = _found(connection, expected, chosen)
            unmet = [kit for kit in found if not kit.met]
            abouts_by_event = _abouts_by_event(connection, [kit.event_id for kit in unmet])
        for kit in unmet:
            digests = [case_digest(KIND, key) for key in kit.keys(expected)]
            abouts = abouts_by_event.get(kit.event_id, ())
            if not any(was_about(about, digest) for about in abouts for digest in digests):
                yield kit
        if len({kit.event_id for kit in found}) < BATCH:
            return
        low = max(kit.event_id for kit in found) + "0"  # the first id after it


def _found(connection: sa.Connection, expected: Expectation, chosen: sa.Select[Any]) -> list[Kit]:
    kits = connection.execute(_kits(expected, chosen))
    return sorted((Kit(**row._mapping) for row in kits), key=lambda kit: kit.event_id)


def _abouts_by_event(connection: sa.Connection, event_ids: Sequence[str]) -> dict[str, list[str]]:
    """The ABOUT of each case about these events, open or closed, by event."""
    query = sa.select(cases.c.event_id, ABOUT.label("about")).where(
        cases.c.kind == KIND, cases.c.event_id.in_(event_ids)
    )
    found: dict[str, list[str]] = {}
    for row in connection.execute(query):
        found.setdefault(row.event_id, []).append(row.about)
    return found


def close_fulfilled(db: Database, expected: Expectation) -> int:
    """Close the cases of kits that have moved on since; return how many there were.

    It owns its transactions: the search may be long, and must not hold up writers.
    """
    query = sa.select(cases.c.event_id, ABOUT.label("about")).where(
        cases.c.kind == KIND, cases.c.closed_at.is_(None)
    )
    with db.read() as connection:
        open_cases = list(connection.execute(query))
        if not open_cases:
            return 0
        chosen = _came_to(expected).where(events.c.id.in_({row.event_id for row in open_cases}))
        found = _found(connection, expected, chosen)
    digests = {row.about for row in open_cases}
    are_met: dict[str, list[bool]] = {}
    for kit in found:
        for key in kit.keys(expected):
            are_met.setdefault(key, []).append(kit.met)
    come = sorted(key for key, met in are_met.items() if all(met))
    closing = [key for key in come if case_digest(KIND, key) in digests]
    with db.write() as connection:
        for key in closing:
            close_settled(connection, KIND, key, f"{expected.event} has come.")
    return len(closing)


def tell(connection: Connection, about: Sequence[Case], alerts: tuple[Notice, ...]) -> int:
    """Open a case for each kit, with one alert for all of them; return how many were new."""
    opened = 0
    for case in about:
        opened += bool(open_case(connection, replace(case, alerts=() if opened else alerts)))
    return opened


def is_recorded(connection: Connection, identity: str) -> bool:
    """Whether the lab has posted an event, though it may not be processed."""
    query = sa.select(events.c.id).where(events.c.identity == identity)
    return connection.execute(query).first() is not None


def backfill(connection: Connection, incoming: Incoming, window: timedelta) -> str:
    """Record an event that the lab has not posted; return its id. If the lab's own comes within
    `window`, that counts as a duplicate.
    """
    recorded = record(connection, incoming, window)
    if recorded.status != "duplicate":
        mine = events.update().where(events.c.id == recorded.id)
        connection.execute(mine.values(source=SOURCE))
    return recorded.id


def _came_to(expected: Expectation) -> sa.Select[Any]:
    return sa.select(
        events.c.id, events.c.data, events.c.status, events.c.subject, events.c.round
    ).where(events.c.name == expected.after, events.c.status.in_((RECEIVED, PROCESSED)))


def _kits(expected: Expectation, chosen: sa.Select[Any]) -> sa.Select[Any]:
    """A query for the kits of events. An order that waits for its registrations has one each."""
    came: Any = chosen.subquery("came")
    subject, round_ = came.c.subject, came.c.round
    registration: Any = sa.null()
    own: Any = sa.null()
    order: Any = sa.null()
    table = journeys.c
    first, then = EVENTS[expected.after], EVENTS[expected.event]
    if first.resource == REGISTRATION:
        this_round = sa.and_(table.original_subject == subject, table.round == round_)
        source, own = came.outerjoin(journeys, this_round), table.subject
        met = kit_has_come(expected, subject, round_)
    elif then.resource == REGISTRATION:
        source = came.outerjoin(journeys, table.order_subject == came.c.subject)
        registration, own, order = table.subject, table.subject, came.c.subject
        subject = sa.func.coalesce(table.original_subject, table.subject, came.c.subject)
        round_ = sa.func.coalesce(table.round, came.c.round)
        met = sa.and_(registration.is_not(None), kit_has_come(expected, subject, round_))
    else:
        source, met = came, order_has_come(expected, subject)
    return sa.select(
        came.c.id.label("event_id"),
        came.c.data,
        (came.c.status == PROCESSED).label("is_processed"),
        sa.func.coalesce(subject, "").label("subject"),
        round_.label("round"),
        registration.label("registration"),
        own.label("own"),
        order.label("order"),
        met.label("met"),
    ).select_from(source)


def kit_has_come(expected: Expectation, subject: Any, round_: Any) -> sa.ColumnElement[bool]:
    """A condition: a kit has reached the second step of an expectation, or a later one. A retest
    that has begun counts too.
    """
    come = events.alias("come")
    steps = come.c.name.in_((expected.event, *later(expected.event)))
    of_it = sa.and_(
        come.c.subject == subject,
        come.c.name.in_(about(REGISTRATION)),
        come.c.status == PROCESSED,
    )
    so_far = sa.or_(sa.and_(steps, come.c.round >= round_), come.c.round > round_)
    return sa.exists().where(of_it, so_far)


def order_has_come(expected: Expectation, subject: Any) -> sa.ColumnElement[bool]:
    """A condition: an order has reached the step, or each of its kits that step or a later one."""
    come, kits = events.alias("come"), journeys.alias("kits")
    own = sa.and_(come.c.subject == subject, come.c.name == expected.event)
    of_it = kits.c.order_subject == subject
    its_own = sa.func.coalesce(kits.c.original_subject, kits.c.subject)
    further = kit_has_come(expected, its_own, kits.c.round)
    each = sa.and_(sa.exists().where(of_it), ~sa.exists().where(of_it, ~further))
    return sa.or_(sa.exists().where(own, come.c.status == PROCESSED), each)
