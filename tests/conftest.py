"""What the suite runs on: real SQLite, PostgreSQL and Redis; stand-ins only beyond the wire.

TEST_DATABASE_URL and TEST_REDIS_URL name servers to run on besides the embedded defaults.
"""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
import structlog
from flask import Flask
from hypothesis import settings as hypothesis_settings
from jinja2 import BytecodeCache
from jinja2.bccache import Bucket
from redis import Redis
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from werkzeug.routing import Rule

from relay.config import check
from relay.config.loader import Config
from relay.config.loader import load as load_config
from relay.config.settings import Settings, database_url
from relay.dev import redis_server as dev_redis_server
from relay.errors import Problem
from relay.jobs.tasks import Jobs
from relay.ledger import migrate
from relay.ledger.database import Database
from relay.ledger.schema import metadata
from relay.messages import templates
from relay.messages.templates import Templates
from relay.staff import judging, trial
from relay.web import create_app
from relay.worker.pump import Pump
from tests.standins import LabStandIn, ProviderStandIn

ROOT = Path(__file__).parent.parent
SECRET = "the-labs-secret"
hypothesis_settings.register_profile("relay", deadline=None)  # the machine may be busy
hypothesis_settings.load_profile("relay")
PROCESS = os.environ.get("PYTEST_XDIST_WORKER", "")  # "gw0", "gw1"… where tests run side by side
DATABASES = ["sqlite", *(["postgresql"] if os.environ.get("TEST_DATABASE_URL") else [])]
# Ledgers are made by the thousand: in memory, where there is room for them.
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
if SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).free > 4e9:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(SHARED_MEMORY))
# For a test whose statements are run on each database by a neighbour of its: it needs only one.
one_database = pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
REDISES = ["embedded", *(["server"] if os.environ.get("TEST_REDIS_URL") else [])]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Each database goes with one Redis: no promise is about the pair; these start processes."""
    if len(DATABASES) == len(REDISES) > 1:
        pairs = [*zip(DATABASES, REDISES, strict=True)]
        wanted = ("ledger_url", "redis_server")
        given = {item: getattr(getattr(item, "callspec", None), "params", {}) for item in items}
        crossed = [
            item
            for item, params in given.items()
            if all(name in params for name in wanted)
            and tuple(params[name] for name in wanted) not in pairs
        ]
        config.hook.pytest_deselected(items=crossed)
        items[:] = [item for item in items if item not in {*crossed}]


def pytest_collection_finish() -> None:
    """The tests stay to the end: garbage is not looked for among them."""
    gc.collect()
    gc.freeze()


class Compiled(BytecodeCache):
    """What Jinja has compiled, in this process."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], Any] = {}

    def get_cache_key(self, name: str, filename: str | None = None) -> str:
        """By its name: each test has a folder of its own."""
        return name

    def load_bytecode(self, bucket: Bucket) -> None:
        """Of the same source only."""
        bucket.code = self.found.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Until the process ends."""
        self.found[bucket.key, bucket.checksum] = bucket.code


@pytest.fixture(scope="session", autouse=True)
def compiled_once() -> Iterator[None]:
    """Each template and each page is compiled once for all tests, not once a test."""
    make, cache = templates.environment, Compiled()

    def environment(*given: Any) -> Any:
        made = make(*given)
        made.bytecode_cache = cache
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(templates, "environment", environment)
        patch.setattr(Flask, "jinja_options", {"bytecode_cache": cache})
        yield


@pytest.fixture(scope="session", autouse=True)
def judged_once() -> Iterator[None]:
    """Our own templates, which no test edits, are judged once with a configuration by which nothing
    is wrong with them.
    """
    judge, fine = check.templates, set[str]()

    def judged(config: Config, loaded: Templates) -> list[Problem]:
        if loaded.folder != ROOT / "templates":
            return judge(config, loaded)
        own: Any = {"settings": None, "lines": {}}  # of each test
        key = repr((replace(config, **own), config.settings.public_url, config.settings.delivery))
        found = [] if key in fine else judge(config, loaded)
        if not found:
            fine.add(key)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check, "templates", judged)
        yield


@pytest.fixture(scope="session", autouse=True)
def addresses_compiled_late() -> Iterator[None]:
    """Werkzeug compiles two functions for each route of each app; few tests ask for any."""
    compiled = Rule._compile_builder

    def late(rule: Rule, append_unknown: bool = True) -> Callable[..., Any]:
        made: list[Callable[..., Any]] = []

        def build(self: Rule, **values: Any) -> Any:
            made[:] = made or [compiled(rule, append_unknown)]
            return made[0](self, **values)

        return build

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rule, "_compile_builder", late)
        yield


@pytest.fixture(scope="session", autouse=True)
def statements_compiled_once() -> Iterator[None]:
    """Each statement is compiled once for all ledgers of a database, not once a ledger."""
    make, compiled = sa.create_engine, sa.util.LRUCache(5000)

    def create_engine(*given: Any, **how: Any) -> sa.Engine:
        return make(*given, **how).execution_options(compiled_cache=compiled)

    with pytest.MonkeyPatch.context() as patch:
        for one in (SQLiteDialect_pysqlite, PGDialect_psycopg):
            patch.setattr(one, "__eq__", lambda mine, other: type(mine) is type(other))
            patch.setattr(one, "__hash__", lambda mine: hash(type(mine)))
        patch.setattr(sa, "create_engine", create_engine)
        yield


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """An edited file counts as whole at once: tests write files whole."""
    monkeypatch.setattr("relay.config.reload.SETTLED_SECONDS", 0.0)


@pytest.fixture(autouse=True)
def drafts_judged_here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process and at once, but for tests that are marked `by_processes`."""
    if request.node.get_closest_marker("by_processes") is None:
        monkeypatch.setattr(judging, "_by_a_process", judging.judge)
        monkeypatch.setattr(trial, "_in_background", trial.work)


