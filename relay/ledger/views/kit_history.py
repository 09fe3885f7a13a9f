"""The history of kits, for `what-if`: their events with facts, and the messages about each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.lab.events import EVENTS, ORDER, REGISTRATION, about
from relay.lab.facts import Facts
from relay.ledger.database import first_id
from relay.ledger.notifications import KIND
from relay.ledger.schema import events, journeys, notifications
from relay.rules.model import Step
from relay.rules.staleness import KitEvent, Kits, Registration
from relay.rules.statuses import ITEM, MESSAGE, PROCESSED

AT_ONCE = 1000  # events in memory at once
SLACK = timedelta(days=1)  # between the process's clock in an event's id and received_at
MessageKey = tuple[str, str, str]  # rule, role, channel


class Row(NamedTuple):
    """A notification of an event: the fields that `what-if` compares."""

    rule: str
    role: str
    channel: str
    template: str
    status: str
    reason: str
    due_at: datetime
    is_fallback: bool

    @property
    def way(self) -> MessageKey:
        """The message's key within its event, shared by the messages to a role's addresses."""
        return self.rule, self.role, self.channel


class PastEvent(NamedTuple):
    """A processed event. `data` and `facts` are there if they were requested, unless retention has
    blanked them.
    """

    step: Step
    id: str
    name: str
    subject: str
    round: int
    received_at: datetime
    processed_at: datetime
    is_blanked: bool
    data: Mapping[str, Any] | None
    facts: Facts | None
    rows: Sequence[Row] = ()

    @property
    def of_kit(self) -> KitEvent:
        """The event as a step of its kit."""
        return KitEvent(self.name, self.subject, self.round, self.received_at)


@dataclass(frozen=True)
class History:
    """All events of some orders and registrations, in the order of processing."""

    events: Sequence[PastEvent]
    registrations: Sequence[Registration] = ()  # as the lab's API has linked them since

    def kits_at(self, place: int) -> Kits:
        """The kits as they were when the event at `place` was processed: retests of later rounds
        were not yet known.
        """
        so_far = self.events[: place + 1]
        rounds: dict[str, int] = {}
        for one in so_far:
            rounds[one.subject] = max(one.round, rounds.get(one.subject, 0))
        known = [one for one in self.registrations if one.round <= rounds.get(one.original, 0)]
        return Kits(known, [one.of_kit for one in so_far])


Unit = tuple[str | None, str | None]  # an order; or a registration without one


@dataclass(frozen=True)
class Kit:
    """Units linked by retests that were shipped with orders of their own, and how many events they
    had.
    """

    units: frozenset[Unit]
    events: int


def kits(connection: Connection, since: datetime) -> list[Kit]:
    """The kits that have had events since a time."""
    order, registration = _kit()
    first = first_id("evt", since - SLACK)
    query = (
        sa.select(order, registration, sa.func.count())
        .select_from(_events())
        .where(events.c.id >= first, events.c.received_at >= since, events.c.status == PROCESSED)
        .where(events.c.name.in_(tuple(EVENTS)))
        .group_by("kit_order", "kit_registration")
        .order_by(sa.func.min(events.c.id))
    )
    group = shipped_again(connection)
    made: dict[frozenset[Unit], int] = {}
    for order_id, registration_id, many in connection.execute(query):
        unit = (order_id, registration_id)
        units = group.get(unit, frozenset({unit}))
        made[units] = made.get(units, 0) + many
    return [Kit(units, many) for units, many in made.items()]


def shipped_again(connection: Connection) -> dict[Unit, frozenset[Unit]]:
    """Each unit with a retest that was shipped with its own order → all units of the same group."""
    first, again = journeys.alias(), journeys.c
    query = (
        sa.select(again.order_subject, first.c.order_subject, again.original_subject)
        .join_from(journeys, first, first.c.subject == again.original_subject)
        .where(again.order_subject.is_not(None))
    )
    group: dict[Unit, frozenset[Unit]] = {}
    for order, original_order, original in connection.execute(query):
        former = (original_order, None if original_order else original)
        units = [group.get(unit, frozenset({unit})) for unit in ((order, None), former)]
        joined: frozenset[Unit] = units[0] | units[1]
        group.update(dict.fromkeys(joined, joined))
    return group


def batches(found: Sequence[Kit]) -> Iterator[list[Kit]]:
    """Yield lists of kits whose events fit in memory together."""
    batch: list[Kit] = []
    size = 0
    for kit in found:
        batch.append(kit)
        size += kit.events
        if size >= AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def histories(
    connection: Connection, batch: Sequence[Kit], wanted: Collection[str]
) -> list[History]:
    """The histories of these kits; only the events named in `wanted` have details."""
    order, registration = _kit()
    is_wanted = events.c.name.in_(wanted)  # reading JSON is half of the work
    shown = (
        events.c.id,
        events.c.name,
        events.c.subject,
        events.c.round,
        events.c.received_at,
        events.c.processed_at,
        events.c.facts.is_(None),
        *(sa.case((is_wanted, column)) for column in (events.c.data, events.c.facts)),
    )
    of_unit = {unit: kit for kit in batch for unit in kit.units}
    orders = [unit[0] for unit in of_unit if unit[0]]
    lone = [unit[1] for unit in of_unit if unit[1]]
    links = registrations(connection, orders, lone)
    query = (
        sa.select(order, registration, *shown)
        .select_from(_events())
        .where(
            events.c.subject.in_([*orders, *lone, *(one.original for one in links)]),
            events.c.status == PROCESSED,
            events.c.name.in_(tuple(EVENTS)),
        )
        .order_by(events.c.processed_at, events.c.id)
    )
    found = connection.execute(query).all()
    rows = _rows(connection, [row.id for row in found])
    made: dict[Kit, list[PastEvent]] = {kit: [] for kit in batch}
    for (
        own_order,
        own_registration,
        id_,
        name,
        subject,
        round_,
        received_at,
        *more,
        stored,
    ) in found:
        if kit := of_unit.get((own_order, own_registration)):
            step = Step(name, round_, received_at)
            facts = None if stored is None else Facts.from_json(stored)
            fields = (step, id_, name, subject, round_, received_at, *more, facts)
            made[kit].append(PastEvent._make((*fields, rows.get(id_, ()))))
    linked: dict[Kit, list[Registration]] = {kit: [] for kit in batch}
    order_of = {one.subject: one.order for one in links}
    for one in links:
        first = order_of.get(one.original)
        if kit := of_unit.get((first, None if first else one.original)):
            linked[kit].append(one)
    return [History(made[kit], linked[kit]) for kit in batch]


def registrations(
    connection: Connection, orders: Collection[str], lone: Collection[str]
) -> list[Registration]:
    """The registrations that came with these orders, and `lone` ones, each with all its rounds."""
    table = journeys.c
    original = sa.func.coalesce(table.original_subject, table.subject)
    came_with = sa.select(original).where(table.order_subject.in_(orders))
    originals = {*lone, *connection.execute(came_with).scalars()}
    columns = (table.subject, original, table.round, table.order_subject)
    # Two queries, each by its index: with OR, PostgreSQL reads the whole table.
    query = sa.union(
        sa.select(*columns).where(table.subject.in_(originals), table.resource == REGISTRATION),
        sa.select(*columns).where(table.original_subject.in_(originals)),
    )
    return [Registration(*row) for row in connection.execute(query)]


def _kit() -> tuple[sa.ColumnElement[Any], sa.ColumnElement[Any]]:
    """An event's kit: its order, or the registration if no order is known.

    By the event's resource: in the lab's own examples an order and a registration share an id.
    """
    of_order = events.c.name.in_(about(ORDER))
    order = sa.case((of_order, events.c.subject), else_=journeys.c.order_subject)
    lone = sa.case((order.is_(None), events.c.subject))
    return order.label("kit_order"), lone.label("kit_registration")


def _events() -> sa.FromClause:
    return events.outerjoin(journeys, journeys.c.subject == events.c.subject)


def _rows(connection: Connection, event_ids: Sequence[str]) -> Mapping[str, Sequence[Row]]:
    """The notifications that rules made for these events: items of digests, as sent; no digests."""
    table = notifications.c
    is_in_a_digest = sa.and_(KIND == ITEM, table.status == "cancelled")
    query = sa.select(
        table.event_id,
        table.rule,
        table.role,
        table.channel,
        table.template,
        sa.case((is_in_a_digest, "sent"), else_=table.status),
        table.reason,
        table.due_at,
        table.is_fallback,
    ).where(
        table.event_id.in_(event_ids),
        KIND.in_((MESSAGE, ITEM)),
    )
    made: dict[str, list[Row]] = defaultdict(list)
    for event_id, *fields in connection.execute(query):
        made[event_id].append(Row._make(fields))
    return made
