"""What has come of a kit besides, and what waits to be told of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.events import EVENTS, ORDER, REGISTRATION, Kind
from relay.history import Step, Waiting
from relay.ledger.database import Database
from relay.ledger.schema import events, journeys, notifications
from relay.ledger.statuses import PROCESSED, WAITING


def of_kit(db: Database, event_name: str, subject: str) -> tuple[Step, ...]:
    """What is known of a kit that an event is about."""
    with db.read() as connection:
        return known(connection, EVENTS[event_name], subject)


def known(connection: Connection, kind: Kind, subject: str) -> tuple[Step, ...]:
    """The events of a kit, its order and its registrations that were processed."""
    found = connection.execute(_known(kind.resource), {"kit": subject})
    return tuple(Step(row.name, row.round, row.received_at) for row in found)


def waiting(connection: Connection, kind: Kind, subject: str) -> list[Waiting]:
    """The messages about a kit that wait to be sent."""
    found = connection.execute(_waiting(kind.resource), {"kit": subject})
    return [
        Waiting(row.id, row.rule, row.due_at, Step(row.name, row.round, row.received_at))
        for row in found
    ]


def cancel(connection: Connection, reasons: Mapping[str, str]) -> int:
    """Cancel messages that still wait, each for its reason; how many did."""
    return sum(
        connection.execute(
            notifications.update()
            .where(notifications.c.id == id_, notifications.c.status.in_(WAITING))
            .values(status="cancelled", reason=reason[:500])
        ).rowcount
        for id_, reason in sorted(reasons.items())
    )


# Statements are built once: that costs more than running them.

_KIT: sa.BindParameter[str] = sa.bindparam("kit", type_=sa.String)


@cache
def _known(resource: str) -> Any:
    return sa.select(events.c.name, events.c.round, events.c.received_at).where(
        events.c.subject.in_(sa.union_all(*_kin(resource).values())),
        _is_kin(resource, events.c.subject),
        events.c.status == PROCESSED,
    )


@cache
def _waiting(resource: str) -> Any:
    table = notifications.c
    return (
        sa.select(
            *(table.id, table.rule, table.due_at, table.round),
            *(events.c.name, events.c.received_at),
        )
        .join(events, events.c.id == table.event_id)
        .where(
            table.subject.in_(sa.union_all(*_kin(resource).values())),
            _is_kin(resource, table.subject),
            table.status.in_(WAITING),
            table.template != "",  # not an alert
        )
    )


def _is_kin(resource: str, subject: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Whether `subject` is the kit's own, or its order's or its registrations'.

    By what it names: in the lab's own examples an order and a registration have the same id.
    """
    return sa.or_(
        *(
            sa.and_(events.c.name.in_(_of(there)), subject.in_(subjects))
            for there, subjects in _kin(resource).items()
        )
    )


def _kin(resource: str) -> dict[str, sa.Select[tuple[str]]]:
    linked = journeys.c.order_subject, journeys.c.subject
    there, here = linked if resource == REGISTRATION else linked[::-1]
    other = ORDER if resource == REGISTRATION else REGISTRATION
    return {
        resource: sa.select(_KIT),
        other: sa.select(there).where(here == _KIT, there.is_not(None)),
    }


def _of(resource: str) -> list[str]:
    return [name for name, kind in EVENTS.items() if kind.resource == resource]
