"""SMS through Twilio: the request as Twilio documents it, and what each answer means."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from relay.channels.base import Provider
from relay.config.settings import Settings
from relay.messages.templates import Message
from tests.channels.conftest import SMS, UNREADABLE, Connect, exits
from tests.rows import at_once
from tests.standins import ProviderStandIn, Reply, StandIn, twilio_error

ACCOUNT = "AC" + "0" * 32
PATH = f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
# https://www.twilio.com/docs/api/errors
PERMANENT = (21211, 21408, 21610, 21612, 21614, 30004, 30005, 30006, 30007)
OPERATOR = (20003, 21606, 21609, 30002)
TRANSIENT = (20429, 21611, 30001, 30036)


@pytest.fixture
def settings(bare_settings: Settings, twilio: ProviderStandIn) -> Settings:
    """Settings that lead to the stand-in."""
    return replace(bare_settings, twilio_api_url=twilio.url)


@pytest.fixture
def channel(settings: Settings, connect: Connect) -> Provider:
    """The SMS channel."""
    return connect("sms", settings)


def test_an_sms_is_handed_over_as_twilio_documents_it(
    channel: Provider, twilio: ProviderStandIn
) -> None:
    """One POST to the Messages resource: form fields, Basic authorisation, nothing besides."""
    outcome = channel.send(SMS, "attempt-1")
    (request,) = twilio.requests
    assert (request.method, request.path) == ("POST", PATH)
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    pair = base64.b64encode(f"{ACCOUNT}:twilio-token".encode()).decode()
    assert request.headers["Authorization"] == f"Basic {pair}"
    form = request.form
    assert 1 <= int(form.pop("ValidityPeriod")) <= 36000
    assert form == {"To": SMS.address, "Body": SMS.text, "From": "EXCLINIC"}
    assert (outcome.result, outcome.provider_id) == ("accepted", f"SM{1:032x}")


@pytest.mark.parametrize(
    ("service", "number", "own", "expected"),
    [
        ("MG1", "+447700900200", "RESULTS", {"MessagingServiceSid": "MG1"}),
        ("", "+447700900200", "RESULTS", {"From": "+447700900200"}),
        ("", "", "RESULTS", {"From": "RESULTS"}),
        ("", "", "", {"From": "EXCLINIC"}),
    ],
)
def test_the_messaging_service_wins(
    settings: Settings,
    twilio: ProviderStandIn,
    service: str,
    number: str,
    own: str,
    expected: dict[str, str],
) -> None:
    """TWILIO_MESSAGING_SERVICE_SID wins over TWILIO_FROM, which wins over sms_from: a rule's, or
    else the clinic's.
    """
    chosen = replace(settings, twilio_messaging_service_sid=service, twilio_from=number)
    exits(chosen).send(replace(SMS, sender=own), "attempt-1")
    form = twilio.requests[0].form
    assert {k: form[k] for k in ("From", "MessagingServiceSid") if k in form} == expected


@pytest.mark.parametrize("text", ["£5 & 10% + ü = 🧪", "a=b&c=d", "line\nline", "{[~€]}"])
def test_no_character_is_lost(channel: Provider, twilio: ProviderStandIn, text: str) -> None:
    """The words arrive as they were written, whatever is in them."""
    channel.send(Message("sms", SMS.address, text), "attempt-1")
    assert twilio.requests[0].form["Body"] == text


@pytest.mark.parametrize("code", PERMANENT)
def test_a_permanent_error_ends_it(channel: Provider, twilio: ProviderStandIn, code: int) -> None:
    """Where trying again cannot help, the outcome says so, and why, and who has opted out."""
    twilio.always(twilio_error(400, code))
    outcome = channel.send(SMS, "attempt-1")
    assert (outcome.result, outcome.permanent, outcome.code) == ("rejected", True, str(code))
    assert outcome.reason.endswith(".")
    assert outcome.operator is False
    assert outcome.suppress == ("STOP (Twilio 21610)" if code == 21610 else "")


@pytest.mark.parametrize(
    ("status", "code"), [*((400, code) for code in OPERATOR), (401, 20003), (401, 1), (403, 1)]
)
def test_a_refused_account_is_the_operators(
    channel: Provider, twilio: ProviderStandIn, status: int, code: int
) -> None:
    """A fault of our account is not this message's: it is kept."""
    twilio.always(twilio_error(status, code))
    outcome = channel.send(SMS, "attempt-1")
    assert (outcome.result, outcome.operator, outcome.permanent) == ("rejected", True, False)
    assert ("PUBLIC_URL" in outcome.reason) == (code == 21609)


