"""What is claimed is found by an index, however much is there that is not due yet."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from relay.ledger import attempts as ledger_attempts
from relay.ledger import events as ledger_events
from relay.ledger.database import Database
from relay.ledger.schema import events
from tests.rows import MONTH, change, incoming, notice, planned

FAR = timedelta(days=1)


def plan_of(db: Database, statement: Any, **given: Any) -> str:
    """What PostgreSQL did to run a statement, where it had to read a table it may use an index."""
    if db.is_sqlite:
        pytest.skip("SQLite says of no plan how many rows it read")
    with db.engine.connect() as connection:  # and rolled back
        # By what is there now, not by what autovacuum saw here in the tests before.
        connection.exec_driver_sql("ANALYZE notifications, events")
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        connection.exec_driver_sql("SET LOCAL enable_bitmapscan = off")
        sa.event.listen(
            connection,
            "before_cursor_execute",
            lambda *told: ("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) " + told[2], told[3]),
            retval=True,
        )
        return "\n".join(connection.execute(statement, given).scalars())


def by_moment(told: str) -> str:
    """Which index a plan searches by the moment, and how often it has found how many rows there."""
    found = re.search(
        r"Index Scan using (.*)\n *Index Cond: .*<= statement_timestamp\(\)\)\)", told
    )
    assert found, told
    return found[1]


def later(count: int) -> datetime:
    """A reminder's time."""
    return datetime.now(UTC) + FAR + timedelta(minutes=count)


def test_a_claim_reads_nothing_that_is_not_due(db: Database) -> None:
    """Among reminders of every urgency that are for later, and messages that somebody has stopped,
    a claim reads the messages that are due and no other.
    """
    reminders = [
        notice(subject=f"later-{n}", urgency=n % 6, status="scheduled", due_at=later(n))
        for n in range(120)
    ]
    stopped = [notice(subject=f"stop-{n}", urgency=n % 6, waits_for="stop") for n in range(120)]
    due = [notice(subject=f"due-{n}", urgency=n % 3) for n in range(7)]
    planned(db, *reminders, *stopped, *due)
    told = plan_of(db, ledger_attempts.due("postgresql"), by="sms", most=24)
    assert told.startswith("Limit (actual rows=7 ")
    # On average, of six urgencies and of none; else it would have been 127 rows, and a filter.
    assert re.sub("_(ready|due) ", " ", by_moment(told)) == (
        "ix_notifications on notifications (actual rows=1 loops=7)"
    )


def test_a_lease_reads_nothing_that_is_not_due(db: Database) -> None:
    """The lab is away, and events wait for their next try: a lease reads those that are due."""
    with db.write() as connection:
        for number in range(60):
            ledger_events.record(connection, incoming(order_id=f"o-{number}"), MONTH)
    change(db, events, {}, next_at=later(0))
    for number in range(2):
        ledger_events.record_webhook(db, incoming(order_id=f"due-{number}"), MONTH)
    told = plan_of(db, ledger_events.leasing("postgresql"), most=24, lease=90.0)
    assert by_moment(told) == "ix_events_due on events events_3 (actual rows=1 loops=2)"


@pytest.mark.parametrize("most", [1, 3, 5, 9])
def test_the_urgent_go_first_and_of_each_urgency_the_oldest(db: Database, most: int) -> None:
    """However few are claimed, they are the first of one queue: by urgency, then by time."""
    ago = [datetime.now(UTC) - timedelta(minutes=n) for n in range(1, 9)]
    planned(
        db,
        *(notice(subject=f"{n % 3}-{n}", urgency=n % 3, due_at=ago[n]) for n in range(8)),
    )
    order = ["2-5", "2-2", "1-7", "1-4", "1-1", "0-6", "0-3", "0-0"]
    took = [one.subject for one in ledger_attempts.claim(db, "sms", most)]
    assert took == order[:most]


def prepared_plans(db: Database) -> str:
    """How PostgreSQL goes about what this connection has prepared, without knowing the values."""
    with db.engine.connect() as connection:
        prepared = connection.exec_driver_sql(
            "SELECT name, cardinality(parameter_types) FROM pg_prepared_statements"
        ).all()
        connection.exec_driver_sql("ANALYZE notifications, events")
        connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        asked = [
            f"EXPLAIN EXECUTE {name}" + (f"({', '.join(['NULL'] * count)})" if count else "")
            for name, count in prepared
        ]
        steps = [connection.exec_driver_sql(each).scalars().all() for each in asked]
    return "\n".join(step for plan in steps for step in plan)


@pytest.mark.parametrize(
    ("ask", "index"),
    [
        (lambda db: ledger_attempts.claim(db, "sms", 9), "ix_notifications_(ready|due)"),
        (
            lambda db: ledger_attempts.claim(db, "sms", 9, may_ask=True),
            "ix_notifications_(asking|due)",
        ),
        (lambda db: ledger_events.lease_events(db, 9), "ix_events_due"),
        (ledger_attempts.lapse, "ix_notifications_leased"),
    ],
)
def test_what_is_asked_all_day_is_planned_once(
    db: Database, ask: Callable[[Database], object], index: str
) -> None:
    """What a worker asks every few seconds is prepared, and its plan needs no values: to plan it
    anew takes PostgreSQL longer than to run it.
    """
    if db.is_sqlite:
        pytest.skip("SQLite plans in microseconds")
    for _ in range(8):  # psycopg prepares what it is told for the sixth time
        ask(db)
    assert re.search(rf"Index (Only )?Scan using {index} ", prepared_plans(db))


def test_a_query_leaves_what_is_prepared(db: Database) -> None:
    """A connection that was read from still has the statements that it had prepared."""
    if db.is_sqlite:
        pytest.skip("SQLite's statements are Python's own to keep")
    count = "SELECT count(*) FROM pg_prepared_statements"
    found = []
    for _ in range(12):
        with db.read() as connection:
            found.append(connection.exec_driver_sql(count).scalar_one())
    assert found[-1] == 1
