"""`flask relay send-test`: one real message, marked as a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relay.ledger.database import Database
from relay.ledger.holds import suppressions
from relay.ledger.schema import audit
from relay.privacy import masks
from relay.rules import stops
from relay.rules.channels import channel_of
from tests.cli.conftest import Rows, Run
from tests.conftest import DATABASES
from tests.rows import rows as ledger_rows
from tests.rows import suppress
from tests.standins import ProviderStandIn, Reply, twilio_error

pytestmark = pytest.mark.parametrize("ledger_url", DATABASES[:1], indirect=True)

PHONE, EMAIL = "+447700900777", "tester@example.org"


def bodies(sendgrid: ProviderStandIn) -> list[dict[str, Any]]:
    """What SendGrid accepted."""
    return [request.json for request in sendgrid.accepted]


def test_a_text_goes_out_marked(
    relay: Run, live_environ: dict[str, str], twilio: ProviderStandIn, sendgrid: ProviderStandIn
) -> None:
    """A live text goes to the address named, once, and its words begin with a mark."""
    result = relay("send-test", "kit-shipped", "--to", "07700 900777", **live_environ)
    assert result.exit_code == 0
    (sent,) = twilio.accepted
    assert sent.form["To"] == PHONE
    assert sent.form["Body"].startswith("[TEST] ")
    assert f"{1:032x}" in result.stdout  # the provider's id
    assert sendgrid.requests == []


def test_an_email_goes_out_marked(
    relay: Run, live_environ: dict[str, str], twilio: ProviderStandIn, sendgrid: ProviderStandIn
) -> None:
    """A live email is marked in its subject, text and HTML, and no text goes with it."""
    assert relay("send-test", "kit-shipped", "--to", EMAIL, **live_environ).exit_code == 0
    (sent,) = bodies(sendgrid)
    assert [to["email"] for p in sent["personalizations"] for to in p["to"]] == [EMAIL]
    assert sent["subject"].startswith("[TEST] ")
    for content in sent["content"]:
        assert "[TEST] " in content["value"], content["type"]
    assert twilio.requests == []


@pytest.mark.parametrize("to", [PHONE, EMAIL])
def test_dry_run_shows_it_and_sends_nothing(
    relay: Run,
    live_environ: dict[str, str],
    twilio: ProviderStandIn,
    sendgrid: ProviderStandIn,
    to: str,
) -> None:
    """In dry-run nothing leaves; the message is shown as it would have gone out."""
    environ = {**live_environ, "RELAY_DELIVERY": "dry-run"}
    result = relay("send-test", "kit-shipped", "--to", to, **environ)
    assert result.exit_code == 0
    assert "Not sent" in result.stdout
    assert f"to: {to}" in result.stdout
    assert "[TEST] " in result.stdout
    assert (twilio.requests, sendgrid.requests) == ([], [])


def test_the_allow_list_is_kept(
    relay: Run, live_environ: dict[str, str], config_file: Path, twilio: ProviderStandIn
) -> None:
    """With allow-list a listed number gets it, however it is written, and another does not."""
    listed = 'allow = ["07700 900777"]\n\n[staff.lab-desk]'
    text = config_file.read_text("utf-8").replace("\n[staff.lab-desk]", listed)
    config_file.write_text(text, "utf-8")
    environ = {**live_environ, "RELAY_DELIVERY": "allow-list"}
    other = relay("send-test", "kit-shipped", "--to", "+447700900778", **environ)
    assert "Not sent" in other.stdout
    listed_one = relay("send-test", "kit-shipped", "--to", PHONE, **environ)
    assert "Sent." in listed_one.stdout
    assert [request.form["To"] for request in twilio.requests] == [PHONE]


@pytest.mark.parametrize(
    ("rule", "to", "told"),
    [
        ("kit-shipped", "020 7946 0000", "landline"),
        ("kit-shipped", "0", "number"),
        ("kit-shipped", "not@an@address", "email address"),
        ("kit-registered", PHONE, "does not send sms"),
        ("kit-shiped", PHONE, "kit-shipped"),
    ],
)
def test_what_cannot_be_sent_is_refused(
    relay: Run, live_environ: dict[str, str], twilio: ProviderStandIn, rule: str, to: str, told: str
) -> None:
    """An address, a channel or a rule that is wrong ends with 1, and nothing is sent."""
    result = relay("send-test", rule, "--to", to, **live_environ)
    assert (result.exit_code, result.stdout) == (1, "")
    assert told in result.stderr
    assert twilio.requests == []


@pytest.mark.parametrize("reply", [twilio_error(400, 21614), Reply(500), Reply(hang_up=True)])
def test_a_provider_that_does_not_take_it_is_told(
    relay: Run, live_environ: dict[str, str], twilio: ProviderStandIn, reply: Reply
) -> None:
    """What the provider said is told in plain words; exit code 1."""
    twilio.always(reply)
    result = relay("send-test", "kit-shipped", "--to", PHONE, **live_environ)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: sms: ")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("to", "source", "told"),
    [
        (PHONE, suppressions.STOP, "The person has opted out of texts."),
        (PHONE, stops.WRONG_NUMBER, "this is the wrong number"),
        (EMAIL.upper(), suppressions.STAFF, "Staff have stopped emails to this address."),
    ],
)
def test_who_has_said_stop_gets_no_test(
    relay: Run,
    live_environ: dict[str, str],
    db: Database,
    twilio: ProviderStandIn,
    sendgrid: ProviderStandIn,
    to: str,
    source: str,
    told: str,
) -> None:
    """A test is a real message: it is refused, with what to do, and nobody is said to have sent
    one.
    """
    suppress(db, channel_of(to), to.lower(), source)
    result = relay("send-test", "kit-shipped", "--to", to, **live_environ)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: --to: ")
    assert told in result.stderr
    assert "Use another address." in result.stderr
    assert (twilio.requests, sendgrid.requests, ledger_rows(db, audit)) == ([], [], [])


def test_the_trail_says_to_whom_by_a_mark(
    relay: Run, live_environ: dict[str, str], db: Database
) -> None:
    """Whoever has the address finds what was sent to it, and nobody finds the address."""
    environ = {**live_environ, "SECRET_KEY": "0123456789abcdef"}
    relay("send-test", "kit-shipped", "--to", "07700 900777", **environ)
    (act,) = ledger_rows(db, audit)
    assert act["target"] == masks.target(environ["SECRET_KEY"], "sms", PHONE)
    assert (act["actor"], act["action"], act["detail"]) == ("cli", "send-test", "sms: kit-shipped")
    assert "900777" not in str(act)


def test_it_is_no_notification(relay: Run, live_environ: dict[str, str], rows: Rows) -> None:
    """A test stands in nobody's history."""
    relay("send-test", "kit-shipped", "--to", PHONE, **live_environ)
    assert rows() == []


@pytest.mark.parametrize("to", [(), ("--to", "-")])
def test_the_address_may_come_in_on_stdin(
    relay: Run, live_environ: dict[str, str], twilio: ProviderStandIn, to: tuple[str, ...]
) -> None:
    """Left out or `-`, it is read from stdin: what a command is started with is logged."""
    result = relay("send-test", "kit-shipped", *to, typed="07700 900777\n", **live_environ)
    assert result.exit_code == 0
    assert [request.form["To"] for request in twilio.accepted] == [PHONE]


def test_without_any_address_nothing_is_sent(
    relay: Run, live_environ: dict[str, str], twilio: ProviderStandIn
) -> None:
    """Neither named nor on stdin: the command says what it wants and ends with 1."""
    result = relay("send-test", "kit-shipped", **live_environ)
    assert result.exit_code == 1
    assert "no address given" in result.stderr
    assert twilio.requests == []
