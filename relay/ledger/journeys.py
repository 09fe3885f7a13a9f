"""Which order, registrations and retests are one kit, as the lab's API links them; its steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.lab.events import EVENTS, ORDER, REGISTRATION, RETEST, Kind, about
from relay.lab.facts import Facts
from relay.ledger.database import now
from relay.ledger.notifications import KIND
from relay.ledger.schema import INSERTS, aliases, events, journeys, notifications
from relay.rules.model import ALERT, ALIVE, MESSAGE, PROCESSED, WAITING, AlreadyNotified
from relay.rules.staleness import Step, Waiting


@dataclass(frozen=True)
class Place:
    """Where an event belongs: the kit it is told about, and the round of testing."""

    subject: str
    round: int


def place(connection: Connection, kind: Kind, data: Mapping[str, Any], facts: Facts) -> Place:
    """Link what an event and its fetched `facts` tell; where the event belongs."""
    written = str(data[kind.id_field])
    if kind.resource == ORDER:
        return _learn_order(connection, written, facts.order or {})
    found = _learn_registration(connection, written, facts.registration or {})
    if kind.name == RETEST:
        retest = str(data["retest_testregistration_id"])
        return _learn_retest(connection, found.subject, retest)
    return found


def _learn_order(connection: Connection, written_id: str, order: Mapping[str, Any]) -> Place:
    subject = str(order.get("id") or written_id)
    parts = [part for part in order.get("test_registrations") or () if part.get("id")]
    kits = {subject: {"resource": ORDER, "order_subject": None}}
    names = {(ORDER, name): subject for name in (written_id, subject)}
    for part in parts:
        registered = str(part["id"])
        known = kits.setdefault(registered, {"resource": REGISTRATION, "order_subject": None})
        known["order_subject"] = subject
        for name in filter(None, (registered, part.get("trf_code"))):
            names.setdefault((REGISTRATION, str(name)), registered)
    connection.execute(
        _adding_order(connection.dialect.name),
        [{"subject": kit, **known} for kit, known in sorted(kits.items())],
    )
    _name(connection, names)
    return Place(subject, 0)


def _learn_registration(
    connection: Connection, written_id: str, registration: Mapping[str, Any]
) -> Place:
    subject = str(registration.get("id") or written_id)
    names = (written_id, registration.get("trf_code"), registration.get("foreign_id"))
    row = _add(connection, subject)
    _name(connection, {(REGISTRATION, str(name)): subject for name in (subject, *names) if name})
    parent = registration.get("parent_id")
    others = _is_linked_by(connection, subject, names)
    if others and not row.original_subject:
        row = _adopt(connection, subject, names) or row
    if parent and parent != subject and not row.original_subject:
        row = _link_retest(connection, str(parent), subject)
    place = Place(row.original_subject or subject, row.round)
    if others:
        _gather(connection, (subject, *names), place)
    return place


def _is_linked_by(connection: Connection, subject: str, names: tuple[Any, ...]) -> bool:
    """Whether any of these names stands for a retest, or for what one repeats: few do."""
    table = journeys.c
    written = [str(name) for name in (subject, *names) if name]
    query = sa.select(table.subject).where(
        table.original_subject.is_not(None),
        sa.or_(table.subject.in_(written), table.original_subject.in_(written)),
    )
    return connection.execute(query.limit(1)).first() is not None


def _gather(connection: Connection, names: tuple[Any, ...], place: Place) -> None:
    """Hand over retests of what has turned out to be a retest itself, or to have another name."""
    connection.execute(
        journeys.update()
        .where(
            journeys.c.original_subject.in_([str(name) for name in names if name]),
            journeys.c.original_subject != place.subject,
        )
        .values(original_subject=place.subject, round=journeys.c.round + place.round)
    )


def _adopt(connection: Connection, subject: str, names: tuple[Any, ...]) -> sa.Row[Any] | None:
    """Take over a retest that was linked under another of its names, before its UUID was known."""
    other = connection.execute(
        sa.select(journeys.c.original_subject, journeys.c.round).where(
            journeys.c.subject.in_([str(name) for name in names if name]),
            journeys.c.subject != subject,
            journeys.c.original_subject.is_not(None),
            journeys.c.original_subject != subject,
        )
    ).first()
    if other is None:
        return None
    return connection.execute(
        journeys.update()
        .where(journeys.c.subject == subject)
        .values(original_subject=other.original_subject, round=other.round)
        .returning(journeys)
    ).one()


def _learn_retest(connection: Connection, original: str, retest_id: str) -> Place:
    """Link a retest, by whatever name the lab gave it, to its original; the round it opens."""
    known = resolve(connection, REGISTRATION, retest_id)
    row = _link_retest(connection, original, known or retest_id)
    return Place(row.original_subject or original, row.round)


def order_of(connection: Connection, registration: str) -> str | None:
    """The order that a registration, or the original of a retest, came with."""
    table = journeys.c
    query = sa.select(table.order_subject, table.original_subject).where(
        table.subject == registration
    )
    row = connection.execute(query).first()
    if row is None:
        return None
    return row.order_subject or (
        order_of(connection, row.original_subject) if row.original_subject else None
    )


def resolve(connection: Connection, resource: str, written_id: str) -> str | None:
    """The subject that goes by this name, if it is known yet."""
    query = sa.select(aliases.c.subject).where(
        aliases.c.resource == resource, aliases.c.alias == written_id
    )
    return connection.execute(query).scalar_one_or_none()


def _link_retest(connection: Connection, parent: str, retest: str) -> sa.Row[Any]:
    """The retest's row. Its round is the next one, unless the link is known already."""
    parent = resolve(connection, REGISTRATION, parent) or parent
    above = _add(connection, parent)
    original = above.original_subject or parent
    row = _add(connection, retest)
    if row.original_subject or original == retest:  # linked already, or parents in a circle
        return row
    # The original's row is locked, so that two retests at once get two rounds.
    connection.execute(
        sa.select(journeys.c.subject).where(journeys.c.subject == original).with_for_update()
    )
    highest = sa.select(sa.func.coalesce(sa.func.max(journeys.c.round), 0)).where(
        journeys.c.original_subject == original
    )
    row = connection.execute(
        journeys.update()
        .where(journeys.c.subject == retest)
        .values(original_subject=original, round=connection.execute(highest).scalar_one() + 1)
        .returning(journeys)
    ).one()
    _gather(connection, (retest,), Place(original, row.round))
    return row


