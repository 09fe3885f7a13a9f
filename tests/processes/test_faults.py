"""The servers' own trouble, seen from outside: real web and worker processes go through it."""

from __future__ import annotations

import sqlite3
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from twilio.request_validator import RequestValidator

from relay.lab import samples
from relay.ledger.database import Database
from relay.ledger.schema import heartbeats
from tests.conftest import DATABASES, ROOT
from tests.processes.harness import Processes, RedisServer, eventually, order
from tests.rows import messages, rows, unfinished
from tests.standins import ProviderStandIn, twilio_error
from tests.test_http_client_tls import tls
from tests.test_queue_tls import self_signed

__all__ = ["self_signed", "tls"]  # fixtures

pytestmark = [pytest.mark.slow, pytest.mark.long]
one_database = pytest.mark.parametrize("ledger_url", DATABASES[-1:], indirect=True)
on_postgresql = pytest.mark.parametrize(
    "ledger_url",
    [
        pytest.param(
            "postgresql",
            marks=pytest.mark.skipif("postgresql" not in DATABASES, reason="needs PostgreSQL"),
        )
    ],
    indirect=True,
)


def refused_within(processes: Processes, seconds: float) -> bool:
    """Whether the next post is refused with 503 and a time to come back, fast enough."""
    began = time.monotonic()
    answer = processes.post(order())
    assert time.monotonic() - began < seconds
    assert answer.status in (200, 503)
    return answer.status == 503 and int(answer.headers["Retry-After"]) > 0


def survives(
    processes: Processes, twilio: ProviderStandIn, sick: Callable[[], Any], well: Callable[[], Any]
) -> None:
    """While the ledger is sick posts are refused fast; then the same processes go on."""
    assert processes.post(order()).status == 200
    sick()
    try:
        for _ in range(3):
            assert refused_within(processes, 3.0)
    finally:
        well()
    eventually(lambda: processes.post(order()).status == 200)
    eventually(processes.ready)  # which asserts that every process lives
    eventually(lambda: len(twilio.accepted) >= 2)


def test_a_locked_ledger(running: Processes, twilio: ProviderStandIn, db: Database) -> None:
    """Somebody holds a lock on the ledger: 503 within 3 s, and by itself again after (8)."""
    held: list[Any] = []

    def lock() -> None:
        if db.is_sqlite:
            held.append(sqlite3.connect(str(db.url.database), isolation_level=None))
            held[0].execute("PRAGMA busy_timeout = 5000")
            held[0].execute("BEGIN EXCLUSIVE")
        else:
            held.append(db.engine.connect())
            held[0].execute(sa.text("LOCK TABLE events IN ACCESS EXCLUSIVE MODE"))

    survives(running, twilio, lock, lambda: [one.close() for one in held])


@on_postgresql
def test_a_read_only_ledger(running: Processes, twilio: ProviderStandIn, db: Database) -> None:
    """A database that fails over to a copy that cannot be written: 503, then on again (9)."""
    name = db.url.database

    def read_only(how: str) -> None:
        with autocommit(db) as admin:
            admin.execute(
                sa.text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = {how}')
            )
            _cut_off(admin, "relay")

    survives(running, twilio, lambda: read_only("on"), lambda: read_only("off"))


@on_postgresql
def test_a_ledger_without_connections(
    processes: Processes, twilio: ProviderStandIn, db: Database
) -> None:
    """The database takes no more connections of ours: 503 within 3 s, then on again (10)."""
    with autocommit(db) as admin:
        admin.execute(sa.text("DROP ROLE IF EXISTS relay_app"))
        admin.execute(sa.text(f'CREATE ROLE relay_app LOGIN IN ROLE "{db.url.username}"'))
    processes.environ["DATABASE_URL"] = db.url.set(username="relay_app").render_as_string(
        hide_password=False
    )
    processes.start("web")
    processes.start("worker")
    eventually(processes.ready)

    def allow(connections: int) -> None:
        with autocommit(db) as admin:
            admin.execute(sa.text(f"ALTER ROLE relay_app CONNECTION LIMIT {connections}"))
            _cut_off(admin, "relay_app")

    survives(processes, twilio, lambda: allow(0), lambda: allow(-1))
    processes.close()
    with autocommit(db) as admin:
        admin.execute(sa.text("DROP ROLE relay_app"))


@contextmanager
def autocommit(db: Database) -> Iterator[sa.Connection]:
    """An administrator's connection."""
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("SET default_transaction_read_only = off"))
        yield connection


def _cut_off(admin: sa.Connection, user: str) -> None:
    """End the connections of a user to this database, but for this one."""
    query = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE usename = :user AND datname = current_database() AND pid <> pg_backend_pid()"
    )
    admin.execute(sa.text(query), {"user": user})


