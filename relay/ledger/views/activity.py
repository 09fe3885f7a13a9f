"""Messages and events for people to look through: the newest first, a page at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.ledger.database import first_id
from relay.ledger.notifications import IS_KEPT, KIND
from relay.ledger.schema import events, notifications
from relay.ledger.views.daily_counts import SLACK, Day
from relay.ledger.views.queries import listing
from relay.rules.statuses import ALERT

Row = Mapping[str, Any]
LOOKED_AT = 20_000  # rows searched for one page: rare ones take several pages
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Wanted:
    """A search. `equal` has columns and their values; a message's day is that on which it was
    planned. `before` is an id.
    """

    equal: Mapping[str, str] = field(default_factory=dict)
    day: Day | None = None
    before: str = ""
    alerts: bool = False  # also messages to staff about cases


def messages(connection: Connection, wanted: Wanted, limit: int) -> tuple[list[Row], str]:
    """Messages, without addresses and words, and the id before which there may be more."""
    said = (KIND.label("kind"), IS_KEPT.label("is_kept"))
    shown = listing().add_columns(*said)
    if not wanted.alerts:
        shown = shown.where(KIND != ALERT)
    return _page(connection, shown, notifications, "msg", wanted, limit)


def posted(connection: Connection, wanted: Wanted, limit: int) -> tuple[list[Row], str]:
    """Events, and the id before which there may be more."""
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
    equal, id_, among = dict(wanted.equal), table.c.id, list[sa.ColumnElement[bool]]()
    if wanted.before:
        among.append(id_ < wanted.before)
    if wanted.day:
        among.append(id_ >= first_id(prefix, wanted.day.begins - SLACK))
        among.append(id_ < first_id(prefix, wanted.day.ends + SLACK))
    last = None
    if kit := equal.pop("kit", ""):  # few events: by its index
        of_kit = sa.select(events.c.id).where(events.c.subject == kit)
        among.append((table.c.event_id if prefix == "msg" else id_).in_(of_kit))
    else:  # as a range of ids, so that PostgreSQL must use the primary key
        newest = sa.select(id_).where(*among).order_by(id_.desc())
        last = connection.execute(newest.offset(LOOKED_AT - 1).limit(1)).scalar()
        among += [id_ >= last] if last else []
    query = shown.where(*among, *(table.c[name] == value for name, value in equal.items()))
    found = connection.execute(query.order_by(id_.desc()).limit(limit + 1)).mappings()
    rows: list[Row] = [dict(row) for row in found]
    if len(rows) > limit:
        return rows[:limit], str(rows[limit - 1]["id"])
    return rows, last or ""
