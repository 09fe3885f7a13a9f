"""`flask relay what-if`: an edited config against what was sent, on a real ledger."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from relay.ledger.database import Database
from relay.ledger.schema import events, notifications
from tests.cli.conftest import Run
from tests.conftest import ROOT
from tests.rows import rows, time_passes

EDITS = {
    'channels = ["sms", "email"]\ntemplate = "kit_shipped"': (
        'channels = ["sms"]\ntemplate = "kit_delivered"'
    ),
    "[rules.kit-registered]": "[rules.kit-taken]",
}
TO_CUSTOMER = """
[rules.ordered-results]
event = "lab_results.complete"
to = "customer"
channels = ["email"]
template = "results_ready"
"""
ORDER = "11111111-1111-4111-8111-111111111111"


@pytest.fixture
def edited(config_file: Path) -> Path:
    """An edited copy: a channel less, another template, a rule renamed and a new one."""
    text = config_file.read_text("utf-8")
    for old, new in EDITS.items():
        assert old in text
        text = text.replace(old, new)
    path = config_file.with_name("edited.toml")
    path.write_text(text + TO_CUSTOMER, "utf-8")
    return path


@pytest.fixture
def played(post: Callable[..., str], work: Callable[..., int], db: Database) -> None:
    """A kit that was shipped, registered and tested, an event a day, and told of by config.toml."""
    post("order.shipped", order_id=ORDER)
    work()
    kit = rows(db, events)[0]["facts"]["order"]["test_registrations"][0]["id"]
    for name in ("test_registration.complete", "lab_results.complete"):
        time_passes(db, timedelta(days=1))
        post(name, testregistration_id=kit)
        work()


def test_an_edit_is_told_before_it_is_live(
    relay: Run, played: None, edited: Path, db: Database
) -> None:
    """Counts by rule and a line each difference; nobody's address, nothing sent, nothing written;
    a renamed rule is warned of.
    """
    before = rows(db, notifications)
    result = relay("what-if", "--config", str(edited), LAB_API_URL="http://127.0.0.1:9")
    assert result.exit_code == 0
    counts = {
        line.split()[0]: line.split()[2:]
        for line in result.stdout.splitlines()
        if line.startswith(("kit-", "ordered-results", "results-ready"))
    }
    assert counts == {
        "kit-shipped": ["1", "2", "0", "1", "1", "0", "0"],
        "kit-delivered": ["0"] * 7,
        "kit-taken": ["1", "0", "1", "0", "0", "0", "0"],
        "kit-registered": ["0", "1", "0", "1", "0", "0", "0"],
        "results-ready": ["2", "2", "0", "0", "0", "0", "0"],
        "ordered-results": ["0", "0", "0", "0", "0", "1", "0"],
    }
    assert "template kit_delivered instead of kit_shipped." in result.stdout
    assert "it sends nothing for past events" in result.stdout
    assert (
        "rule kit-taken is new and kit-registered is gone: people who already have" in result.stderr
    )
    assert rows(db, notifications) == before
    assert [row["address"] for row in before if row["address"] in result.stdout] == []


def test_json_is_an_object_a_line(relay: Run, played: None, edited: Path) -> None:
    """Each difference, oldest first, with what a program needs; `--since` leaves out the rest."""
    result = relay("what-if", "--config", str(edited), "--json")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(line["what"], line["rule"], line["channel"]) for line in lines] == [
        ("dropped", "kit-shipped", "email"),
        ("changed", "kit-shipped", "sms"),
        ("dropped", "kit-registered", "email"),
        ("added", "kit-taken", "email"),
        ("cannot-be-told", "ordered-results", ""),
    ]
    assert set(lines[0]) == {
        "at",
        "event_id",
        "event",
        "subject",
        "round",
        "rule",
        "to",
        "channel",
        "what",
        "messages",
        "why",
    }
    assert lines[0]["subject"] == ORDER
    recent = relay("what-if", "--config", str(edited), "--json", "--since", "12h")
    assert [json.loads(line)["rule"] for line in recent.stdout.splitlines()] == ["ordered-results"]


def test_a_few_lines_stand_for_many(
    relay: Run, post: Callable[..., str], work: Callable[..., int], edited: Path
) -> None:
    """Twenty lines at most, some of each kind; `--details` has all of them."""
    for number in range(12):
        post("order.shipped", order_id=f"o-{number}")
    work()
    short = relay("what-if", "--config", str(edited)).stdout
    assert "… and 4 more: --details" in short
    channels = "customer email", "customer sms"
    assert [short.count(channel) for channel in channels] == [10, 10]
    full = relay("what-if", "--config", str(edited), "--details").stdout
    assert [full.count(channel) for channel in channels] == [12, 12]


def test_an_edit_that_is_wrong_is_told_as_check_tells_it(relay: Run, edited: Path) -> None:
    """Every mistake with its line, and exit 1; the same edit with no mistake, on an empty ledger,
    ends with 0.
    """
    assert relay("what-if", "--config", str(edited)).exit_code == 0
    edited.write_text(
        edited.read_text("utf-8").replace('to = "customer"', 'to = "custmer"'), "utf-8"
    )
    result = relay("what-if", "--config", str(edited))
    assert (result.exit_code, result.stdout) == (1, "")
    assert 'Did you mean "customer"?' in result.stderr
    assert relay("what-if", "--config", str(ROOT / "nothing.toml")).exit_code == 1


IN_PROCESSES = """
import sys
from relay.cli import comparison, relay_group
comparison.WORTH_IT = 1
relay_group(sys.argv[1:])
"""


@pytest.mark.slow
def test_parts_in_processes_come_to_the_same(
    relay: Run, played: None, edited: Path, environ: dict[str, str]
) -> None:
    """Where there are very many events each core does a part; what is told is the same."""
    asked = ("what-if", "--config", str(edited), "--json")
    command = [sys.executable, "-c", IN_PROCESSES, *asked]
    done = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == relay(*asked).stdout != ""
