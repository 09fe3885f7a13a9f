"""The clock's work on the ledger: heartbeats, retention, the audit trail."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from relay.errors import LedgerUnavailable, Refused
from relay.ledger import audit as ledger_audit
from relay.ledger import database, migrate, people, schema, workers
from relay.ledger.database import Database
from relay.ledger.holds import suppressions
from relay.ledger.removal import retention
from relay.ledger.schema import (
    audit,
    ended_sessions,
    events,
    heartbeats,
    inbound_texts,
    login_failures,
    notifications,
    quarantine,
)
from relay.ledger.worklist import cases
from relay.rules.statuses import STATUSES
from tests.rows import (
    beat,
    case,
    change,
    close_case,
    keep_refused,
    notice,
    of_revision,
    only,
    open_cases,
    planned,
    rows,
    time_passes,
)

RETENTION = timedelta(days=90)
WORDS = {"text": "Hello Jane, your kit …"}
ON_ITS_WAY = ("created", "scheduled", "sending")


def ended(db: Database, status: str) -> None:
    """A message with words that has this status."""
    planned(db, notice())
    change(db, notifications, {}, status=status, content=WORDS, reason="Why.")


def test_a_beating_worker_is_alive(db: Database) -> None:
    """Each worker counts once, however often it beats, until it is not seen for a while."""
    for name in ("one", "two", "one"):
        beat(db, name)
    with db.read() as connection:
        assert workers.workers_alive(connection) == 2
    time_passes(db, workers.WORKER_GONE_AFTER + timedelta(seconds=1))
    with db.read() as connection:
        assert workers.workers_alive(connection) == 0
    beat(db, "one")
    with db.read() as connection:
        assert workers.workers_alive(connection) == 1


def test_a_worker_that_stops_by_itself_is_gone_at_once(db: Database) -> None:
    """A worker that signs off is not counted any more; the others are."""
    beat(db, "one")
    beat(db, "two")
    with db.write() as connection:
        workers.stop_beating(connection, "one")
    assert [row["name"] for row in rows(db, heartbeats)] == ["two"]


def test_heartbeats_do_not_pile_up(db: Database) -> None:
    """Workers that were killed leave no rows for ever: the next beat clears old ones away."""
    beat(db, "killed")
    time_passes(db, timedelta(days=2))
    beat(db, "new")
    assert [row["name"] for row in rows(db, heartbeats)] == ["new"]


@pytest.mark.parametrize("status", [s for s in STATUSES if s not in ON_ITS_WAY])
def test_what_is_over_is_blanked_after_retention(db: Database, status: str) -> None:
    """After `retention` no address, no word and no fact is left; what happened and why stays."""
    ended(db, status)
    time_passes(db, RETENTION + timedelta(minutes=1))
    assert retention.purge(db, RETENTION) == 2
    row = only(db, notifications)
    assert (row["address"], row["content"], only(db, events)["facts"]) == ("", None, None)
    assert (row["status"], row["reason"], row["rule"]) == (status, "Why.", "kit-shipped")
    assert only(db, events)["subject"] == "o-1"
    assert retention.purge(db, RETENTION) == 0


@pytest.mark.parametrize("status", ON_ITS_WAY)
def test_what_is_on_its_way_is_kept_whole(db: Database, status: str) -> None:
    """A message that may still go out keeps all that this needs."""
    ended(db, status)
    time_passes(db, 2 * RETENTION)
    assert retention.purge(db, RETENTION) == 0
    row = only(db, notifications)
    assert (row["address"], row["content"]) == ("+447700900001", WORDS)
    assert only(db, events)["facts"] == {"order": {"id": "o-1"}}


def test_what_went_out_late_is_kept_as_long(db: Database) -> None:
    """A message that waited for longer than `retention` is young when it goes out."""
    ended(db, "unknown")
    time_passes(db, 2 * RETENTION)
    change(db, notifications, {}, due_at=datetime.now(UTC))
    retention.purge(db, RETENTION)
    assert only(db, notifications)["address"] == "+447700900001"


def test_what_is_younger_than_retention_is_kept(db: Database) -> None:
    """`retention` lasts its whole length."""
    ended(db, "sent")
    keep_refused(db, b"{", Refused(400, "Not JSON."))
    time_passes(db, RETENTION - timedelta(minutes=1))
    assert retention.purge(db, RETENTION) == 0
    assert only(db, notifications)["address"] == "+447700900001"


def test_quarantine_is_emptied_after_retention(db: Database) -> None:
    """Refused bodies may hold anything: they go when nobody has posted them for that long."""
    keep_refused(db, b"{", Refused(400, "Not JSON."))
    time_passes(db, RETENTION)
    keep_refused(db, b"[", Refused(400, "Not JSON."))
    time_passes(db, timedelta(minutes=1))
    assert retention.purge(db, RETENTION) == 1
    assert bytes(only(db, quarantine)["body"]) == b"["


def test_what_staff_wrote_goes_too(db: Database) -> None:
    """A closed case's note may name somebody: it goes with the rest. Relay's own words stay."""
    planned(db, notice())
    event_id = only(db, events)["id"]
    for key, by in (("k-1", "admin"), ("k-2", cases.RELAY)):
        with db.write() as connection:
            cases.open_case(connection, case("held", key, event_id))
        (opened,) = open_cases(db)
        assert close_case(db, opened["id"], by, "Rang Mrs Smith.")
    time_passes(db, RETENTION + timedelta(minutes=1))
    change(db, notifications, {}, status="sent")
    retention.purge(db, RETENTION)
    notes = {row["closed_by"]: row["note"] for row in rows(db, schema.cases)}
    assert notes == {"admin": "", cases.RELAY: "Rang Mrs Smith."}


def test_what_nothing_asks_for_any_more_is_deleted(db: Database) -> None:
    """Texts after `retention`, wrong passwords after a day, and ended sessions once no cookie of
    theirs can be good; not before.
    """
    visits = (inbound_texts, login_failures, ended_sessions)
    with db.write() as connection:
        suppressions.opt_out(connection, "sms", "+447700900001", "SM1")
        people.add_failure(connection, "a visitor")
        people.end_for_release_before(connection, "ses_1")
    left = [1, 1, 1]
    ages = (timedelta(hours=23), timedelta(hours=25), timedelta(hours=37), 2 * RETENTION)
    for age, gone in zip(ages, (None, 1, 2, 0), strict=True):
        with db.write() as connection:
            for table, moment in zip(visits, ("received_at", "failed_at", "ended_at"), strict=True):
                connection.execute(table.update().values({moment: datetime.now(UTC) - age}))
        retention.purge(db, RETENTION)
        if gone is not None:
            left[gone] = 0
        assert [len(rows(db, table)) for table in visits] == left


def five_in_twos(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event's five messages that are too old, to be blanked by two."""
    monkeypatch.setattr(database, "ROWS", 2)
    planned(db, *(notice(subject=f"o-{number}") for number in range(5)))
    change(db, notifications, {}, status="sent")
    time_passes(db, RETENTION + timedelta(minutes=1))


