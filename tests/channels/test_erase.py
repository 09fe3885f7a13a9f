"""Having providers delete what they keep of a person."""

from __future__ import annotations

import pytest

from relay.channels import Channels
from relay.config.settings import Settings
from tests.channels.conftest import EMAIL
from tests.standins import ProviderStandIn, Reply, twilio_error

TEXTS, NOBODY = frozenset({"SM2", "SM1"}), frozenset[str]()
MAILS = frozenset({EMAIL.address})


def exits(settings: Settings) -> Channels:
    """The ways out by some settings."""
    return Channels(settings, {"email": "results@example.org"}, frozenset())


def test_twilio_deletes_each_text(live: Settings, twilio: ProviderStandIn) -> None:
    """By its id, number and words and all."""
    assert exits(live).erase("sms", NOBODY, TEXTS) == []
    asked = [(request.method, request.path.rpartition("/")[2]) for request in twilio.requests]
    assert asked == [("DELETE", "SM1.json"), ("DELETE", "SM2.json")]


def test_what_twilio_does_not_delete_is_named(live: Settings, twilio: ProviderStandIn) -> None:
    """By its id alone; one that is gone already is no fault."""
    twilio.once(twilio_error(404, 20404), twilio_error(409, 20009), Reply(hang_up=True))
    ways = exits(live)
    texts = frozenset({"SM1", "SM2", "SM3"})
    said = " ".join(ways.erase("sms", NOBODY, texts))
    assert "did not delete SM2 (20009)" in said
    assert "it still has SM3" in said
    assert "SM1" not in said


def test_sendgrid_erases_an_address(live: Settings, sendgrid: ProviderStandIn) -> None:
    """By its erasure API, which finds all that it has of the address."""
    assert exits(live).erase("email", MAILS, NOBODY) == []
    (request,) = sendgrid.requests
    assert (request.method, request.path) == ("POST", "/v3/recipients/erasejob")
    assert request.json == {"email_addresses": [EMAIL.address]}


@pytest.mark.parametrize("reply", [Reply(403, {}), Reply(hang_up=True)])
def test_what_sendgrid_does_not_erase_is_said(
    live: Settings, sendgrid: ProviderStandIn, reply: Reply
) -> None:
    """An account without the erasure API, or no answer: in a sentence without the address."""
    sendgrid.once(reply)
    (said,) = exits(live).erase("email", MAILS, NOBODY)
    assert "SendGrid" in said
    assert EMAIL.address not in said


def test_where_nothing_is_sent_nobody_is_asked(settings: Settings) -> None:
    """In dry-run no provider is asked, which is said where one has something."""
    ways = exits(settings)
    assert ways.erase("sms", NOBODY, NOBODY) == []
    for name, addresses, texts in (("sms", NOBODY, TEXTS), ("email", MAILS, NOBODY)):
        (said,) = ways.erase(name, addresses, texts)
        assert said.startswith(f"Data at the {name} provider was not erased")
        assert not ways.reaches(name)
