"""A session with PostgreSQL: its time limits, and whether it is ours alone or a pooler's.

PgBouncer in transaction mode gives each transaction any free session of the server. It refuses the
settings that we ask for when we connect, or silently ignores them, and one client would run what
another has prepared. So there each transaction asks for the settings, and none prepares.
https://www.pgbouncer.org/features.html
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg.abc import RV, PQGen
from psycopg.pq import TransactionStatus
from sqlalchemy.engine import URL, Engine

# These detect a network that swallows everything, which the server's own time limits cannot.
_KEEPALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
_KEEPALIVE |= {"tcp_user_timeout": 20_000}
_REFUSED = "unsupported startup parameter"  # PgBouncer's answer to `options`
_AUTOCOMMIT = "AUTOCOMMIT"
_OWN = "SELECT pg_backend_pid(), current_setting('relay.session', true)"


class Session(psycopg.Connection[Any]):
    """A connection on which no call waits longer than `limit` seconds, even if a disk hangs in a
    commit, or a pooler has no free session.
    """

    limit: float | None = None
    is_silent = False  # given up after the limit: it may still do what it was asked
    begins = ""  # for a shared one: how a transaction begins

    @classmethod
    def open(cls, arguments: dict[str, Any], begins: str, limit: float) -> Session:
        """Connect, and find out whether the session is ours alone."""
        try:
            session = cls.connect(**arguments)
        except psycopg.OperationalError as error:
            if _REFUSED not in str(error):
                raise
            session = cls.connect(**{**arguments, "options": ""})
        session.limit, session.autocommit = limit, True
        if session.execute(_OWN).fetchone() == (session.info.backend_pid, "own"):
            session.autocommit = False
        else:
            session.prepare_threshold, session.begins = None, begins
        return session

    def run(self, sql: Any, parameters: Any) -> list[Any]:
        """Run a statement, prepared if possible, in a transaction of its own; return its rows. The
        session is in autocommit.
        """
        if not self.begins:
            return self.execute(sql, parameters, prepare=True).fetchall()
        self.execute(self.begins)
        rows = self.execute(sql, parameters).fetchall()
        self.commit()
        return rows

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for any call. Raises OperationalError, and hangs up, after `limit` seconds."""
        try:
            return super().wait(gen, interval, self.limit if timeout is None else timeout)
        except psycopg.OperationalError:
            if self.info.transaction_status == TransactionStatus.ACTIVE:
                self.is_silent = True
                self.close()
            raise


def engine(url: URL, patience: float, **how: Any) -> Engine:
    """An engine whose sessions wait `patience` seconds for a lock, and little longer otherwise."""
    milliseconds, limit = int(patience * 1000), patience * 1.5
    limits = {
        "statement_timeout": milliseconds * 5 // 4,
        "lock_timeout": milliseconds,
        "idle_in_transaction_session_timeout": 60_000,
    }
    asked = {**limits, "relay.session": "own"}
    arguments = {
        "connect_timeout": 2,
        **_KEEPALIVE,
        "options": " ".join(f"-c {name}={value}" for name, value in asked.items()),
        "application_name": "relay",
    }
    begins = "; ".join(["BEGIN", *(f"SET LOCAL {name} = {limits[name]}" for name in limits)])
    made = sa.create_engine(url, connect_args=arguments, **how)

    def connect(_dialect: Any, _record: Any, _given: Any, arguments: dict[str, Any]) -> Session:
        return Session.open(arguments, begins, limit)

    def begin(connection: sa.Connection) -> None:
        session: Any = connection.connection.driver_connection
        session.limit = limit
        is_alone = connection.get_execution_options().get("isolation_level") == _AUTOCOMMIT
        if session.begins and not is_alone:
            connection.exec_driver_sql(session.begins)

    sa.event.listen(made, "do_connect", connect)
    sa.event.listen(made, "begin", begin)
    sa.event.listen(made, "do_executemany", _one_by_one)
    return made


_FEW = 4  # rows up to which a pipeline costs more than it saves


def _one_by_one(cursor: Any, statement: str, rows: Sequence[Any], _context: Any) -> bool:
    """Run a statement for a few rows without a pipeline; return whether it did."""
    if is_few := len(rows) <= _FEW:
        for row in rows:
            cursor.execute(statement, row)
    return is_few


def lift_limits(connection: sa.Connection) -> None:
    """Let this transaction take as long as it needs; its waits for locks stay limited."""
    session: Any = connection.connection.driver_connection
    session.limit = None
    for name in ("statement_timeout", "idle_in_transaction_session_timeout"):
        connection.exec_driver_sql(f"SET LOCAL {name} = 0")


@contextmanager
def unlimited(engine: Engine) -> Iterator[sa.Connection]:
    """Yield a connection in autocommit without time limits, for work outside a transaction."""
    with engine.connect() as connection:
        connection.execution_options(isolation_level=_AUTOCOMMIT)
        try:
            with connection.begin():
                session: Any = connection.connection.driver_connection
                session.limit = None
                if not session.begins:  # otherwise the server's own limits apply
                    connection.exec_driver_sql("SET statement_timeout = 0; SET lock_timeout = 0")
                yield connection
        finally:
            connection.invalidate()
