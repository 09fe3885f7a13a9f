"""What two workers do at the same moment, on connections of their own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from relay.errors import LedgerUnavailable
from relay.jobs.deliver import lapsed_ending
from relay.lab.facts import Facts
from relay.ledger import attempts as ledger_attempts
from relay.ledger.database import TRIES, Connection, Database
from relay.ledger.events import plan_and_mark_processed
from relay.ledger.schema import attempts, events, notifications
from relay.ledger.unknown_attempts import give_up_unknown
from relay.rules.model import Ending, Plan
from tests.rows import (
    at_once,
    claimed,
    leased,
    looked,
    notice,
    only,
    planned,
    rows,
    time_passes,
    unknown,
)

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


def test_a_look_gives_up_nothing_of_a_later_attempt(db: Database, other: Database) -> None:
    """An attempt is about to be given up; meanwhile its worker wakes and puts the message back, and
    another sends it and gets no answer. That attempt is looked for before anything is sent again.
    """
    first = unknown(db)
    look = looked(db)
    with ThreadPoolExecutor(1) as pool:
        with other.write() as connection:
            mine = sa.select(notifications.c.id).where(notifications.c.id == first.id)
            connection.execute(mine.with_for_update())
            gives_up = pool.submit(db.transact, give_up_unknown, look, "Not found.", None)
            await_waiting(other)
            one = as_one(other, connection)
            ledger_attempts.finish(one, first, lapsed_ending())
            (second,) = ledger_attempts.claim(one, "sms", 10)
            ledger_attempts.finish(one, second, Ending("unknown", "unknown", "No answer."))
        assert not gives_up.result(20)
    assert only(other, notifications)["status"] == "unknown"
    assert looked(other).attempt_id == second.attempt_id


@pytest.mark.parametrize("turn", [1, -1])
def test_a_retest_and_its_own_registration_wait_for_one_another(
    db: Database, other: Database, turn: int
) -> None:
    """The event that announces a retest and the retest's own, planned at the same moment: each
    learns the link by itself, and neither ends the other's transaction.
    """
    for pair in range(8):
        first, second = [f"{pair}-a", f"{pair}-b"][::turn]
        told = (
            ("test_registration.retest", {"retest_testregistration_id": second}, {"id": first}),
            ("test_registration.complete", {}, {"id": second, "parent_id": first}),
        )
        planning = [
            (leased(db, name, testregistration_id=facts["id"], **more), Facts(registration=facts))
            for name, more, facts in told
        ]

        def plan(number: int, planning: Any = planning) -> None:
            with (db, other)[number].write() as connection:
                event, facts = planning[number]
                plan_and_mark_processed(connection, event, facts, lambda _kit: Plan(()))

        at_once(plan, 2)
        places = {(row["subject"], row["round"]) for row in rows(db, events) if row["round"]}
        assert (first, 1) in places


def test_a_deadlock_is_tried_again_at_once(db: Database, other: Database) -> None:
    """Two transactions that lock two rows in opposite orders both do all their work."""
    ids = planned(db, notice(), notice(rule="other"))
    both = threading.Barrier(2)
    tries = []

    def lock(connection: Connection, order: list[str], number: int) -> int:
        tries.append(number)
        for step, id_ in enumerate(order):
            mine = notifications.update().where(notifications.c.id == id_)
            connection.execute(mine.values(urgency=notifications.c.urgency + 1))
            if not step and tries.count(number) == 1:
                both.wait(10)
        return number

    def work(number: int) -> int:
        return (db, other)[number].transact(lock, ids[:: 1 - 2 * number], number)

    assert at_once(work, 2) == [0, 1]
    assert len(tries) >= 3  # the one that is ended may be faster again
    assert [row["urgency"] for row in rows(db, notifications)] == [2, 2]


@pytest.mark.parametrize(("state", "tried"), [("40001", TRIES), ("40P01", TRIES), ("23505", 1)])
def test_only_what_another_was_preferred_to_is_tried_again(
    other: Database, state: str, tried: int
) -> None:
    """A serialization failure and a deadlock are, a few times; what would fail again is not."""
    tries = []

    def work(connection: Connection) -> None:
        tries.append(state)
        connection.exec_driver_sql(f"DO $$ BEGIN RAISE SQLSTATE '{state}'; END $$")

    with pytest.raises(LedgerUnavailable):
        other.transact(work)
    assert len(tries) == tried
