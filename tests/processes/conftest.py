"""Web and worker as processes, between a lab and providers that are stand-ins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relay.ledger.database import Database
from tests.conftest import ROOT, SECRET
from tests.processes.harness import Processes, RedisServer, eventually
from tests.rows import messages
from tests.standins import LabStandIn, ProviderStandIn

Statuses = Callable[[], list[str]]


@pytest.fixture
def queue() -> Iterator[RedisServer]:
    """A Redis that the test may stop."""
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture
def processes(
    ledger_url: str,
    config_file: Path,
    lab: LabStandIn,
    twilio: ProviderStandIn,
    sendgrid: ProviderStandIn,
    queue: RedisServer,
    tmp_path: Path,
) -> Iterator[Processes]:
    """A live production Relay, not started yet."""
    environ = {
        "RELAY_ENV": "production",
        "RELAY_DELIVERY": "live",
        "RELAY_CONFIG": str(config_file),
        "RELAY_TEMPLATES": str(ROOT / "templates"),
        "DATABASE_URL": ledger_url,
        "REDIS_URL": queue.url,
        "LAB_API_URL": lab.url,
        "LAB_API_TOKEN": lab.token,
        "WEBHOOK_SECRET": SECRET,
        "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
        "TWILIO_AUTH_TOKEN": "twilio-token",
        "TWILIO_API_URL": twilio.url,
        "SENDGRID_API_KEY": "SG.key",
        "SENDGRID_API_URL": sendgrid.url,
    }
    made = Processes(environ, tmp_path)
    yield made
    made.close()


@pytest.fixture
def two_web_processes(processes: Processes) -> None:
    """As on a plan that has room for them; elsewhere one is enough."""
    processes.environ["WEB_CONCURRENCY"] = "2"


@pytest.fixture
def running(processes: Processes) -> Processes:
    """The same with a web process and a worker, both ready."""
    processes.start("web")
    processes.start("worker")
    eventually(processes.ready)
    return processes


@pytest.fixture
def texts(db: Database) -> Statuses:
    """The status of every SMS in the ledger, sorted."""
    return lambda: sorted(r["status"] for r in messages(db, limit=1000) if r["channel"] == "sms")