@one_database
@pytest.mark.parametrize(
    "setting", [("maxmemory", "1"), ("maxclients", "1")], ids=["memory", "connections"]
)
def test_a_redis_that_has_no_room(
    running: Processes, queue: RedisServer, twilio: ProviderStandIn, setting: tuple[str, str]
) -> None:
    """Redis without memory or connections: 200, texts go out, and /readyz names it (23, 25)."""
    before = str(queue.client.config_get(setting[0])[setting[0]])
    queue.client.config_set(*setting)
    if setting[0] == "maxclients":
        queue.client.client_kill_filter(_type="normal", skipme=True)
        queue.client.client_kill_filter(_type="pubsub", skipme=True)
    try:
        for _ in range(2):
            assert running.post(order()).status == 200
        eventually(lambda: len(twilio.accepted) == 2)
        eventually(lambda: "redis" in running.ask("/readyz").get("down", []))
        assert running.ask("/readyz")["down"] == ["redis"]
    finally:
        queue.client.config_set(setting[0], before)
    eventually(running.ready)


@one_database
def test_a_redis_with_a_certificate_of_its_own(processes: Processes, self_signed: str) -> None:
    """REDIS_TLS_VERIFY=false takes Heroku's self-signed chain; without it Redis is down (26)."""
    processes.environ["REDIS_URL"] = self_signed
    web = processes.start("web")
    eventually(lambda: processes.ready("/healthz"))
    assert "redis" in processes.ask("/readyz")["down"]
    assert processes.post(order()).status == 200
    web.terminate()
    web.wait(30)
    processes.forget(web)
    processes.environ["REDIS_TLS_VERIFY"] = "false"
    processes.start("web")
    processes.start("worker")
    eventually(processes.ready)


SKEW = """
import datetime, os, time
real, shift = datetime.datetime, float(os.environ["SKEW"])
class Skewed(real):
    @classmethod
    def now(cls, tz=None):
        return real.now(tz) + datetime.timedelta(seconds=shift)
datetime.datetime = Skewed
clock = time.time
time.time = lambda: clock() + shift
"""


@one_database
def test_workers_whose_clocks_differ(
    processes: Processes, twilio: ProviderStandIn, db: Database, tmp_path: Path
) -> None:
    """One worker's clock is five minutes fast, one's slow: each message goes out once (29)."""
    (tmp_path / "skew").mkdir()
    (tmp_path / "skew" / "sitecustomize.py").write_text(textwrap.dedent(SKEW), "utf-8")
    processes.start("web")
    for shift in ("300", "-300"):
        processes.environ |= {"PYTHONPATH": str(tmp_path / "skew"), "SKEW": shift}
        processes.start("worker")
    eventually(processes.ready)
    eventually(lambda: len(rows(db, heartbeats)) == 2)
    for _ in range(20):
        assert processes.post(order()).status == 200
    eventually(lambda: len(messages(db, limit=100)) == 40)
    eventually(lambda: unfinished(db) == 0)
    assert {row["status"] for row in messages(db, limit=100)} == {"sent"}
    assert len(twilio.accepted) == 20


@one_database
def test_a_template_that_breaks(
    processes: Processes, twilio: ProviderStandIn, sendgrid: ProviderStandIn, db: Database
) -> None:
    """A template that fails as it is rendered stops its own message, and no other (30)."""
    folder = Path(processes.environ["HOME"], "templates")
    _copy(ROOT / "templates", folder)
    known = (samples.full().order or {})["id"]  # what `check` tries it with
    (folder / "kit_shipped" / "sms.txt").write_text(f"{{{{ 1 // (order.id == '{known}') }}}}")
    processes.environ["RELAY_TEMPLATES"] = str(folder)
    processes.start("web")
    processes.start("worker")
    eventually(processes.ready)
    for _ in range(3):
        assert processes.post(order()).status == 200
    eventually(lambda: len(sendgrid.accepted) >= 3 and unfinished(db) == 0)
    told = [(row["channel"], row["status"]) for row in messages(db, limit=100)]
    assert told.count(("sms", "technical-failure")) == 3
    assert told.count(("email", "sent")) >= 3
    assert twilio.accepted == []


def _copy(source: Path, target: Path) -> None:
    for path in source.rglob("*"):
        if path.is_file():
            to = target / path.relative_to(source)
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(path.read_bytes())


@one_database
def test_no_receipt_in_72_hours(
    processes: Processes, twilio: ProviderStandIn, sendgrid: ProviderStandIn, db: Database
) -> None:
    """Nobody tells: temporary-failure; a `delivered` that is signed and late still counts (38)."""
    public = "https://relay.example"
    processes.environ |= {"PUBLIC_URL": public, "RELAY_ENV": "development"}
    processes.environ |= {"RELAY_HASTE": "50000"}  # 72 hours in 5 seconds
    sendgrid.always(twilio_error(400, 21211))  # this is about the text
    processes.start("web")
    processes.start("worker")
    eventually(processes.ready)
    assert processes.post(order()).status == 200

    def text() -> str:
        found = [row for row in messages(db) if row["channel"] == "sms"]
        return str(found[-1]["status"]) if found else ""

    eventually(lambda: text() == "temporary-failure", 60)
    callback = twilio.accepted[0].form["StatusCallback"]
    told = {"MessageSid": f"SM{1:032x}", "MessageStatus": "delivered"}
    signature = RequestValidator("twilio-token").compute_signature(callback, told)
    path = callback.removeprefix(public).partition("#")[0]
    assert processes.tell(path, told, {"X-Twilio-Signature": "wrong"}) == 403
    assert processes.tell(path, told, {"X-Twilio-Signature": signature}) == 200
    assert text() == "delivered"
