"""Channels with their providers' stand-ins, and messages for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from relay.channels import Channels
from relay.channels import sendgrid as sendgrid_channel
from relay.channels import twilio as twilio_channel
from relay.channels.base import Provider
from relay.config.settings import Settings
from relay.http_client import HttpClient
from relay.messages.templates import Message
from tests.standins import Reply, StandIn

SMS = Message("sms", "+447700900001", "Hello Zoë, your kit is on its way.")
EMAIL = Message("email", "jane@example.org", "Hello Jane", "Your kit: £10", "<b>Hello Jane</b>")
SENDERS = {"sms": "EXCLINIC", "email": "Example Clinic <results@example.org>"}
UNREADABLE = {
    "empty": b"",
    "not JSON": b"<html>",
    "not UTF-8": b'{"sid": "\xff',
    "a list": b"[1]",
    "null": b"null",
    "a text": b'"SM1"',
    "no id": b"{}",
    "a null id": b'{"sid": null}',
    "nested": b"[" * 100_000,
}


@pytest.fixture
def bare_settings() -> Settings:
    """Settings for channels alone: no ledger, no lab."""
    return Settings(
        delivery="live",
        twilio_account_sid="AC" + "0" * 32,
        twilio_auth_token="twilio-token",
        sendgrid_api_key="SG.key",
    )


@pytest.fixture
def elsewhere() -> Iterator[StandIn]:
    """A host that is no provider of ours."""
    with StandIn() as standin:
        standin.always(Reply(200, b"{}"))
        yield standin


Connect = Callable[..., Provider]


@pytest.fixture
def connect() -> Connect:
    """A channel by some settings."""

    def make(name: str, settings: Settings) -> Provider:
        module = twilio_channel if name == "sms" else sendgrid_channel
        made = module.connect(settings, SENDERS[name], HttpClient(connections=64, deadline=5))
        assert made is not None
        return made

    return make


def exits(settings: Settings, *allowed: str) -> Channels:
    """Every channel, as RELAY_DELIVERY has it."""
    return Channels(settings, SENDERS, frozenset(allowed))
