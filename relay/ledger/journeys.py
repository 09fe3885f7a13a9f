"""Which order, registrations and retests are one kit, as the lab's API links them; its steps.

Nobody gets a message twice when the lab links two kits: a registration may turn out to repeat
another, or to have had another name. In the transaction that learns this, its events and messages
become those of (original, round), so that no replay and no other name sends them again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.lab.events import EVENTS, ORDER, REGISTRATION, RETEST, Kind, about
from relay.lab.facts import PERSONS, Facts
from relay.ledger.database import now
from relay.ledger.notifications import KIND
from relay.ledger.schema import (
    INSERTS,
    IS_WAITING,
    aliases,
    attempts,
    cases,
    events,
    journeys,
    notifications,
)
from relay.rules.addresses import normalised
from relay.rules.model import AlreadyNotified, Step, Waiting, case_digest, identity, obligation
from relay.rules.staleness import KitEvent, Kits, Registration
from relay.rules.statuses import ALERT, ALIVE, FAILED, ITEM, MESSAGE, RESENT, UNCONFIRMED, WAITING

_TWICE = "Another message says the same: the lab has linked this test to another."
_KEYED = ("release", "unreached")  # the kinds of case about an obligation


def move_identity(connection: Connection, former: str, subject: str, rounds: int) -> None:
    """Move the events and messages of a former subject to `subject`, `rounds` rounds later."""
    mine = sa.and_(events.c.subject == former, events.c.name.in_(about(REGISTRATION)))
    ids = list(connection.execute(sa.select(events.c.id).where(mine)).scalars())
    if former == subject or not ids:
        return
    connection.execute(
        events.update()
        .where(events.c.id.in_(ids))
        .values(subject=subject, round=events.c.round + rounds)
    )
    table = notifications.c
    of_it = sa.and_(table.event_id.in_(ids), table.subject == former)
    wanted = (
        *(table[name] for name in ("id", "rule", "round", "role", "channel", "address", "status")),
        table.obligation.label("obligation"),
        KIND.label("kind"),
    )
    moved = connection.execute(sa.select(*wanted).where(of_it).with_for_update()).all()
    touched: set[str] = set()
    for row in moved:
        touched.add(move_message(connection, row, subject, row.round + rounds))
    for one in sorted(touched):
        cancel_duplicates(connection, one)


def move_message(connection: Connection, row: sa.Row[Any], subject: str, round_: int) -> str:
    """Give a message its new identity; return the obligation that it now belongs to."""
    values: dict[str, Any] = {"subject": subject, "round": round_}
    new = obligation(row.rule, subject, round_, row.role)
    # The identity of an alert or a digest names no kit, and a repeat's is made from the message
    # that it repeats. Without an address there can be no identity.
    if row.kind in (MESSAGE, ITEM, RESENT):
        values["obligation"] = new
        move_cases(connection, row.obligation, new)
        if row.kind != RESENT and (row.address or row.status == "validation-failed"):
            name = identity(row.rule, subject, round_, row.role, row.channel, row.address)
            is_taken = sa.select(notifications.c.id).where(notifications.c.identity == name)
            taken = connection.execute(is_taken).first() is not None
            values["identity"] = obligation(name, row.id, 0, "") if taken else name
    connection.execute(notifications.update().where(notifications.c.id == row.id).values(**values))
    return new


def move_cases(connection: Connection, former: str, new: str) -> None:
    """Move cases from the former obligation to the new one, unless that has a case already."""
    for kind in _KEYED:
        digest = case_digest(kind, new)
        there = sa.exists().where(cases.alias().c.digest == digest)
        connection.execute(
            cases.update()
            .where(cases.c.digest == case_digest(kind, former), ~there)
            .values(digest=digest, about=digest)
        )


def cancel_duplicates(connection: Connection, owed: str) -> None:
    """Let one message of an obligation go out per channel and person, preferring one already out.

    A repeat goes out as well, because a person asked for it.
    """
    table = notifications.c
    is_repeat = (KIND == RESENT).label("is_repeat")
    query = (
        sa.select(table.id, table.role, table.channel, table.address, table.status, is_repeat)
        .where(table.obligation == owed, table.status.in_(ALIVE))
        .order_by(IS_WAITING, KIND != RESENT, table.id)
        .with_for_update()
    )
    seen: set[Sequence[str]] = set()
    for row in connection.execute(query).all():
        to = (row.channel,) if row.role in PERSONS else (row.channel, normalised(row.address))
        if to in seen and row.status in WAITING and not row.is_repeat:
            connection.execute(
                notifications.update()
                .where(table.id == row.id)
                .values(status="cancelled", reason=_TWICE)
            )
        seen.add(to)


LONGEST_NAME = 255  # that the ledger keeps; a longer reference leads nowhere


@dataclass(frozen=True)
class Place:
    """The place of an event: its kit (the subject) and round of testing."""

    subject: str
    round: int


def place(connection: Connection, kind: Kind, data: Mapping[str, Any], facts: Facts) -> Place:
    """Keep the links in an event and its fetched `facts`; return where the event belongs."""
    written = str(data[kind.id_field])
    if kind.resource == ORDER:
        return _learn_order(connection, written, facts.order or {})
    registration = facts.registration or {}
    named = (registration.get("id") or written, registration.get("parent_id"))
    keep_apart(connection, *named, data.get("retest_testregistration_id"))
    found = _learn_registration(connection, written, registration)
    if kind.name == RETEST:
        retest = str(data["retest_testregistration_id"])
        return learn_retest(connection, found.subject, retest)
    return found


def keep_apart(connection: Connection, *registrations: Any) -> None:
    """Serialise the planning of events that link one of these registrations to another.

    Each locks the rows of both: a retest's event the original's first, the retest's own event the
    other way round. This lock is taken before all others, and in one order.
    """
    names = {str(name).encode() for name in registrations if name}
    if connection.dialect.name == "postgresql" and len(names) > 1:
        digests = (hashlib.sha256(name).digest()[:8] for name in names)
        for key in sorted(int.from_bytes(digest, signed=True) for digest in digests):
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))


def fitting(name: object) -> str:
    """A name as the ledger can keep it; empty if there is none, or it is too long."""
    text = str(name or "").strip()
    return text if len(text) <= LONGEST_NAME else ""


def _learn_order(connection: Connection, written_id: str, order: Mapping[str, Any]) -> Place:
    subject = fitting(order.get("id")) or written_id
    kits = {subject: {"resource": ORDER, "order_subject": None}}
    called = (written_id, subject, order.get("order_number"), order.get("tracking_number"))
    names = {(ORDER, name): subject for name in map(fitting, called) if name}
    names |= {(ORDER, "".join(name.split())): subject for _, name in names}  # AB 123 is AB123 too
    for part in order.get("test_registrations") or ():
        registered = fitting(part.get("id"))
        if not registered:
            continue
        known = kits.setdefault(registered, {"resource": REGISTRATION, "order_subject": None})
        known["order_subject"] = subject
        for name in filter(None, (registered, fitting(part.get("trf_code")))):
            names.setdefault((REGISTRATION, name), registered)
    connection.execute(
        _adding_order(connection.dialect.name),
        [{"subject": kit, **known} for kit, known in sorted(kits.items())],
    )
    _name(connection, names)
    return Place(subject, 0)


def _learn_registration(
    connection: Connection, written_id: str, registration: Mapping[str, Any]
) -> Place:
    subject = fitting(registration.get("id")) or written_id
    called = (subject, written_id, registration.get("trf_code"), registration.get("foreign_id"))
    row = _add(connection, subject)
    names = name_registration(connection, subject, set(filter(None, map(fitting, called))))
    parent = registration.get("parent_id")
    others = is_linked_by(connection, names)
    if others and not row.original_subject:
        row = adopt(connection, subject, names) or row
    if parent and parent != subject and not row.original_subject:
        row = link_retest(connection, str(parent), subject)
    place = Place(row.original_subject or subject, row.round)
    if others:
        gather(connection, names, place)
    return place


def name_registration(connection: Connection, subject: str, called: set[str]) -> list[str]:
    """Keep the names of a registration; return those that only it has, including its own id.

    A name that another registration also has leads to neither. A name that was its own subject,
    because the registration's id was not known yet, becomes the registration's.
    """
    known = connection.execute(_CALLED, {"names": sorted(called)}).all()
    new = called - {row.alias for row in known}
    if new:
        _name(connection, {(REGISTRATION, name): subject for name in new})
    own = [subject, *sorted(new - {subject})]
    for row in known:
        this = sa.and_(aliases.c.resource == REGISTRATION, aliases.c.alias == row.alias)
        if row.alias == row.subject != subject:
            connection.execute(aliases.update().where(this).values(subject=subject))
            replace(connection, row.subject, subject)
            own.append(row.alias)
        elif row.subject != subject and not row.is_shared:
            connection.execute(aliases.update().where(this).values(is_shared=True))
        elif row.subject == subject != row.alias and not row.is_shared:
            own.append(row.alias)
    return own


_CALLED = (
    sa.select(aliases)
    .where(
        aliases.c.resource == REGISTRATION,
        aliases.c.alias.in_(sa.bindparam("names", expanding=True)),
    )
    .order_by(aliases.c.alias)
)


def replace(connection: Connection, former: str, subject: str) -> None:
    """Replace another name that a registration was known by with its own id."""
    known = connection.execute(sa.select(journeys).where(journeys.c.subject == former)).first()
    if known is not None and known.order_subject:
        connection.execute(
            journeys.update()
            .where(journeys.c.subject == subject, journeys.c.order_subject.is_(None))
            .values(order_subject=known.order_subject)
        )
    move_identity(connection, former, subject, 0)


def is_linked_by(connection: Connection, names: Sequence[str]) -> bool:
    """Whether any of these names is that of a retest, or of a registration with a retest."""
    table = journeys.c
    query = sa.select(table.subject).where(
        table.original_subject.is_not(None),
        sa.or_(table.subject.in_(names), table.original_subject.in_(names)),
    )
    return connection.execute(query.limit(1)).first() is not None


def gather(connection: Connection, names: Sequence[str], place: Place) -> None:
    """Move a registration's retests and messages to `place`, where it turns out to belong."""
    former = [name for name in names if name != place.subject]
    connection.execute(
        journeys.update()
        .where(journeys.c.original_subject.in_(former))
        .values(original_subject=place.subject, round=journeys.c.round + place.round)
    )
    for name in former:
        move_identity(connection, name, place.subject, place.round)


