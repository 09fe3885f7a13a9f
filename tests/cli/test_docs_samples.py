"""What the docs show of Relay's output is what Relay prints."""

from __future__ import annotations

import json
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from relay.config.settings import Settings
from relay.lab import samples
from relay.ledger.database import Database
from relay.ledger.schema import REVISION, cases
from tests.cli.conftest import Run
from tests.cli.test_what_if import edited, played
from tests.conftest import ROOT, SECRET
from tests.made_blocks import check_block, sample
from tests.rows import only
from tests.standins import LabStandIn

__all__ = ["edited", "played"]  # fixtures
CONFIG = (ROOT / "config.toml").read_text("utf-8")


@pytest.fixture
def ledger_url(tmp_path: Path, sqlite_template: Path) -> str:
    """SQLite only: a page shows the same on each database."""
    shutil.copy(sqlite_template, tmp_path / "relay.db")
    return f"sqlite:///{tmp_path / 'relay.db'}"


def shown(relay: Run, folder: Path, *arguments: str, **environ: str) -> str:
    """A command as it is typed, and all that it prints."""
    result = relay(*arguments, **environ)
    typed = f"$ flask relay {shlex.join(arguments)}"
    text = f"{typed}\n{result.stderr}{result.stdout}".rstrip()
    return text.replace(f"{folder}/", "").replace(f"{ROOT}/", "") + "\n"


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    """A copy of the templates, to be broken."""
    return Path(shutil.copytree(ROOT / "templates", tmp_path / "templates"))


def test_what_a_mistake_looks_like(relay: Run, config_file: Path, tmp_path: Path) -> None:
    """docs/rules.md shows what `check` says about two mistakes."""
    text = CONFIG.replace("\ntimezone", "\ntimezon").replace('"order.shipped"', '"order.shiped"', 1)
    config_file.write_text(text, "utf-8")
    made = sample(shown(relay, tmp_path, "check"))
    check_block("docs/rules.md", "mistakes", made)


BROKEN = {
    "unknown name": ("results_ready/sms.txt", "{{ clinic.nam }}: your results are ready."),
    "empty field": (
        "results_ready/sms.txt",
        "Hello {{ patient.first_name }}, call {{ clinic.phone }}",
    ),
    "dear letter": (
        "results_ready/sms.txt",
        "T\u0177 Hafan: your results are ready. Call {{ clinic.phone }}.",
    ),
    "full name": (
        "results_ready/sms.txt",
        "Hello {{ patient.first_name or '' }} {{ patient.last_name or '' }}, {{ clinic.phone }}",
    ),
    "no way to object": ("results_ready/sms.txt", "{{ clinic.name }}: your results are ready."),
}


@pytest.mark.parametrize("mistake", BROKEN)
def test_what_a_templates_mistake_looks_like(
    relay: Run, templates: Path, tmp_path: Path, mistake: str
) -> None:
    """docs/templates.md shows what `check` says of "unknown name", "empty field", "dear letter",
    "full name" and "no way to object".
    """
    file, words = BROKEN[mistake]
    (templates / file).write_text(words, "utf-8")
    text = shown(relay, tmp_path, "check", RELAY_TEMPLATES=str(templates))
    lines = [line for line in text.splitlines() if file in line]
    check_block("docs/templates.md", mistake, sample("\n".join(lines)))


def test_the_commands_output(
    relay: Run,
    post: Callable[..., str],
    work: Callable[..., int],
    client: Any,
    db: Database,
    lab: LabStandIn,
    tmp_path: Path,
) -> None:
    """docs/commands.md shows what an admin's everyday commands print."""
    id_ = post("order.delivered")
    work()
    post("test_registration.complete")
    client.post("/webhooks/lab", json={"event": "order.shipped", "data": {"order_id": "a/b"}})
    preview = shown(relay, tmp_path, "preview", "results-ready").partition("\nStep 5")[0]
    made = [
        shown(relay, tmp_path, "check"),
        preview + "\n…\n",
        shown(relay, tmp_path, "list"),
        shown(relay, tmp_path, "list", "--json", "--event", "order.delivered"),
        shown(relay, tmp_path, "explain", id_),
        shown(relay, tmp_path, "replay", "--quarantined"),
        shown(relay, tmp_path, "sweep"),
        shown(relay, tmp_path, "upgrade"),
    ]
    nobody = {"mobile_phone_number": "none", "email": "none", "patient_id": None}
    kit = samples.webhook("lab_results.complete")["data"]["testregistration_id"]
    lab.change("test_registration", kit, status="success", **nobody)
    post("lab_results.complete")
    work()
    work()
    id_ = str(only(db, cases, kind="unreached")["id"])
    made += [
        shown(relay, tmp_path, "cases"),
        shown(relay, tmp_path, "cases", "--json"),
        shown(relay, tmp_path, "case", id_, "close", "--note", "I rang."),
    ]
    # Neither way reaches them: the case has the reason of the one that was followed up first.
    phone = "The phone number is not valid: it has letters in it."
    printed = "\n".join(made).replace("The email address is not valid.", phone)
    check_block("docs/commands.md", "output", sample(printed))


