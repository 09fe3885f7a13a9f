"""What the platform asks: /healthz says that we serve, /readyz names what is down."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from relay.config.settings import Settings
from relay.dev import redis_server as dev_redis_server
from relay.ledger import workers
from relay.ledger.database import Database, ago
from relay.ledger.schema import heartbeats
from tests.rows import beat, of_revision


@pytest.fixture
def ready_settings(settings: Settings, db: Database) -> Settings:
    """Settings of development without a queue, under which everything is there, a worker too."""
    beat(db, "worker-1")
    return settings


@pytest.fixture
def ask(make_client: Callable[[Settings], Any]) -> Callable[[Settings], Any]:
    """The answer of /readyz by some settings."""
    return lambda by: make_client(by).get("/readyz")


def shows_down(response: Any, *names: str) -> None:
    """It is 503 and JSON, and names exactly these, each with its reason."""
    assert response.status_code == 503
    assert response.json["status"] == "not ready"
    assert response.json["down"] == sorted(names)
    assert set(response.json["reasons"]) == set(names)
    assert all(response.json["reasons"].values())


def test_healthz_is_200_while_the_process_serves(
    make_client: Callable[[Settings], Any], settings: Settings
) -> None:
    """With ledger and Redis away the process still serves, and is not restarted for it."""
    away = replace(
        settings, database_url=f"sqlite:///{settings.config}", redis_url="redis://127.0.0.1:1/0"
    )
    response = make_client(away).get("/healthz")
    assert (response.status_code, response.json) == (200, {"status": "ok"})


def test_ready_when_everything_is_there(
    ask: Any, ready_settings: Settings, redis_server: str, redis: Redis
) -> None:
    """With ledger, migrations, Redis, a worker and a good config it is 200."""
    response = ask(replace(ready_settings, redis_url=redis_server))
    assert response.status_code == 200
    assert response.json == {"status": "ready", "down": [], "reasons": {}}
    assert redis.keys("rq:*") == []


def test_anybody_may_ask(make_client: Callable[[Settings], Any], ready_settings: Settings) -> None:
    """The platform has no secret to show."""
    client = make_client(ready_settings)
    del client.environ_base["HTTP_AUTHORIZATION"]
    assert [client.get(path).status_code for path in ("/healthz", "/readyz")] == [200, 200]


def test_names_a_ledger_that_is_no_database(ask: Any, ready_settings: Settings) -> None:
    """A ledger out of reach is down, and with it all that is asked of it."""
    broken = replace(ready_settings, database_url=f"sqlite:///{ready_settings.config}")
    shows_down(ask(broken), "ledger", "migrations", "workers")


def test_names_a_ledger_that_refuses(ask: Any, ready_settings: Settings) -> None:
    """A database server that is not there is down."""
    broken = replace(ready_settings, database_url="postgresql+psycopg://relay@127.0.0.1:1/relay")
    shows_down(ask(broken), "ledger", "migrations", "workers")


def test_names_a_ledger_without_free_connections(
    make_client: Callable[[Settings], Any], ready_settings: Settings
) -> None:
    """A ledger whose connections are all in use is down until one is free."""
    client = make_client(ready_settings)
    engine = client.application.extensions["relay"].db.engine
    with ExitStack() as stack:
        for _ in range(engine.pool.size()):
            stack.enter_context(engine.connect())
        shows_down(client.get("/readyz"), "ledger", "migrations", "workers")
    assert client.get("/readyz").status_code == 200


def test_names_migrations_that_did_not_run(
    ask: Any, ready_settings: Settings, tmp_path: Path
) -> None:
    """A ledger that was never migrated is there, and says what to do."""
    response = ask(replace(ready_settings, database_url=f"sqlite:///{tmp_path}/empty.db"))
    assert response.status_code == 503
    assert "migrations" in response.json["down"]
    assert "ledger" not in response.json["down"]
    assert "flask relay upgrade" in response.json["reasons"]["migrations"]


def test_names_migrations_of_another_version(
    ask: Any, ready_settings: Settings, db: Database
) -> None:
    """A ledger of an older revision than this code's is not ready, until it is migrated."""
    with of_revision(db, "0000"):
        shows_down(ask(ready_settings), "migrations")
    assert ask(ready_settings).status_code == 200


