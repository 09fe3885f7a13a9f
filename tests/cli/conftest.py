"""Commands run in this process, on the environment that a test names and nothing else."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from relay.cli import relay_group
from relay.config.settings import Settings
from relay.jobs.tasks import Jobs
from relay.lab import samples
from relay.ledger.database import Database
from tests.cli.contract import VARIABLES
from tests.conftest import ROOT, SECRET, drain
from tests.rows import messages
from tests.standins import LabStandIn, ProviderStandIn

Run = Callable[..., Result]
Rows = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def environ(ledger_url: str, lab: LabStandIn, config_file: Path) -> dict[str, str]:
    """The environment of a development copy, as `settings` are."""
    return {
        "RELAY_ENV": "development",
        "DATABASE_URL": ledger_url,
        "LAB_API_URL": lab.url,
        "LAB_API_TOKEN": lab.token,
        "WEBHOOK_SECRET": SECRET,
        "RELAY_CONFIG": str(config_file),
        "RELAY_TEMPLATES": str(ROOT / "templates"),
    }


# What of the example's a clinic puts its own for before it goes live.
OWN = {
    '"Example Clinic"': '"Harbour Clinic"',
    '"020 7946 0000"': '"020 3318 4470"',
    '"https://portal.example/results"': '"https://portal.harbour.clinic/results"',
    '"EXCLINIC"': '"HARBOUR"',
    '"Example Clinic <results@example.org>"': '"Harbour Clinic <results@harbour.clinic>"',
    '["lab-desk@example.org"]': '["lab-desk@harbour.clinic"]',
}


def make_own(file: Path) -> Path:
    """Put a clinic's own into config.toml in the place of the example's."""
    text = file.read_text("utf-8")
    for shipped, own in OWN.items():
        assert shipped in text
        text = text.replace(shipped, own)
    file.write_text(text, "utf-8")
    return file


@pytest.fixture
def own_config(config_file: Path) -> Path:
    """config.toml of a clinic that is no example."""
    return make_own(config_file)


@pytest.fixture
def live_environ(
    environ: dict[str, str],
    own_config: Path,
    twilio: ProviderStandIn,
    sendgrid: ProviderStandIn,
) -> dict[str, str]:
    """The same, delivering for real to the providers' stand-ins."""
    return {
        **environ,
        "RELAY_DELIVERY": "live",
        "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
        "TWILIO_AUTH_TOKEN": "twilio-token",
        "TWILIO_API_URL": twilio.url,
        "SENDGRID_API_KEY": "SG.key",
        "SENDGRID_API_URL": sendgrid.url,
    }


@pytest.fixture
def relay(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """`relay("check", "--offline", NAME="value")` is `NAME=value flask relay check --offline`.

    `typed` is what comes in on stdin.
    """
    for name in (*VARIABLES, "DYNO"):
        monkeypatch.delenv(name, raising=False)
    handlers = logging.root.handlers[:]

    def run(*arguments: str, typed: str | bytes = "", **more: str) -> Result:
        result = CliRunner().invoke(relay_group, arguments, typed, env={**environ, **more})
        broke = not isinstance(result.exception, SystemExit | None)
        assert not broke, result.exception  # a traceback is never what a person should see
        return result

    yield run
    logging.root.handlers[:] = handlers  # the runner's stdout is closed by now


@pytest.fixture
def post(client: Any) -> Callable[..., str]:
    """Post a webhook, by default one of the lab's examples; the id that the lab is answered."""

    def post(event: str, **data: Any) -> str:
        body = {"event": event, "data": data} if data else samples.webhook(event)
        return str(client.post("/webhooks/lab", data=json.dumps(body)).json["id"])

    return post


@pytest.fixture
def work(make_jobs: Callable[[Settings], Jobs], settings: Settings) -> Callable[..., int]:
    """Work as a worker does until nothing is due."""
    return lambda by=settings: drain(make_jobs(by))


@pytest.fixture
def rows(db: Database) -> Rows:
    """The ledger's notifications as they are now."""
    return lambda: list(messages(db))
