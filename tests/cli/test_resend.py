"""`flask relay resend`: a message again, to the address that the lab has now, on record."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from relay.ledger.database import Database
from relay.ledger.schema import audit, notifications
from tests.cli.conftest import Run
from tests.rows import change, only, rows

NOTE = ("--note", "A wrong number.")


@pytest.fixture
def text(post: Callable[..., str], work: Callable[..., int], db: Database) -> str:
    """A text that was delivered; its id."""
    post("order.shipped")
    work()
    change(db, notifications, {"channel": "sms"}, status="delivered", address="+447700900199")
    return str(only(db, notifications, channel="sms")["id"])


def test_it_is_a_message_of_its_own(
    relay: Run, text: str, work: Callable[..., int], db: Database
) -> None:
    """Its id is printed, `list` has it beside the first one, and `explain` says of both that a
    person had it sent again, and why.
    """
    result = relay("resend", text, *NOTE)
    assert (result.exit_code, result.stderr) == (0, "")
    made = result.stdout.split()[0]
    assert result.stdout == f"{made} sends it again.\n"
    work()
    listed = {
        row["id"]: row for row in map(json.loads, relay("list", "--json").stdout.splitlines())
    }
    first, repeat = listed[text], listed[made]
    for key in ("event_id", "event", "rule", "subject", "to", "channel"):
        assert repeat[key] == first[key]
    assert (first["status"], repeat["status"], repeat["attempts"]) == ("delivered", "sent", 1)
    assert only(db, notifications, id=made)["address"] not in ("", "+447700900199")
    told = relay("explain", made).stdout
    assert f": cli had {text} sent again, by this message: A wrong number." in told
    assert (
        f"A person had it sent again, by another message ({made})." in relay("explain", text).stdout
    )
    act = only(db, audit)
    assert (act["actor"], act["action"], act["target"]) == ("cli", "resend", made)
    assert act["detail"] == "A wrong number."


def test_a_note_is_asked_for(relay: Run, text: str, db: Database) -> None:
    """Without one, and without a terminal to ask on, nothing is done, and the command says what to
    write.
    """
    for more in ((), ("--note", " ")):
        result = relay("resend", text, *more)
        assert (result.exit_code, result.stdout) == (2, "")
        assert '--note "…"' in result.stderr
    assert rows(db, audit) == []


def test_on_a_terminal_it_is_prompted_for(
    relay: Run, text: str, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who types the command is asked why, and the answer is kept."""
    monkeypatch.setattr("relay.cli.case_commands.is_terminal", lambda: True)
    result = relay("resend", text, typed="Wrong number.\n")
    assert result.exit_code == 0
    assert "no names or numbers" in result.stderr
    assert only(db, audit)["detail"] == "Wrong number."


def test_what_cannot_be_sent_again_is_refused(relay: Run, text: str, db: Database) -> None:
    """Pressed twice, or no message at all: exit code 1, and why."""
    made = relay("resend", text, *NOTE).stdout.split()[0]
    for id_, why in (
        (text, f"send that one again: {made}"),
        (made, "It is already waiting to be sent."),
        ("msg_none", "There is no such message: `flask relay list`"),
        ("evt_1", "There is no such message: `flask relay list`"),
    ):
        result = relay("resend", id_, *NOTE)
        assert (result.exit_code, result.stdout) == (1, "")
        assert why in result.stderr
    assert len(rows(db, audit)) == 1