def test_a_newer_ledger_is_not_down(ask: Any, ready_settings: Settings, db: Database) -> None:
    """While a release runs, or after it was rolled back, this code works on a later one's tables:
    migrations only add.
    """
    with of_revision(db, "9999"):
        assert ask(ready_settings).status_code == 200


@pytest.mark.parametrize("gone", ["never came", "signed off", "not seen for 100 s"])
def test_names_workers_when_none_is_there(
    gone: str, ask: Any, ready_settings: Settings, db: Database
) -> None:
    """Without a worker that was seen lately nothing is sent, and /readyz says so."""
    if gone == "not seen for 100 s":
        with db.write() as connection:
            connection.execute(heartbeats.update().values(seen_at=ago(timedelta(seconds=100))))
    else:
        with db.write() as connection:
            workers.stop_beating(connection, "worker-1")
    shows_down(ask(ready_settings), "workers")


def test_one_worker_of_two_is_enough(ask: Any, ready_settings: Settings, db: Database) -> None:
    """A worker that is replaced is missed by nobody."""
    beat(db, "worker-2")
    with db.write() as connection:
        workers.stop_beating(connection, "worker-1")
    assert ask(ready_settings).status_code == 200


@pytest.fixture(params=["refuses", "hangs", "nonsense"])
def no_redis(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a Redis that is down, hangs, or is none."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if request.param == "hangs":
            server.listen(16)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        yield address if request.param == "nonsense" else f"redis://{address}/0"


def test_names_redis_out_of_reach(no_redis: str, ask: Any, ready_settings: Settings) -> None:
    """A Redis that is down or hangs is named, and its address is not."""
    response = ask(replace(ready_settings, redis_url=no_redis))
    shows_down(response, "redis")
    assert "127.0.0.1" not in response.text


def test_names_redis_out_of_memory(ask: Any, ready_settings: Settings) -> None:
    """A Redis that answers but takes no more writes wakes nobody: it is down too."""
    with dev_redis_server.redis() as url, Redis.from_url(url) as connection:
        own = replace(ready_settings, redis_url=url)
        assert ask(own).status_code == 200
        connection.config_set("maxmemory-policy", "noeviction")
        connection.config_set("maxmemory", "1")
        shows_down(ask(own), "redis")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\n[clinic]", "\n[clinic"),
        ('\nname = "', '\nnmae = "'),
        ('template = "kit_shipped"', 'template = "kit_shippd"'),
    ],
    ids=["not TOML", "unknown key", "no such template"],
)
def test_names_a_config_that_broke_since_the_start(
    old: str, new: str, make_client: Callable[[Settings], Any], ready_settings: Settings
) -> None:
    """An edit that would not load is told before the next start fails on it, unquoted."""
    client = make_client(ready_settings)
    text = ready_settings.config.read_text("utf-8")
    assert text.count(old) == 1
    ready_settings.config.write_text(text.replace(old, new), "utf-8")
    response = client.get("/readyz")
    shows_down(response, "config")
    assert "flask relay check" in response.json["reasons"]["config"]
    ready_settings.config.write_text(text, "utf-8")
    assert client.get("/readyz").status_code == 200


def test_names_everything_at_once(ask: Any, ready_settings: Settings) -> None:
    """What is down is told together, not one after the other."""
    broken = replace(
        ready_settings,
        database_url="postgresql+psycopg://relay@127.0.0.1:1/relay",
        redis_url="redis://127.0.0.1:1/0",
        templates=Path("nowhere"),
    )
    shows_down(ask(broken), "ledger", "migrations", "workers", "redis", "config")
