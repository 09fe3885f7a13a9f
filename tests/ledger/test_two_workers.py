"""What two workers do at the same moment, on connections of their own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import pytest
import sqlalchemy as sa

from relay.ledger import attempts as ledger_attempts
from relay.ledger.database import Connection, Database
from relay.ledger.schema import attempts, notifications
from tests.rows import claimed, only, time_passes

OLD, NEW = {"text": "Old words."}, {"text": "New words."}


@pytest.fixture
def other(ledger_url: str, db: Database) -> Iterator[Database]:
    """Another worker's ledger. SQLite's writers wait for one another from the start."""
    if db.is_sqlite:
        pytest.skip("SQLite has one writer at a time")
    opened = Database(ledger_url, patience=20)
    yield opened
    opened.close()


def as_one(db: Database, connection: Connection) -> Database:
    """A ledger whose transactions are all parts of one that is open."""

    @contextmanager
    def write() -> Iterator[Connection]:
        yield connection

    one = Database(db.url.render_as_string(hide_password=False))
    one.write = one.read = write  # type: ignore[method-assign]
    return one


def await_waiting(db: Database) -> None:
    """Until somebody waits for a lock."""
    query = sa.text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    gate = threading.Event()
    for _ in range(1000):
        with db.read() as connection:
            if connection.execute(query).scalar_one():
                return
        gate.wait(0.01)
    raise AssertionError("nobody waits")


def test_a_claim_that_was_taken_over_begins_no_more(db: Database, other: Database) -> None:
    """A worker is about to begin; meanwhile its claim lapses and another claims the message. The
    other's claim is left alone: its words, its lease, and its right to send.
    """
    first = claimed(db)
    time_passes(db, timedelta(minutes=5))
    with ThreadPoolExecutor(1) as pool:
        with other.write() as connection:
            mine = sa.select(notifications.c.id).where(notifications.c.id == first.id)
            connection.execute(mine.with_for_update())
            begins = pool.submit(ledger_attempts.begin, db, first, OLD)
            await_waiting(other)
            one = as_one(other, connection)
            assert ledger_attempts.lapse(one) == 1
            (second,) = ledger_attempts.claim(one, "sms", 10)
        began = begins.result(20)
    row = only(other, notifications)
    assert (began, row["content"], row["attempts"]) == (False, None, 2)
    assert ledger_attempts.begin(other, second, NEW)
    assert only(other, notifications)["content"] == NEW
    assert only(other, attempts, id=first.attempt_id)["begun_at"] is None
