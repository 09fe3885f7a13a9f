"""`flask relay suppress` and `unsuppress`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from relay.ledger.database import Database
from relay.ledger.schema import audit, suppressions
from relay.privacy import masks
from tests import rows as ledger
from tests.cli.conftest import Rows, Run
from tests.conftest import one_database
from tests.dump import found
from tests.rows import suppress
from tests.standins import LabStandIn

PHONE, EMAIL = "+447700900001", "jane@example.org"
WRITTEN = {
    "07700 900001": ("sms", PHONE),
    "+44 7700 900 001": ("sms", PHONE),
    "0044 7700900001": ("sms", PHONE),
    "(07700) 900-001": ("sms", PHONE),
    EMAIL: ("email", EMAIL),
    " jane@EXAMPLE.org ": ("email", EMAIL),
}


def stopped(db: Database) -> list[tuple[str, str, str]]:
    """Channel, address and source of all that is suppressed."""
    return [
        (row["channel"], row["address"], row["source"]) for row in ledger.rows(db, suppressions)
    ]


def audited(db: Database) -> list[tuple[str, ...]]:
    """What the audit has, the oldest first."""
    names = ("actor", "action", "target", "detail")
    return [tuple(row[name] for name in names) for row in ledger.rows(db, audit)]


@pytest.mark.parametrize("written", WRITTEN)
def test_an_address_is_stopped_and_let_go(relay: Run, db: Database, written: str) -> None:
    """However it is written it is stopped as the ledger writes it, on its own channel."""
    channel, address = WRITTEN[written]
    what = "Texts to this number" if channel == "sms" else "Emails to this address"
    result = relay("suppress", written)
    assert (result.exit_code, result.stdout) == (0, f"{what} are stopped.\n")
    assert stopped(db) == [(channel, address, "staff")]
    result = relay("unsuppress", written)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{what} go out again. They were stopped by staff since ")
    assert result.stderr == ""
    assert stopped(db) == []


@pytest.mark.parametrize("source", ["STOP", "staff", "STOP (Twilio 21610)"])
def test_what_was_stopped_already_stays_as_it_was(relay: Run, db: Database, source: str) -> None:
    """It is said by whom, and since when; that is not overwritten, and no second audit row."""
    suppress(db, "sms", PHONE, source)
    since = ledger.only(db, suppressions)["created_at"].astimezone().strftime("%Y-%m-%d %H:%M")
    result = relay("suppress", PHONE)
    assert (result.exit_code, result.stdout) == (
        0,
        f"Texts to this number were already stopped by {source} since {since}.\n",
    )
    assert stopped(db) == [("sms", PHONE, source)]
    assert audited(db) == []


def test_what_was_not_stopped_cannot_be_let_go(relay: Run, db: Database) -> None:
    """Nothing is done, and that is said; another's stop stays."""
    suppress(db, "email", EMAIL, "bounce")
    result = relay("unsuppress", PHONE)
    assert (result.exit_code, result.stdout) == (0, "Texts to this number were not stopped.\n")
    assert stopped(db) == [("email", EMAIL, "bounce")]
    assert audited(db) == []


@pytest.mark.parametrize(
    ("channel", "address", "source", "warning"),
    [
        ("sms", PHONE, "STOP", "they send START"),
        ("sms", PHONE, "staff", ""),
        ("email", EMAIL, "bounce", "from its suppressions"),
        ("email", EMAIL, "staff", ""),
    ],
)
def test_a_provider_has_a_list_of_its_own(
    relay: Run, db: Database, channel: str, address: str, source: str, warning: str
) -> None:
    """Whom the provider stops as well it goes on stopping, and what lifts that is said."""
    suppress(db, channel, address, source)
    result = relay("unsuppress", address)
    assert f"stopped by {source} since" in result.stdout
    assert warning in result.stderr
    assert bool(warning) == bool(result.stderr)
    assert stopped(db) == []


