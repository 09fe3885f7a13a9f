"""Every row of the ledger in which a person may stand, whatever its table and column.

A table is read by a few thousand rows at a time, so that no statement takes long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.ledger.database import Database

AT_ONCE = 5000
Row = Mapping[str, Any]
Progress = Callable[[str, int], None]  # is told a table, and how many rows of it were read
# Ids and fingerprints that Relay and the providers make.
_NOT_WORDS = {
    *("id", "identity", "family", "digest", "provider_id"),
    *("event_id", "notification_id", "attempt_id"),
}
_MARKS = " -().+/"  # what people put between a phone number's digits


def written(table: sa.Table) -> list[sa.Column[Any]]:
    """The columns in which words may stand: texts, JSON and bytes."""
    kinds = (sa.String, sa.JSON, sa.LargeBinary)
    return [c for c in table.c if isinstance(c.type, kinds) and c.name not in _NOT_WORDS]


def suspects(
    db: Database, table: sa.Table, hints: Iterable[str], progress: Progress
) -> Iterator[Sequence[Row]]:
    """The rows in which one of the hints stands, some at a time; of bytes all rows."""
    whole = any(isinstance(column.type, sa.LargeBinary) for column in table.c)
    wanted = tuple(hints)
    after: tuple[Any, ...] | None = None
    while True:
        with db.read() as connection:
            until = _bound(connection, table, after)
            turn = table.select().where(*_range(table, after, until))
            query = turn if whole else _found(table, wanted, after, until)
            found = [dict(row) for row in connection.execute(query).mappings()]
        if found:
            yield found
        progress(table.name, AT_ONCE)
        if until is None:
            return
        after = until


def _bound(
    connection: Connection, table: sa.Table, after: tuple[Any, ...] | None
) -> tuple[Any, ...] | None:
    """The key at which a turn ends; None at the end of the table."""
    keys = tuple(table.primary_key)
    query = sa.select(*keys).where(*_range(table, after, None)).order_by(*keys)
    row = connection.execute(query.offset(AT_ONCE - 1).limit(1)).first()
    return tuple(row) if row else None


def _range(
    table: sa.Table, after: tuple[Any, ...] | None, until: tuple[Any, ...] | None
) -> Iterator[sa.ColumnElement[bool]]:
    keys = sa.tuple_(*table.primary_key)
    if after is not None:
        yield keys > sa.tuple_(*map(sa.literal, after))
    if until is not None:
        yield keys <= sa.tuple_(*map(sa.literal, until))


def _found(
    table: sa.Table,
    hints: tuple[str, ...],
    after: tuple[Any, ...] | None,
    until: tuple[Any, ...] | None,
) -> sa.Select[Any]:
    """The rows of a turn that have one of the hints anywhere.

    All words of a row are put into one text, in small letters, and of that once more without what
    stands between digits. OFFSET keeps PostgreSQL from making that text anew for each hint.
    """
    words: list[Any] = [sa.func.coalesce(sa.cast(column, sa.Text), "") for column in written(table)]
    text = sa.func.lower(reduce(lambda one, other: one + "\n" + other, words)).label("all_words")
    turn = sa.select(*table.c, text).where(*_range(table, after, until)).offset(0).subquery()
    small: Any = turn.c.all_words
    bare: Any = reduce(lambda left, mark: sa.func.replace(left, mark, ""), _MARKS, small)
    hits = (
        bare.contains(hint) if hint.isdigit() else small.contains(hint, autoescape=True)
        for hint in hints
    )
    return sa.select(*(turn.c[column.name] for column in table.c)).where(sa.or_(*hits))
