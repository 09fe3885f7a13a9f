"""The migrations and the tables that the code works with are the same."""

from __future__ import annotations

import ast
import inspect
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import relay.ledger
from relay.ledger import events as ledger_events
from relay.ledger import migrate
from relay.ledger.database import Database
from relay.ledger.migrations import carry_over
from relay.ledger.schema import REVISION, attempts, cases, events, metadata, notifications
from tests.processes.harness import eventually
from tests.rows import MONTH, at_once, incoming, only

# SQLite does not say what such an index is of; PostgreSQL does.
of_expressions = pytest.mark.filterwarnings(
    "ignore:Skipped unsupported reflection of expression",
    "ignore:autogenerate skipping metadata-specified expression",
)


@of_expressions
def test_the_migrated_database_is_the_one_the_code_speaks_of(db: Database) -> None:
    """Alembic finds no difference between a migrated database and schema.metadata."""
    with db.engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": not db.is_sqlite}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


@of_expressions
def test_partial_indexes_are_on_the_same_rows(db: Database) -> None:
    """The conditions of partial indexes, which Alembic does not compare, are the code's too."""
    dialect = db.engine.dialect
    expected = {
        str(index.name): sorted(_words(str(where.compile(dialect=dialect, **_LITERAL))))
        for table in metadata.sorted_tables
        for index in table.indexes
        if (where := index.dialect_options[dialect.name]["where"]) is not None
    }
    assert {name: sorted(_words(where)) for name, where in _partial_indexes(db)} == expected


_LITERAL = {"compile_kwargs": {"literal_binds": True}}


def _partial_indexes(db: Database) -> list[tuple[str, str]]:
    with db.engine.connect() as connection:
        if db.is_sqlite:
            query = sa.text("SELECT name, sql FROM sqlite_master WHERE sql LIKE '%INDEX%WHERE%'")
            found = connection.execute(query).all()
            return [(name, sql.partition(" WHERE ")[2]) for name, sql in found]
        inspector = sa.inspect(connection)
        return [
            (str(index["name"]), str(where))
            for table in metadata.tables
            for index in inspector.get_indexes(table)
            if (where := index.get("dialect_options", {}).get(f"{db.engine.dialect.name}_where"))
            is not None
        ]


def _words(condition: str) -> list[str]:
    """The quoted values in a condition: each database writes the rest in its own way."""
    return condition.split("'")[1::2]


def test_the_revision_is_the_newest_migration() -> None:
    """The code's REVISION is Alembic's one head, so that /readyz compares with the right one."""
    assert _scripts().get_heads() == [REVISION]


def _scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(Path(relay.ledger.__path__[0]) / "migrations"))
    return ScriptDirectory.from_config(config)


def test_upgrading_twice_is_harmless(db: Database) -> None:
    """A release that runs again, or on a ledger in use, changes nothing and loses nothing."""
    recorded = ledger_events.record_webhook(db, incoming(), MONTH)
    migrate.upgrade(db)
    migrate.upgrade(db)
    assert migrate.is_migrated(db)
    assert only(db, events)["id"] == recorded.id


def test_rows_of_the_version_before_are_read(tmp_path: Path) -> None:
    """While a release runs, the old code still writes: each migration only adds, and what it adds
    may be left out by who does not know it.
    """
    db = Database(f"sqlite:///{tmp_path}/old.db")
    known: dict[str, dict[str, bool]] = {}
    for revision in reversed(list(_scripts().walk_revisions())):
        migrate.upgrade(db, revision.revision)
        tables = _columns(db)
        for table, columns in known.items():
            added = tables[table].keys() - columns.keys()
            assert columns.keys() <= tables[table].keys(), "a column is gone"
            assert [name for name in added if tables[table][name]] == []
            assert [name for name in columns if tables[table][name] > columns[name]] == []
        known = tables
    db.close()
    assert "notifications" in known


def _columns(db: Database) -> dict[str, dict[str, bool]]:
    """Each table's columns, and whether an INSERT must name them."""
    with db.engine.connect() as connection:
        inspector = sa.inspect(connection)
        return {
            table: {
                column["name"]: not column["nullable"] and column["default"] is None
                for column in inspector.get_columns(table)
            }
            for table in inspector.get_table_names()
        }


on_postgresql = pytest.mark.skipif(
    not os.environ.get("TEST_DATABASE_URL"), reason="needs PostgreSQL"
)


