"""Everything in the ledger about one event, kit or message, for `explain` and the desk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.lab.events import EVENTS, name_in
from relay.ledger import history
from relay.ledger.audit import RESEND
from relay.ledger.notifications import IS_KEPT, KIND, is_item_of, is_kept_attempt
from relay.ledger.schema import attempts, audit, cases, events, notifications, receipts
from relay.ledger.views import kit_names
from relay.rules.alerts import OF_NO_KIT, rule_name
from relay.rules.model import RESENT_OF
from relay.rules.statuses import ALERT, DIGEST, ITEM

Row = Mapping[str, Any]
_MESSAGE = (
    "id",
    "event_id",
    "rule",
    "template",
    "role",
    "channel",
    "status",
    "reason",
    "is_fallback",
    "urgency",
    "due_at",
    "created_at",
    "sent_at",
    "delivered_at",
    "round",
    "address",
    "content",
    "identity",
    "waits_for",
    "edition",
)


@dataclass(frozen=True)
class Trail:
    """An event with its messages, oldest first; each with its attempts, each with its receipts.

    Its facts and its messages' addresses and words are personal: show them only on request. A
    digest also has its `items`, and an item its digest, `told_in`; a message has the one that it
    `repeats`, who `asked` for that, and the one that it is `repeated` by.
    """

    event: Row
    messages: Sequence[Row]
    cases: Sequence[Row]


def find(connection: Connection, wanted: str) -> list[Trail]:
    """The events that an id is about: an event's, a message's, an attempt's, or any of a kit's
    names. A message's id finds only that message. Empty if nothing has such an id or name.

    If nothing has the id as written, other spellings of it are tried. Events that are in history
    have `is_past`.
    """
    found = _find(connection, wanted)
    names = {wanted} | kit_names.spellings(wanted)
    with history.opened(connection, names, by_id=not found) as past:
        ended = _find(past, wanted) if past is not None else []
    return [*(replace(one, event={**one.event, "is_past": True}) for one in ended), *found]


def _find(connection: Connection, wanted: str) -> list[Trail]:
    for is_exact in (True, False):
        names = {wanted} if is_exact else kit_names.spelt(connection, wanted)
        if message := message_id(connection, names):
            query = sa.select(notifications.c.event_id).where(notifications.c.id == message)
            return trails(connection, [*connection.execute(query).scalars()], message)
        if ids := kit_names.events_of(connection, names):
            return trails(connection, ids)
    ids = kit_names.events_of_no_kit(connection, names)
    return trails(connection, ids) if ids else []


def find_kit(connection: Connection, wanted: str) -> list[Trail]:
    """All events of the kit that an id is about, even the id of one event or message. For an event
    that may belong to any of several kits, the events that have used the same name.
    """
    found = find(connection, wanted)
    subject = next((one.event["subject"] for one in found if one.event["subject"]), None)
    if not subject and found and (name := name_used(event := found[0].event)):
        subject = kit_names.kit_meant(connection, event["name"], name)
        if not subject:
            ids = kit_names.events_of_no_kit(connection, kit_names.spellings(name))
            return trails(connection, ids) or found
    return (find(connection, subject) if subject else []) or found


def name_used(event: Row) -> str | None:
    """The name that an event has for its kit. The previous release keeps it only in the data."""
    return event["named"] or name_in(EVENTS.get(event["name"]), event["data"])


def message_id(connection: Connection, names: set[str]) -> str:
    """The id of the message that one of these ids is about, its own or an attempt's; else empty."""
    by_attempt = sa.select(attempts.c.notification_id).where(
        sa.or_(attempts.c.id.in_(names), attempts.c.provider_id.in_(names))
    )
    own = sa.select(notifications.c.id).where(notifications.c.id.in_(names))
    return str(connection.execute(sa.union(own, by_attempt)).scalar() or "")


def trails(connection: Connection, ids: Sequence[str], message: str = "") -> list[Trail]:
    """The trail of each event, in the order of the ids: five queries, however many there are."""
    shown = [column for column in events.c if column.name not in ("identity", "person")]
    found = _rows(connection, sa.select(*shown).where(events.c.id.in_(ids)))
    what = (KIND.label("kind"), IS_KEPT.label("is_kept"))
    query = sa.select(*(notifications.c[name] for name in _MESSAGE), *what).where(
        notifications.c.event_id.in_(ids)
    )
    if message:
        query = query.where(notifications.c.id == message)
    else:
        query = query.where(notifications.c.rule.not_in([*map(rule_name, OF_NO_KIT)]))
    messages = _rows(connection, query.order_by(notifications.c.id))
    tried = _attempts(connection, [row["id"] for row in messages])
    gathered, repeated = digests(connection, messages), repeats(connection, messages)
    opened = _by(_cases(connection, ids), "event_id")
    by_id = {row["id"]: row for row in found}
    more = [
        {
            **row,
            "edition": row["edition"] or by_id[row["event_id"]]["edition"],
            "attempts": tried.get(row["id"], []),
            **gathered(row),
            **repeated(row),
        }
        for row in messages
    ]
    sent = _by(more, "event_id")
    return [Trail(by_id[id_], sent.get(id_, []), opened.get(id_, [])) for id_ in ids]


