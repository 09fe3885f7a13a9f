"""What is overtaken: an earlier step of a kit is no news once a later one is known.

Steps that come at once, in their order, are all news: a message that is just going out is not
cancelled by the next step of a minute's burst. Only what came out of order, has waited, or is to
wait, is overtaken.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay import pace
from relay.events import EVENTS, ORDER, REGISTRATION, RESULTS, RETEST, STAGES, Kind
from relay.ledger.database import now
from relay.ledger.journeys import Place
from relay.ledger.schema import PROCESSED, WAITING, events, journeys, notifications

NEWS_SECONDS = 60.0


def overtaken(connection: Connection, kind: Kind, place: Place, received_at: datetime) -> str:
    """Why what an event that came at `received_at` says is no news any more; empty when it is."""
    moment = sa.literal(received_at, events.c.received_at.type)
    has_waited = moment < now(-pace.seconds(NEWS_SECONDS))
    came_before = sa.or_(has_waited, events.c.received_at <= moment)
    # Results that came after the retest are its own, or what the lab says of the rest: news.
    retested = events.c.received_at > moment if kind.name == RESULTS else came_before
    is_retest = sa.and_(events.c.round > place.round, retested)
    is_later = sa.and_(events.c.name.in_(_later(kind)), events.c.round >= place.round, came_before)
    query = (
        sa.select(events.c.name, events.c.round)
        .where(
            events.c.subject.in_(sa.union_all(*_kin(kind, place).values())),
            _of_kin(kind, place, events.c.subject),
            events.c.status == PROCESSED,
            sa.or_(is_retest, is_later),
        )
        .distinct()
    )
    known = list(connection.execute(query))
    if any(row.round > place.round for row in known):
        return "A retest has begun since."
    steps = {row.name for row in known}
    last = [name for name in _later(kind) if name in steps][-1:]
    return f"The kit is further on already: {last[0]} has come." if last else ""


def cancel_overtaken(
    connection: Connection,
    kind: Kind,
    place: Place,
    received_at: datetime,
    kept: Sequence[str],
) -> int:
    """Cancel what waits to be told of the kit's earlier steps, or of an earlier round.

    Rules in `kept` tell it all the same (even_if_late).
    """
    earlier = [name for name, other in EVENTS.items() if kind.name in _later(other)]
    if not earlier and kind.name != RETEST:
        return 0
    moment = sa.literal(received_at, events.c.received_at.type)
    table = notifications.c
    to_wait = sa.or_(
        table.due_at > now(),
        events.c.received_at < now(-pace.seconds(NEWS_SECONDS)),
        events.c.received_at >= moment,
    )
    if kind.name == RETEST:
        old_results = sa.and_(events.c.name == RESULTS, events.c.received_at <= moment)
        others = sa.and_(events.c.name != RESULTS, to_wait)
        of_before = sa.and_(table.round < place.round, sa.or_(old_results, others))
        reason = "A retest has begun."
    else:
        of_before = sa.and_(table.round <= place.round, events.c.name.in_(earlier), to_wait)
        reason = f"The kit is further on already: {kind.name} has come."
    of_kin = _of_kin(kind, place, table.subject)
    overtaken_event = sa.exists().where(events.c.id == table.event_id, of_before, of_kin)
    cancelled = connection.execute(
        notifications.update()
        .where(
            table.subject.in_(sa.union_all(*_kin(kind, place).values())),
            table.status.in_(WAITING),
            table.rule.not_in(kept),
            table.template != "",  # not an alert
            overtaken_event,
        )
        .values(status="cancelled", reason=reason)
    )
    return cancelled.rowcount


def _later(kind: Kind) -> list[str]:
    """The events that come after one of this kind, in order."""
    if kind.stage is None:
        return []
    after = STAGES[STAGES.index(kind.stage) + 1 :]
    return [name for stage in after for name, other in EVENTS.items() if other.stage == stage]


def _of_kin(kind: Kind, place: Place, subject: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Whether `subject` is the kit's own, or its order's or its registrations'.

    By what it names: in the lab's own examples an order and a registration have the same id.
    """
    return sa.or_(
        *(
            sa.and_(events.c.name.in_(_of(resource)), subject.in_(subjects))
            for resource, subjects in _kin(kind, place).items()
        )
    )


def _kin(kind: Kind, place: Place) -> dict[str, sa.Select[tuple[str]]]:
    linked = journeys.c.order_subject, journeys.c.subject
    there, here = linked if kind.resource == REGISTRATION else linked[::-1]
    other = ORDER if kind.resource == REGISTRATION else REGISTRATION
    return {
        kind.resource: sa.select(sa.literal(place.subject)),
        other: sa.select(there).where(here == place.subject, there.is_not(None)),
    }


def _of(resource: str) -> list[str]:
    return [name for name, kind in EVENTS.items() if kind.resource == resource]
