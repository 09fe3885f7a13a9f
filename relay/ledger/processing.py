"""An event's way from received to processed: leased, put back, held, planned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay import fault_injection
from relay.lab.events import EVENTS
from relay.lab.facts import Facts
from relay.ledger import digesting, journeys, releasing, steps
from relay.ledger.cases import open_case
from relay.ledger.database import Database, now
from relay.ledger.journeys import Place
from relay.ledger.leasing import due
from relay.ledger.schema import events
from relay.privacy.names import search_key
from relay.rules.model import HELD, PROCESSED, RECEIVED, AlreadyNotified, Case, Notice, Plan
from relay.rules.staleness import Step, Waiting

LEASE_SECONDS = 90.0


@dataclass(frozen=True)
class Event:
    """An event's row, as jobs read it."""

    id: str
    name: str
    data: Mapping[str, Any]
    received_at: datetime
    tries: int  # that have ended; of a leased one, with this one
    subject: str | None
    round: int
    facts: Facts


@dataclass(frozen=True)
class Kit:
    """What the ledger knows of the kit that an event is about."""

    place: Place
    told: AlreadyNotified
    known: tuple[Step, ...] = ()
    waiting: Sequence[Waiting] = ()
    gone: frozenset[str] = frozenset()  # digests that take no more items


_COLUMNS = (
    *(events.c.id, events.c.name, events.c.data, events.c.received_at),
    *(events.c.tries, events.c.subject, events.c.round, events.c.facts),
)


def _event(row: Any) -> Event:
    return Event(**{**row._mapping, "facts": Facts.from_json(row.facts)})


def lease_events(db: Database, limit: int) -> list[Event]:
    """Up to `limit` events that are due, the urgent first; nobody else gets them for a while."""
    with db.write() as connection:
        given = {"most": limit, "lease": fault_injection.hastened(LEASE_SECONDS)}
        leased = [_event(row) for row in connection.execute(_LEASING, given)]
    return [replace(event, tries=event.tries + 1) for event in leased]


def get_event(db: Database, event_id: str) -> Event | None:
    """An event by its id."""
    with db.read() as connection:
        row = connection.execute(sa.select(*_COLUMNS).where(events.c.id == event_id)).first()
    return _event(row) if row else None


def put_back(db: Database, event_id: str, delay: float, reason: str) -> None:
    """Try an event again in `delay` seconds."""
    with db.write() as connection:
        _change(connection, event_id, next_at=now(delay), reason=reason[:500])


def hold(db: Database, event_id: str, reason: str, case: Case | None = None) -> None:
    """Stop trying: a person has to look at it, and is told so."""
    with db.write() as connection:
        values = {"status": HELD, "reason": reason[:500], "processed_at": now()}
        if _change(connection, event_id, **values) and case:
            open_case(connection, case)


def _change(connection: Connection, event_id: str, **values: Any) -> bool:
    done = connection.execute(
        events.update()
        .where(events.c.id == event_id, events.c.status == RECEIVED)
        .values(**values, tries=events.c.tries + 1)
    )
    return bool(done.rowcount)


def settle(
    db: Database,
    event: Event,
    facts: Facts,
    decide: Callable[[Kit], Plan],
) -> list[str]:
    """Commit what an event leads to, with what its facts tell of its kit, in one transaction.

    `decide` is asked for the plan, given all that is known of the kit; again where a digest has
    gone meanwhile. The ids of the new notifications.
    """
    kind = EVENTS[event.name]
    with db.write() as connection:
        fault_injection.crash_point("event.before-commit")
        place = journeys.place(connection, kind, event.data, facts)
        past = steps.past(connection, kind, place)
        kit = Kit(place, past.told, past.known, past.waiting)
        plan = decide(kit)
        done = connection.execute(
            _SETTLED,
            {
                "event": event.id,
                "kit": place.subject,
                "in_round": place.round,
                "seen": facts.to_json(),
                "who": search_key(facts),
                "decided": [asdict(decision) for decision in plan.decisions],
            },
        )
        if not done.rowcount:
            return []
        steps.cancel(connection, plan.cancelled)

        def replan(gone: frozenset[str]) -> Sequence[Notice]:
            return decide(replace(kit, gone=gone)).notices if gone else plan.notices

        made = digesting.add(connection, event.id, replan)
        releasing.ask(connection, plan.cases)
        return made


# Statements are built once: that costs more than running them.

_DUE = due(
    events.c.id,
    [events.c.status == RECEIVED, events.c.next_at <= now()],
    [events.c.urgency.desc(), events.c.next_at],
    sa.bindparam("most", type_=sa.Integer),
)
_LEASING = (
    events.update()
    .where(events.c.id.in_(_DUE), events.c.status == RECEIVED)
    .values(next_at=now(sa.bindparam("lease")))
    .returning(*_COLUMNS)
)
_SETTLED = (
    events.update()
    .where(events.c.id == sa.bindparam("event"), events.c.status == RECEIVED)
    .values(
        status=PROCESSED,
        subject=sa.bindparam("kit"),
        round=sa.bindparam("in_round"),
        facts=sa.bindparam("seen"),
        person=sa.bindparam("who"),
        decisions=sa.bindparam("decided"),
        reason="",
        processed_at=now(),
        tries=events.c.tries + 1,
    )
)
