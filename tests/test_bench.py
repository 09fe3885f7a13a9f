"""The benchmarks' own ledgers: what they fill still fits the tables."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from relay.ledger.database import Database
from tools.bench import busy, desk, measure, scale, size, what_if


def _by(filling: tuple[str, ...], besides: tuple[str, ...] = ()) -> Callable[[Database, int], None]:
    return lambda db, count: measure.fill_tables(db, filling, count, count, besides)


FILLS: dict[str, Callable[[Database, int], object]] = {
    "scale": _by(scale.FILLING),
    "busy": _by(busy._FILLING),
    "desk": _by(desk._FILLING, desk._BESIDES),
    "size": lambda db, count: size._write(db, range(count)),
    "what-if": what_if._fill,
    "way out": measure.fill,
}


@pytest.mark.parametrize("name", FILLS)
def test_a_benchmark_fills_todays_tables(name: str, db: Database) -> None:
    """A column that is added does not end a measurement an hour later."""
    if db.is_sqlite:
        pytest.skip("they fill PostgreSQL, by its own functions")
    FILLS[name](db, 40)
    with db.read() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM events")).scalar_one() >= 20