def test_the_audit_tells_what_was_done_and_not_to_whom(relay: Run, db: Database) -> None:
    """The desk finds it by the address; whoever reads the trail has no address by it."""
    for command in ("suppress", "unsuppress"):
        for address in (PHONE, EMAIL):
            relay(command, address)
    marks = [
        masks.target("development", channel, address)
        for channel, address in (("sms", PHONE), ("email", EMAIL))
    ]
    assert audited(db) == [
        ("cli", command, mark, "") for command in ("suppress", "unsuppress") for mark in marks
    ]
    assert found(" ".join(marks), PHONE[-9:], EMAIL) == []
    assert masks.target("", "sms", PHONE) == "sms"  # where a mark could be worked out by anybody


@pytest.mark.parametrize(
    ("written", "why", "remedy"),
    [
        ("", "no address given.", "Give a UK mobile"),
        (" ", "no address given.", "Give a UK mobile"),
        ("jane", "is not valid", "07700 900123"),
        ("020 7946 0000", "a landline", "07700 900123"),
        ("+33 1 42 68 53 00", "a landline", "07700 900123"),
        ("jane@", "is not valid", "jane@example.org"),
        ("jane@example", "is not valid", "jane@example.org"),
        ("jäne@example.org", "characters that Relay cannot use", "jane@example.org"),
    ],
)
@pytest.mark.parametrize("command", ["suppress", "unsuppress"])
@one_database
def test_what_is_no_address_is_refused(
    relay: Run, db: Database, command: str, written: str, why: str, remedy: str
) -> None:
    """What cannot be written to is refused with the reason, a remedy, and exit code 1."""
    result = relay(command, written)
    assert (result.exit_code, result.stdout) == (1, "")
    assert why in result.stderr
    assert remedy in result.stderr
    assert (stopped(db), audited(db)) == ([], [])


@pytest.mark.parametrize("arguments", [(), ("-",)])
@pytest.mark.parametrize("typed", [EMAIL, f"{EMAIL}\n", f" {EMAIL}\r\nPS\n"])
@one_database
def test_an_address_may_come_in_on_stdin(
    relay: Run, db: Database, arguments: tuple[str, ...], typed: str
) -> None:
    """A platform logs what a command is started with, so an address need not be part of it."""
    assert relay("suppress", *arguments, typed=typed).exit_code == 0
    assert stopped(db) == [("email", EMAIL, "staff")]
    assert relay("unsuppress", *arguments, typed=typed).exit_code == 0
    assert stopped(db) == []


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        (b"", "no address given."),
        (b"\n", "no address given."),
        (b"j\xe4ne@clinic.example", "is not valid"),
    ],
)
@one_database
def test_what_comes_in_is_judged_as_what_is_named(
    relay: Run, db: Database, typed: bytes, why: str
) -> None:
    """Nothing, or what is no address, is refused in the same words, and not repeated."""
    result = relay("suppress", typed=typed)
    assert (result.exit_code, result.stdout) == (1, "")
    assert why in result.stderr
    assert found(result.stderr, "ne@clinic") == []
    assert stopped(db) == []


def test_a_terminal_is_asked_for_the_address(
    relay: Run, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person who names none is asked, on stderr: stdout stays the answer."""
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: True)
    result = relay("suppress", typed=f"{EMAIL}\n")
    assert "UK mobile number or email address:" in result.stderr
    assert result.stdout.endswith("Emails to this address are stopped.\n")
    assert stopped(db) == [("email", EMAIL, "staff")]


def test_a_stopped_number_gets_no_text(
    relay: Run,
    lab: LabStandIn,
    post: Callable[..., str],
    work: Callable[..., int],
    rows: Rows,
) -> None:
    """A text to a stopped number is cancelled before it goes out; the email goes."""
    person = {"first_name": "Jane", "email": EMAIL, "phone_number": PHONE}
    lab.change("order", "o-2", customer=person)
    relay("suppress", PHONE)
    post("order.shipped", order_id="o-2")
    work()
    ends = {row["channel"]: row["status"] for row in rows() if row["rule"] == "kit-shipped"}
    assert ends == {"sms": "cancelled", "email": "sent"}


def test_before_the_upgrade_a_command_says_so(relay: Run, tmp_path: Path) -> None:
    """On a database without tables a command tells what to run, with exit code 1."""
    for command in ("suppress", "unsuppress"):
        result = relay(command, EMAIL, DATABASE_URL=f"sqlite:///{tmp_path}/empty.db")
        assert result.exit_code == 1
        assert "flask relay upgrade" in result.stderr
