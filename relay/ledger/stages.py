"""What is overtaken: an earlier step of a kit is no news once a later one is known.

Steps that come at once, in their order, are all news: a message that is just going out is not
cancelled by the next step of a minute's burst. Only what came out of order, has waited, or is to
wait, is overtaken.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any

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
    given: dict[str, Any] = {"kit": place.subject, "round": place.round, "moment": received_at}
    given["old"] = -pace.seconds(NEWS_SECONDS)
    known = list(connection.execute(_known(kind.name), given))
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
    if not _earlier(kind) and kind.name != RETEST:
        return 0
    retest = kind.name == RETEST
    why = "A retest has begun." if retest else f"The kit is further on: {kind.name} has come."
    given: dict[str, Any] = {"kit": place.subject, "round_": place.round, "moment": received_at}
    given |= {"old": -pace.seconds(NEWS_SECONDS), "kept": list(kept), "why": why}
    return connection.execute(_cancelling(kind.name), given).rowcount


# Statements are built once: that costs more than running them.

_SUBJECT: sa.BindParameter[str] = sa.bindparam("kit", type_=sa.String)
_MOMENT: sa.BindParameter[datetime] = sa.bindparam("moment", type_=events.c.received_at.type)
_OLD = now(sa.bindparam("old", type_=sa.Float))


@cache
def _known(name: str) -> Any:
    """The later steps and retests of a kit that have come, as far as they overtake this event."""
    kind, round_ = EVENTS[name], sa.bindparam("round", type_=sa.Integer)
    came_before = sa.or_(_MOMENT < _OLD, events.c.received_at <= _MOMENT)
    # Results that came after the retest are its own, or what the lab says of the rest: news.
    retested = events.c.received_at > _MOMENT if name == RESULTS else came_before
    is_retest = sa.and_(events.c.round > round_, retested)
    is_later = sa.and_(events.c.name.in_(_later(kind)), events.c.round >= round_, came_before)
    return (
        sa.select(events.c.name, events.c.round)
        .where(
            events.c.subject.in_(sa.union_all(*_kin(kind).values())),
            _of_kin(kind, events.c.subject),
            events.c.status == PROCESSED,
            sa.or_(is_retest, is_later),
        )
        .distinct()
    )


@cache
def _cancelling(name: str) -> Any:
    """What waits to be told of a kit's earlier steps is cancelled, but for what is just going out.

    The parameter is `round_`: in an UPDATE a column's own name is taken.
    """
    kind, table = EVENTS[name], notifications.c
    round_ = sa.bindparam("round_", type_=sa.Integer)
    is_to_wait = sa.or_(
        table.due_at > now(), events.c.received_at < _OLD, events.c.received_at >= _MOMENT
    )
    if name == RETEST:
        old_results = sa.and_(events.c.name == RESULTS, events.c.received_at <= _MOMENT)
        others = sa.and_(events.c.name != RESULTS, is_to_wait)
        of_before = sa.and_(table.round < round_, sa.or_(old_results, others))
    else:
        of_before = sa.and_(table.round <= round_, events.c.name.in_(_earlier(kind)), is_to_wait)
    of_kin = _of_kin(kind, table.subject)
    return (
        notifications.update()
        .where(
            table.subject.in_(sa.union_all(*_kin(kind).values())),
            table.status.in_(WAITING),
            table.rule.not_in(sa.bindparam("kept", expanding=True)),
            table.template != "",  # not an alert
            sa.exists().where(events.c.id == table.event_id, of_before, of_kin),
        )
        .values(status="cancelled", reason=sa.bindparam("why"))
    )


def _later(kind: Kind) -> list[str]:
    """The events that come after one of this kind, in order."""
    if kind.stage is None:
        return []
    after = STAGES[STAGES.index(kind.stage) + 1 :]
    return [name for stage in after for name, other in EVENTS.items() if other.stage == stage]


def _earlier(kind: Kind) -> list[str]:
    """The events that come before one of this kind."""
    return [name for name, other in EVENTS.items() if kind.name in _later(other)]


def _of_kin(kind: Kind, subject: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Whether `subject` is the kit's own, or its order's or its registrations'.

    By what it names: in the lab's own examples an order and a registration have the same id.
    """
    return sa.or_(
        *(
            sa.and_(events.c.name.in_(_of(resource)), subject.in_(subjects))
            for resource, subjects in _kin(kind).items()
        )
    )


def _kin(kind: Kind) -> dict[str, sa.Select[tuple[str]]]:
    linked = journeys.c.order_subject, journeys.c.subject
    there, here = linked if kind.resource == REGISTRATION else linked[::-1]
    other = ORDER if kind.resource == REGISTRATION else REGISTRATION
    return {
        kind.resource: sa.select(_SUBJECT),
        other: sa.select(there).where(here == _SUBJECT, there.is_not(None)),
    }


def _of(resource: str) -> list[str]:
    return [name for name, kind in EVENTS.items() if kind.resource == resource]
