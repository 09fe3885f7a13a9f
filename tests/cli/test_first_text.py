"""From a clone to the first real text: each step as somebody takes it, with what Relay answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from relay.config.settings import from_environment
from relay.ledger import workers
from relay.ledger.database import Database
from tests.cli.conftest import Run
from tests.conftest import DATABASES, drain
from tests.made_blocks import check_block, steady, table
from tests.standins import ProviderStandIn

pytestmark = pytest.mark.parametrize("ledger_url", DATABASES[:1], indirect=True)

MINE = "+447700900123"
MOST_STEPS = 12
HTTPS = {"X-Forwarded-Proto": "https"}


@dataclass
class Rehearsal:
    """The steps so far, as the page has them, and the variables that are set by then."""

    relay: Run
    environ: dict[str, str]
    steps: list[tuple[str, str]] = field(default_factory=list)

    def step(self, done: str, answer: str = "") -> None:
        """Write a step down, with what Relay says to it."""
        self.steps.append((done, answer))

    def command(self, *arguments: str, shown: str = "", code: int = 0, last: int = -1) -> None:
        """Type a command; a line of what it prints is the answer."""
        result = self.relay(*arguments, **self.environ)
        assert result.exit_code == code, result.stderr
        typed = shown or f"`flask relay {' '.join(arguments)}`"
        answer = steady(result.stdout).replace(f"{self.environ['RELAY_CONFIG']}", "config.toml")
        self.step(typed, f"`{answer.splitlines()[last].strip()}`")


def test_the_way_from_a_clone_to_the_first_real_text(
    relay: Run,
    environ: dict[str, str],
    live_environ: dict[str, str],
    config_file: Path,
    make_client: Callable[..., Any],
    make_jobs: Callable[..., Any],
    twilio: ProviderStandIn,
    db: Database,
) -> None:
    """A rehearsal in production's settings, with stand-ins for the lab and the providers: twelve
    steps at most, and every message up to the last step goes to whoever tries it, and nobody else.
    """
    production = {
        **environ,
        "RELAY_ENV": "production",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "PUBLIC_URL": "https://relay.harbour.clinic",
        "SECRET_KEY": "k" * 32,
        "ADMIN_PASSWORD": "p" * 16,
        "METRICS_TOKEN": "m" * 16,
        "WEBHOOK_SECRET": "the-secret-of-the-lab",
    }
    way = Rehearsal(relay, production)

    def post(order: str) -> str:
        answer = make_client(from_environment(way.environ)).post(
            "/webhooks/lab",
            json={"event": "order.shipped", "data": {"order_id": order}},
            headers={**HTTPS, "Authorization": "Bearer the-secret-of-the-lab"},
        )
        assert answer.status_code == 200
        drain(make_jobs(from_environment(way.environ)))
        return f"`200 {steady(answer.text).strip()}`"

    way.step("`git clone …`, then `make demo`", "every message that Relay sends, and the desk")
    # `live_environ` has done so by now.
    way.step("write your own into `[clinic]`, `[delivery]` and `[staff.lab-desk]` of config.toml")
    offline = "`flask relay check --offline`"
    way.command("check", "--offline", shown=offline)
    way.step(
        "set up the platform: [Heroku's button](#heroku), [Render's blueprint](#render), "
        "[Fly](#fly) or [Docker](#docker); the lab's token in `LAB_API_TOKEN`"
    )
    way.command("upgrade", shown="deploy: the release runs `flask relay upgrade`")
    with db.write() as connection:
        workers.beat(connection, "worker-1")
    way.step("give the lab the address and the secret; it posts", post("o-1"))
    way.environ = {**production, **{k: v for k, v in live_environ.items() if "_API_URL" in k}}
    accounts = ("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "SENDGRID_API_KEY")
    way.environ |= {name: live_environ[name] for name in accounts}
    text = config_file.read_text("utf-8")
    text = text.replace('# allow = ["you@example.org"]', f'allow = ["{MINE}"]')
    config_file.write_text(text, "utf-8")
    way.environ["RELAY_DELIVERY"] = "allow-list"
    way.step(
        "set `TWILIO_…` and `SENDGRID_API_KEY`, your number in `allow`, `RELAY_DELIVERY=allow-list`"
    )
    shown = "`flask relay send-test kit-shipped`, and your number: **the first real text**"
    assert [request.form["To"] for request in twilio.accepted] == []
    way.command("send-test", "kit-shipped", "--to", MINE, shown=shown)
    post("o-2")
    assert [request.form["To"] for request in twilio.accepted] == [MINE]
    added = "`flask relay user add EMAIL --role manager`, for two people"
    way.command("user", "add", "jane@harbour.clinic", "--role", "manager", shown=added, last=0)
    way.command("ready", code=1, shown="`flask relay ready`, until nothing is missing")
    way.environ["RELAY_DELIVERY"] = "live"
    way.step("set `RELAY_DELIVERY=live`; the lab posts", post("o-3"))
    assert len(twilio.accepted) == 2

    assert len(way.steps) <= MOST_STEPS
    rows = [(str(number), *step) for number, step in enumerate(way.steps, 1)]
    check_block("docs/platforms.md", "first text", table(("", "You", "Relay"), rows))