def _add(connection: Connection, registration: str) -> sa.Row[Any]:
    """A registration's row, there from now on."""
    statement = _adding_registration(connection.dialect.name)
    return connection.execute(statement, {"subject": registration}).one()


def _name(connection: Connection, names: Mapping[tuple[str, str], str]) -> None:
    """Add what subjects are called besides. The first to claim a name keeps it."""
    rows = [
        {"resource": resource, "alias": name, "subject": subject}
        for (resource, name), subject in sorted(names.items())
    ]
    connection.execute(_naming(connection.dialect.name), rows)


# Statements are built once: that costs more than running them.


@cache
def _adding_order(dialect: str) -> Any:
    insert = INSERTS[dialect](journeys).values(created_at=now())
    return insert.on_conflict_do_update(
        index_elements=[journeys.c.subject],
        set_={"order_subject": insert.excluded.order_subject},
        where=insert.excluded.order_subject.is_not(None),
    )


@cache
def _adding_registration(dialect: str) -> Any:
    insert = INSERTS[dialect](journeys).values(resource=REGISTRATION, created_at=now())
    touched = {"resource": insert.excluded.resource}  # so that the row is returned
    return insert.on_conflict_do_update(
        index_elements=[journeys.c.subject], set_=touched
    ).returning(journeys)


@cache
def _naming(dialect: str) -> Any:
    return INSERTS[dialect](aliases).on_conflict_do_nothing()


@dataclass(frozen=True)
class KitPast:
    """What has come of a kit, and who was or will be told of it."""

    known: tuple[Step, ...]
    waiting: tuple[Waiting, ...]
    told: AlreadyNotified


def steps_of_kit(connection: Connection, event_name: str, subject: str) -> tuple[Step, ...]:
    """What is known of a kit that an event is about."""
    return kit_past(connection, EVENTS[event_name], Place(subject, 0)).known


def kit_past(connection: Connection, kind: Kind, place: Place) -> KitPast:
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
        if row.message_status in WAITING and row.message_kind != ALERT:
            its_step = replace(step, round=row.message_round)
            waiting.append(Waiting(row.message, row.rule, row.due_at, its_step))
        if (row.subject, row.message_round) == (place.subject, place.round):
            told.add((row.rule, row.role, row.channel))
    return KitPast(tuple(known.values()), tuple(waiting), frozenset(told))


def cancel_overtaken(connection: Connection, reasons: Mapping[str, str]) -> int:
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
    is_its_own = KIND.in_((MESSAGE, ALERT))
    of_it = (table.event_id == events.c.id, table.status.in_(ALIVE), is_its_own)
    return (
        sa.select(
            events.c.id,
            events.c.name,
            events.c.round,
            events.c.received_at,
            events.c.status,
            table.id.label("message"),
            table.status.label("message_status"),
            KIND.label("message_kind"),
            table.rule,
            table.role,
            table.channel,
            table.subject,
            table.due_at,
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
