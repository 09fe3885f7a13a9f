"""Asked before anything is sent: whether our account at each provider may send."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from relay.config.settings import Settings
from tests.channels.conftest import Connect
from tests.standins import ProviderStandIn, Reply

ACCOUNT = f"/2010-04-01/Accounts/AC{'0' * 32}.json"
SCOPES, DOMAINS = "/v3/scopes", "/v3/whitelabel/domains"
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def asked(bare_settings: Settings, twilio: ProviderStandIn, sendgrid: ProviderStandIn) -> Settings:
    """Both providers' stand-ins."""
    return replace(bare_settings, twilio_api_url=twilio.url, sendgrid_api_url=sendgrid.url)


def told(reply: Reply, path: str, channel: Any, provider: ProviderStandIn) -> tuple[str, bool]:
    """What is wrong with an account of which a path tells this, and whether it is a warning."""
    provider.account[path] = reply
    (found,) = channel.account_faults()
    return found.wrong, found.is_warning


def test_an_account_that_may_send_is_right(
    connect: Connect, asked: Settings, twilio: ProviderStandIn, sendgrid: ProviderStandIn
) -> None:
    """Each provider is asked one question, or two, at the address that messages go to."""
    assert connect("sms", asked).account_faults() == []
    assert [one.path for one in twilio.requests] == [ACCOUNT]
    sendgrid.account[DOMAINS] = Reply(200, [{"domain": "example.org", "valid": True}])
    assert connect("email", asked).account_faults() == []
    assert [one.path for one in sendgrid.requests] == [SCOPES, DOMAINS]


@pytest.mark.parametrize(
    ("reply", "said", "is_warning"),
    [
        (Reply(401, {"code": 20003, "status": 401, "message": "no"}, JSON), "refuses", False),
        (Reply(404, {"code": 20404, "status": 404, "message": "no"}, JSON), "refuses", False),
        (Reply(200, {"sid": "AC", "status": "suspended"}, JSON), "suspended", False),
        (Reply(200, {"sid": "AC", "status": "closed"}, JSON), "closed", False),
        (Reply(503, b""), "503", True),
    ],
)
def test_what_is_wrong_with_twilios_is_said(
    reply: Reply,
    said: str,
    is_warning: bool,
    connect: Connect,
    asked: Settings,
    twilio: ProviderStandIn,
) -> None:
    """A refusal is an error, an outage of theirs a warning."""
    wrong, warns = told(reply, ACCOUNT, connect("sms", asked), twilio)
    assert (said in wrong, warns) == (True, is_warning)


@pytest.mark.parametrize(
    ("path", "reply", "said", "is_warning"),
    [
        (SCOPES, Reply(401, {"errors": []}), "refuses the key", False),
        (SCOPES, Reply(200, {"scopes": ["stats.read"]}), "may not send", False),
        (SCOPES, Reply(500, b""), "500", True),
        (DOMAINS, Reply(200, []), "not authenticated", True),
        (DOMAINS, Reply(200, [{"domain": "example.org", "valid": False}]), "not auth", True),
    ],
)
def test_what_is_wrong_with_sendgrids_is_said(
    path: str,
    reply: Reply,
    said: str,
    is_warning: bool,
    connect: Connect,
    asked: Settings,
    sendgrid: ProviderStandIn,
) -> None:
    """A key that may not send is an error; a domain without SPF and DKIM a warning."""
    wrong, warns = told(reply, path, connect("email", asked), sendgrid)
    assert (said in wrong, warns) == (True, is_warning)