@on_postgresql
def test_releases_at_once_upgrade_one_after_the_other(postgresql: str) -> None:
    """Two releases that migrate an empty PostgreSQL at the same moment both succeed."""
    with _empty_ledgers(postgresql) as ledgers:
        at_once(lambda n: migrate.upgrade(ledgers[n]), 2)
        assert all(migrate.is_migrated(ledger) for ledger in ledgers)


@on_postgresql
def test_a_migration_never_holds_a_table_and_waits_for_another(postgresql: str) -> None:
    """A worker of the version before that uses one table and then another goes on while a release
    migrates both; the release waits until it has ended.
    """
    with _empty_ledgers(postgresql) as (releasing, working):
        migrate.upgrade(releasing, "0004")
        with ThreadPoolExecutor(1) as pool, working.engine.begin() as connection:
            connection.exec_driver_sql("SELECT count(*) FROM events")
            release = pool.submit(migrate.upgrade, releasing)
            with releasing.engine.connect() as watching:
                eventually(lambda: _waits_for_a_table(watching))
            connection.exec_driver_sql("SET LOCAL lock_timeout = '5s'")
            for table in (notifications, attempts, cases):
                connection.execute(sa.select(table.c.id))
            assert not release.done()
            connection.commit()
            assert release.result(30) == REVISION


@on_postgresql
def test_an_index_is_built_while_others_write(postgresql: str) -> None:
    """A release that builds an index waits for a writer, and no writer for it; one that another
    release has left half-made is made anew.
    """
    with _empty_ledgers(postgresql) as (releasing, working):
        migrate.upgrade(releasing)
        with releasing.write() as connection:
            connection.exec_driver_sql("DROP INDEX ix_events_subject")
            connection.exec_driver_sql("DROP INDEX ix_cases_event")
            connection.exec_driver_sql("CREATE INDEX ix_cases_event ON cases (event_id)")
            connection.exec_driver_sql(
                "UPDATE pg_index SET indisvalid = false"
                " WHERE indexrelid = 'ix_cases_event'::regclass"
            )
        with ThreadPoolExecutor(1) as pool, working.write() as connection:
            ledger_events.record(connection, incoming(order_id="o-1"), MONTH)
            release = pool.submit(migrate.upgrade, releasing)
            with releasing.engine.connect() as watching:
                eventually(lambda: _builds_an_index(watching))
            with working.write() as other:
                ledger_events.record(other, incoming(order_id="o-2"), MONTH)
            assert not release.done()
            connection.commit()
            assert release.result(30) == REVISION
        with releasing.read() as connection:
            valid = connection.exec_driver_sql(
                "SELECT indisvalid FROM pg_index WHERE indexrelid IN"
                " ('ix_events_subject'::regclass, 'ix_cases_event'::regclass)"
            )
            assert valid.scalars().all() == [True, True]


def _builds_an_index(connection: sa.Connection) -> bool:
    """Whether one who builds an index waits for another's transaction."""
    found = connection.exec_driver_sql(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'virtualxid' AND NOT granted AND pid IN"
        " (SELECT pid FROM pg_locks WHERE mode = 'ShareUpdateExclusiveLock'"
        " AND relation IN ('events'::regclass, 'cases'::regclass))"
    )
    return bool(found.scalar())


QUICK = {"create_table", "add_column", "drop_index"}  # however many rows there are
QUICK_TOO = {"0014": {"get_context", "execute"}}  # a trigger


def test_a_migration_does_only_what_is_quick() -> None:
    """Writers wait for a migration. So it makes no index, which `upgrade` builds from the schema
    while they go on, and rewrites no rows. Those up to 0011 came before the first release.
    """
    for script in _scripts().walk_revisions():
        if script.revision > "0011":
            found = ast.walk(ast.parse(inspect.getsource(script.module.upgrade)))
            calls = [one.func for one in found if isinstance(one, ast.Call)]
            made = {one.attr for one in calls if ast.unparse(one).startswith("op.")}
            assert made <= QUICK | QUICK_TOO.get(script.revision, set()), script.revision


def _waits_for_a_table(connection: sa.Connection) -> bool:
    found = connection.exec_driver_sql(
        "SELECT count(*) FROM pg_locks WHERE relation = 'events'::regclass AND NOT granted"
    )
    return bool(found.scalar())


@contextmanager
def _empty_ledgers(postgresql: str) -> Iterator[list[Database]]:
    """Two connection pools to one empty schema of their own."""
    schema = "relay_two_releases"
    admin = Database(postgresql, patience=30)
    with admin.write() as connection:
        connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
    ledgers = [Database(postgresql, patience=30) for _ in range(2)]
    try:
        for ledger in ledgers:
            sa.event.listen(ledger.engine, "connect", _search_path(schema))
        yield ledgers
    finally:
        for ledger in ledgers:
            ledger.close()
        with admin.write() as connection:
            connection.exec_driver_sql(f"DROP SCHEMA {schema} CASCADE")
        admin.close()


