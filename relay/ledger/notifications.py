"""Rows for planned notices: each is inserted once, however often it is planned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.lab.facts import Facts, Record
from relay.ledger.database import UtcDateTime, new_id, now
from relay.ledger.holds import halts
from relay.ledger.schema import INSERTS, attempts, events, notifications
from relay.rules.expressions import RuleContext, names
from relay.rules.model import ALERT_PREFIX, Notice, Step
from relay.rules.statuses import (
    ALERT,
    ALIVE,
    ANSWER,
    DIGEST,
    FAILED,
    GONE,
    ITEM,
    MESSAGE,
    RESENT,
)

# The previous release (schema 0004) leaves `kind`, `digest_id`, `is_kept` and `begun_at` at their
# defaults, and moves items in and out of digests by `digest` alone. Both releases write during a
# deploy, and it may have written waiting rows. So only this file reads these columns, with the
# older ones. In the next release a migration repeats what 0005 did. Then `KIND` is `kind`, an
# item's digest is its `digest_id`, `IS_KEPT` is `is_kept`, `BEGUN` is `begun_at`; `digest` goes.
_row = notifications.c
KIND: sa.ColumnElement[str] = sa.case(
    (_row.kind == ANSWER, ANSWER),
    (sa.or_(_row.kind == ALERT, _row.rule.startswith(ALERT_PREFIX)), ALERT),
    (sa.or_(_row.kind == DIGEST, _row.digest == _row.identity), DIGEST),
    (_row.digest.is_not(None), ITEM),
    (_row.kind == RESENT, RESENT),
    else_=MESSAGE,
)
KEPT_ID = "dry-run-"  # begins the provider_id of messages kept here
IS_KEPT = sa.or_(_row.is_kept, sa.func.coalesce(_row.provider_id, "").startswith(KEPT_ID))
# Whether the words of an attempt were kept: if so, the provider may have it.
BEGUN = sa.or_(attempts.c.begun_at.is_not(None), _row.content.is_not(None))
UNDER_WAY = sa.and_(attempts.c.outcome == "started", BEGUN)

# The columns of a `WithEvent`, for notifications joined with their events.
WITH_EVENT = (
    *(_row[name].label(name) for name in ("id", "event_id", "subject", "round")),
    events.c.name.label("event_name"),
    events.c.data.label("event_data"),
    events.c.received_at.label("event_received_at"),
    events.c.facts,
    sa.func.coalesce(events.c.processed_at, events.c.received_at).label("facts_at"),
)


@dataclass(frozen=True)
class WithEvent:
    """A notification with its event, and the lab's facts about the event as of `facts_at`."""

    id: str
    event_id: str
    subject: str
    round: int
    event_name: str
    event_data: Mapping[str, Any]
    event_received_at: datetime
    facts: Facts
    facts_at: datetime

    @classmethod
    def of(cls, row: Any, **more: Any) -> Self:
        """Make one from a row with WITH_EVENT and the class's other fields; `more` overrides."""
        return cls(**{**row._mapping, "facts": Facts.from_json(row.facts), **more})

    def context(self, clinic: Record, known: tuple[Step, ...] = ()) -> RuleContext:
        """The context for rules, from the facts that it carries and the steps `known`."""
        seen = names(self.event_name, self.event_data, self.event_received_at, self.facts, clinic)
        step = Step(self.event_name, self.round, self.event_received_at)
        return RuleContext(step, self.subject, self.facts, seen, known, self.facts_at)


def is_item_of(digest: Any) -> sa.ColumnElement[bool]:
    """A condition: a notification is an item of `digest`, which is an alias of the same table."""
    return sa.and_(_row.digest == digest.c.identity, _row.id != digest.c.id)


def is_kept_attempt() -> sa.ColumnElement[bool]:
    """A condition: an attempt went to no provider, because its message was kept here."""
    return sa.func.coalesce(attempts.c.provider_id, "").startswith(KEPT_ID)


def maybe_sent() -> sa.ColumnElement[bool]:
    """A condition: a provider has accepted a notification, or may have."""
    # By name, because SQLAlchemy does not correlate a subquery inside ON CONFLICT.
    notification_id: sa.ColumnElement[str] = sa.literal_column("notifications.id")
    return sa.exists().where(
        attempts.c.notification_id == notification_id,
        # No IN: SQLAlchemy cannot expand one in an INSERT of many rows.
        sa.or_(*(attempts.c.outcome == word for word in ("started", "accepted", "unknown"))),
    )


