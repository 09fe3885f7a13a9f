"""`flask relay stop` and `resume`: the stop button, from a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from relay.ledger.database import Database
from relay.ledger.schema import audit
from tests import rows as ledger
from tests.cli.conftest import Rows, Run
from tests.conftest import DATABASES
from tests.standins import ProviderStandIn

pytestmark = pytest.mark.parametrize("ledger_url", DATABASES[:1], indirect=True)

WHY = "The portal's link is wrong."
SAID = f"Messages of the rule kit-shipped are stopped, by cli: {WHY}"
OF_RULE = ("--rule", "kit-shipped")


@pytest.fixture
def stopped(relay: Run, post: Callable[..., str], work: Callable[..., int]) -> str:
    """An event whose rule is stopped: its text and its email wait; the event's id."""
    assert relay("stop", *OF_RULE, "--reason", WHY).exit_code == 0
    id_ = post("order.shipped")
    work()
    return id_


def test_what_waits_says_so_everywhere(relay: Run, stopped: str) -> None:
    """`list`, `explain` and `check` name who has stopped it and why."""
    listed = [json.loads(line) for line in relay("list", "--json").stdout.splitlines()]
    assert [(row["status"], row["reason"], row["attempts"]) for row in listed] == [
        ("scheduled", SAID, 0)
    ] * 2
    told = relay("explain", stopped).stdout
    assert told.count(f"It is waiting for somebody to resume it. {SAID}") == 2
    checked = relay("check")
    assert (checked.exit_code, "warning" in checked.stderr) == (0, True)
    assert "2 wait since" in checked.stderr
    assert SAID in checked.stderr


def test_it_goes_on_when_it_is_resumed(
    relay: Run, stopped: str, work: Callable[..., int], rows: Rows, db: Database
) -> None:
    """A second stop says who was first; another stop is told of when one ends; each act is audited,
    and what is not stopped cannot be resumed.
    """
    again = relay("stop", *OF_RULE, "--reason", "Again.").stdout
    assert again == (
        f"It was stopped already. {SAID}\n"
        "2 wait. 0 had left in the hour before, or were just leaving.\n"
    )
    assert "All texts are stopped." in relay("stop", "--channel", "sms", "--reason", WHY).stdout
    ended = relay("resume", *OF_RULE).stdout
    assert ended == (
        "Messages of the rule kit-shipped go out again.\n"
        f"All texts are stopped, by cli: {WHY} (1 wait)\n"
    )
    work()
    assert sorted(row["status"] for row in rows()) == ["scheduled", "sent"]
    assert relay("resume", "--all").stdout.startswith("All messages were not stopped.")
    acts = [(row["action"], row["target"]) for row in ledger.rows(db, audit)]
    rule = "rule kit-shipped"
    assert acts == [("stop", rule), ("stop", "channel sms"), ("resume", rule)]


def test_what_waits_can_be_dropped(relay: Run, stopped: str, rows: Rows) -> None:
    """--drop cancels it, and says how many that were."""
    told = relay("resume", *OF_RULE, "--drop").stdout
    assert told == "Messages of the rule kit-shipped go out again. 2 that waited are cancelled.\n"
    assert {row["status"] for row in rows()} == {"cancelled"}


def test_a_rules_latest_messages_are_cancelled(relay: Run, stopped: str, rows: Rows) -> None:
    """`stop --rule R --cancel` cancels what of it was planned within the hour and has not left."""
    told = relay("stop", *OF_RULE, "--cancel", "--reason", WHY).stdout
    assert "2 of the rule's last hour are cancelled.\n0 wait." in told
    assert {row["status"] for row in rows()} == {"cancelled"}


def test_no_test_is_sent_meanwhile(
    relay: Run, live_environ: dict[str, str], twilio: ProviderStandIn
) -> None:
    """`send-test` of what is stopped sends nothing, and says why."""
    relay("stop", "--all", "--reason", WHY)
    result = relay("send-test", "kit-shipped", "--to", "07700 900777", **live_environ)
    assert (result.exit_code, twilio.requests) == (1, [])
    assert f"All messages are stopped, by cli: {WHY}" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "Give one of --all, --channel and --rule."),
        (("--all", "--channel", "sms"), 2, "Give one of"),
        (("--channel", "smss"), 1, 'Did you mean "sms"?'),
        (("--rule", "kit-shiped"), 1, 'Did you mean "kit-shipped"?'),
        (("--all", "--cancel"), 2, "give --rule"),
        (("--all", "--reason", " "), 2, "Write why"),
    ],
)
def test_what_is_stopped_has_to_be_clear(
    relay: Run, arguments: tuple[str, ...], code: int, said: str
) -> None:
    """Of what, and why: else nothing is stopped."""
    result = relay("stop", "--reason", WHY, *arguments)
    assert (result.exit_code, said in result.stderr) == (code, True)
    assert "were not stopped" in relay("resume", "--all").stdout


def test_a_broken_config_stops_nobody_from_stopping(relay: Run, config_file: Path) -> None:
    """What has to be stopped may be just what an edit has brought."""
    config_file.write_text("[clinic", "utf-8")
    assert relay("stop", *OF_RULE, "--reason", WHY).exit_code == 0
    assert relay("resume", *OF_RULE).exit_code == 0