@pytest.mark.parametrize(
    ("status", "code"), [(429, 20429), *((400, code) for code in TRANSIENT), (429, 1)]
)
def test_a_transient_error_is_tried_again(
    channel: Provider, twilio: ProviderStandIn, status: int, code: int
) -> None:
    """Where Twilio is busy it surely has not taken the message, which may come again."""
    twilio.always(twilio_error(status, code))
    outcome = channel.send(SMS, "attempt-1")
    assert (outcome.result, outcome.operator, outcome.permanent) == ("rejected", False, False)


@pytest.mark.parametrize("status", [400, 410, 422])
@pytest.mark.parametrize(
    "body", [{"code": 99999}, b"<html>", b"", [1], {"code": [1]}, {"code": "x"}]
)
def test_another_refusal_is_permanent(
    channel: Provider, twilio: ProviderStandIn, status: int, body: Any
) -> None:
    """Codes of no table go by their HTTP class: 4xx cannot be helped by trying again."""
    twilio.always(Reply(status, body))
    outcome = channel.send(SMS, "attempt-1")
    assert (outcome.result, outcome.permanent) == ("rejected", True)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("body", [{"code": 20500, "message": "m"}, b"<html>", b""])
def test_a_server_error_leaves_it_open(
    channel: Provider, twilio: ProviderStandIn, status: int, body: Any
) -> None:
    """5xx may come after Twilio took the message: it is unknown."""
    twilio.always(Reply(status, body))
    assert channel.send(SMS, "attempt-1").result == "unknown"


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
def test_an_unreadable_201_leaves_it_open(
    channel: Provider, twilio: ProviderStandIn, body: bytes
) -> None:
    """Without the message's id nobody knows whether it was taken; nothing is raised."""
    twilio.always(Reply(201, body, {"Content-Type": "application/json"}))
    outcome = channel.send(SMS, "attempt-1")
    assert (outcome.result, outcome.provider_id) == ("unknown", None)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(
    channel: Provider, twilio: ProviderStandIn, elsewhere: StandIn, status: int
) -> None:
    """Neither the message nor the account's token goes where a redirect points."""
    twilio.always(Reply(status, headers={"Location": f"{elsewhere.url}{PATH}"}))
    assert channel.send(SMS, "attempt-1").result in ("rejected", "unknown")
    assert elsewhere.requests == []
    assert len(twilio.requests) == 1


def test_a_refused_connection_is_surely_not_sent(settings: Settings, connect: Connect) -> None:
    """What never reached Twilio is tried again."""
    outcome = connect("sms", replace(settings, twilio_api_url="http://127.0.0.1:1")).send(SMS, "a")
    assert (outcome.result, outcome.permanent, outcome.operator) == ("rejected", False, False)


def test_a_hang_up_leaves_it_open(channel: Provider, twilio: ProviderStandIn) -> None:
    """A connection that ends after the request may have carried it."""
    twilio.always(Reply(hang_up=True))
    outcome = channel.send(SMS, "attempt-1")
    assert outcome.result == "unknown"
    assert SMS.address not in outcome.reason


def test_reasons_name_nobody(channel: Provider, twilio: ProviderStandIn) -> None:
    """Twilio's own words may quote the number: they are not taken over."""
    body = {"code": 21211, "message": f"Invalid 'To' Phone Number: {SMS.address}", "status": 400}
    twilio.once(Reply(400, body), Reply(400, {**body, "code": 1}), Reply(500, body))
    for _ in range(3):
        assert SMS.address not in repr(channel.send(SMS, "attempt-1"))


def test_connections_are_kept_and_answers_not_mixed_up(
    channel: Provider, twilio: ProviderStandIn
) -> None:
    """Eighty sends of eight threads share eight connections, and each gets its own answer."""

    def accept(request: Any) -> Reply:
        return Reply(201, json.dumps({"sid": request.form["To"]}).encode())

    twilio.answers.append(accept)

    def send(thread: int) -> list[tuple[str, str | None]]:
        numbers = [f"+4477009{thread}{n:04}" for n in range(10)]
        return [(n, channel.send(Message("sms", n, "Hello"), "a").provider_id) for n in numbers]

    pairs = [pair for batch in at_once(send, 8) for pair in batch]
    assert len(pairs) == 80
    assert all(number == answered for number, answered in pairs)
    assert len(twilio.connections) <= 8
