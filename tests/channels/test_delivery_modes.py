"""RELAY_DELIVERY: what leaves the house."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.config.settings import Settings
from relay.messages.templates import Message
from tests.channels.conftest import EMAIL, SMS, exits
from tests.standins import ProviderStandIn


@pytest.fixture
def settings(
    bare_settings: Settings, twilio: ProviderStandIn, sendgrid: ProviderStandIn
) -> Settings:
    """Live settings that lead to the stand-ins."""
    return replace(bare_settings, twilio_api_url=twilio.url, sendgrid_api_url=sendgrid.url)


@pytest.mark.parametrize(
    ("mode", "allowed", "leaves"),
    [
        ("live", (), True),
        ("live", ("other@example.org",), True),
        ("dry-run", (), False),
        ("dry-run", (SMS.address, EMAIL.address), False),
        ("allow-list", (), False),
        ("allow-list", ("+447700900002", "other@example.org"), False),
        ("allow-list", (SMS.address, EMAIL.address), True),
    ],
)
@pytest.mark.parametrize("message", [SMS, EMAIL], ids=["sms", "email"])
def test_what_leaves_the_house(
    settings: Settings,
    twilio: ProviderStandIn,
    sendgrid: ProviderStandIn,
    message: Message,
    mode: str,
    allowed: tuple[str, ...],
    leaves: bool,
) -> None:
    """`live` sends, `dry-run` never does, `allow-list` only to delivery.allow; all are accepted."""
    ways = exits(replace(settings, delivery=mode), *allowed)
    assert ways.is_live(message) is leaves
    outcome = ways.send(message, "attempt-1")
    assert outcome.result == "accepted"
    assert (outcome.provider_id or "").startswith("dry-run") is not leaves
    assert len(twilio.requests + sendgrid.requests) == leaves


@pytest.mark.parametrize(
    "lacking",
    [{"twilio_account_sid": ""}, {"twilio_auth_token": ""}, {"sendgrid_api_key": ""}],
    ids=str,
)
def test_a_channel_without_credentials_is_dry_run(
    settings: Settings,
    twilio: ProviderStandIn,
    sendgrid: ProviderStandIn,
    lacking: dict[str, str],
) -> None:
    """Without its credentials a channel goes nowhere but the dry-run outbox; the other is live."""
    ways = exits(replace(settings, **lacking))
    message, other = (EMAIL, SMS) if "sendgrid_api_key" in lacking else (SMS, EMAIL)
    outcome = ways.send(message, "attempt-1")
    assert outcome.result == "accepted"
    assert (outcome.provider_id or "").startswith("dry-run")
    assert twilio.requests + sendgrid.requests == []
    assert ways.is_live(other)


def test_each_dry_run_has_an_id_of_its_own(settings: Settings) -> None:
    """A dry run names its attempt, so that messages can be told apart."""
    ways = exits(replace(settings, delivery="dry-run"))
    assert ways.send(SMS, "one").provider_id != ways.send(SMS, "two").provider_id


def test_channels_are_ready_before_the_first_message(
    settings: Settings, twilio: ProviderStandIn, sendgrid: ProviderStandIn
) -> None:
    """Loading the channels ahead sends nothing, and both work afterwards."""
    ways = exits(settings)
    ways.load()
    assert twilio.requests + sendgrid.requests == []
    assert {ways.send(SMS, "a").result, ways.send(EMAIL, "b").result} == {"accepted"}