@pytest.fixture(scope="session", autouse=True)
def late_lines() -> Iterator[None]:
    """A thread that a test has left behind may log once more, to a stream that is closed by then:
    such a line goes nowhere.
    """
    write = structlog.WriteLogger.msg

    def late(self: structlog.WriteLogger, message: str) -> None:
        with suppress(ValueError):
            write(self, message)

    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name, kept in vars(structlog.WriteLogger).items() if kept is write]:
            patch.setattr(structlog.WriteLogger, name, late)
        yield


@pytest.fixture(autouse=True)
def own_logs() -> Iterator[None]:
    """No test writes to the stream of one before it, which is closed by then."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite ledger, to be copied."""
    path = tmp_path_factory.mktemp("ledger") / "template.db"
    db = Database(f"sqlite:///{path}")
    migrate.upgrade(db)
    with db.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    return path


@pytest.fixture(scope="session")
def postgresql() -> str:
    """The migrated PostgreSQL ledger that TEST_DATABASE_URL names, one a process of tests."""
    url = sa.make_url(database_url(os.environ["TEST_DATABASE_URL"]))
    if PROCESS:
        own = f"{url.database}_{PROCESS}"
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(f'DROP DATABASE IF EXISTS "{own}" WITH (FORCE)')
            connection.exec_driver_sql(f'CREATE DATABASE "{own}"')
        engine.dispose()
        url = url.set(database=own)
    made = url.render_as_string(hide_password=False)
    db = Database(made, patience=30)
    migrate.upgrade(db)
    db.close()
    return made


@pytest.fixture(scope="session")
def emptying(postgresql: str) -> Iterator[sa.Engine]:
    """Keeps its connection: each new one is a process of the server's."""
    db = Database(postgresql, patience=30)
    yield db.engine
    db.close()