def _search_path(schema: str):
    def set_it(connection, _record) -> None:
        connection.execute(f"SET search_path TO {schema}")
        connection.commit()

    return set_it


def test_old_rows_take_todays_form_after_the_migration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What older code wrote is read as today's: alerts, what was only kept, what a person stopped,
    what waits, and what was told of a retest. A release that is cut short goes on where it stopped.
    """
    db = Database(f"sqlite:///{tmp_path}/old.db")
    _as_0004_left_it(db)
    with monkeypatch.context() as patch:
        patch.setitem(carry_over._OF, "0006", (_cut_short,))
        with pytest.raises(KeyboardInterrupt):
            migrate.upgrade(db)
    assert migrate.upgrade(db) == REVISION
    with db.read() as connection:
        told = connection.execute(sa.select(notifications).order_by(notifications.c.id)).all()
        waits = connection.execute(sa.select(events.c.named, events.c.subject, events.c.round))
        assert [(row.kind, row.is_kept, row.stopped_by) for row in told] == [
            ("message", True, None),
            ("message", False, "a person"),
            ("alert", False, None),
            ("digest", False, None),
            ("item", False, None),
        ]
        assert told[4].digest_id == told[3].id
        assert [(row.subject, row.round) for row in told[:2]] == [("r-1", 1), ("r-1", 1)]
        assert waits.all() == [("r-2", "r-1", 1)]
        assert connection.execute(sa.select(cases.c.about)).scalars().all() == ["d"]
        assert not sa.inspect(connection).has_table("to_carry_over")
    db.close()


def test_what_a_later_version_has_left_to_carry_over_stays(tmp_path: Path) -> None:
    """A release that goes back to this version changes nothing of a ledger that a later one has
    migrated, though that one was cut short.
    """
    db = Database(f"sqlite:///{tmp_path}/newer.db")
    migrate.upgrade(db)
    with db.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        connection.exec_driver_sql("CREATE TABLE to_carry_over (revision VARCHAR(10))")
        connection.exec_driver_sql("INSERT INTO to_carry_over VALUES ('9999')")
    assert migrate.upgrade(db) == "9999"
    with db.read() as connection:
        assert carry_over.outstanding(connection) == ["9999"]
    db.close()


def _cut_short(_connection: sa.Connection, _after: str) -> None:
    raise KeyboardInterrupt


def _as_0004_left_it(db: Database) -> None:
    """A ledger of that version's: a held event of a retest, its messages, an alert and a digest."""
    migrate.upgrade(db, "0004")
    now, columns = "2026-11-01 09:00:00.000000", "id, event_id, rule, template, subject, role"
    columns += ", channel, address, identity, family, status, due_at, created_at"
    rows = (
        ("m1", "results", "r-2", "i1", "sent", "provider_id", "dry-run-1"),
        ("m2", "results", "r-2", "i2", "cancelled", "reason", "Stopped by Jo: wrong"),
        ("m3", "relay:unreached", "r-9", "i3", "sent", "reason", ""),
        ("m4", "results-staff", "r-9", "i4", "sent", "digest", "i4"),
        ("m5", "results-staff", "r-9", "i5", "sent", "digest", "i4"),
    )
    with db.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO events (id, name, identity, data, status, received_at, subject, next_at)"
            " VALUES ('e1', 'lab_results.complete', 'e1', ?, 'held', ?, 'r-2', ?)",
            ('{"testregistration_id": "r-2"}', now, now),
        )
        connection.exec_driver_sql(
            "INSERT INTO journeys (subject, resource, original_subject, round, created_at)"
            " VALUES ('r-2', 'test_registration', 'r-1', 1, ?)",
            (now,),
        )
        connection.exec_driver_sql(
            "INSERT INTO cases (id, digest, kind, subject, event_id, reason, opened_at)"
            " VALUES ('c1', 'd', 'held', 'r-2', 'e1', '', ?)",
            (now,),
        )
        for id_, rule, subject, identity, status, column, value in rows:
            connection.exec_driver_sql(
                f"INSERT INTO notifications ({columns}, {column}) VALUES (?, 'e1', ?, 'words', ?,"  # noqa: S608
                " 'patient', 'sms', '+447700900001', ?, ?, ?, ?, ?, ?)",
                (id_, rule, subject, identity, identity, status, now, now, value),
            )
