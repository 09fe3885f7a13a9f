"""The claim: a notification is marked, and its attempt written, before anything leaves."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay import fault_injection
from relay.lab.facts import Facts
from relay.ledger import pausing
from relay.ledger.cases import open_case
from relay.ledger.database import Database, now
from relay.ledger.noting import is_digest
from relay.ledger.schema import attempts, cases, events, notifications, suppressions
from relay.rules.model import WAITING, Case

LEASE_SECONDS = 60  # longer than any send may take
_CAP_LOCK = 7_236_842  # an advisory lock's number, ours alone


@dataclass(frozen=True)
class Claim:
    """One notification that this worker alone may send, once."""

    id: str
    attempt_id: str
    tries: int
    event_id: str
    event_name: str
    event_data: Mapping[str, Any]
    event_received_at: datetime
    facts: Facts
    rule: str
    template: str
    subject: str
    round: int
    role: str
    channel: str
    address: str
    family: str
    urgency: int
    is_fallback: bool
    facts_at: datetime
    suppressed: bool
    content: Mapping[str, str] | None  # an alert's words, which are ready
    identity: str
    is_digest: bool
    is_probe: bool = False  # its channel is paused: this one finds out whether it works again


_CARRIED = (
    *("id", "tries", "event_id", "rule", "template", "subject", "round", "role"),
    *("channel", "address", "family", "urgency", "is_fallback", "content", "identity"),
)


@dataclass(frozen=True)
class Cap:
    """A limit on cost: at most so many attempts of a channel since a moment, else a case."""

    most: int
    since: datetime
    case: Case | None = None


def claim(db: Database, channel: str, limit: int, cap: Cap | None = None) -> list[Claim]:
    """Up to `limit` due notifications of a channel, the urgent first, each with a new attempt."""
    with db.write() as connection:
        left = _left(connection, channel, cap) if cap else limit
        found = list(connection.execute(_DUE, {"by": channel, "most": limit}))
        if found and left <= 0 and cap and cap.case and not _is_told(connection, cap):
            open_case(connection, replace(cap.case, event_id=found[0].event_id))
        ids = [row.id for row in found[: max(0, left)]]
        turn = pausing.turn(connection, channel) if ids else None
        if turn is not None:
            ids = ids[:turn]
        if not ids:
            return []
        rows = list(connection.execute(_CLAIMABLE, {"ids": ids}))
        connection.execute(_MARKING, {"ids": ids, "lease": fault_injection.hastened(LEASE_SECONDS)})
        claims = [_claim(row, turn is not None) for row in rows]
        connection.execute(
            _TRYING,
            [
                {"id": one.attempt_id, "notification_id": one.id, "channel": channel}
                for one in claims
            ],
        )
        return claims


def _claim(row: sa.Row[Any], is_probe: bool) -> Claim:
    values = {**row._mapping, "facts": Facts.from_json(row.facts), "tries": row.tries + 1}
    return Claim(attempt_id=uuid.uuid4().hex, is_probe=is_probe, **values)


def _is_told(connection: Connection, cap: Cap) -> bool:
    """Whether staff were told in this cap's time, though they may have closed the case since."""
    query = sa.select(cases.c.id).where(
        cases.c.kind == cap.case.kind if cap.case else sa.false(), cases.c.opened_at >= cap.since
    )
    return connection.execute(query.limit(1)).first() is not None


def _left(connection: Connection, channel: str, cap: Cap) -> int:
    """How many more attempts a cap lets through. Workers ask one after the other."""
    if connection.dialect.name == "postgresql":  # SQLite's writers wait for one another anyway
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CAP_LOCK)))
    return cap.most - spent(connection, channel, cap.since)


def spent(connection: Connection, channel: str, since: datetime) -> int:
    """How many attempts of a channel count against its limit since a moment."""
    return int(connection.execute(_SPENT, {"by": channel, "since": since}).scalar_one())


# Statements are built once: that costs more than running them.

_TABLE = notifications.c
_IDS: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True)
_CHANNEL: sa.BindParameter[str] = sa.bindparam("by", type_=sa.String)
_DUE = (
    sa.select(_TABLE.id, _TABLE.event_id)
    .where(_TABLE.channel == _CHANNEL, _TABLE.status.in_(WAITING), _TABLE.due_at <= now())
    .order_by(_TABLE.urgency.desc(), _TABLE.due_at)
    .limit(sa.bindparam("most", type_=sa.Integer))
    .with_for_update(skip_locked=True)
)
_CLAIMABLE: sa.Select[Any] = (
    sa.select(
        *(_TABLE[name] for name in _CARRIED),
        sa.exists()
        .where(suppressions.c.channel == _TABLE.channel, suppressions.c.address == _TABLE.address)
        .label("suppressed"),
        is_digest().label("is_digest"),
        events.c.name.label("event_name"),
        events.c.data.label("event_data"),
        events.c.received_at.label("event_received_at"),
        events.c.facts,
        events.c.processed_at.label("facts_at"),
    )
    .join(events, events.c.id == _TABLE.event_id)
    .where(_TABLE.id.in_(_IDS))
    .order_by(_TABLE.urgency.desc(), _TABLE.due_at)
)
_MARKING = (
    notifications.update()
    .where(_TABLE.id.in_(_IDS), _TABLE.status.in_(WAITING))
    .values(
        status="sending",
        lease_until=now(sa.bindparam("lease")),
        attempts=_TABLE.attempts + 1,
        tries=_TABLE.tries + 1,
        # What `begin` has not kept was not sent. An alert's words are nowhere else.
        content=sa.case((_TABLE.template == "", _TABLE.content), else_=sa.null()),
    )
)
_TRYING = attempts.insert().values(outcome="started", started_at=now())
_SPENT = sa.select(sa.func.count()).where(
    attempts.c.channel == _CHANNEL,
    attempts.c.started_at >= sa.bindparam("since"),
    attempts.c.outcome != "rejected",
)