def test_a_purge_goes_by_a_few_rows_at_a_time(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much there is, no transaction is long; a second purge finds nothing."""
    five_in_twos(db, monkeypatch)
    assert retention.purge(db, RETENTION) == 6
    assert {row["address"] for row in rows(db, notifications)} == {""}
    assert retention.purge(db, RETENTION) == 0


def test_a_purge_ends_in_time_and_goes_on_later(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker has other things to do meanwhile: it takes a turn, and the next one goes on."""
    five_in_twos(db, monkeypatch)
    assert [retention.purge(db, RETENTION, seconds=0) for _ in range(4)] == [3, 2, 1, 0]


@pytest.mark.skipif(not os.environ.get("TEST_DATABASE_URL"), reason="needs PostgreSQL")
def test_a_purge_looks_only_at_what_it_has_to_blank(db: Database) -> None:
    """PostgreSQL finds both by indexes that hold nothing that is blanked already."""
    if db.is_sqlite:
        pytest.skip("its plans are others")
    asked: dict[str, Any] = {}

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked[statement] = parameters

    sa.event.listen(db.engine, "before_cursor_execute", note)
    retention.purge(db, RETENTION)
    sa.event.remove(db.engine, "before_cursor_execute", note)
    plans = ""
    with db.read() as connection:
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        for said, given in asked.items():
            plans += "\n".join(connection.exec_driver_sql(f"EXPLAIN {said}", given).scalars())
    # Of an empty table the planner may like the index by time as well.
    assert "ix_events_purge" in plans
    assert "ix_notifications_purge" in plans or "ix_notifications_created" in plans
    assert "Seq Scan on notifications" not in plans


def test_the_audit_trail_says_who_did_what(db: Database) -> None:
    """Each deed of a person is kept with its time, cut to what a row can hold."""
    with db.write() as connection:
        ledger_audit.write_audit(connection, "cli", "replay", "m" * 300, "d" * 600)
    row = only(db, audit)
    assert (row["actor"], row["action"]) == ("cli", "replay")
    assert (len(row["target"]), len(row["detail"])) == (255, 500)
    assert row["at"].tzinfo is not None


def test_a_ledger_of_another_version_says_so(db: Database) -> None:
    """What /readyz asks: whether the tables are those of this code."""
    assert migrate.is_migrated(db)
    with of_revision(db, "0000"):
        assert migrate.revision(db) == "0000"
        assert not migrate.is_migrated(db)
    with of_revision(db, "another"):
        assert not migrate.is_migrated(db)


def test_a_new_database_is_not_migrated(tmp_path: Path) -> None:
    """A database that was never migrated is not out of reach: it has no revision."""
    empty = Database(f"sqlite:///{tmp_path}/new.db")
    assert migrate.revision(empty) is None
    assert not migrate.is_migrated(empty)
    empty.close()


def test_a_database_out_of_reach_is_not_called_unmigrated() -> None:
    """A ledger that cannot be asked is LedgerUnavailable, not a ledger without tables."""
    away = Database("postgresql+psycopg://relay:secret@127.0.0.1:1/relay")
    with pytest.raises(LedgerUnavailable) as caught:
        migrate.revision(away)
    assert "secret" not in str(caught.value)
    away.close()