def adopt(connection: Connection, subject: str, names: Sequence[str]) -> sa.Row[Any] | None:
    """Take over the link of a retest from its other name; return None if it had no such link."""
    other = connection.execute(
        sa.select(journeys.c.original_subject, journeys.c.round).where(
            journeys.c.subject.in_(names),
            journeys.c.subject != subject,
            journeys.c.original_subject.is_not(None),
            journeys.c.original_subject != subject,
        )
    ).first()
    if other is None:
        return None
    move_identity(connection, subject, other.original_subject, other.round)
    return connection.execute(
        journeys.update()
        .where(journeys.c.subject == subject)
        .values(original_subject=other.original_subject, round=other.round)
        .returning(journeys)
    ).one()


def learn_retest(connection: Connection, original: str, retest_id: str) -> Place:
    """Link a retest, by any name that the lab gave it, to its original; return where it belongs."""
    known = resolve(connection, REGISTRATION, retest_id)
    row = link_retest(connection, original, known or retest_id)
    return Place(row.original_subject or original, row.round)


def order_of(connection: Connection, registration: str) -> str | None:
    """The id of the order that a registration came with, or else that of its original's order."""
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
    """The subject that has this name; None if the name is not known yet, or is shared."""
    query = sa.select(aliases.c.subject).where(
        aliases.c.resource == resource, aliases.c.alias == written_id, ~aliases.c.is_shared
    )
    return connection.execute(query).scalar_one_or_none()


