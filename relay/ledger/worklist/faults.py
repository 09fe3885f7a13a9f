"""Faults that hit many messages: one case each, for as long as a message needs it.

Examples are a template that cannot be rendered, receipts that never come, and a provider that
cannot be asked. A message's `case_id` says which case it belongs to: see `cases.open_case`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.ledger.notifications import KIND
from relay.ledger.replay import is_repeated
from relay.ledger.schema import cases, notifications
from relay.ledger.worklist.cases import resize
from relay.rules.statuses import ALERT, FAILED

# The statuses in which a message needs such a case, by the case's kind.
STANDS = {"broken": FAILED, "unconfirmed": FAILED, "unknown": ("unknown",)}
_OVER = "None of its messages needs it any more."
_table = notifications.c


def hit(case_id: Any) -> sa.ColumnElement[bool]:
    """A condition: a message is one of those that a fault's case is about."""
    return sa.and_(_table.case_id == case_id, KIND != ALERT)


def concerned(case: Mapping[str, Any]) -> sa.ColumnElement[bool]:
    """A condition: a message is one that a case is about, whether of a fault or of it alone."""
    alone = case["notification_id"]
    return sa.and_(_table.id == alone) if alone else hit(case["id"])


def some(connection: Connection, case: Mapping[str, Any], limit: int) -> list[str]:
    """The ids of the first messages that a case is about."""
    if alone := case["notification_id"]:
        return [alone]
    query = sa.select(_table.id).where(hit(case["id"])).order_by(_table.id)
    return list(connection.execute(query.limit(limit)).scalars())


def recount(connection: Connection) -> None:
    """Update each open case of a fault with how many messages need it; close it if none does."""
    for case in connection.execute(_counting()).all():
        resize(connection, case.id, case.many, case.left, _OVER)


@cache
def _counting() -> sa.Select[Any]:
    stands = (sa.and_(cases.c.kind == k, _table.status.in_(how)) for k, how in STANDS.items())
    needs = (hit(cases.c.id), sa.or_(*stands), _table.address != "", ~is_repeated())
    left = sa.select(sa.func.count()).where(*needs).scalar_subquery()
    return sa.select(cases.c.id, cases.c.count.label("many"), left.label("left")).where(
        cases.c.kind.in_(STANDS), cases.c.notification_id.is_(None), cases.c.closed_at.is_(None)
    )