def _cases(connection: Connection, ids: Sequence[str]) -> list[Row]:
    """The cases about events, and those of faults that hit their messages, oldest first."""
    of_kits = cases.select().where(cases.c.kind.not_in(OF_NO_KIT))
    found = _rows(connection, of_kits.where(cases.c.event_id.in_(ids)))
    its = notifications.c.event_id
    hit = sa.select(its.label("of_event"), cases).join(cases, cases.c.id == notifications.c.case_id)
    hit = hit.where(its.in_(ids), its != cases.c.event_id, KIND != ALERT).distinct()
    found += ({**row, "event_id": row["of_event"]} for row in _rows(connection, hit))
    return sorted(found, key=lambda row: row["opened_at"])


def _attempts(connection: Connection, messages: Sequence[str]) -> dict[str, list[Row]]:
    """The attempts of messages, each with its receipts, by message."""
    is_kept = is_kept_attempt().label("is_kept")
    query = sa.select(attempts, is_kept).where(attempts.c.notification_id.in_(messages))
    rows = _rows(connection, query.order_by(attempts.c.started_at))
    when = sa.func.coalesce(receipts.c.happened_at, receipts.c.received_at)
    reported = sa.select(receipts, when.label("at"))
    reported = reported.where(receipts.c.attempt_id.in_([row["id"] for row in rows]))
    heard = _rows(connection, reported.order_by("at", receipts.c.received_at, receipts.c.id))
    said = _by(heard, "attempt_id")
    return _by([{**row, "receipts": said.get(row["id"], [])} for row in rows], "notification_id")


def _rows(connection: Connection, query: sa.Select[Any]) -> list[Row]:
    return [dict(row) for row in connection.execute(query).mappings()]


def _by(rows: Sequence[Row], key: str) -> dict[str, list[Row]]:
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row[key], []).append(row)
    return grouped


def digests(connection: Connection, messages: Sequence[Row]) -> Callable[[Row], Row]:
    """Return a function from a message to its `items`, if a digest, and its digest, if an item."""
    table, digest = notifications.c, notifications.alias()
    ids = [row["id"] for row in messages if row["kind"] in (DIGEST, ITEM)]
    pairs = sa.select(table.id.label("item"), digest.c.id.label("digest"))
    pairs = pairs.select_from(notifications).join(digest, is_item_of(digest))
    # One by one: with OR, PostgreSQL reads the whole table.
    digest_of = dict(_pairs(connection, pairs.where(table.id.in_(ids)))) if ids else {}
    gathered = _pairs(connection, pairs.where(digest.c.id.in_(ids))) if ids else []
    found = kin(connection, {*digest_of.values(), *(item for item, _ in gathered)})
    items: dict[str, list[Row]] = {}
    for item, its_digest in sorted(gathered):
        items.setdefault(its_digest, []).append(found[item])
    return lambda row: {
        "items": items.get(row["id"], ()),
        "told_in": found.get(digest_of.get(row["id"], "")),
    }


def _pairs(connection: Connection, query: sa.Select[Any]) -> list[tuple[str, str]]:
    return [(row.item, row.digest) for row in connection.execute(query)]


def kin(connection: Connection, ids: set[str]) -> dict[str, Row]:
    """The parts of items and digests that are shown with others, by id."""
    table = notifications.c
    query = (
        sa.select(
            table.id,
            table.status,
            table.subject,
            table.event_id,
            table.channel,
            table.urgency,
            table.due_at,
            table.waits_for,
            IS_KEPT.label("is_kept"),
            events.c.name,
        )
        .join(events, events.c.id == table.event_id)
        .where(table.id.in_(ids))
    )
    return {row["id"]: row for row in _rows(connection, query)} if ids else {}


def repeats(connection: Connection, messages: Sequence[Row]) -> Callable[[Row], Row]:
    """Return a function from a message to the one it repeats, who asked, and its own repeat."""
    named = {RESENT_OF + row["id"]: row["id"] for row in messages}
    query = sa.select(notifications.c.identity, notifications.c.id)
    found = connection.execute(query.where(notifications.c.identity.in_(named)))
    repeated = {named[row.identity]: row.id for row in found}
    mine = [row["id"] for row in messages if row["identity"].startswith(RESENT_OF)]
    acts = audit.select().where(audit.c.target.in_(mine), audit.c.action == RESEND)
    asked = _by(_rows(connection, acts.order_by(audit.c.at)) if mine else [], "target")
    return lambda row: {
        "repeats": row["identity"].partition(RESENT_OF)[2],
        "asked": asked.get(row["id"], ()),
        "repeated": repeated.get(row["id"]),
    }
