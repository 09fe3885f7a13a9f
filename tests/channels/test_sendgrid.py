"""Email through SendGrid: the request as SendGrid documents it, and what each answer means."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from relay.channels.base import Provider
from relay.config.settings import Settings
from relay.messages.templates import Message
from relay.rules.channels import email_sender
from tests.channels.conftest import EMAIL, SENDERS, Connect
from tests.rows import at_once
from tests.standins import ProviderStandIn, Reply, StandIn

PATH = "/v3/mail/send"


@pytest.fixture
def settings(bare_settings: Settings, sendgrid: ProviderStandIn) -> Settings:
    """Settings that lead to the stand-in."""
    return replace(bare_settings, sendgrid_api_url=sendgrid.url)


@pytest.fixture
def channel(settings: Settings, connect: Connect) -> Provider:
    """The email channel."""
    return connect("email", settings)


def test_an_email_is_handed_over_as_sendgrid_documents_it(
    channel: Provider, sendgrid: ProviderStandIn
) -> None:
    """One JSON POST with the API key: the words, and the attempt in its personalization's
    `custom_args`, an object, as SendGrid's OpenAPI file has it; no tracking or category. It says
    that a machine wrote it, so that no out-of-office answers. In its
    reader's name nothing could be read as an address.
    """
    outcome = channel.send(replace(EMAIL, name="Jane, <Doe> O'Neill-Zoë;"), "attempt-1")
    (request,) = sendgrid.requests
    assert (request.method, request.path) == ("POST", PATH)
    headers = {name.lower(): value for name, value in request.headers.items()}
    assert headers["content-type"] == "application/json"
    assert headers["authorization"] == "Bearer SG.key"
    assert request.json == {
        "from": {"email": "results@example.org", "name": "Example Clinic"},
        "personalizations": [
            {
                "to": [{"email": "jane@example.org", "name": "Jane Doe O'Neill-Zoë"}],
                "custom_args": {"relay_attempt": "attempt-1"},
            }
        ],
        "headers": {"Auto-Submitted": "auto-generated"},
        "subject": EMAIL.subject,
        "content": [
            {"type": "text/plain", "value": EMAIL.text},
            {"type": "text/html", "value": EMAIL.html},
        ],
        "tracking_settings": {
            "click_tracking": {"enable": False, "enable_text": False},
            "open_tracking": {"enable": False},
            "subscription_tracking": {"enable": False},
            "ganalytics": {"enable": False},
        },
    }
    assert (outcome.result, outcome.provider_id) == ("accepted", "sg-1")


def test_a_rules_own_sender_is_used(channel: Provider, sendgrid: ProviderStandIn) -> None:
    """An email may be from somebody else than the others are, and have its answers sent elsewhere;
    without a name of its reader it has the address alone.
    """
    own = replace(EMAIL, sender="Desk <desk@bücher.example>", reply_to="a@example.org")
    channel.send(own, "attempt-1")
    said = sendgrid.requests[0].json
    assert said["from"] == {"name": "Desk", "email": "desk@xn--bcher-kva.example"}
    assert said["reply_to"] == {"email": "a@example.org"}
    assert said["personalizations"][0]["to"] == [{"email": "jane@example.org"}]


# `email_from` → the name and the address that SendGrid gets.
FROM: dict[str, tuple[str, str | None, str]] = {
    "a colon": ("Clinic: results <a@b.example>", "Clinic: results", "a@b.example"),
    "a comma": ("Clinic, Results <a@b.example>", "Clinic, Results", "a@b.example"),
    "a semicolon": ("Clinic; results <a@b.example>", "Clinic; results", "a@b.example"),
    "an @": ("Clinic @ Home <a@b.example>", "Clinic @ Home", "a@b.example"),
    "an address as the name": ("info@b.example <a@b.example>", "info@b.example", "a@b.example"),
    "brackets": ("Clinic (London) <a@b.example>", "Clinic (London)", "a@b.example"),
    "angle brackets": ("Clinic <London> <a@b.example>", "Clinic <London>", "a@b.example"),
    "in quotes": ('"Clinic, Results" <a@b.example>', "Clinic, Results", "a@b.example"),
    "quotes in quotes": (r'"The \"Clinic\"" <a@b.example>', 'The "Clinic"', "a@b.example"),
    "a quote inside": ('The 5" Clinic <a@b.example>', 'The 5" Clinic', "a@b.example"),
    "an apostrophe": ("St. John's <a@b.example>", "St. John's", "a@b.example"),
    "a backslash": ("Clinic \\ Lab <a@b.example>", "Clinic \\ Lab", "a@b.example"),
    "accents": ("Clínica <a@b.example>", "Clínica", "a@b.example"),
    "no-break and zero-width spaces": (
        "Clinic\u00a0A\u200b <a@b.example>",
        "Clinic A",
        "a@b.example",
    ),
    "no blank": ("Clinic<a@b.example>", "Clinic", "a@b.example"),
    "blanks": ("  Clinic   <  a@b.example  >  ", "Clinic", "a@b.example"),
    "no name": ("<a@b.example>", None, "a@b.example"),
    "an address alone": ("results@example.org", None, "results@example.org"),
    "another alphabet": ("Clinic <a@bücher.example>", "Clinic", "a@xn--bcher-kva.example"),
}


@pytest.mark.parametrize(("written", "name", "address"), FROM.values(), ids=FROM)
def test_what_stands_before_the_last_bracket_is_the_senders_name(
    written: str,
    name: str | None,
    address: str,
    settings: Settings,
    connect: Connect,
    sendgrid: ProviderStandIn,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever a clinic is called, `email_from` is taken as it is written, and SendGrid gets its
    name and its address each in a field of its own, where nothing needs quotes."""
    assert email_sender(written) == written
    monkeypatch.setitem(SENDERS, "email", written)
    connect("email", settings).send(EMAIL, "attempt-1")
    told = {"email": address} | ({"name": name} if name else {})
    assert sendgrid.requests[0].json["from"] == told


