"""`flask relay preview`: the words as they would be sent, without sending them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from relay.lab import samples
from relay.messages import sms_segments
from tests.cli.conftest import Rows, Run
from tests.conftest import DATABASES, ROOT
from tests.standins import ProviderStandIn

pytestmark = pytest.mark.parametrize("ledger_url", DATABASES[:1], indirect=True)

EMAIL = {"channel", "subject", "text", "html"}
SMS = {"channel", "text", "segments", "alphabet", "units", "price_class"}


def event_file(folder: Path, body: object) -> Path:
    """A webhook's body in a file."""
    path = folder / "event.json"
    path.write_text(json.dumps(body), "utf-8")
    return path


def test_each_channel_is_shown(relay: Run) -> None:
    """The SMS with segments, alphabet and price class, then the email with its subject."""
    result = relay("preview", "kit-shipped")
    assert result.exit_code == 0
    sms, _, email = result.stdout.partition("EMAIL\n")
    assert sms.startswith("SMS\n")
    assert "UK mobile, " in sms
    assert "segment" in sms
    assert "GSM-7" in sms
    assert email.startswith("subject: ")
    assert "Example Clinic" in email


def test_the_fallback_is_shown_too(relay: Run) -> None:
    """Whatever a rule may send is shown, its fallback included."""
    result = relay("preview", "kit-delivered", "--json")
    channels = [json.loads(line)["channel"] for line in result.stdout.splitlines()]
    assert channels == ["sms", "email"]


def test_json_is_one_object_a_message(relay: Run) -> None:
    """`--json` has every part of each message, and an SMS's size as it is counted."""
    sms, email = map(json.loads, relay("preview", "kit-shipped", "--json").stdout.splitlines())
    assert set(sms) == SMS
    assert set(email) == EMAIL
    assert "</html>" in email["html"]
    size = sms_segments.size(sms["text"])
    shown = {key: sms[key] for key in ("segments", "alphabet", "units")}
    assert shown == {"segments": size.segments, "alphabet": size.alphabet, "units": size.units}


def test_an_event_of_ones_own_is_used(relay: Run, tmp_path: Path) -> None:
    """`--event FILE` puts that event's data into the message."""
    folder = tmp_path / "templates"
    (folder / "kit_shipped").mkdir(parents=True)
    for part in ("sms.txt", "subject.txt", "email.txt", "email.html"):
        (folder / "kit_shipped" / part).write_text("Order {{ event.order_id }}", "utf-8")
    config = tmp_path / "config.toml"
    text = config.read_text("utf-8")
    rule = text[text.index("[rules.kit-shipped]") : text.index("[rules.kit-delivered]")]
    config.write_text(text[: text.index("[rules.kit-shipped]")] + rule, "utf-8")
    path = event_file(tmp_path, {"event": "order.shipped", "data": {"order_id": "my-own-id"}})
    arguments = ("preview", "kit-shipped", "--json", "--event", str(path))
    result = relay(*arguments, RELAY_TEMPLATES=str(folder))
    assert [json.loads(line)["text"] for line in result.stdout.splitlines()] == (
        ["Order my-own-id"] * 2
    )


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (samples.webhook("order.delivered"), "order.delivered"),
        ({"event": "order.shipped", "data": {}}, "data.order_id"),
        ({"event": "order.shipped"}, "data"),
        ("words", "object"),
    ],
)
def test_an_event_that_does_not_fit_is_refused(
    relay: Run, tmp_path: Path, body: object, told: str
) -> None:
    """Another rule's event, or one the lab could not post, is refused with what is wrong."""
    path = event_file(tmp_path, body)
    result = relay("preview", "kit-shipped", "--event", str(path))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: {path}: ")
    assert told in result.stderr


def test_a_digest_is_shown_with_some_items(relay: Run, tmp_path: Path) -> None:
    """A digest is shown as it would be with three events, or with one's own alone."""
    (shown,) = map(json.loads, relay("preview", "desk-retests", "--json").stdout.splitlines())
    assert shown["subject"] == "3 new samples needed"
    assert shown["text"].count("TRF code:") == 3
    path = event_file(tmp_path, samples.webhook("test_registration.retest"))
    own = relay("preview", "desk-retests", "--json", "--event", str(path)).stdout
    assert json.loads(own)["subject"] == "1 new sample needed"


def test_a_misspelt_rule_is_told(relay: Run) -> None:
    """An unknown rule is an error that offers the nearest."""
    result = relay("preview", "kit-shiped")
    assert result.exit_code == 1
    assert result.stderr == (
        'error: kit-shiped: there is no such rule. Did you mean "kit-shipped"?\n'
    )


def test_a_broken_config_is_told(relay: Run, config_file: Path) -> None:
    """With a mistake in config.toml every command says where it is, and ends with 1."""
    config_file.write_text(config_file.read_text("utf-8") + "\n[extra]\n", "utf-8")
    result = relay("preview", "kit-shipped")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{config_file}:{len(config_file.read_text('utf-8').splitlines())}: " in result.stderr


def test_every_rule_can_be_previewed_without_secrets(relay: Run) -> None:
    """A preview needs no database, no secret and no connection."""
    bare = {"WEBHOOK_SECRET": "", "DATABASE_URL": "postgres://127.0.0.1:1/none"}
    text = (ROOT / "config.toml").read_text("utf-8")
    names = [line.split(".")[1].split("]")[0] for line in text.splitlines() if "[rules." in line]
    assert len(names) > 8
    for name in names:
        result = relay("preview", name, RELAY_ENV="production", LAB_API_TOKEN="", **bare)
        assert (result.exit_code, result.stderr) == (0, ""), name


def test_nothing_is_sent_or_kept(
    relay: Run, live_environ: dict[str, str], twilio: ProviderStandIn, rows: Rows
) -> None:
    """A preview on a live copy sends nothing and leaves no notification."""
    assert relay("preview", "kit-shipped", **live_environ).exit_code == 0
    assert (twilio.requests, rows()) == ([], [])
