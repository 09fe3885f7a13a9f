"""A statement that is compiled once, and run on a driver's own connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa


class Prepared:
    """A statement compiled once, for a driver's own connection. Parameters are plain values."""

    def __init__(self, statement: sa.Executable, dialect: sa.Dialect):
        compiled = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
        self._sql = compiled.string
        self._order: Sequence[str] | None = compiled.positiontup
        self._fixed = {k: v for k, v in compiled.params.items() if v is not None}
        self._options = {} if self._order else {"prepare": True}

    def execute(self, connection: Any, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Run it; its rows."""
        given: Any = {**self._fixed, **parameters}
        if self._order is not None:
            given = [given[name] for name in self._order]
        rows: list[tuple[Any, ...]] = connection.execute(
            self._sql, given, **self._options
        ).fetchall()
        return rows
