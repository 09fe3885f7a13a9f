"""POST /webhooks/lab in trouble: 503 while the ledger is away, 200 whatever Redis does."""

from __future__ import annotations

import fcntl
import socket
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from relay.config.settings import Settings
from relay.ledger.database import Database
from relay.ledger.schema import events
from tests.conftest import DATABASES
from tests.test_webhooks import BAD_DATA, LARGEST, SHIPPED, padded

Fault = Callable[[Database], AbstractContextManager[None]]


def _path(db: Database) -> Path:
    return Path(db.url.database or "")


def _on_connect(db: Database, *statements: str) -> None:
    """Have the app's own connections start with these."""

    @sa.event.listens_for(db.engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


@contextmanager
def corrupt(db: Database) -> Iterator[None]:
    """SQLite's file is something else."""
    good = _path(db).read_bytes()
    _path(db).write_bytes(b"not a database, " * 1024)
    yield
    _path(db).write_bytes(good)


@contextmanager
def locked_by_sqlite(db: Database) -> Iterator[None]:
    """Another program is in the middle of a write."""
    other = sqlite3.connect(_path(db), isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    yield
    other.execute("ROLLBACK")
    other.close()


@contextmanager
def locked_by_relay(db: Database) -> Iterator[None]:
    """Another process of ours has its turn at writing and was stopped in it."""
    with Path(f"{_path(db)}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def read_only_sqlite(db: Database) -> Iterator[None]:
    """A write version that SQLite does not know makes a file read-only, for root too."""
    _patch(_path(db), b"\x03")
    yield
    db.engine.dispose()
    _patch(_path(db), b"\x02")


def _patch(path: Path, write_version: bytes) -> None:
    """https://sqlite.org/fileformat.html#file_format_version_numbers"""
    with path.open("r+b") as file:
        file.seek(18)
        file.write(write_version)


@contextmanager
def full_sqlite(db: Database) -> Iterator[None]:
    """There is no page left, as on a full disk."""
    _on_connect(db, "PRAGMA max_page_count = 1")
    yield


@contextmanager
def empty_sqlite(db: Database) -> Iterator[None]:
    """The file was never migrated."""
    for path in _path(db).parent.glob(f"{_path(db).name}*"):
        path.unlink()
    yield


@contextmanager
def locked_postgresql(db: Database) -> Iterator[None]:
    """Somebody holds the tables."""
    other = sa.create_engine(db.url)
    with other.begin() as connection:
        connection.execute(sa.text("LOCK TABLE events, quarantine IN ACCESS EXCLUSIVE MODE"))
        yield
    other.dispose()


@contextmanager
def silent_postgresql(db: Database) -> Iterator[None]:
    """No limit of the server's holds, as while its disk hangs in a commit."""
    _on_connect(db, "SET statement_timeout = 0", "SET lock_timeout = 0")
    with locked_postgresql(db):
        yield


@contextmanager
def read_only_postgresql(db: Database) -> Iterator[None]:
    """The server takes no writes, as during a failover."""
    _on_connect(db, "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
    yield


@contextmanager
def empty_postgresql(db: Database) -> Iterator[None]:
    """The database has none of our tables."""
    _on_connect(db, "SET search_path TO nowhere")
    yield


@contextmanager
def out_of_connections(db: Database) -> Iterator[None]:
    """All connections are in use."""
    with ExitStack() as stack:
        for _ in range(db.engine.pool.size()):  # type: ignore[attr-defined]
            stack.enter_context(db.engine.connect())
        yield


FAULTS: dict[str, list[Fault]] = {
    "sqlite": [
        corrupt,
        locked_by_sqlite,
        locked_by_relay,
        read_only_sqlite,
        full_sqlite,
        empty_sqlite,
        out_of_connections,
    ],
    "postgresql": [
        locked_postgresql,
        silent_postgresql,
        read_only_postgresql,
        empty_postgresql,
        out_of_connections,
    ],
}
PASSING = (corrupt, locked_by_sqlite, locked_by_relay, locked_postgresql, out_of_connections)


def shows_try_again(response: Any) -> None:
    """It is 503, in JSON, and says when to come back."""
    assert response.status_code == 503
    assert response.json["error"]
    assert int(response.headers["Retry-After"]) > 0


@pytest.fixture
def app_db(client: Any) -> Database:
    """The ledger as the app has it open."""
    db: Database = client.application.extensions["relay"].db
    return db


@pytest.mark.parametrize(
    ("ledger_url", "fault"),
    [(kind, fault) for kind in DATABASES for fault in FAULTS[kind]],
    indirect=["ledger_url"],
)
def test_ledger_in_trouble_is_503(fault: Fault, client: Any, app_db: Database) -> None:
    """A ledger that takes nothing is 503 and Retry-After, and never a wait without end."""
    with ThreadPoolExecutor(1) as pool, fault(app_db):
        waiting = pool.submit(client.post, "/webhooks/lab", data=padded(LARGEST))
        shows_try_again(waiting.result(timeout=20))
    if fault in PASSING:
        assert client.post("/webhooks/lab", data=padded(LARGEST)).json["status"] == "accepted"


def test_refused_body_that_cannot_be_kept_is_503(client: Any, app_db: Database) -> None:
    """A bad body is refused for good only once it is in quarantine; until then the lab keeps it."""
    with out_of_connections(app_db):
        shows_try_again(client.post("/webhooks/lab", data=BAD_DATA))
    assert client.post("/webhooks/lab", data=BAD_DATA).status_code == 422


@pytest.fixture(params=["refuses", "hangs"])
def deaf(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a server that refuses connections, or takes them and never says a word."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if request.param == "hangs":
            server.listen(16)
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
def test_database_server_out_of_reach_is_503(
    deaf: str, make_client: Callable[[Settings], Any], settings: Settings, capsys: Any
) -> None:
    """A server that is down or hangs is 503; neither answer nor log says more than that."""
    url = f"postgresql+psycopg://relay:hunter2@{deaf}/relay"
    response = make_client(replace(settings, database_url=url)).post("/webhooks/lab", data=SHIPPED)
    shows_try_again(response)
    told = response.text + capsys.readouterr().out
    assert "ledger unavailable" in told
    for secret in ("hunter2", deaf, "e23e2d33"):
        assert secret not in told


def test_redis_is_never_the_labs_problem(
    deaf: str, make_client: Callable[[Settings], Any], settings: Settings, db: Database
) -> None:
    """With a Redis that is down or hangs the event is committed and the answer is 200."""
    client = make_client(replace(settings, redis_url=f"redis://{deaf}/0"))
    bodies = (SHIPPED, SHIPPED, b'{"event": "invoice.paid", "data": {}}')
    answers = [client.post("/webhooks/lab", data=body) for body in bodies]
    told = [(answer.status_code, answer.json["status"]) for answer in answers]
    assert told == [(200, "accepted"), (200, "duplicate"), (200, "unrouted")]
    with db.read() as connection:
        names = connection.execute(sa.select(events.c.name)).scalars().all()
    assert sorted(names) == ["invoice.paid", "order.shipped"]
