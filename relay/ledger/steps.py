"""What has come of a kit besides, and what waits to be told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.lab.events import EVENTS, ORDER, REGISTRATION, Kind, about
from relay.ledger.database import Database
from relay.ledger.journeys import Place
from relay.ledger.schema import events, journeys, notifications
from relay.rules.model import ALIVE, PROCESSED, WAITING, AlreadyNotified
from relay.rules.staleness import Step, Waiting


@dataclass(frozen=True)
class Past:
    """What has come of a kit, and who was or will be told of it."""

    known: tuple[Step, ...]
    waiting: tuple[Waiting, ...]
    told: AlreadyNotified


def of_kit(db: Database, event_name: str, subject: str) -> tuple[Step, ...]:
    """What is known of a kit that an event is about."""
    with db.read() as connection:
        return past(connection, EVENTS[event_name], Place(subject, 0)).known


def past(connection: Connection, kind: Kind, place: Place) -> Past:
    """All that the ledger has of a kit, its order and its registrations, by one question.

    Told is who heard, or will hear, about this very subject in this round.
    """
    known: dict[str, Step] = {}
    waiting: list[Waiting] = []
    told: set[tuple[str, str, str]] = set()
    for row in connection.execute(_past(kind.resource), {"kit": place.subject}):
        step = Step(row.name, row.round, row.received_at)
        if row.status == PROCESSED:
            known[row.id] = step
        if row.message is None:
            continue
        if row.message_status in WAITING and row.template:  # an alert has none
            its_step = replace(step, round=row.message_round)
            waiting.append(Waiting(row.message, row.rule, row.due_at, its_step))
        if (row.subject, row.message_round) == (place.subject, place.round):
            told.add((row.rule, row.role, row.channel))
    return Past(tuple(known.values()), tuple(waiting), frozenset(told))


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
def _past(resource: str) -> Any:
    table = notifications.c
    # A digest hangs on its first item's event, and is about others too.
    of_it = (table.event_id == events.c.id, table.status.in_(ALIVE), table.digest.is_(None))
    return (
        sa.select(
            *(events.c.id, events.c.name, events.c.round, events.c.received_at, events.c.status),
            *(table.id.label("message"), table.status.label("message_status"), table.template),
            *(table.rule, table.role, table.channel, table.subject, table.due_at),
            table.round.label("message_round"),
        )
        .join_from(events, notifications, sa.and_(*of_it), isouter=True)
        .where(
            events.c.subject.in_(sa.union_all(*_kin(resource).values())),
            _is_kin(resource, events.c.subject),
        )
    )


def _is_kin(resource: str, subject: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Whether `subject` is the kit's own, or its order's or its registrations'.

    By what it names: in the lab's own examples an order and a registration have the same id.
    """
    return sa.or_(
        *(
            sa.and_(events.c.name.in_(about(there)), subject.in_(subjects))
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
