"""Relay behind PgBouncer, which gives each transaction whichever session of the server is free."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
import pytest

from relay.errors import LedgerUnavailable
from relay.jobs.tasks import Jobs
from relay.ledger import migrate
from relay.ledger.database import Database
from relay.ledger.events import record_webhook
from relay.ledger.schema import attempts, events, notifications
from tests.conftest import DATABASES, drain
from tests.jobs.conftest import Clinic
from tests.rows import MONTH, at_once, incoming, rows
from tests.servers import PGBOUNCER, pgbouncer

SESSIONS = 2  # that the server keeps for all who come through it

pytestmark = [
    pytest.mark.skipif("postgresql" not in DATABASES, reason="needs PostgreSQL"),
    pytest.mark.skipif(not PGBOUNCER, reason="needs the program pgbouncer"),
    pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True),
]


@pytest.fixture(params=["options are refused", "options are ignored"])
def pooled(request: pytest.FixtureRequest, ledger_url: str) -> Iterator[str]:
    """The ledger's address through a PgBouncer of its own."""
    more = "ignore_startup_parameters = options\n" if "ignored" in request.param else ""
    with pgbouncer(ledger_url, SESSIONS, more) as through:
        yield through


@pytest.fixture
def two(pooled: str) -> Iterator[list[Database]]:
    """Two processes' ledgers."""
    opened = [Database(pooled, patience=20, connections=4) for _ in range(2)]
    yield opened
    for one in opened:
        one.close()


@pytest.fixture
def hurried(pooled: str) -> Iterator[Database]:
    """A ledger that waits for nobody."""
    opened = Database(pooled, patience=0.2)
    yield opened
    opened.close()


def test_two_processes_share_its_sessions(clinic: Clinic, two: list[Database]) -> None:
    """Events are taken, claimed and sent by two at once, each once, over as few sessions as it has;
    a migration goes through it too.
    """
    assert migrate.upgrade(two[0])

    def post(number: int) -> None:
        person = {"phone_number": f"+4477009001{number:02}", "first_name": "Jane"}
        clinic.lab.change("order", f"o-{number}", tracking_number="RM1", customer=person)
        for _ in range(6):  # as often as a driver prepares what it sends
            record_webhook(two[number % 2], incoming(order_id=f"o-{number}"), MONTH)

    at_once(post, 8)
    assert [row["duplicates"] for row in rows(clinic.db, events)] == [5] * 8
    works = [Jobs(clinic.jobs.config, one) for one in two]
    at_once(lambda number: drain(works[number]), 2)
    assert [row["status"] for row in rows(clinic.db, notifications)] == ["sent"] * 8
    assert [row["outcome"] for row in rows(clinic.db, attempts)] == ["accepted"] * 8
    assert len(clinic.twilio.accepted) == 8


def test_time_limits_hold(db: Database, hurried: Database) -> None:
    """Who waits for a lock gives up after its patience, whichever way it writes, and no other
    client has its limits.
    """
    with db.write() as connection:
        connection.exec_driver_sql("LOCK TABLE events IN EXCLUSIVE MODE")
        with pytest.raises(LedgerUnavailable):
            record_webhook(hurried, incoming(), MONTH)
        with pytest.raises(LedgerUnavailable), hurried.write() as waiting:
            waiting.execute(events.delete())
    assert record_webhook(hurried, incoming(), MONTH).status == "accepted"
    plain = hurried.url.set(drivername="postgresql").render_as_string(hide_password=False)
    for _ in range(SESSIONS):
        with psycopg.connect(plain) as other:
            assert other.execute("SHOW lock_timeout").fetchone() == ("0",)


def test_nobody_waits_long_for_a_session(two: list[Database], hurried: Database) -> None:
    """While all its sessions are in use, who comes is told so: PgBouncer lets it wait on."""
    with ExitStack() as stack:
        for _ in range(SESSIONS):
            stack.enter_context(two[0].write())
        with pytest.raises(LedgerUnavailable, match="does not answer in time"):
            record_webhook(hurried, incoming(), MONTH)
    assert record_webhook(hurried, incoming(), MONTH).status == "accepted"
