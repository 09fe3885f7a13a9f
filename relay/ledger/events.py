"""Events: recorded once each, leased, put back, held, processed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay import fault_injection
from relay.lab.events import EVENTS, Incoming
from relay.lab.facts import Facts, search_key
from relay.ledger import digests, history, journeys, replay
from relay.ledger.database import Database, new_id, now, urgent_first
from relay.ledger.holds import pauses
from relay.ledger.journeys import Place
from relay.ledger.notifications import insert_notices
from relay.ledger.schema import (
    INSERTS,
    IS_LEASED_AGAIN,
    IS_RECEIVED,
    acknowledged_events,
    events,
    lab_pauses,
)
from relay.ledger.worklist import doubts, releases
from relay.ledger.worklist.cases import close_overtaken, close_reached, open_case
from relay.rules.model import AlreadyNotified, Case, Notice, Plan, Policy, Step, Waiting
from relay.rules.staleness import KitEvent
from relay.rules.statuses import HELD, PROCESSED, RECEIVED, UNROUTED, WAITING, WAITS_FOR_LAB

LEASE_SECONDS = 90.0
LEASES = 5  # unfinished ones, after which a person has to look: see `lease_events`


@dataclass(frozen=True)
class Event:
    """A row of `events`, as jobs read it."""

    id: str
    name: str
    data: Mapping[str, Any]
    received_at: datetime
    tries: int  # finished tries; a leased event counts the one in hand too
    subject: str | None
    round: int
    facts: Facts
    leases: int = 1  # since a try last finished, this one included


@dataclass(frozen=True)
class Kit:
    """The kit of an event, as far as the ledger knows it."""

    place: Place
    notified: AlreadyNotified
    known: tuple[Step, ...] = ()
    waiting: Sequence[Waiting] = ()
    closed_digests: frozenset[str] = frozenset()  # digests that accept no more items
    stopped: frozenset[tuple[str, str]] = frozenset()  # (rule, role) that a person has stopped


_COLUMNS = (
    events.c.id,
    events.c.name,
    events.c.data,
    events.c.received_at,
    events.c.tries,
    events.c.subject,
    events.c.round,
    events.c.facts,
    events.c.leases,
)


def _event(row: Any) -> Event:
    return Event(**{**row._mapping, "facts": Facts.from_json(row.facts)})


def lease_events(db: Database, limit: int, *, lapsed: bool = False) -> list[Event]:
    """Lease up to `limit` due events, urgent ones first: no other worker gets them for a while.
    Return none while the lab is paused: see `lease_probe`.

    Events whose lease has `lapsed` are leased separately: one of them may kill every process that
    takes it, along with that process's other work. It owns its transaction: a lease holds once it
    is committed.
    """
    with db.write() as connection:
        given = {"most": limit, "lease": fault_injection.hastened(LEASE_SECONDS)}
        statement = leasing(connection.dialect.name, lapsed)
        leased = [_event(row) for row in connection.execute(statement, given)]
    return [replace(event, tries=event.tries + 1) for event in leased]


def lease_probe(db: Database) -> Event | None:
    """While the lab is paused and a probe is due, lease one event to find out whether it is back.
    If there is no such event, a message that has to ask the lab serves as the probe.

    It owns its transaction, as `lease_events` does.
    """
    with db.read() as connection:
        pause = pauses.of_lab(connection)
    if not pause or not pause["is_due"]:
        return None
    with db.write() as connection:
        id_ = connection.execute(_PROBE).scalar()
        if id_ is None or not pauses.turn(connection, pauses.LAB):
            return None
        given = {"this": id_, "lease": fault_injection.hastened(LEASE_SECONDS)}
        leased = _event(connection.execute(_LEASING_PROBE, given).one())
    return replace(leased, tries=leased.tries + 1)


def get_event(connection: Connection, event_id: str) -> Event | None:
    """Return the event with this id, or None."""
    row = connection.execute(sa.select(*_COLUMNS).where(events.c.id == event_id)).first()
    return _event(row) if row else None


def put_back(
    connection: Connection,
    event_id: str,
    delay: float,
    reason: str,
    *,
    waits_for: str | None = None,
    is_a_try: bool = True,
) -> None:
    """Schedule another try of an event in `delay` seconds, and keep the reason. If it `waits_for`
    the lab, it is tried as soon as the lab answers.
    """
    values: dict[str, Any] = {"next_at": now(delay), "reason": reason[:500], "waits_for": waits_for}
    if not is_a_try:
        values["tries"] = events.c.tries
    _change(connection, event_id, **values)


def hold(connection: Connection, event_id: str, reason: str, case: Case | None = None) -> None:
    """Stop trying an event until a person has looked at it; open the `case` that asks for that."""
    if _change(connection, event_id, status=HELD, reason=reason[:500]) and case:
        open_case(connection, case)


def set_aside(connection: Connection, event: Event, reason: str, case: Case) -> None:
    """Keep an event whose name is unknown. Staff are alerted to the name again, even if they had
    acknowledged it: some version since then has known it.
    """
    if _change(connection, event.id, status=UNROUTED, reason=reason[:500]):
        mine = acknowledged_events.c.name == event.name
        connection.execute(acknowledged_events.delete().where(mine))
        open_case(connection, case)


def _change(connection: Connection, event_id: str, **values: Any) -> bool:
    done = connection.execute(
        events.update()
        .where(events.c.id == event_id, events.c.status == RECEIVED)
        .values({"tries": events.c.tries + 1, "tried_at": now(), "leases": 0, **values})
    )
    return bool(done.rowcount)


def plan_and_mark_processed(
    connection: Connection,
    event: Event,
    facts: Facts,
    decide: Callable[[Kit], Plan],
    edition: int | None = None,
    policy: Policy | None = None,
) -> list[str] | None:
    """Insert the messages that an event leads to, link its kit, and mark it processed by an
    edition; return the ids of the new messages. With a `policy`, ask a person about doubtful ones.
    Return None if its kit has come back from history: fetch the facts again, since the links that
    came back may lead to more of them.

    It calls back into planning: `decide` takes the kit and returns the plan, and is called again if
    a digest has closed meanwhile. This happens inside the caller's write transaction, so that no
    other worker can plan for the kit in between. So `decide` must be pure and quick: no network,
    no file, no connection of its own.
    """
    kind = EVENTS[event.name]
    fault_injection.crash_point("event.before-commit")
    if history.bring_back(connection, history.names_used(kind, event.data, facts)):
        return None
    place = journeys.place(connection, kind, event.data, facts)
    this = KitEvent(event.name, place.subject, place.round, event.received_at)
    past = journeys.kit_past(connection, kind, place, this)
    kit = Kit(place, past.notified, past.known, past.waiting, stopped=past.stopped)
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
            "decided_by": edition,
        },
    )
    if not done.rowcount:
        return []
    if plan.cancelled:
        journeys.cancel_overtaken(connection, plan.cancelled)
        close_overtaken(connection, plan.cancelled)

    def replan(closed: frozenset[str]) -> Sequence[Notice]:
        return decide(replace(kit, closed_digests=closed)).notices if closed else plan.notices

    if any(one.digest for one in plan.notices):
        made = digests.plan_and_add(connection, event.id, replan)
    else:
        made = insert_notices(connection, event.id, plan.notices)
    if past.was_planned:  # otherwise no message can have failed to reach anybody yet
        for owed in {one.obligation for one in plan.notices if one.status in WAITING}:
            close_reached(connection, owed)
    for case in plan.cases:
        releases.ask(connection, replace(case, event_id=event.id))
    to_patient = [one for one in plan.notices if one.tells_patient]
    if policy and to_patient:
        doubts.ask(connection, policy, event.id, facts, to_patient)
    return made


# Each statement is built once: building costs more than running.


@cache
def leasing(dialect: str, lapsed: bool = False) -> Any:
    """Build the statement that leases due events; it finds none while the lab is paused."""
    waits = (IS_RECEIVED, IS_LEASED_AGAIN if lapsed else ~IS_LEASED_AGAIN)
    is_there = ~sa.exists(lab_pauses.select())
    first = urgent_first(dialect, [events.c.id], waits, events.c.next_at, is_there).cte("due")
    return (
        events.update()
        .where(events.c.id.in_(sa.select(first.c.id)), *waits)
        .values(next_at=now(sa.bindparam("lease")), waits_for=None, leases=events.c.leases + 1)
        .returning(*_COLUMNS)
    )


# The event tried longest ago, so that trouble with one kit does not keep the others waiting.
_PROBE = (
    sa.select(events.c.id)
    .where(
        IS_RECEIVED,
        sa.or_(events.c.next_at <= now(), events.c.waits_for == WAITS_FOR_LAB),
    )
    .order_by(events.c.tried_at.nulls_first(), events.c.urgency.desc(), events.c.next_at)
    .limit(1)
    .with_for_update(skip_locked=True)
)
_LEASING_PROBE = (
    events.update()
    .where(events.c.id == sa.bindparam("this"))
    .values(next_at=now(sa.bindparam("lease")), waits_for=None, leases=events.c.leases + 1)
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
        edition=sa.bindparam("decided_by", type_=sa.Integer),
        reason="",
        processed_at=now(),
        tried_at=now(),
        tries=events.c.tries + 1,
        leases=0,
    )
)


AT_ONCE = 8  # events in one statement


@dataclass(frozen=True)
class Recorded:
    """An event in the ledger: its id, and the `status` with which the lab is answered."""

    id: str
    status: str  # accepted, duplicate, unrouted


@cache
def recording(dialect: str, count: int) -> Any:
    """Build the statement that inserts `count` events. Workers poll these rows as their outbox."""
    one: sa.ColumnElement[int] = sa.literal_column("1")
    none: sa.ColumnElement[int] = sa.literal_column("0")
    recent = sa.case((events.c.received_at > now(sa.bindparam("since")), one), else_=none)
    insert: Any = INSERTS[dialect](events).values([_values(dialect, n) for n in range(count)])
    return insert.on_conflict_do_update(
        index_elements=[events.c.identity],
        set_={"duplicates": events.c.duplicates + recent},
    ).returning(events.c.identity, events.c.id, recent)


def _values(dialect: str, number: int) -> dict[str, Any]:
    data: Any = sa.bindparam(f"data_{number}", type_=sa.Text)
    return {
        **{name: sa.bindparam(f"{name}_{number}") for name in _GIVEN if name != "data"},
        "data": sa.cast(data, sa.JSON) if dialect == "postgresql" else data,
        "received_at": now(),
        "next_at": now(),
    }


_GIVEN = ("id", "name", "identity", "data", "status", "urgency", "named")


def _row(incoming: Incoming) -> dict[str, Any]:
    return {
        "id": new_id("evt"),
        "name": incoming.name,
        "identity": incoming.identity,
        "data": json.dumps(incoming.data),
        "status": RECEIVED if incoming.kind else UNROUTED,
        "urgency": incoming.kind.urgency if incoming.kind else 0,
        "named": incoming.named,
    }


def _parameters(rows: Sequence[Mapping[str, Any]], since: float) -> dict[str, Any]:
    numbered = {f"{name}_{n}": row[name] for n, row in enumerate(rows) for name in _GIVEN}
    return {**numbered, "since": since}


def record_webhook(db: Database, incoming: Incoming, window: timedelta) -> Recorded:
    """Commit a webhook's event, or count it as a duplicate if it repeats one within `window`.

    It owns its transaction, which webhooks of several threads share: one commit each is slower.
    """
    together = db.together(_record, key=lambda given: given[0]["identity"], most=AT_ONCE)
    while True:
        row = _row(incoming)
        id_, recent = together.run((row, -window.total_seconds()))
        if found := recorded(row, id_, recent):
            if found.status == "duplicate":
                with db.write() as connection:
                    replay.retry_reposted(connection, found.id)
            return found
        with db.write() as connection:
            retire(connection, id_, incoming.identity)


def _record(
    db: Database, given: Sequence[tuple[Mapping[str, Any], float]]
) -> list[tuple[str, int]]:
    """Commit the events of several threads together; return each one's id and whether it is recent.

    Idempotent: it may be run again when its answer was lost.
    """
    statement = db.prepared(recording, len(given))
    parameters = _parameters([row for row, _ in given], given[0][1])
    fault_injection.crash_point("intake.before-commit")
    rows = db.run(statement, parameters)
    fault_injection.crash_point("intake.after-commit")
    by_identity = {identity: (id_, recent) for identity, id_, recent in rows}
    return [by_identity[row["identity"]] for row, _ in given]


def record(connection: Connection, incoming: Incoming, window: timedelta) -> Recorded:
    """Record an event, or count it as a duplicate if it repeats one within `window`."""
    statement = recording(connection.dialect.name, 1)
    while True:
        row = _row(incoming)
        given = _parameters([row], -window.total_seconds())
        _, id_, recent = connection.execute(statement, given).one()
        if found := recorded(row, id_, recent):
            if found.status == "duplicate":
                replay.retry_reposted(connection, found.id)
            return found
        retire(connection, id_, incoming.identity)


def recorded(row: Mapping[str, Any], id_: str, recent: int) -> Recorded | None:
    """The answer for a row that was inserted or counted; None if an old event must be retired."""
    if id_ == row["id"]:
        return Recorded(id_, "unrouted" if row["status"] == UNROUTED else "accepted")
    return Recorded(id_, "duplicate") if recent else None


def retire(connection: Connection, event_id: str, identity: str) -> None:
    """Free the identity of an event older than the window, so that a repeat counts as new."""
    connection.execute(
        events.update()
        .where(events.c.id == event_id)
        .values(identity=f"{identity}:{event_id[-8:]}")
    )
