"""Messages that a stop has caught, and those of its kind that had already left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.ledger.holds.halts import WAITS, Halt, is_of, standing
from relay.ledger.notifications import IS_KEPT, KIND
from relay.ledger.schema import notifications
from relay.ledger.views.queries import listing

BEFORE = timedelta(hours=1)  # how far back we look for those that had left
_table = notifications.c


def counted(connection: Connection) -> list[tuple[Halt, int]]:
    """The stops in force, the widest first, each with how many messages wait for its end."""
    return [(halt, _many(connection, WAITS, is_of(halt.what))) for halt in standing(connection)]


def _many(connection: Connection, *which: sa.ColumnElement[bool]) -> int:
    query = sa.select(sa.func.count()).select_from(notifications).where(*which)
    return int(connection.execute(query).scalar_one())


@dataclass(frozen=True)
class Part:
    """Messages that had left or were caught: how many by rule and channel, and the latest."""

    counts: Mapping[tuple[str, str], int]
    latest: Sequence[Mapping[str, Any]]

    @property
    def many(self) -> int:
        """How many there are."""
        return sum(self.counts.values())


def caught(connection: Connection, halt: Halt, limit: int) -> Part:
    """The messages that wait for the end of a stop."""
    return _part(connection, limit, WAITS, is_of(halt.what))


def left(connection: Connection, halt: Halt, limit: int) -> Part:
    """The messages that went out in the hour before a stop, or were being handed over then."""
    return _part(connection, limit, _table.sent_at > halt.since - BEFORE, is_of(halt.what))


def _part(connection: Connection, limit: int, *which: sa.ColumnElement[bool]) -> Part:
    ways = (_table.rule, _table.channel)
    counting = sa.select(*ways, sa.func.count()).where(*which).group_by(*ways).order_by(*ways)
    shown = listing().add_columns(KIND.label("kind"), IS_KEPT.label("is_kept")).where(*which)
    shown = shown.order_by(_table.id.desc()).limit(limit)
    return Part(
        {(rule, channel): many for rule, channel, many in connection.execute(counting)},
        [dict(row) for row in connection.execute(shown).mappings()],
    )