@pytest.mark.parametrize("text", ["£5 & ü 🧪", "<b>{{7*7}}</b>", "a\n\nb", "-name- %first%"])
def test_no_character_is_lost(channel: Provider, sendgrid: ProviderStandIn, text: str) -> None:
    """The words arrive as they were written, whatever is in them."""
    channel.send(Message("email", "jane@example.org", text, text, text), "attempt-1")
    mail = sendgrid.requests[0].json
    assert {mail["subject"], *(part["value"] for part in mail["content"])} == {text}


@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize("body", [{"errors": [{"message": "jane@example.org"}]}, b"<html>", b""])
def test_a_refusal_is_permanent(
    channel: Provider, sendgrid: ProviderStandIn, status: int, body: Any
) -> None:
    """4xx cannot be helped by trying again; SendGrid's words, which may quote, are not kept."""
    sendgrid.always(Reply(status, body))
    outcome = channel.send(EMAIL, "attempt-1")
    assert (outcome.result, outcome.permanent, outcome.code) == ("rejected", True, str(status))
    assert EMAIL.address not in repr(outcome)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_account_is_the_operators(
    channel: Provider, sendgrid: ProviderStandIn, status: int
) -> None:
    """A fault of our account is not this message's: it is kept."""
    sendgrid.always(Reply(status, {"errors": []}))
    outcome = channel.send(EMAIL, "attempt-1")
    assert (outcome.result, outcome.operator, outcome.permanent) == ("rejected", True, False)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"X-RateLimit-Reset": "+60"}, 60),
        ({"X-RateLimit-Reset": "+99999"}, 3600),
        ({"X-RateLimit-Reset": "-60"}, 0),
        ({"X-RateLimit-Reset": "soon"}, None),
        ({"X-RateLimit-Reset": "²"}, None),
        ({}, None),
    ],
    ids=str,
)
def test_a_busy_sendgrid_names_its_delay(
    channel: Provider, sendgrid: ProviderStandIn, headers: dict[str, str], wait: float | None
) -> None:
    """429 is tried again, once the limit is lifted where SendGrid says when, within an hour."""
    moved = {
        name: str(int(time.time()) + int(value)) if value[0] in "+-" else value
        for name, value in headers.items()
    }
    sendgrid.always(Reply(429, {"errors": []}, moved))
    outcome = channel.send(EMAIL, "attempt-1")
    assert (outcome.result, outcome.permanent, outcome.operator) == ("rejected", False, False)
    assert outcome.retry_after == (wait if not wait else pytest.approx(wait, abs=30))


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_server_error_leaves_it_open(
    channel: Provider, sendgrid: ProviderStandIn, status: int
) -> None:
    """5xx may come after SendGrid took the message: it is unknown."""
    sendgrid.always(Reply(status, b"<html>"))
    assert channel.send(EMAIL, "attempt-1").result == "unknown"


