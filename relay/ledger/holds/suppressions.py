"""Suppressions: addresses that get nothing more on a channel (opt-outs, bounces, staff)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.ledger.audit import Act, keep
from relay.ledger.database import now
from relay.ledger.schema import INSERTS, audit, inbound_texts, small, suppressions
from relay.rules import stops
from relay.rules.channels import CHANNEL_NAMES, sharing

STOP, STAFF, WRONG_NUMBER = stops.STOP, stops.STAFF, stops.WRONG_NUMBER


def is_stopped(channel: sa.Column[str], address: sa.Column[str]) -> sa.Exists:
    """A condition: messages to an address, in capitals or not, are stopped on a channel.

    A provider's finding (a bounce) holds for the channel on which it was made. A person's opt-out
    and a stop by staff are about the address: they hold for every channel that writes to it, even
    one that was added later.
    """
    return sa.exists().where(*_stopping(channel, address))


def stopped_by(
    channel: sa.ColumnElement[str], address: sa.ColumnElement[str]
) -> sa.ScalarSelect[str]:
    """SQL for who or what has stopped messages to an address on a channel; null if they go out."""
    source = sa.select(suppressions.c.source).where(*_stopping(channel, address))
    return source.order_by(suppressions.c.created_at).limit(1).scalar_subquery()


def source_of(connection: Connection, channel: str, address: str) -> str:
    """Who or what has stopped messages to an address on a channel; empty if they go out."""
    query = sa.select(stopped_by(sa.literal(channel), sa.literal(address)))
    return str(connection.execute(query).scalar() or "")


def _stopping(
    channel: sa.ColumnElement[str], address: sa.ColumnElement[str]
) -> list[sa.ColumnElement[bool]]:
    mine = suppressions.c.channel == channel
    source = suppressions.c.source
    said = sa.or_(source.startswith(STOP, autoescape=True), source.in_((STAFF, WRONG_NUMBER)))
    for group in {sharing(name) for name in CHANNEL_NAMES}:
        if len(group) > 1:
            mine |= sa.and_(channel.in_(group), suppressions.c.channel.in_(group), said)
    return [mine, is_same(address)]


def is_same(address: Any) -> sa.ColumnElement[bool]:
    """A condition: a row is of this address, in capitals or not: the lab may write it in either."""
    return small(suppressions.c.address) == small(address)


def suppress(
    connection: Connection,
    channel: str,
    address: str,
    source: str,
    act: Act | None = None,
    note: str = "",
) -> bool:
    """Suppress an address, on this channel and on others that write to the same address.

    Return False if it was suppressed already: its source stays. `act` and `note` are for stops by
    staff: they go into the audit trail.
    """
    return _suppress(connection, sharing(channel), address, source, act, note)


def suppress_channel(connection: Connection, channel: str, address: str, source: str) -> bool:
    """Suppress an address on this channel alone, because its provider refuses it. Return False if
    it was suppressed already: its source stays.
    """
    return _suppress(connection, (channel,), address, source)


def _suppress(
    connection: Connection,
    channels: Sequence[str],
    address: str,
    source: str,
    act: Act | None = None,
    note: str = "",
) -> bool:
    rows = [
        {
            "channel": channel,
            "address": address,
            "source": source[:100],
            "actor": act.actor[:100] if act else "",
            "note": note[:500],
            "created_at": now(),
        }
        for channel in channels
    ]
    are_stopped = sa.select(suppressions.c.channel).where(
        suppressions.c.channel.in_(channels), is_same(address)
    )
    known = {*connection.execute(are_stopped).scalars()}
    rows = [row for row in rows if row["channel"] not in known]
    if not rows:
        return False
    insert = INSERTS[connection.dialect.name](suppressions).values(rows)
    added = insert.on_conflict_do_nothing().returning(suppressions.c.address)
    if connection.execute(added).first() is None:
        return False
    keep(connection, act, note)
    return True


def opt_out(connection: Connection, channel: str, address: str, text_id: str) -> bool:
    """Record a person's own STOP; return False if it changed nothing.

    A repeated text (the same `text_id`) does not stop anybody who has said START since; a text
    without an id may be a new one.
    """
    if text_id and not _is_first(connection, STOP, channel, text_id):
        return False
    return suppress(connection, channel, address, STOP)


def opt_in(connection: Connection, channel: str, address: str, text_id: str) -> bool:
    """Lift a person's own STOP; False if there was none. A repeated text lifts no later STOP."""
    if not _is_first(connection, "START", channel, text_id):
        return False
    return bool(_lift(connection, channel, address, STOP))


def fingerprint(text_id: str) -> str:
    """Our id of a text, made from its provider's."""
    return f"txt_{hashlib.sha256(text_id.encode()).hexdigest()[:36]}"


def _is_first(connection: Connection, word: str, channel: str, text_id: str) -> bool:
    """Whether a text is new; record it, by a fingerprint of its id."""
    id_ = fingerprint(text_id)
    insert = INSERTS[connection.dialect.name](inbound_texts).values(
        id=id_, channel=channel, word=word, received_at=now()
    )
    added = insert.on_conflict_do_nothing().returning(inbound_texts.c.id)
    is_first = connection.execute(added).first() is not None
    is_first_before = _is_first_before(connection, id_, word, channel)
    return is_first and is_first_before


def _is_first_before(connection: Connection, id_: str, word: str, channel: str) -> bool:
    """Whether a text is new to the previous release, which looks for a mark in the audit trail. To
    be removed in the next release.
    """
    mark = INSERTS[connection.dialect.name](audit).values(
        id=id_, at=now(), actor="a person", action=word, target=channel
    )
    added = mark.on_conflict_do_nothing().returning(audit.c.id)
    return connection.execute(added).first() is not None


def unsuppress(
    connection: Connection,
    channel: str,
    address: str,
    *,
    source: str = "",
    before: datetime | None = None,
    act: Act | None = None,
) -> str:
    """Lift the suppression of an address, if its source begins with `source` and it was made
    `before` that time; return its source, or "".
    """
    if was := _lift(connection, channel, address, source, before):
        keep(connection, act)
    return was


def _lift(
    connection: Connection, channel: str, address: str, source: str, before: datetime | None = None
) -> str:
    where = [suppressions.c.channel.in_(sharing(channel)), is_same(address)]
    if source:
        where.append(suppressions.c.source.startswith(source, autoescape=True))
    if before:
        where.append(suppressions.c.created_at <= before)
    statement = suppressions.delete().where(*where).returning(suppressions.c.source)
    return str(connection.execute(statement).scalars().first() or "")


def suppressed(connection: Connection, address: str) -> list[Mapping[str, Any]]:
    """The channels on which an address is suppressed, each with its source and time."""
    mine = (suppressions.c.channel.in_(CHANNEL_NAMES), is_same(address))
    query = sa.select(suppressions).where(*mine)
    return [dict(row) for row in connection.execute(query).mappings()]


def latest(connection: Connection, limit: int = 50) -> list[Mapping[str, Any]]:
    """The latest suppressions, the newest first."""
    query = sa.select(suppressions).order_by(suppressions.c.created_at.desc()).limit(limit)
    return [dict(row) for row in connection.execute(query).mappings()]
