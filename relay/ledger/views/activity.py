"""Messages and events as people look through them: the newest first, a page at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.ledger.notifications import IS_KEPT, KIND
from relay.ledger.schema import events, first_id, notifications
from relay.ledger.views.daily_counts import SLACK, Day
from relay.ledger.views.queries import listing
from relay.rules.statuses import ALERT

Row = Mapping[str, Any]
LOOKED_AT = 20_000  # rows, for one page: what is rare is looked for in several
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Wanted:
    """What is looked for. `equal` has columns and their values; a message's day is that on which it
    was planned. `before` is an id.
    """

    equal: Mapping[str, str] = field(default_factory=dict)
    day: Day | None = None
    before: str = ""
    alerts: bool = False  # messages to staff about cases, besides


def messages(connection: Connection, wanted: Wanted, limit: int) -> tuple[list[Row], str]:
    """Messages, without addresses and words; and the id before which there may be more."""
    said = (KIND.label("kind"), IS_KEPT.label("is_kept"))
    shown = listing().add_columns(*said)
    if not wanted.alerts:
        shown = shown.where(KIND != ALERT)
    return _page(connection, shown, notifications, "msg", wanted, limit)


def posted(connection: Connection, wanted: Wanted, limit: int) -> tuple[list[Row], str]:
    """Events; and the id before which there may be more."""
    names = ("id", "name", "status", "reason", "received_at", "duplicates", "subject")
    shown = sa.select(*(events.c[name] for name in names))
    return _page(connection, shown, events, "evt", wanted, limit)


def _page(
    connection: Connection,
    shown: sa.Select[Any],
    table: sa.Table,
    prefix: str,
    wanted: Wanted,
    limit: int,
) -> tuple[list[Row], str]:
    equal = dict(wanted.equal)
    looked = sa.select(table.c.id).order_by(table.c.id.desc())
    if kit := equal.pop("kit", ""):  # few: by its index
        of_kit = sa.select(events.c.id).where(events.c.subject == kit)
        looked = looked.where((table.c.event_id if prefix == "msg" else table.c.id).in_(of_kit))
    else:
        looked = looked.limit(LOOKED_AT)
    if wanted.before:
        looked = looked.where(table.c.id < wanted.before)
    if wanted.day:
        looked = looked.where(
            table.c.id >= first_id(prefix, wanted.day.begins - SLACK),
            table.c.id < first_id(prefix, wanted.day.ends + SLACK),
        )
    seen = looked.subquery()
    query = shown.where(
        table.c.id.in_(sa.select(seen.c.id)),
        *(table.c[name] == value for name, value in equal.items()),
    )
    found = connection.execute(query.order_by(table.c.id.desc()).limit(limit + 1)).mappings()
    rows: list[Row] = [dict(row) for row in found]
    if len(rows) > limit:
        return rows[:limit], str(rows[limit - 1]["id"])
    last = sa.select(sa.func.count(), sa.func.min(seen.c.id))
    many, least = connection.execute(last).one()
    return rows, str(least) if many == LOOKED_AT else ""
