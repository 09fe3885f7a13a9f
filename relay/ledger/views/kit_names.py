"""Search by name: a kit with all its events, whichever of its names each of them used.

An event that was never processed has no subject yet. It is found by the name that the lab used for
its kit, among all the names that the kit has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.lab.events import EVENTS, ORDER, REGISTRATION, TRF_PREFIX, about, name_in
from relay.ledger.schema import aliases, cases, events, journeys
from relay.rules.statuses import HELD, RECEIVED

Names = set[tuple[str, str]]  # (resource, name): an order's number may be another kit's reference
_RESOURCES = (ORDER, REGISTRATION)
_USED = (events.c.id, events.c.name, events.c.named, events.c.data)
_MOST = 2000  # events without a name that are searched, those due first
_AT_ONCE = 1000  # names in one query


def spellings(wanted: str) -> set[str]:
    """The spellings that people may use for a name: with or without spaces, in capitals or lower
    case, also with different cases before and after its first hyphen (LML-E23E2D for LML-e23e2d),
    and with or without the prefix of TRF codes.
    """
    found = set()
    either = (str.upper, str.lower)
    for written in (wanted.strip(), "".join(wanted.split())):
        has_prefix = written.lower().startswith(TRF_PREFIX)
        bare = written[len(TRF_PREFIX) :] if has_prefix else written
        found.add(written)
        for name in (bare, TRF_PREFIX + bare) if bare else ():
            head, dash, rest = name.partition("-")
            found |= {f"{one(head)}{dash}{other(rest)}" for one in either for other in either}
    return found


def in_any_letters(names: Collection[str]) -> sa.ColumnElement[bool]:
    """A condition: a kit has one of these names, in capitals or not."""
    return sa.func.lower(aliases.c.alias).in_({*names, *(name.lower() for name in names)})


def spelt(connection: Connection, wanted: str) -> set[str]:
    """The spellings that people may use for a name, and those in the ledger, in capitals or not."""
    found = spellings(wanted)
    query = sa.select(aliases.c.alias).where(in_any_letters(found))
    return found | {*connection.execute(query).scalars()}


def events_of(connection: Connection, names: set[str]) -> list[str]:
    """The ids of the events of the kit with one of these names, or of events with such an id, the
    oldest first.
    """
    kits = kits_named(connection, names)
    ids = unprocessed(connection, names_of(connection, kits), kits) if kits else ()
    query = (
        sa.select(events.c.id)
        .where(sa.or_(events.c.id.in_({*names, *ids}), events.c.subject.in_(kits | names)))
        .order_by(events.c.received_at, events.c.id)
    )
    return list(connection.execute(query).scalars())


def events_of_no_kit(connection: Connection, names: Iterable[str]) -> list[str]:
    """The ids of events that have used such a name for a kit of which nothing else is known."""
    return unprocessed(connection, {(resource, name) for resource in _RESOURCES for name in names})


def kits_named(connection: Connection, names: set[str]) -> set[str]:
    """The subjects with these names, with their orders, originals and all retests. For a name that
    several registrations share, all those that it was used for.
    """
    table = journeys.c
    links = (table.subject, table.order_subject, table.original_subject)
    named = sa.select(aliases.c.subject).where(
        aliases.c.resource.in_(_RESOURCES), aliases.c.alias.in_(names)
    )
    used = sa.select(events.c.subject).where(
        events.c.named.in_(names), events.c.subject.is_not(None)
    )
    kits = {*connection.execute(sa.union(named, used)).scalars()}
    for _ in range(2):  # from a retest to its original, and from there to the order
        linked = sa.or_(*(link.in_(kits | names) for link in links))
        rows = connection.execute(sa.select(*links).where(linked))
        kits |= {name for row in rows for name in row if name}
    return kits


def names_of(connection: Connection, kits: Collection[str]) -> Names:
    """All names that the lab may use for these kits, in every spelling."""
    query = sa.select(aliases.c.resource, aliases.c.alias).where(aliases.c.subject.in_(kits))
    called = {(row.resource, row.alias) for row in connection.execute(query)}
    called |= {(resource, kit) for resource in _RESOURCES for kit in kits}
    used = sa.select(events.c.name, events.c.named).where(
        events.c.subject.in_(kits), events.c.named.is_not(None)
    )
    for row in connection.execute(used):
        called |= {(resource, row.named) for resource in resources(row.name)}
    return called | {(resource, one) for resource, name in called for one in spellings(name)}


def kit_meant(connection: Connection, event: str, name: str) -> str | None:
    """The subject that an event means by a name: the one with exactly that name, or else with
    another spelling of it. None if no subject has it, or several do.
    """
    query = sa.select(aliases.c.alias, aliases.c.subject).where(
        aliases.c.resource.in_(resources(event)),
        in_any_letters(spellings(name)),
        ~aliases.c.is_shared,
    )
    found = [(row.alias, row.subject) for row in connection.execute(query)]
    exact = {subject for alias, subject in found if alias == name}
    meant = exact or {subject for _, subject in found}
    return meant.pop() if len(meant) == 1 else None


def resources(event: str) -> tuple[str, ...]:
    """The kinds of resource that an event of this name may be about."""
    return (EVENTS[event].resource,) if event in EVENTS else _RESOURCES


def unprocessed(connection: Connection, called: Names, kits: Collection[str] = ()) -> list[str]:
    """The ids of events without a subject that have used one of these names, unless that exact name
    belongs to another kit.
    """
    table, other = events.c, aliases.c
    resource = sa.case((table.name.in_(about(ORDER)), ORDER), else_=REGISTRATION)
    is_anothers = sa.exists().where(
        other.resource == resource,
        other.alias == table.named,
        other.subject.not_in(kits),
        ~other.is_shared,
    )
    found = [*connection.execute(_UNNAMED)]
    names = sorted({name for _, name in called})
    for first in range(0, len(names), _AT_ONCE):
        some = names[first : first + _AT_ONCE]
        used = sa.select(*_USED).where(table.named.in_(some), table.subject.is_(None))
        found += connection.execute(used.where(~is_anothers))
    return sorted(row.id for row in found if is_meant(row, called))


def is_meant(row: sa.Row[Any], called: Names) -> bool:
    """Whether an event has used one of these names, for an order or a registration."""
    name = row.named or name_in(EVENTS.get(row.name), row.data)
    return any((resource, name) in called for resource in resources(row.name))


# The previous release keeps no name: these events are found by their data, among those due next
# or on the worklist. To be removed in the next release.
_DUE = (
    sa.select(events.c.id)
    .where(events.c.status == RECEIVED)
    .order_by(events.c.urgency.desc(), events.c.next_at)
    .limit(_MOST)
    .subquery()
)
_HELD = sa.select(cases.c.event_id).where(cases.c.closed_at.is_(None), cases.c.kind == HELD)
_UNNAMED = sa.select(*_USED).where(
    events.c.named.is_(None),
    events.c.subject.is_(None),
    events.c.id.in_(sa.union_all(sa.select(_DUE.c.id), _HELD)),
)
