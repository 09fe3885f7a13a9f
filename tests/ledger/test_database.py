"""One ledger on two databases: their clock, UTC times, transactions, errors that name nobody."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa

from relay.errors import LedgerUnavailable
from relay.ledger import database
from relay.ledger import events as ledger_events
from relay.ledger.database import Connection, Database, ago, first_id, new_id, now
from relay.ledger.schema import audit, events
from tests.rows import MONTH, incoming, only, rows

SECRET = "+447700900123"


def ask(db: Database, expression: now) -> datetime:
    """What the database says a time is."""
    with db.read() as connection:
        return connection.execute(sa.select(expression)).scalar_one()


@pytest.mark.parametrize(
    ("expression", "offset"),
    [
        (now(), timedelta()),
        (now(90), timedelta(seconds=90)),
        (now(-0.5), timedelta(seconds=-0.5)),
        (ago(timedelta(days=30)), timedelta(days=-30)),
    ],
    ids=["now", "later", "earlier", "ago"],
)
def test_the_clock_is_the_databases(db: Database, expression: now, offset: timedelta) -> None:
    """Both databases tell the same time, aware, to the millisecond, any seconds from now."""
    before = datetime.now(UTC)
    told = ask(db, expression)
    after = datetime.now(UTC)
    grain = timedelta(milliseconds=2)
    assert before + offset - grain <= told <= after + offset + grain
    assert told.utcoffset() == timedelta()


def test_the_clock_goes_on_within_a_transaction(db: Database) -> None:
    """The clock is not stopped at a transaction's start: leases count from the statement."""
    with db.write() as connection:
        first = connection.execute(sa.select(now())).scalar_one()
        while (second := connection.execute(sa.select(now())).scalar_one()) == first:
            pass
    assert second > first


@pytest.mark.parametrize("hours", [-8, 0, 1, 5.75])
def test_times_come_back_in_utc(db: Database, hours: float) -> None:
    """A time of any zone comes back as the same moment, in UTC, to the microsecond."""
    zone = timezone(timedelta(hours=hours))
    moment = datetime(2026, 10, 25, 1, 30, 0, 123456, zone)
    with db.write() as connection:
        connection.execute(
            audit.insert().values(id="aud_1", at=moment, actor="a", action="b", target="c")
        )
    told = only(db, audit)["at"]
    assert told == moment
    assert told.tzinfo is UTC


def test_stored_times_compare_with_the_clock(db: Database) -> None:
    """A time that Python wrote is before or after the database's own, whichever it is."""
    for name, offset in (("past", -1), ("future", 1)):
        at = datetime.now(UTC) + timedelta(minutes=offset)
        with db.write() as connection:
            connection.execute(
                audit.insert().values(id=name, at=at, actor="a", action="b", target="c")
            )
    with db.read() as connection:
        found = connection.execute(sa.select(audit.c.id).where(audit.c.at <= now())).scalars()
        assert list(found) == ["past"]


def test_a_transaction_is_all_or_nothing(db: Database) -> None:
    """What fails half way leaves nothing behind, and the next transaction can go ahead."""

    def fail_half_way() -> None:
        with db.write() as connection:
            ledger_events.record(connection, incoming(), MONTH)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert rows(db, events) == []
    assert ledger_events.record_webhook(db, incoming(), MONTH).status == "accepted"


def test_a_refused_statement_names_nobody(db: Database) -> None:
    """An error's text, and those it is chained to, hold no parameter: it may be a number."""
    row = {"id": "aud_1", "at": datetime.now(UTC), "actor": SECRET, "action": "b", "target": "c"}

    def insert() -> None:
        with db.write() as connection:
            connection.execute(audit.insert().values(row))

    insert()
    with pytest.raises(LedgerUnavailable) as caught:
        insert()
    assert SECRET not in str(caught.value)
    assert SECRET not in str(caught.value.__cause__)
    assert SECRET not in repr(caught.value.__cause__)


def test_a_ledger_that_is_away_is_unavailable() -> None:
    """A database that refuses connections is LedgerUnavailable, for readers and writers."""
    away = Database("postgresql+psycopg://relay:secret@127.0.0.1:1/relay", patience=1)
    for way in (away.read, away.write):
        with pytest.raises(LedgerUnavailable, match="the ledger"), way() as connection:
            connection.execute(sa.select(now()))
    away.close()


def test_missing_tables_are_unavailable(tmp_path: Path) -> None:
    """A ledger that was not migrated is LedgerUnavailable: the web answers 503."""
    empty = Database(f"sqlite:///{tmp_path}/new.db")
    with pytest.raises(LedgerUnavailable):
        ledger_events.record_webhook(empty, incoming(), MONTH)
    empty.close()