@cache
def inserting(dialect: str) -> Any:
    """Build the statement that inserts notifications, once: building costs more than running."""
    failed = sa.bindparam("failed", type_=sa.Boolean)
    # A notice that goes at once is due by the database's clock: it would wait if ours were fast.
    at_once = sa.bindparam("at_once", type_=sa.Boolean)
    due = sa.bindparam("due", type_=UtcDateTime())
    digest = notifications.alias()
    its_digest = sa.select(digest.c.id).where(digest.c.identity == sa.bindparam("told_in"))
    insert = INSERTS[dialect](notifications).values(
        digest_id=its_digest.scalar_subquery(),
        created_at=now(),
        due_at=sa.case((sa.and_(at_once, due > now()), now()), else_=due),
        follow_up_at=sa.case((failed, now()), else_=sa.null()),
    )
    again = ("event_id", "template", "status", "reason", "due_at", "urgency", "follow_up_at")
    what = ("kind", "digest", "digest_id", "waits_for")
    # An item is sent in its digest; and no plan revives a message that a person has stopped.
    is_free = sa.and_(KIND != DIGEST, KIND != ITEM, notifications.c.stopped_by.is_(None))
    return insert.on_conflict_do_update(
        index_elements=[notifications.c.identity],
        set_={name: insert.excluded[name] for name in (*again, *what, "address")},
        where=sa.and_(notifications.c.status == "cancelled", is_free, ~maybe_sent()),
    ).returning(notifications.c.id, sa.exists(halts.NAMES).label("is_any_stopped"))


def insert_notices(
    connection: Connection, event_id: str, notices: Sequence[Notice], case_id: str | None = None
) -> list[str]:
    """Insert notices; return the ids of those that are new, or were cancelled and are wanted again.
    Any that somebody has stopped wait from the start.

    `case_id`, for alerts, is the case that they are about.
    """
    if not notices:
        return []
    rows = [
        {
            **{n: value for n, value in vars(notice).items() if n not in ("key", "due_at")},
            "due": notice.due_at,
            "at_once": notice.status == "created",
            "reason": notice.reason[:500],
            "failed": notice.status in FAILED,
            "id": new_id("msg"),
            "event_id": event_id,
            "identity": notice.identity,
            "obligation": notice.obligation,
            "told_in": notice.digest if notice.kind == ITEM else None,
            "case_id": case_id,
        }
        for notice in notices
    ]
    # As parameters: SQLAlchemy compiles an INSERT with many VALUES anew each time, for 3 ms.
    inserted = connection.execute(inserting(connection.dialect.name), rows).all()
    ids = [str(row.id) for row in inserted]
    if inserted and inserted[0].is_any_stopped:
        for halt in halts.standing(connection):
            halts.hold(connection, ids, halt)
    return ids


def alive_channels(connection: Connection, obligation: str, but: str) -> set[str]:
    """The channels by which an obligation was or may be met, leaving out the message `but`."""
    query = sa.select(notifications.c.channel).where(
        notifications.c.obligation == obligation,
        notifications.c.status.in_(ALIVE),
        notifications.c.id != but,
    )
    return set(connection.execute(query).scalars())


def is_alive(
    connection: Connection, obligation: str, repeat: str = "", *, must_arrive: bool = False
) -> bool:
    """Whether any message that one rule owes one role about one kit has reached them, or may.

    With `repeat`, a message's id, those that went out before it do not count: a person found them
    wanting. If a message `must_arrive`, nor do sent ones whose time to arrive is over.
    """
    table = notifications.c
    mine = table.obligation == obligation
    query = sa.select(table.id).where(mine, reaches(notifications, repeat))
    if must_arrive:
        over = sa.and_(table.follow_up_at.is_(None), ~table.is_fallback, ~IS_KEPT)
        query = query.where(~sa.and_(table.status == "sent", over))
    return connection.execute(query.limit(1)).first() is not None


def reaches(message: Any, since: Any) -> sa.ColumnElement[bool]:
    """A condition: a message (the table or an alias) is under way, or has gone out and its id is
    newer than `since`.
    """
    is_new = sa.or_(message.c.id > since, message.c.status.not_in(GONE))
    return sa.and_(message.c.status.in_(ALIVE), is_new)