def link_retest(connection: Connection, parent: str, retest: str) -> sa.Row[Any]:
    """Link a retest to its parent's original as the next round, unless linked; return its row."""
    parent = resolve(connection, REGISTRATION, parent) or parent
    above = _add(connection, parent)
    original = above.original_subject or parent
    row = _add(connection, retest)
    if row.original_subject or original == retest:  # already linked, or parents in a circle
        return row
    # Lock the original's row, so that two retests at once get two rounds.
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
    gather(connection, (retest,), Place(original, row.round))
    return row


def _add(connection: Connection, registration: str) -> sa.Row[Any]:
    """Return a registration's row, adding it if it is missing."""
    statement = _adding_registration(connection.dialect.name)
    return connection.execute(statement, {"subject": registration}).one()


def _name(connection: Connection, names: Mapping[tuple[str, str], str]) -> None:
    """Add the other names of subjects. The first to claim a name keeps it."""
    rows = [
        {"resource": resource, "alias": name, "subject": subject}
        for (resource, name), subject in sorted(names.items())
    ]
    connection.execute(_naming(connection.dialect.name), rows)


# Each statement is built once: building costs more than running.


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
    """The past of a kit: its steps, its waiting messages, who was notified, what was stopped."""

    known: tuple[Step, ...]
    waiting: tuple[Waiting, ...]
    notified: AlreadyNotified
    stopped: frozenset[tuple[str, str]]  # (rule, role) that a person has stopped
    was_planned: bool  # whether any event of it, this one included, has been planned before


