"""Looking for a text in Twilio's list, what the callback's address is, and Twilio's Retry-After."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from relay.channels.base import Found, Provider
from relay.config.settings import Settings
from relay.messages.templates import Message
from tests.channels.conftest import SMS, Connect
from tests.channels.test_twilio import channel, settings
from tests.standins import ProviderStandIn, Reply, Request, twilio_error

__all__ = ["channel", "settings"]  # fixtures

SINCE = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
NOBODY = frozenset[str]()
Lists = Callable[..., None]


def text(sid: str = "SM1", after: float = 1, **fields: Any) -> dict[str, Any]:
    """A text of Twilio's list, `after` seconds after the send began."""
    at = format_datetime(SINCE + timedelta(seconds=after))
    return {
        **{"sid": sid, "to": SMS.address, "body": SMS.text, "direction": "outbound-api"},
        **{"status": "sent", "date_created": at, "date_sent": at, **fields},
    }


def page(texts: list[dict[str, Any]], following: str | None = None) -> Reply:
    """A page of Twilio's list."""
    return Reply(200, {"messages": texts, "next_page_uri": following, "page": 0})


@pytest.fixture
def lists(twilio: ProviderStandIn) -> Lists:
    """Have Twilio list these texts, all on one page."""
    return lambda *texts: twilio.always(page(list(texts)))


def found(channel: Provider, message: Message = SMS, taken: frozenset[str] = NOBODY) -> Found:
    """What comes of looking."""
    return channel.find(message, SINCE, taken)


def test_what_was_sent_is_found(channel: Provider, twilio: ProviderStandIn) -> None:
    """What Twilio took is found by one GET that asks for the number, a hundred at most."""
    since = datetime.now(UTC)
    sent = channel.send(SMS, "attempt-1")
    assert channel.find(SMS, since, NOBODY) == Found(sent.provider_id)
    assert twilio.requests[-1].query == {"To": SMS.address, "PageSize": "100"}


def test_what_was_not_sent_is_not_found(channel: Provider, lists: Lists) -> None:
    """An empty list is an answer: it is not there."""
    lists()
    assert found(channel) == Found()


@pytest.mark.parametrize(
    "fields",
    [
        {"body": "Hello Zoë, your kit has been lost."},
        {"body": "[TEST] " + SMS.text},
        {"body": SMS.text + " Bye."},
        {"body": ""},
        {"body": None},
        {"to": "+447700900002"},
        {"direction": "inbound"},
        {"direction": None},
        {"after": -61},
        {"sid": "SM9"},
        {"sid": None},
    ],
    ids=str,
)
def test_another_text_is_not_taken_for_it(
    channel: Provider, lists: Lists, fields: dict[str, Any]
) -> None:
    """Other words, another number, one from the person, an older one, another message's."""
    lists(text(**fields))
    assert found(channel, taken=frozenset({"SM9"})) == Found()


@pytest.mark.parametrize(
    "fields",
    [
        {"after": -59},
        {"after": 3600},
        {"direction": "outbound-reply"},
        {"direction": "outbound-call"},
        {"date_sent": None},
        {"date_created": None},
        *(
            {"status": word}
            for word in ("queued", "failed", "undelivered", "canceled", "delivered")
        ),
    ],
    ids=str,
)
def test_whatever_became_of_it_it_was_taken(
    channel: Provider, lists: Lists, fields: dict[str, Any]
) -> None:
    """A text in the list was accepted, one that failed too; clocks may differ by a minute."""
    lists(text(**fields))
    assert found(channel).provider_id == "SM1"


@pytest.mark.parametrize(
    ("fields", "state", "code"),
    [
        ({"status": "queued"}, None, ""),
        ({"status": "sent", "error_code": None}, None, ""),
        ({"status": "a new word"}, None, ""),
        ({"status": "delivered"}, "delivered", ""),
        ({"status": "undelivered", "error_code": 30003}, "temporary-failure", "30003"),
        ({"status": "undelivered", "error_code": 30005}, "permanent-failure", "30005"),
        ({"status": "failed", "error_code": "30005"}, "permanent-failure", "30005"),
        ({"status": "failed", "error_code": "odd"}, "temporary-failure", ""),
    ],
    ids=str,
)
def test_what_became_of_it_is_told_too(
    channel: Provider, lists: Lists, fields: dict[str, Any], state: str | None, code: str
) -> None:
    """Twilio's list says how a text ended: nobody else may, where no callback reaches us."""
    lists(text(**fields))
    told = found(channel).receipt
    assert (told and told.state, told.code if told else "") == (state, code)


@pytest.mark.parametrize(
    "body",
    [
        "Sent from your Twilio trial account - {}",
        "  {}\n",
        "“{}”",
    ],
)
def test_twilio_may_change_the_words_a_little(channel: Provider, lists: Lists, body: str) -> None:
    """A trial account's words before ours and white space do not hide a text."""
    lists(text(body=body.format(SMS.text.replace(" ", "  "))))
    assert found(channel) == Found("SM1")


def test_smart_encoding_does_not_hide_a_text(channel: Provider, lists: Lists) -> None:
    """Twilio writes quotes, dashes and dots in its own way to save a segment."""
    lists(text(body="Jane's kit - it is here..."))
    assert found(
        channel, Message("sms", SMS.address, "Jane\u2019s kit \u2013 it is here\u2026")
    ) == Found("SM1")


def test_without_words_nothing_is_found(channel: Provider, lists: Lists) -> None:
    """A message whose words are gone is not taken for just any text."""
    lists(text(), text("SM2", body=""))
    assert found(channel, Message("sms", SMS.address, "")) == Found()