@pytest.fixture(params=DATABASES)
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty, migrated ledger: every test that asks for it runs on each database there is."""
    if request.param == "sqlite":
        path = tmp_path / "relay.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        return f"sqlite:///{path}"
    with request.getfixturevalue("emptying").begin() as connection:
        # TRUNCATE would make each index's file anew.
        tables = reversed(metadata.sorted_tables)
        emptied = "; ".join(f"DELETE FROM {table.name}" for table in tables)  # noqa: S608
        connection.exec_driver_sql(f"SET LOCAL relay.erases = 'yes'; {emptied}")
    return str(request.getfixturevalue("postgresql"))


@pytest.fixture
def db(ledger_url: str) -> Iterator[Database]:
    """The ledger, opened."""
    opened = Database(ledger_url, patience=5)
    yield opened
    opened.close()


@pytest.fixture(scope="session", params=REDISES)
def redis_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """A real Redis: an embedded one, and the one that TEST_REDIS_URL names."""
    if request.param == "server":
        url = urlsplit(os.environ["TEST_REDIS_URL"])
        number = int(url.path.strip("/") or 0) + int(PROCESS.removeprefix("gw") or 0)
        yield url._replace(path=f"/{number}").geturl()
        return
    with dev_redis_server.redis() as url:
        yield url


@pytest.fixture
def redis(redis_server: str) -> Iterator[Redis]:
    """A connection to an emptied Redis."""
    connection = Redis.from_url(redis_server)
    connection.flushdb()
    yield connection
    connection.close()


@pytest.fixture
def lab() -> Iterator[LabStandIn]:
    """The lab's API, answering any id in the documented shapes until told otherwise."""
    with LabStandIn(token="lab-token") as standin:
        yield standin


@pytest.fixture
def twilio() -> Iterator[ProviderStandIn]:
    """Twilio, keeping a list of what it accepted."""
    with ProviderStandIn.twilio() as standin:
        yield standin


@pytest.fixture
def sendgrid() -> Iterator[ProviderStandIn]:
    """SendGrid, keeping a list of what it accepted."""
    with ProviderStandIn.sendgrid() as standin:
        yield standin


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    """A copy of the default config.toml in which it is always time to send."""
    path = tmp_path / "config.toml"
    text = (ROOT / "config.toml").read_text("utf-8")
    path.write_text(text.replace('send_window = "08:00-20:00"', 'send_window = "always"'), "utf-8")
    return path


@pytest.fixture
def settings(ledger_url: str, lab: LabStandIn, config_file: Path) -> Settings:
    """Settings of a development copy: dry-run delivery, no queue, the stand-in lab."""
    return Settings(
        database_url=ledger_url,
        lab_api_url=lab.url,
        lab_api_token=lab.token,
        webhook_secrets=(SECRET,),
        development=True,
        config=config_file,
        templates=ROOT / "templates",
        admin_password="letmein",
        secret_key="tests",
    )


@pytest.fixture
def live(settings: Settings, twilio: ProviderStandIn, sendgrid: ProviderStandIn) -> Settings:
    """The same, delivering for real to the providers' stand-ins."""
    return replace(
        settings,
        delivery="live",
        twilio_account_sid="AC" + "0" * 32,
        twilio_auth_token="twilio-token",
        twilio_api_url=twilio.url,
        sendgrid_api_key="SG.key",
        sendgrid_api_url=sendgrid.url,
    )


@pytest.fixture
def make_client() -> Iterator[Callable[[Settings], Any]]:
    """Clients of web apps by some settings; they show the lab's secret with every request."""
    apps: list[Flask] = []

    def make(by: Settings) -> Any:
        apps.append(create_app(by))
        test_client = apps[-1].test_client()
        test_client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {SECRET}"
        return test_client

    yield make
    for app in apps:
        app.extensions["relay"].db.close()


@pytest.fixture
def client(settings: Settings, make_client: Callable[[Settings], Any]) -> Any:
    """A client of the web app."""
    return make_client(settings)


@pytest.fixture
def make_jobs(db: Database) -> Callable[[Settings], Jobs]:
    """The worker's work by some settings, on the test's ledger."""

    def make(by: Settings) -> Jobs:
        return Jobs(load_config(by), db)

    return make


@pytest.fixture
def config(settings: Settings) -> Config:
    """The default configuration, loaded."""
    return load_config(settings)


def drain(jobs: Jobs) -> int:
    """Work until nothing is due; how much was done."""
    pump = Pump(jobs)
    try:
        return pump.drain()
    finally:
        pump.stop()