def steps_of_kit(connection: Connection, event_name: str, subject: str) -> tuple[Step, ...]:
    """The steps that count for the kit or order that an event is about."""
    if event_name not in EVENTS:
        return ()
    resource = EVENTS[event_name].resource
    kits, *_ = _kits(connection, resource, subject)
    return kits.steps(resource, subject)


def kit_past(connection: Connection, kind: Kind, place: Place, event: KitEvent) -> KitPast:
    """The past of a kit, of its orders and of the other kits that came with these.

    `event`, the one being planned, already counts as a step. `notified` holds those who have got,
    or will get, a message about this very subject in this round.
    """
    kits, rows, was_planned = _kits(connection, kind.resource, place.subject, event)
    waiting: list[Waiting] = []  # or failed: a later step may close the case about it
    notified: set[tuple[str, str, str]] = set()
    stopped: set[tuple[str, str]] = set()
    may_have_arrived = _unconfirmed(connection, rows)
    for row in rows:
        resource = EVENTS[row.name].resource
        is_over = row.message_status in FAILED and row.message not in may_have_arrived
        has_failed = is_over and not row.stopped_by
        if (has_failed or row.message_status in WAITING) and row.message_kind != ALERT:
            step = Step(row.name, row.message_round, row.received_at)
            known = kits.steps(resource, row.subject)
            waiting.append(Waiting(row.message, row.rule, row.due_at, step, known, has_failed))
        if has_failed or (resource, row.subject, row.message_round) != (
            kind.resource,
            place.subject,
            place.round,
        ):
            continue
        if not row.stopped_by:
            notified.add((row.rule, row.role, row.channel))
        if row.stopped_by:
            stopped.add((row.rule, row.role))
    known = kits.steps(kind.resource, place.subject)
    return KitPast(known, tuple(waiting), frozenset(notified), frozenset(stopped), was_planned)


def _unconfirmed(connection: Connection, rows: Sequence[Any]) -> set[str]:
    """Messages without a receipt in time: they may have arrived, so no plan repeats them."""
    ids = [row.message for row in rows if row.message_status == "temporary-failure"]
    mine = (attempts.c.notification_id.in_(ids), attempts.c.code == UNCONFIRMED)
    found = sa.select(attempts.c.notification_id).where(*mine)
    return set(connection.execute(found).scalars()) if ids else set()