def test_of_several_the_nearest_is_taken(channel: Provider, lists: Lists) -> None:
    """The same words twice: the one made when the send began, and what is taken is passed over."""
    lists(text("SM3", 90), text("SM2", 2), text("SM1", -50))
    assert found(channel) == Found("SM2")
    assert found(channel, taken=frozenset({"SM2"})) == Found("SM1")
    assert found(channel, taken=frozenset({"SM1", "SM2"})) == Found("SM3")
    assert found(channel, taken=frozenset({"SM1", "SM2", "SM3"})) == Found()


def pages(twilio: ProviderStandIn, first: list[Any], second: list[Any]) -> None:
    """Have Twilio list texts on two pages."""

    def answer(request: Request) -> Reply:
        following = request.path.partition("?")[0] + "?Page=1"
        return page(second) if request.query.get("Page") else page(first, following)

    twilio.answers.append(answer)


def test_further_pages_are_looked_through(channel: Provider, twilio: ProviderStandIn) -> None:
    """A number with many newer texts hides nothing."""
    pages(twilio, [text(f"SM{n}", 300, body="Other") for n in range(100)], [text("SM1")])
    assert found(channel) == Found("SM1")


def test_no_page_is_asked_for_that_is_too_old(channel: Provider, twilio: ProviderStandIn) -> None:
    """Behind a page that goes back two minutes further nothing is asked for."""
    pages(twilio, [text("SM2", -121)], [text("SM1")])
    assert found(channel) == Found()
    assert len(twilio.requests) == 1


def test_a_list_without_end_settles_nothing(channel: Provider, twilio: ProviderStandIn) -> None:
    """A list that goes on for ever is left, and nothing is concluded from it."""
    twilio.answers.append(lambda request: page([text(body="Other")], request.path))
    assert found(channel).failed
    assert len(twilio.requests) <= 11


@pytest.mark.parametrize(
    "reply",
    [
        twilio_error(401, 20003),
        twilio_error(404, 20404),
        twilio_error(429, 20429),
        Reply(500, b"<html>"),
        Reply(302, headers={"Location": "http://127.0.0.1:1/"}),
        Reply(hang_up=True),
        Reply(200, b""),
        Reply(200, b"<html>"),
        Reply(200, b"[" * 100_000),
        Reply(200, {}),
        Reply(200, [1]),
        Reply(200, {"messages": None}),
        Reply(200, {"messages": [1]}),
        Reply(200, {"messages": "no"}),
        Reply(200, {"messages": [], "next_page_uri": 7}),
        page([{"sid": "SM1"}, text("SM2", date_created=None, date_sent=None)]),
        page([text("SM1", date_created="soon", date_sent="soon")]),
        page([text(body=7)]),
    ],
    ids=lambda reply: f"{reply.status} {str(reply.body)[:40]}",
)
def test_trouble_settles_nothing(channel: Provider, twilio: ProviderStandIn, reply: Reply) -> None:
    """Where Twilio's list cannot be had or read, that is said, and nothing raised; no number."""
    twilio.always(reply)
    looked = found(channel)
    assert looked.provider_id is None
    assert looked.failed.startswith("Relay could not ask Twilio (")
    assert SMS.address not in looked.failed


def test_a_refused_connection_settles_nothing(settings: Settings, connect: Connect) -> None:
    """A Twilio that cannot be reached was not asked."""
    away = connect("sms", replace(settings, twilio_api_url="http://127.0.0.1:1"))
    assert found(away).failed


def test_an_email_is_never_found(bare_settings: Settings, connect: Connect) -> None:
    """SendGrid has no list to look in."""
    message = Message("email", "jane@example.org", "Hello", "Your kit", "<b>Hello</b>")
    assert found(connect("email", bare_settings), message) == Found()


@pytest.mark.parametrize(
    ("public", "told"),
    [
        ("", None),
        (
            "https://r.example",
            "https://r.example/callbacks/twilio/status?attempt=att_1#rc=5&rp=5xx,ct,rt",
        ),
    ],
)
def test_twilio_is_told_where_to_call_back(
    settings: Settings, connect: Connect, twilio: ProviderStandIn, public: str, told: str | None
) -> None:
    """With PUBLIC_URL each text names its attempt in the callback's address, and that Twilio is to
    call again where Relay cannot answer; without it, none.
    """
    for service in ("", "MG1"):
        by = replace(settings, public_url=public, twilio_messaging_service_sid=service)
        connect("sms", by).send(SMS, "att_1")
    assert [request.form.get("StatusCallback") for request in twilio.requests] == [told, told]


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry-After": "60"}, 60),
        ({"Retry-After": "99999"}, 3600),
        ({"Retry-After": "9" * 400}, 3600),
        ({"Retry-After": "0"}, 0),
        ({"Retry-After": "soon"}, None),
        ({}, None),
    ],
    ids=str,
)
def test_a_busy_twilio_names_its_delay(
    channel: Provider, twilio: ProviderStandIn, headers: dict[str, str], wait: float | None
) -> None:
    """429 is tried again when Twilio says, within an hour."""
    twilio.always(twilio_error(429, 20429, **headers))
    outcome = channel.send(SMS, "attempt-1")
    assert (outcome.result, outcome.permanent, outcome.operator) == ("rejected", False, False)
    assert outcome.retry_after == wait


def test_a_delay_is_that_of_its_own_answer(channel: Provider, twilio: ProviderStandIn) -> None:
    """An answer without a delay does not take over the one before."""
    busy = {"Retry-After": "60"}
    twilio.once(
        twilio_error(429, 20429, **busy), twilio_error(429, 20429), twilio_error(400, 20429)
    )
    delays = [channel.send(SMS, "attempt-1").retry_after for _ in range(3)]
    assert delays == [60, None, None]