def test_what_an_edit_would_have_done(
    relay: Run, played: None, edited: Path, tmp_path: Path
) -> None:
    """docs/rules.md shows what `what-if` prints about an edit."""
    made = shown(relay, tmp_path, "what-if", "--config", str(edited), "--since", "30d")
    check_block("docs/rules.md", "what-if", sample(made))


def test_a_newer_ledger_is_left_alone(relay: Run, db: Database, tmp_path: Path) -> None:
    """docs/platforms.md shows what `upgrade` says after a rollback."""
    with db.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    made = shown(relay, tmp_path, "upgrade").replace("9999", f"{int(REVISION) + 1:04}")
    check_block("docs/platforms.md", "newer ledger", sample(made))


def test_the_webhooks_answers(make_client: Callable[[Settings], Any], settings: Settings) -> None:
    """docs/http.md shows what the lab is answered."""
    client = make_client(replace(settings, webhook_secrets=("demo",)))
    good = '{"event":"order.shipped","data":{"order_id":"1234-5678"}}'
    made = []
    for shows, header, body in (
        ("-u lab:demo", "Basic bGFiOmRlbW8=", good),
        ("-H 'Authorization: Bearer demo'", "Bearer demo", good),
        ("-u lab:demo", "Basic bGFiOmRlbW8=", good.replace("1234-5678", "a/b")),
    ):
        answer = client.post("/webhooks/lab", data=body, headers={"Authorization": header})
        address = "http://127.0.0.1:8000/webhooks/lab"
        made.append(f"$ curl {shows} -d '{body}' {address}\n{answer.text.rstrip()}\n")
    check_block("docs/http.md", "posts", sample("\n".join(made)))


def test_the_log_of_an_event(
    settings: Settings,
    make_client: Callable[[Settings], Any],
    work: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """docs/monitoring.md shows the lines of one event, from its webhook to its message."""
    client = make_client(replace(settings, log_level="INFO"))
    body = {"event": "order.delivered", "data": {"order_id": "1234-5678"}}
    id_ = client.post("/webhooks/lab", json=body, auth=("lab", SECRET)).json["id"]
    work()
    lines = [line for line in capsys.readouterr().out.splitlines() if id_ in line]
    assert [json.loads(line)["event"] for line in lines] == [
        "webhook accepted",
        "event processed",
        "message sent",
    ]
    made = re.sub(r'("ms": )[\d.]+', r"\g<1>41", "\n".join(lines))
    check_block("docs/monitoring.md", "lines", sample(made))


def test_the_readme_shows_a_rule(relay: Run) -> None:
    """README.md shows a rule of config.toml, and the text that `preview` makes by it."""
    rule = re.search(r"^\[rules\.kit-shipped\].*?\n(?=\n)", CONFIG, re.MULTILINE | re.DOTALL)
    assert rule
    lines = [line.partition("  #")[0].rstrip() for line in rule[0].splitlines()]
    check_block("README.md", "rule", "```toml\n" + "\n".join(lines) + "\n```\n")
    printed = relay("preview", "kit-shipped", RELAY_CONFIG=str(ROOT / "config.toml")).stdout
    text = printed.partition("SMS\n\n")[2].partition("\n\nEMAIL")[0]
    check_block("README.md", "text", "```\n" + text.strip() + "\n```\n")


@pytest.mark.slow
def test_the_readme_shows_the_demo() -> None:
    """README.md shows what `make demo` prints: its first posts, a text, and its end. What somebody
    posts to it afterwards appears too.
    """
    printed, after = demo()
    assert "order.shipped, rule kit-shipped: sms to the customer" in after
    assert after.endswith("\nStopping …\nStopped.\n")
    head, *messages = printed.split(f"\n{'-' * 72}\n")
    [text] = [
        one for one in messages if one.startswith("lab_results.complete, rule") and "sms" in one
    ]
    text = text.partition("\n10 messages.")[0].rstrip()
    end = printed[printed.index("10 messages.") :]
    made = [*head.splitlines()[:5], "  …", "", "-" * 72, text, "…", end]
    check_block("README.md", "demo", sample("\n".join(made)))


def demo() -> tuple[str, str]:
    """All that `make demo` prints up to its end, and what follows once somebody has typed the
    command that it shows, until it is stopped by Ctrl-C.
    """
    environ = {**os.environ, "PORT": "", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "relay.dev", "demo"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, cwd=ROOT, env=environ, **pipes) as process:
        assert process.stdout

        def read(until: bytes) -> bytes:
            read, ends = b"", time.monotonic() + 120
            while until not in read and time.monotonic() < ends:
                if select.select([process.stdout], [], [], 1)[0]:
                    if not (more := os.read(process.stdout.fileno(), 65536)):
                        break
                    read += more
            return read

        printed = read(b"Ctrl-C stops everything.").decode()
        typed = next(line for line in printed.splitlines() if line.startswith("  curl "))
        subprocess.run(shlex.split(typed), check=True, capture_output=True, timeout=60)
        after = read(b"rule kit-shipped: sms")
        process.send_signal(signal.SIGINT)
        after += process.communicate(timeout=60)[0]
    assert process.returncode == 0
    return printed, after.decode()