@pytest.mark.parametrize("status", [200, 201, 204])
def test_only_202_is_accepted(channel: Provider, sendgrid: ProviderStandIn, status: int) -> None:
    """Another 2xx is not what SendGrid documents: nobody knows whether it was taken."""
    sendgrid.always(Reply(status, b"{}" if status != 204 else b"", {"X-Message-Id": "sg-1"}))
    assert channel.send(EMAIL, "attempt-1").result == "unknown"


def test_accepted_without_an_id_is_accepted(channel: Provider, sendgrid: ProviderStandIn) -> None:
    """202 says it; the id is only a help."""
    sendgrid.always(Reply(202))
    outcome = channel.send(EMAIL, "attempt-1")
    assert (outcome.result, outcome.provider_id) == ("accepted", None)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(
    channel: Provider, sendgrid: ProviderStandIn, elsewhere: StandIn, status: int
) -> None:
    """Neither the mail nor the API key goes where a redirect points."""
    sendgrid.always(Reply(status, headers={"Location": f"{elsewhere.url}{PATH}"}))
    assert channel.send(EMAIL, "attempt-1").result in ("rejected", "unknown")
    assert elsewhere.requests == []
    assert len(sendgrid.requests) == 1


def test_a_refused_connection_is_surely_not_sent(settings: Settings, connect: Connect) -> None:
    """What never reached SendGrid is tried again."""
    away = replace(settings, sendgrid_api_url="http://127.0.0.1:1")
    outcome = connect("email", away).send(EMAIL, "attempt-1")
    assert (outcome.result, outcome.permanent, outcome.operator) == ("rejected", False, False)


def test_a_hang_up_leaves_it_open(channel: Provider, sendgrid: ProviderStandIn) -> None:
    """A connection that ends after the request may have carried it."""
    sendgrid.always(Reply(hang_up=True))
    outcome = channel.send(EMAIL, "attempt-1")
    assert outcome.result == "unknown"
    assert EMAIL.address not in outcome.reason


def test_connections_are_kept_and_answers_not_mixed_up(
    channel: Provider, sendgrid: ProviderStandIn
) -> None:
    """Eighty sends of eight threads share eight connections, and each gets its own answer."""

    def accept(request: Any) -> Reply:
        (personal,) = request.json["personalizations"]
        return Reply(202, headers={"X-Message-Id": personal["custom_args"]["relay_attempt"]})

    sendgrid.answers.append(accept)

    def send(thread: int) -> list[tuple[str, str | None]]:
        attempts = [f"{thread}-{n}" for n in range(10)]
        return [(one, channel.send(EMAIL, one).provider_id) for one in attempts]

    pairs = [pair for batch in at_once(send, 8) for pair in batch]
    assert len(pairs) == 80
    assert all(attempt == answered for attempt, answered in pairs)
    assert len(sendgrid.connections) <= 8
