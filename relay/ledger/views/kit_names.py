"""What a name leads to: a kit with all its events, whichever of its names each of them used.

An event that was never processed has no subject yet. It is found by the name that the lab used for
its kit, among all the names that the kit has.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.lab.events import EVENTS, ORDER, REGISTRATION, TRF_PREFIX, about, name_in
from relay.ledger.schema import aliases, cases, events, journeys
from relay.rules.statuses import HELD, RECEIVED

Names = set[tuple[str, str]]  # resource and name: an order's number may be another kit's reference
_RESOURCES = (ORDER, REGISTRATION)
_USED = (events.c.id, events.c.name, events.c.named, events.c.data)
_MOST = 2000  # events without a name that are looked at, of those that are due first


def spellings(wanted: str) -> set[str]:
    """An id in capital and in small letters, also with what its first part begins with by itself:
    as people read them out, LML-E23E2D, though it is LML-e23e2d; a TRF code without its prefix too.
    """
    bare = wanted[len(TRF_PREFIX) :] if wanted.lower().startswith(TRF_PREFIX) else wanted
    either = (str.upper, str.lower)
    found = set()
    for name in (bare, TRF_PREFIX + bare):
        head, dash, rest = name.partition("-")
        found |= {f"{one(head)}{dash}{other(rest)}" for one in either for other in either}
    return found


def events_of(connection: Connection, names: set[str]) -> list[str]:
    """The events of the kit that goes by one of these names, or those that have such an id; the
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


def events_of_no_kit(connection: Connection, names: set[str]) -> list[str]:
    """The events that have used such a name for a kit of which nothing else is known."""
    return unprocessed(connection, {(resource, name) for resource in _RESOURCES for name in names})


def kits_named(connection: Connection, names: set[str]) -> set[str]:
    """The subjects of what goes by these names: its order, its original and all its retests."""
    table = journeys.c
    links = (table.subject, table.order_subject, table.original_subject)
    named = sa.select(aliases.c.subject).where(
        aliases.c.resource.in_(_RESOURCES), aliases.c.alias.in_(names)
    )
    kits = {*connection.execute(named).scalars()}
    for _ in range(2):  # from a retest to its original, and from there to the order
        linked = sa.or_(*(link.in_(kits | names) for link in links))
        rows = connection.execute(sa.select(*links).where(linked))
        kits |= {name for row in rows for name in row if name}
    return kits


def names_of(connection: Connection, kits: Collection[str]) -> Names:
    """All that the lab may call these kits, however it is spelt."""
    query = sa.select(aliases.c.resource, aliases.c.alias).where(aliases.c.subject.in_(kits))
    called = {(row.resource, row.alias) for row in connection.execute(query)}
    called |= {(resource, kit) for resource in _RESOURCES for kit in kits}
    return called | {(resource, one) for resource, name in called for one in spellings(name)}


def unprocessed(connection: Connection, called: Names, kits: Collection[str] = ()) -> list[str]:
    """The events without a subject that have used one of these names, the oldest first. A name that
    is another kit's, letter by letter, is not meant.
    """
    table, other = events.c, aliases.c
    resource = sa.case((table.name.in_(about(ORDER)), ORDER), else_=REGISTRATION)
    is_anothers = sa.exists().where(
        other.resource == resource,
        other.alias == table.named,
        other.subject.not_in(kits),
        ~other.is_shared,
    )
    wanted = sa.select(*_USED).where(
        table.subject.is_(None),
        table.named.in_({name for _, name in called}),
        ~is_anothers,
    )
    rows = [*connection.execute(wanted), *connection.execute(_UNNAMED)]
    return sorted(row.id for row in rows if is_meant(row, called))


def is_meant(row: sa.Row[Any], called: Names) -> bool:
    """Whether an event has used one of these names, as an order's or as a registration's."""
    kind = EVENTS.get(row.name)
    name = row.named or name_in(kind, row.data)
    return any((resource, name) in called for resource in ((kind.resource,) if kind else _RESOURCES))


# The release before keeps no name: by their data, among what is due next and what is on the
# worklist. To be removed a release later.
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