def _kits(
    connection: Connection, resource: str, subject: str, event: KitEvent | None = None
) -> tuple[Kits, list[Any], bool]:
    """A kit or an order with everything that belongs to it, the messages about these, and whether
    an event of it was planned.
    """
    links = connection.execute(linked(resource), {"kit": subject}).all()
    registrations = [
        Registration(row.subject, row.original_subject or row.subject, row.round, row.order_subject)
        for row in links
    ]
    orders = {one.order for one in registrations if one.order}
    originals = {one.original for one in registrations}
    (orders if resource == ORDER else originals).add(subject)
    # Retests and their kin lead to other orders; not all kits of those were asked for.
    mine = {one.order for one in registrations if one.original == subject}
    whole = {subject} if resource == ORDER else mine
    found: dict[str, KitEvent] = {}
    messages = []
    given = {"subjects": sorted(orders | originals)}
    for row in connection.execute(_HAPPENED, given):
        if row.name not in EVENTS:  # a newer version accepted it, before a rollback
            continue
        # By its resource: in the lab's own examples an order and a registration share an id.
        of_order = EVENTS[row.name].resource == ORDER
        if row.about not in (orders if of_order else originals):
            continue
        # It has a subject, so it was processed once: it counts, even while it is processed again.
        found[row.id] = KitEvent(row.name, row.about, row.round, row.received_at)
        if row.message is not None and (not of_order or row.about in whole):
            messages.append(row)
    events_ = [*found.values(), *([event] if event else ())]
    return Kits(registrations, events_), messages, bool(found)


def cancel_overtaken(connection: Connection, reasons: Mapping[str, str]) -> None:
    """Cancel those of these messages that still wait, each with its reason."""
    for id_, reason in sorted(reasons.items()):
        mine = sa.and_(notifications.c.id == id_, IS_WAITING)
        ended = {"status": "cancelled", "reason": reason[:500]}
        connection.execute(notifications.update().where(mine).values(ended))


# Each statement is built once: building costs more than running.

_KIT: sa.BindParameter[str] = sa.bindparam("kit", type_=sa.String)


@cache
def linked(resource: str) -> Any:
    """Build a query for a kit's or an order's registrations: its rounds, its orders, their kits."""
    table, mine = journeys.c, journeys.alias().c
    if resource == ORDER:
        orders: Any = sa.select(_KIT)
        own: Any = None
    else:
        rounds = sa.or_(mine.subject == _KIT, mine.original_subject == _KIT)
        orders = sa.select(mine.order_subject).where(rounds, mine.order_subject.is_not(None))
        own = sa.select(_KIT)
    kin = journeys.alias().c
    came_with = sa.select(sa.func.coalesce(kin.original_subject, kin.subject)).where(
        kin.order_subject.in_(orders)
    )
    originals = sa.union(came_with, own) if own is not None else came_with
    columns = (table.subject, table.original_subject, table.round, table.order_subject)
    # Two queries, each by its index: with OR, PostgreSQL reads the whole table.
    return sa.union(
        sa.select(*columns).where(table.subject.in_(originals), table.resource == REGISTRATION),
        sa.select(*columns).where(table.original_subject.in_(originals)),
    )


_message = notifications.c
_HAPPENED = (
    sa.select(
        events.c.id,
        events.c.name,
        events.c.subject.label("about"),
        events.c.round,
        events.c.received_at,
        _message.id.label("message"),
        _message.status.label("message_status"),
        KIND.label("message_kind"),
        _message.rule,
        _message.role,
        _message.channel,
        _message.subject,
        _message.due_at,
        _message.stopped_by,
        _message.round.label("message_round"),
    )
    .join_from(
        events,
        notifications,
        sa.and_(
            _message.event_id == events.c.id,
            sa.or_(_message.status.in_((*ALIVE, *FAILED)), _message.stopped_by.is_not(None)),
            # A digest belongs to its first item's event, but is about others too.
            KIND.in_((MESSAGE, ALERT, RESENT)),
        ),
        isouter=True,
    )
    .where(events.c.subject.in_(sa.bindparam("subjects", expanding=True)))
)
