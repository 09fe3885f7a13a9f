"""Rows that are due, for one worker at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa


def due(
    id_: sa.Column[Any],
    is_due: Sequence[sa.ColumnElement[bool]],
    order: Sequence[sa.ColumnElement[Any]],
    limit: Any,
) -> sa.Select[Any]:
    """The ids of up to `limit` such rows that no other worker is taking, in that order."""
    rows = (
        sa.select(id_)
        .where(*is_due)
        .order_by(*order)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("due")  # as a plain subquery PostgreSQL may run it again, and lease too many
    )
    return sa.select(rows.c.id)
