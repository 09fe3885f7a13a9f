"""Runs the migrations (Alembic), for `flask relay upgrade`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from relay.errors import LedgerUnavailable
from relay.ledger import postgresql
from relay.ledger.database import Database, why_not
from relay.ledger.migrations import carry_over
from relay.ledger.schema import RETIRED_INDEXES, REVISION, metadata

_LOCK = 7_236_841  # the number of our own advisory lock: one release at a time
_NO_TABLE = "42P01"  # PostgreSQL's
_PATIENCE_SECONDS = 30  # for which a release waits for a moment when no table is in use


def upgrade(db: Database, revision: str = "head") -> str:
    """Migrate the ledger to this code's schema, or back to an older `revision`; return the revision
    that it then has.

    Safe to run twice, and from two places at once. A ledger that a later version has migrated is
    left alone: a platform runs the release command on a rollback too. It owns its transactions, in
    which it may wait longer for locks than other code.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.migration import MigrationContext

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    with _alone(db) as connection:
        context = MigrationContext.configure(connection)
        found = context.get_current_revision()
        if not is_newer(found):
            if found != REVISION and not db.is_sqlite:
                _lock_tables(connection)
            config.attributes["connection"] = connection
            config.attributes["metadata"] = metadata
            command.upgrade(config, revision)
        reached = str(context.get_current_revision())
    with _alone(db) as connection:
        if reached == REVISION:
            _build_indexes(db, connection)
        if not is_newer(reached):  # this code does not know a later version's rows
            _carry_over(db, connection)
    return reached


def _carry_over(db: Database, alone: Connection) -> None:
    """Bring older rows into the current form, on PostgreSQL in short transactions of their own, so
    that nobody waits for `alone`.
    """

    def transact(work: carry_over.Work, after: str) -> str | None:
        return work(alone, after) if db.is_sqlite else db.transact(unhurried, work, after)

    def unhurried(connection: Connection, work: carry_over.Work, after: str) -> str | None:
        postgresql.lift_limits(connection)
        return work(connection, after)

    revisions = carry_over.outstanding(alone)
    for revision in revisions:
        carry_over.run(revision, transact)
    if revisions:
        carry_over.finish(alone)


@contextmanager
def _alone(db: Database) -> Iterator[Connection]:
    """Open a transaction that excludes other releases, and that may take long.

    While it waits, each attempt has its own transaction: one that stayed open might hold a
    snapshot, and then the other release's index would never be built.
    """
    while True:
        with db.write() as connection:
            if _is_alone(db, connection):
                yield connection
                return
        time.sleep(0.1)


def _is_alone(db: Database, connection: Connection) -> bool:
    if db.is_sqlite:
        return True
    postgresql.lift_limits(connection)
    connection.execute(sa.text(f"SET LOCAL lock_timeout = '{_PATIENCE_SECONDS}s'"))
    return bool(connection.execute(sa.text(f"SELECT pg_try_advisory_xact_lock({_LOCK})")).scalar())


def _build_indexes(db: Database, connection: Connection) -> None:
    """Build the indexes that the schema has and the ledger lacks, and drop the retired ones.

    No migration builds them: on PostgreSQL that would keep every writer waiting for the whole time.
    One that was left half-built is built anew.
    https://www.postgresql.org/docs/current/sql-createindex.html#SQL-CREATEINDEX-CONCURRENTLY
    """
    wanted = {str(index.name): index for table in metadata.sorted_tables for index in table.indexes}
    if db.is_sqlite:
        found = set(connection.execute(sa.text("SELECT name FROM sqlite_master")).scalars())
        for name in wanted.keys() - found:
            wanted[name].create(connection)
        for name in found.intersection(RETIRED_INDEXES):
            connection.exec_driver_sql(f"DROP INDEX {name}")
        return
    known = {name: is_valid for name, is_valid in connection.execute(_INDEXES)}
    missing = [wanted[name] for name in sorted(wanted) if not known.get(name)]
    retired = sorted(known.keys() & {*RETIRED_INDEXES})
    if not missing and not retired:
        return
    with postgresql.unlimited(db.engine) as builder:
        for index in missing:
            if index.name in known:
                builder.exec_driver_sql(f"DROP INDEX CONCURRENTLY {index.name}")
            statement = str(sa.schema.CreateIndex(index).compile(dialect=db.engine.dialect))
            builder.exec_driver_sql(statement.replace(" INDEX ", " INDEX CONCURRENTLY ", 1))
        for name in retired:
            builder.exec_driver_sql(f"DROP INDEX CONCURRENTLY {name}")


_INDEXES = sa.text(
    "SELECT relname, indisvalid FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
    " JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = current_schema()"
)


def _lock_tables(connection: Connection) -> None:
    """Lock all tables, or none and try again.

    Holding one while waiting for another causes a deadlock with the previous version's workers, and
    makes webhooks wait: https://www.postgresql.org/docs/current/explicit-locking.html
    """
    present = metadata.tables.keys() & set(sa.inspect(connection).get_table_names())
    if not present:
        return
    connection.execute(sa.text("SET LOCAL lock_timeout = '200ms'"))
    lock = f"LOCK TABLE {', '.join(sorted(present))} IN ACCESS EXCLUSIVE MODE"
    ends = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            with connection.begin_nested():
                connection.execute(sa.text(lock))
            return
        except OperationalError as error:
            if time.monotonic() > ends:
                raise LedgerUnavailable(
                    "its tables are in use without a pause, by a backup for example; "
                    "run `flask relay upgrade` again when that has ended"
                ) from error
            time.sleep(0.05)


def revision(db: Database) -> str | None:
    """The schema's revision in the database; None if it was never migrated.

    It owns its read: a missing table would end the caller's transaction.
    """
    try:
        with db.engine.connect() as connection:
            return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    except SQLAlchemyError as error:
        if getattr(getattr(error, "orig", None), "sqlstate", "") == _NO_TABLE or (
            "no such table" in str(error)
        ):
            return None
        raise LedgerUnavailable(f"the ledger is out of reach: {why_not(error)}") from error


def is_migrated(db: Database) -> bool:
    """Whether the database has this code's schema, or a later one: migrations only add, so old and
    new code can run side by side during a release. It owns its read, as `revision` does.
    """
    found = revision(db)
    return found == REVISION or is_newer(found)


def is_newer(found: str | None) -> bool:
    """Whether a revision is later than this code's."""
    return bool(found) and str(found).isdecimal() and int(str(found)) > int(REVISION)
