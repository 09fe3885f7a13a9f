"""What has happened to kits, for `what-if`: their events with facts, and what was sent of each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.lab.events import EVENTS, ORDER, about
from relay.lab.facts import Facts
from relay.ledger.notifications import KIND
from relay.ledger.schema import events, first_id, journeys, notifications
from relay.rules.model import ITEM, MESSAGE
from relay.rules.staleness import Step
from relay.rules.statuses import PROCESSED

AT_ONCE = 1000  # events in memory at a time
SLACK = timedelta(days=1)  # between an event's id, by a process's clock, and received_at
MessageKey = tuple[str, str, str]  # rule, role, channel


class Row(NamedTuple):
    """A notification of an event, as far as it is compared."""

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
        """Which of an event's messages it is; several where a role has several addresses."""
        return self.rule, self.role, self.channel


class PastEvent(NamedTuple):
    """An event that was processed. `data` and `facts` are there where they were asked for, unless
    retention has blanked them.
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


History = Sequence[PastEvent]  # all of a kit's events, in the order in which they were processed


@dataclass(frozen=True)
class Kit:
    """An order with its registrations, or a registration without one; how many events it had."""

    order: str | None
    registration: str | None
    events: int


def kits(connection: Connection, since: datetime) -> list[Kit]:
    """The kits that had events since then."""
    order, registration = _kit()
    first = first_id("evt", since - SLACK)
    query = (
        sa.select(order, registration, sa.func.count())
        .select_from(_events())
        .where(events.c.id >= first, events.c.received_at >= since, events.c.status == PROCESSED)
        .group_by("kit_order", "kit_registration")
        .order_by(sa.func.min(events.c.id))
    )
    return [Kit(*row) for row in connection.execute(query)]


def batches(found: Sequence[Kit]) -> Iterator[list[Kit]]:
    """Kits, so many that their events can be in memory at a time."""
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
    """All that has happened to these kits; the details of the `wanted` events only."""
    order, registration = _kit()
    is_wanted = events.c.name.in_(wanted)  # to read JSON is half of the work
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
    orders = [kit.order for kit in batch if kit.order]
    subjects = [*orders, *(kit.registration for kit in batch if kit.registration)]
    linked = sa.select(journeys.c.subject).where(journeys.c.order_subject.in_(orders))
    subjects += connection.execute(linked).scalars()
    query = (
        sa.select(order, registration, *shown)
        .select_from(_events())
        .where(
            events.c.subject.in_(subjects),
            events.c.status == PROCESSED,
            events.c.name.in_(tuple(EVENTS)),
        )
        .order_by(events.c.processed_at, events.c.id)
    )
    found = connection.execute(query).all()
    rows = _rows(connection, [row.id for row in found])
    made: dict[tuple[Any, Any], list[PastEvent]] = {
        (kit.order, kit.registration): [] for kit in batch
    }
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
        if (kit := (own_order, own_registration)) in made:
            step = Step(name, round_, received_at)
            facts = None if stored is None else Facts.from_json(stored)
            fields = (step, id_, name, subject, round_, received_at, *more, facts)
            made[kit].append(PastEvent._make((*fields, rows.get(id_, ()))))
    return list(made.values())


def _kit() -> tuple[sa.ColumnElement[Any], sa.ColumnElement[Any]]:
    """An event's kit: its order, or the registration where no order is known.

    By what the event names: in the lab's own examples an order and a registration have one id.
    """
    of_order = events.c.name.in_(about(ORDER))
    order = sa.case((of_order, events.c.subject), else_=journeys.c.order_subject)
    lone = sa.case((order.is_(None), events.c.subject))
    return order.label("kit_order"), lone.label("kit_registration")


def _events() -> sa.FromClause:
    return events.outerjoin(journeys, journeys.c.subject == events.c.subject)


def _rows(connection: Connection, event_ids: Sequence[str]) -> Mapping[str, Sequence[Row]]:
    """The events' notifications that rules made. A digest is not one; what it tells is, as sent."""
    table = notifications.c
    told_in_a_digest = sa.and_(KIND == ITEM, table.status == "cancelled")
    query = sa.select(
        table.event_id,
        table.rule,
        table.role,
        table.channel,
        table.template,
        sa.case((told_in_a_digest, "sent"), else_=table.status),
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
