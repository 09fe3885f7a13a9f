"""Digests: one message about many events. Each item is a row of its own that ends at once.

An item has its digest's id. A digest accepts items while it waits, but none once a worker has
claimed it, because its words may already be written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.ledger.database import now
from relay.ledger.notifications import (
    KIND,
    WITH_EVENT,
    WithEvent,
    insert_notices,
    is_item_of,
    maybe_sent,
)
from relay.ledger.schema import IS_WAITING, attempts, events, notifications
from relay.rules.model import Notice
from relay.rules.statuses import FAILED, ITEM, MESSAGE

Replan = Callable[[frozenset[str]], Sequence[Notice]]


class Item(WithEvent):
    """An event that a digest reports on: the item's row, as it was planned."""


def plan_and_add(connection: Connection, event_id: str, replan: Replan) -> list[str]:
    """Insert the notices that `replan` gives for an event; return the ids of the new rows.

    It calls back into planning. An item needs a digest that still accepts items: `replan` takes the
    set of digests that do not, and is called again until every item has one. This happens inside
    the caller's write transaction, which keeps the digests locked, so `replan` must be pure and
    quick, and use no connection.
    """
    closed_digests: frozenset[str] = frozenset()
    while True:
        notices = replan(closed_digests)
        placed = _placed(connection, notices)
        items = [one for one in notices if not one.is_digest and one.identity not in placed]
        wanted = {one.digest for one in items}
        digests = [one for one in notices if one.is_digest and one.digest in wanted]
        if not (closed := _closed(connection, event_id, digests)):
            return insert_notices(connection, event_id, items)
        closed_digests |= closed


def _placed(connection: Connection, notices: Sequence[Notice]) -> set[str]:
    """The identities of items already in a digest: a replayed event is not reported again."""
    wanted = [one.identity for one in notices if one.kind == ITEM]
    if not wanted:
        return set()
    table = notifications.c
    query = sa.select(table.identity).where(table.identity.in_(wanted), KIND == ITEM)
    return set(connection.execute(query).scalars())


def _closed(connection: Connection, event_id: str, digests: Sequence[Notice]) -> frozenset[str]:
    """Insert missing digests, lock the others, and return those that accept no more items.

    The locks last until the transaction ends, so no worker claims a digest while it gets an item.
    """
    if not digests:
        return frozenset()
    insert_notices(connection, event_id, sorted(digests, key=lambda one: one.identity))
    table = notifications.c
    query = (
        sa.select(table.identity, sa.and_(IS_WAITING, ~maybe_sent()).label("takes"))
        .where(table.identity.in_([one.identity for one in digests]))
        .order_by(table.identity)
        .with_for_update()
    )
    return frozenset(row.identity for row in connection.execute(query) if not row.takes)


def items(connection: Connection, digest_id: str) -> list[Item]:
    """The items of a digest, in the order in which their events arrived."""
    table, digest = notifications.c, notifications.alias()
    query = (
        sa.select(*WITH_EVENT)
        .join(events, events.c.id == table.event_id)
        .join(digest, is_item_of(digest))
        .where(digest.c.id == digest_id)
        .order_by(events.c.received_at, events.c.id)  # two may come in the same millisecond
    )
    return [Item.of(row) for row in connection.execute(query)]


def take_out(
    connection: Connection,
    digest_id: str,
    reasons: Mapping[str, str],
    *,
    status: str = "cancelled",
) -> bool:
    """Take out of a digest the items that it does not report on: `reasons` maps ids to reasons.

    If an earlier attempt sent the digest, or may have, return False and leave them in: people then
    already have those items.
    """
    table, digest = notifications.c, notifications.alias()
    may_be_sent = sa.exists().where(
        attempts.c.notification_id == digest_id,
        attempts.c.outcome.in_(("accepted", "unknown")),
    )
    is_in_it = sa.exists().where(digest.c.id == digest_id, is_item_of(digest))
    if connection.execute(sa.select(may_be_sent)).scalar():
        return False
    for id_, reason in sorted(reasons.items()):
        connection.execute(
            notifications.update()
            .where(table.id == id_, is_in_it)
            .values(
                kind=MESSAGE,
                status=status,
                reason=reason[:500],
                digest=None,
                digest_id=None,
                follow_up_at=now() if status in FAILED else None,
            )
        )
    return True


def plan_and_make_room(
    connection: Connection, event_id: str, pair: Callable[[frozenset[str]], Sequence[Notice]]
) -> Notice:
    """Return the item that a message becomes, now that its rule has a digest; insert that digest.

    It calls back into planning: `pair` takes the digests that accept no more items, and returns the
    item and its digest. It is called again until a digest accepts the item. This happens inside the
    caller's write transaction, which keeps that digest locked, so `pair` must be pure and quick,
    and use no connection.
    """
    closed_digests: frozenset[str] = frozenset()
    while closed := _closed(connection, event_id, pair(closed_digests)[1:]):
        closed_digests |= closed
    return pair(closed_digests)[0]


def put_in(connection: Connection, message_id: str, item: Notice) -> None:
    """Turn a message into an item of the digest that was made for it."""
    table, digest = notifications.c, notifications.alias()
    its_digest = sa.select(digest.c.id).where(digest.c.identity == item.digest)
    connection.execute(
        notifications.update()
        .where(table.id == message_id)
        .values(kind=ITEM, digest=item.digest, digest_id=its_digest.scalar_subquery())
    )