def test_a_lock_held_elsewhere_is_unavailable(ledger_url: str, db: Database) -> None:
    """A writer that finds the ledger locked gives up after its patience."""
    impatient = Database(ledger_url, patience=0.2)
    ledger_events.record_webhook(db, incoming(), MONTH)
    with db.write() as connection:
        if not db.is_sqlite:
            connection.exec_driver_sql("LOCK TABLE events IN EXCLUSIVE MODE")
        with pytest.raises(LedgerUnavailable):
            ledger_events.record_webhook(impatient, incoming(), MONTH)
    assert ledger_events.record_webhook(impatient, incoming(), MONTH).status == "duplicate"
    impatient.close()


def test_a_database_that_says_nothing_is_unavailable(ledger_url: str, db: Database) -> None:
    """Nobody waits for a server that keeps to none of its own limits, as while its disk hangs, and
    nothing is asked of it twice.
    """
    if db.is_sqlite:
        pytest.skip("it is no server")
    impatient, asked = Database(ledger_url, patience=0.1), []

    def hang(connection: Connection) -> None:
        asked.append(connection)
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql("SELECT pg_sleep(600)")

    with pytest.raises(LedgerUnavailable, match="it does not answer in time"):
        impatient.transact(hang)
    assert len(asked) == 1
    with db.write() as connection:  # the server would sleep on, and keep indexes from being built
        ended = sa.select(sa.func.pg_terminate_backend(sa.column("pid")))
        ended = ended.select_from(sa.table("pg_stat_activity")).where(
            sa.column("datname") == sa.func.current_database(),
            sa.column("query") == "SELECT pg_sleep(600)",
        )
        assert list(connection.execute(ended).scalars()) == [True]
    assert ledger_events.record_webhook(impatient, incoming(), MONTH).status == "accepted"
    impatient.close()


def test_any_number_of_rows_is_changed_in_turns(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many rows there are, each transaction changes some; none is changed twice."""
    monkeypatch.setattr(database, "ROWS", 2)
    for number in range(5):
        ledger_events.record_webhook(db, incoming(order_id=f"o-{number}"), MONTH)
    turns: list[int] = []

    def change(connection: Connection, ids: Sequence[str]) -> None:
        turns.append(len(ids))
        connection.execute(events.update().where(events.c.id.in_(ids)).values(status="held"))

    received = sa.select(events.c.id).where(events.c.status == "received")
    assert [db.in_turns(received, change), db.in_turns(received, change)] == [5, 0]
    assert turns == [2, 2, 1]


def test_a_lock_in_the_same_process_is_unavailable(db: Database) -> None:
    """A thread that waits for another thread's transaction gives up after its patience too."""
    errors: list[Exception] = []
    patient = Database(db.url.render_as_string(hide_password=False), patience=0.2, connections=1)

    def write() -> None:
        try:
            ledger_events.record_webhook(patient, incoming(), MONTH)
        except LedgerUnavailable as error:
            errors.append(error)

    with patient.write():
        thread = threading.Thread(target=write)
        thread.start()
        thread.join(30)
    assert len(errors) == 1
    patient.close()


def test_a_lock_file_held_by_another_process_is_unavailable(tmp_path: Path) -> None:
    """SQLite's queue of writers gives up after its patience; it never hangs the web."""
    db = Database(f"sqlite:///{tmp_path}/relay.db", patience=0.2)
    with Path(f"{tmp_path}/relay.db.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(LedgerUnavailable), db.write():
            pass
    db.close()


def test_another_process_that_ends_takes_nothing_away(tmp_path: Path) -> None:
    """Of SQLite: a process's new connection gives up no lock of those that it has. Else the next
    process that closes the ledger, as a worker that ends, unlinks the log that this one writes to.
    """
    db = Database(f"sqlite:///{tmp_path}/relay.db")
    with db.read() as first, db.read() as second:
        for connection in (first, second):
            connection.execute(sa.text("SELECT 1")).all()
        with db.write() as connection:
            connection.execute(sa.text("CREATE TABLE t AS SELECT 1 AS n"))
        log = tmp_path / "relay.db-wal"
        before = log.stat().st_ino
        other = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT n FROM t')"
        subprocess.run([sys.executable, "-c", other, tmp_path / "relay.db"], check=True)
        assert log.stat().st_ino == before
    db.close()


def test_a_printed_address_has_no_password() -> None:
    """The ledger's address, when it is printed, hides its password."""
    assert "secret" not in str(Database("postgresql+psycopg://relay:secret@127.0.0.1:1/x").url)


def test_ids_sort_in_the_order_in_which_they_were_made() -> None:
    """Two posts in one millisecond are listed as they came, whatever is random in their ids."""
    before = datetime.now(UTC)
    made = [new_id("evt") for _ in range(1000)]
    assert made == sorted(set(made))
    assert {len(one) for one in made} == {len("evt_") + 28}
    assert first_id("evt", before) <= made[0]
