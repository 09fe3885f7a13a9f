"""One engine for SQLite and PostgreSQL: transactions, the database's own clock, UTC times."""

from __future__ import annotations

import fcntl
import math
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from time import time_ns
from typing import IO, Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import DataError, DBAPIError, SQLAlchemyError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from relay.errors import LedgerUnavailable, meaning
from relay.ledger.group_commit import GroupCommit

Connection = sa.Connection  # one unit of work; the ledger's functions take one
P = ParamSpec("P")
T = TypeVar("T")
Change = Callable[[Connection, Sequence[str]], object]
ROWS = 500  # changed in one transaction, where there may be any number


class Prepared:
    """A statement compiled once, for the driver's own connection. Parameters are plain values."""

    def __init__(self, statement: sa.Executable, dialect: sa.Dialect):
        compiled = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
        self._sql = compiled.string
        self._order: Sequence[str] | None = compiled.positiontup
        self._fixed = {k: v for k, v in compiled.params.items() if v is not None}

    def execute(self, connection: Any, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Run the statement on a connection; return its rows."""
        given = {**self._fixed, **parameters}
        rows: list[tuple[Any, ...]]
        if self._order is None:
            rows = connection.run(self._sql, given)
        else:
            rows = connection.execute(self._sql, [given[name] for name in self._order]).fetchall()
        return rows


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """An aware time in UTC. SQLite has no time zones: they are removed, and put back on reading."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """To UTC."""
        if value is None:
            return None
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """From UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


_SQLITE_NOW = "strftime('%Y-%m-%d %H:%M:%f000', 'now'"


class now(FunctionElement[datetime]):  # noqa: N801 - used as a SQL function
    """SQL for the database's clock plus `seconds`, because the clocks of processes may differ.

    It is the moment at which the statement arrived. It is fixed within a statement, so that it can
    be used with an index, unlike clock_timestamp(); within a transaction it moves on.
    https://www.postgresql.org/docs/current/xfunc-volatility.html
    """

    type = UtcDateTime()
    inherit_cache = True

    def __init__(self, seconds: Any = None):
        super().__init__(*([] if seconds is None else [sa.cast(seconds, sa.Float)]))


@compiles(now, "sqlite")
def _now_sqlite(element: now, compiler: Any, **kw: Any) -> str:
    if not len(element.clauses):
        return f"{_SQLITE_NOW})"
    return f"{_SQLITE_NOW}, {compiler.process(element.clauses, **kw)} || ' seconds')"


@compiles(now, "postgresql")
def _now_postgresql(element: now, compiler: Any, **kw: Any) -> str:
    if not len(element.clauses):
        return "statement_timestamp()"
    return (
        f"statement_timestamp() + {compiler.process(element.clauses, **kw)} * interval '1 second'"
    )


class Database:
    """The connections to the ledger. A caller waits up to `patience` seconds for a lock."""

    def __init__(self, url: str, *, patience: float = 2.0, connections: int = 8):
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._patience = patience
        self._lock = threading.Lock()
        self._lock_path = Path(f"{self.url.database}.lock") if self.is_sqlite else None
        self.engine = self._engine(connections)
        self._prepared: dict[Any, Prepared] = {}
        self._kept: Connection | None = None
        self._keeping = threading.Lock()
        self._together: dict[Any, GroupCommit[Any, Any]] = {}

    def _engine(self, connections: int) -> Engine:
        how: dict[str, Any] = {
            "pool_size": connections,
            "max_overflow": 0,
            "pool_timeout": self._patience,
            "pool_use_lifo": True,
            "hide_parameters": True,  # an error's text must not hold a patient's details
        }
        if not self.is_sqlite:
            from relay.ledger import postgresql

            return postgresql.engine(self.url, self._patience, **how)
        Path(self.url.database or "").parent.mkdir(parents=True, exist_ok=True)
        # Half for our own queue, half for locks that others hold on the file.
        arguments = {"timeout": self._patience / 2, "check_same_thread": False}
        engine = sa.create_engine(self.url, connect_args=arguments, **how)
        sa.event.listen(engine, "do_connect", _keep_private)
        sa.event.listen(engine, "connect", _tune_sqlite)
        return engine

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a connection for queries. Raises LedgerUnavailable."""
        with _named_errors(), self.engine.connect() as connection:
            yield connection
            # Else it would end in a rollback, after which psycopg forgets its prepared statements.
            connection.commit()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction, committed at the end. Raises LedgerUnavailable."""
        with _named_errors(), self._turn(), self.engine.begin() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    def transact(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kw: P.kwargs
    ) -> T:
        """Return the result of `work`, run in one transaction. Raises LedgerUnavailable.

        If the database ends the transaction in favour of another (a deadlock, a serialization
        failure), `work` runs again at once: so it may change nothing but the ledger.
        """
        for tries_left in reversed(range(TRIES)):
            try:
                with self.write() as connection:
                    return work(connection, *args, **kw)
            except LedgerUnavailable as error:
                if not (tries_left and is_contended(error.__cause__)):
                    raise
        raise AssertionError("the last try returns or raises")

    def in_turns(self, found: sa.Select[Any], change: Change, ends: float = math.inf) -> int:
        """Call `change` with the first column of the rows that a query finds, some at a time, each
        turn in a transaction of its own, so that no statement takes long and nobody waits long;
        return how many rows were done by `ends` on the monotonic clock. Raises LedgerUnavailable.

        The query must not find changed rows again. Rows that another transaction has locked are
        skipped, and if there are no rows nobody is locked out.
        """

        def work(connection: Connection) -> int:
            rows = found.selected_columns[0].table
            turn = found.limit(ROWS).with_for_update(skip_locked=True, of=rows)
            ids = list(connection.execute(turn).scalars())
            if ids:
                change(connection, ids)
            return len(ids)

        done = 0
        with self.read() as connection:
            has_more = connection.execute(found.limit(1)).first() is not None
        while has_more:
            done += (changed := self.transact(work))
            has_more = changed == ROWS and time.monotonic() < ends
        return done

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Queue SQLite's writers here: its own wait sleeps, which costs up to 400 ms."""
        if self._lock_path is None:
            yield
            return
        ends = time.monotonic() + self._patience / 2
        if not self._lock.acquire(timeout=self._patience / 2):
            raise LedgerUnavailable("the ledger is locked")
        try:
            with self._lock_path.open("w") as file:
                lock_file(file, ends)
                yield
        except OSError as error:
            raise LedgerUnavailable("the ledger cannot be written") from error
        finally:
            self._lock.release()

    def close(self) -> None:
        """Close the connections."""
        if self._kept:
            self._kept.close()
            self._kept = None
        self.engine.dispose()

    def run(self, statement: Prepared, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Run a statement in its own transaction; return its rows. Raises LedgerUnavailable.

        It has its own connection in autocommit, which costs a third of `write`. It is tried once
        more if the connection was lost, or the database ended it in favour of another; not if the
        database was silent. So the statement must be idempotent.
        """
        errors = self.engine.dialect.loaded_dbapi.Error
        for last in (False, True):
            with _named_errors(), self._turn(), self._keeping:
                kept, self._kept = self._kept or self._autocommitting(), None
                session: Any = kept.connection.driver_connection
                try:
                    rows = statement.execute(session, parameters)
                except errors as error:
                    lost = not self.is_sqlite and session.closed and not session.is_silent
                    kept.invalidate()
                    kept.close()
                    if last or not (lost or is_contended(error)):
                        raise LedgerUnavailable(f"the ledger refused: {why_not(error)}") from error
                    continue
                self._kept = kept
                return rows
        raise AssertionError("the second try returns or raises")

    def together(self, work: Callable[[Database, Sequence[Any]], Sequence[Any]], **how: Any) -> Any:
        """Return this database's one GroupCommit for `work`, made at the first call."""
        if work not in self._together:
            with self._keeping:
                gathered = GroupCommit(partial(work, self), patience=2 * self._patience, **how)
                self._together.setdefault(work, gathered)
        return self._together[work]

    def prepared(self, build: Callable[..., sa.Executable], *arguments: Any) -> Prepared:
        """The statement that `build` makes for this dialect and `arguments`, compiled once."""
        key = (build, *arguments)
        if key not in self._prepared:
            dialect = self.engine.dialect
            self._prepared[key] = Prepared(build(dialect.name, *arguments), dialect)
        return self._prepared[key]

    def _autocommitting(self) -> Connection:
        return self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")


# https://www.postgresql.org/docs/current/errcodes-appendix.html: serialization_failure,
# deadlock_detected. The work itself is sound: another transaction came first.
_CONTENDED = ("40001", "40P01")
TRIES = 5


def is_contended(error: BaseException | None) -> bool:
    """Whether the database ended a transaction in favour of another."""
    return getattr(getattr(error, "orig", error), "sqlstate", None) in _CONTENDED


def lock_file(file: IO[str], ends: float) -> None:
    """Lock a file, waiting until `ends` on the monotonic clock: flock alone would wait for ever."""
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > ends:
                raise LedgerUnavailable("the ledger is locked") from None
        time.sleep(0.0003)


def _keep_private(_dialect: Any, _record: Any, arguments: Sequence[str], _options: Any) -> None:
    """Let only its owner read a SQLite file and the files beside it: SQLite gives those the rights
    of the file. If Relay may not change the rights, somebody else manages them.

    An existing file is not opened: closing it would drop this process's locks on it, and another
    process that ends would then remove the log that this one still writes to
    (https://www.sqlite.org/howtocorrupt.html, 2.2).
    """
    with suppress(OSError):
        os.close(os.open(arguments[0], os.O_CREAT | os.O_EXCL, 0o600))
    for end in ("", ".lock", "-wal", "-shm"):
        with suppress(OSError):
            beside = Path(f"{arguments[0]}{end}")
            if (mode := beside.stat().st_mode) & 0o077:
                beside.chmod(mode & 0o700)


def _tune_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # BEGIN is ours: sqlite3 would start a deferred one
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


# An error of the database or the connection to it → its meaning, and what to write.
_MEANINGS = {
    "password authentication failed": "it refuses the user or the password that DATABASE_URL has",
    "no password supplied": "it wants a password. Write postgres://user:password@host/database",
    "no encryption": "it requires TLS. Add ?sslmode=require to the end of DATABASE_URL",
    "no pg_hba.conf entry": "it lets nobody in from here: see its pg_hba.conf",
    "certificate verify failed": "Relay does not trust its certificate. Name the chain with"
    " ?sslrootcert=",
    "server does not support ssl": "it does not speak TLS. Take sslmode out of DATABASE_URL",
    "invalid connection option": "DATABASE_URL has an option after its ? that PostgreSQL does not"
    " know, such as pgbouncer=true or schema=public. Remove it",
    "invalid sslmode": "sslmode in DATABASE_URL is not valid. Write ?sslmode=require",
    'fatal:  role "': "it does not know the user in DATABASE_URL",
    'fatal:  database "': "it does not know the database in DATABASE_URL",
    "failed to resolve host": "there is no host of that name",
    "could not translate host": "there is no host of that name",
    "name or service not known": "there is no host of that name",
    "connection refused": "nothing answers at the host and port that DATABASE_URL has",
    "too many": "it has no connection left",
    "connection slots": "it has no connection left",
    "queuepool limit": "all connections that Relay may have to it are in use",
    "timeout expired": "it does not answer in time",
    "timed out": "it does not answer in time",
}


def why_not(error: BaseException | None) -> str:
    """Why the database cannot be used, and what to write; without its address or password."""
    return meaning(error, _MEANINGS)


@contextmanager
def _named_errors() -> Iterator[None]:
    try:
        yield
    except DataError:
        raise  # a value that does not fit: our fault, and another try would not help
    except DBAPIError as error:
        raise LedgerUnavailable(f"the ledger refused: {why_not(error.orig)}") from error
    except SQLAlchemyError as error:
        raise LedgerUnavailable(f"the ledger is out of reach: {why_not(error)}") from error


def ago(interval: timedelta) -> now:
    """SQL for the database's clock minus `interval`."""
    return now(-interval.total_seconds())


def leasing(moment: sa.Column[Any], *is_due: sa.ColumnElement[bool]) -> sa.Update:
    """Build the statement that leases up to `most` due rows, the earliest `moment` first, by
    putting `moment` off for `lease` seconds; it skips rows that another worker is taking. It runs
    all the time, so callers build it once.
    """
    table: Any = moment.table
    rows = (
        sa.select(table.c.id)
        .where(*is_due)
        .order_by(moment)
        .limit(sa.bindparam("most", type_=sa.Integer))
        .with_for_update(skip_locked=True)
        .cte("due")  # as a plain subquery PostgreSQL may run it again, and lease too many
    )
    leased: sa.Update = table.update().where(table.c.id.in_(sa.select(rows.c.id)), *is_due)
    return leased.values({moment: now(sa.bindparam("lease"))})


def urgent_first(
    dialect: str,
    columns: Sequence[sa.Column[Any]],
    is_waiting: Sequence[sa.ColumnElement[bool]],
    moment: sa.Column[Any],
    *also_where: sa.ColumnElement[bool],
) -> sa.Select[Any]:
    """Build a query for up to `most` waiting rows whose `moment` has come, urgent ones first; it
    skips rows that another worker is taking.

    PostgreSQL is asked for each urgency separately: the index by urgency and moment then finds the
    due rows directly, instead of reading past all that are not due yet.
    """
    urgency = moment.table.c.urgency
    order = (urgency.desc(), moment)
    due = (
        sa.select(*columns)
        .where(*is_waiting, moment <= now(), *also_where)
        .limit(sa.bindparam("most", type_=sa.Integer))
        .with_for_update(skip_locked=True)
    )
    if dialect == "sqlite":
        return due.order_by(*order)
    highest = sa.select(sa.func.max(urgency).label("urgency")).where(*is_waiting)
    levels = highest.cte("levels", recursive=True)
    lower = highest.where(urgency < levels.c.urgency).correlate(levels).scalar_subquery()
    levels = levels.union_all(sa.select(lower).where(levels.c.urgency.is_not(None)))
    each = due.add_columns(moment.label("moment")).where(urgency == levels.c.urgency)
    rows = each.order_by(moment).lateral()
    return (
        sa.select(*(rows.c[column.name] for column in columns))
        .join_from(levels, rows, sa.true())
        .order_by(levels.c.urgency.desc(), rows.c.moment)
        .limit(sa.bindparam("most", type_=sa.Integer))
    )


def new_id(prefix: str) -> str:
    """Return an id that sorts by time: 'evt_' and 28 hex digits, the last 13 of them random.

    Milliseconds, then 1/4,096 of one: two posts in a millisecond keep their order
    (https://www.rfc-editor.org/rfc/rfc9562#section-6.2, method 3).
    """
    milliseconds, nanoseconds = divmod(time_ns(), 1_000_000)
    fraction = nanoseconds * 4096 // 1_000_000
    return f"{prefix}_{milliseconds:012x}{fraction:03x}{secrets.randbits(52):013x}"


def first_id(prefix: str, moment: datetime) -> str:
    """The lowest possible id from `moment` on: the primary key then finds recent rows."""
    return f"{prefix}_{max(0, int(moment.timestamp() * 1000)):012x}"
