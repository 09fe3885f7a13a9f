"""Twilio's callbacks: whose they are, and what their words mean."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator

from relay.channels import twilio
from relay.channels.twilio import parse_inbound, parse_receipts
from relay.config.settings import Settings
from relay.rules.receipts import STATES, Receipt
from relay.rules.replies import KEYWORDS

NUMBER = "+447700900001"
URL = "https://relay.example/callbacks/twilio/status?attempt=att_1"


def form(status: str = "delivered", code: str = "", **fields: str) -> dict[str, str]:
    """A status callback as Twilio posts it."""
    return {
        **{"SmsSid": "SM1", "SmsStatus": status, "MessageStatus": status, "To": NUMBER},
        **{"MessagingServiceSid": "MG1", "MessageSid": "SM1", "AccountSid": "AC1"},
        **{"From": "EXCLINIC", "ApiVersion": "2010-04-01"},
        **({"ErrorCode": code} if code else {}),
        **fields,
    }


def parsed(status: str = "delivered", code: str = "", **fields: str) -> Receipt:
    """The one receipt of a callback."""
    (receipt,) = parse_receipts(form(status, code, **fields), "att_1")
    return receipt


@pytest.mark.parametrize(
    ("word", "state"),
    [
        *((word, "sent") for word in ("accepted", "scheduled", "queued", "sending", "sent")),
        *((word, "delivered") for word in ("delivered", "read")),
        *((word, "temporary-failure") for word in ("undelivered", "failed", "canceled")),
        *((word, "") for word in ("receiving", "partially_delivered")),
    ],
)
def test_each_word_has_its_state(word: str, state: str) -> None:
    """Each of Twilio's status words is one of ours, and an unknown one says nothing."""
    receipt = parsed(word)
    assert (receipt.state, receipt.word) == (state, word)
    assert (receipt.attempt_id, receipt.provider_id) == ("att_1", "SM1")
    assert (receipt.suppress, receipt.happened_at) == ("", None)
    assert bool(receipt.reason) == (state == "temporary-failure")
    assert not state or state in STATES


@pytest.mark.parametrize("word", ["failed", "undelivered"])
@pytest.mark.parametrize("code", sorted(twilio.PERMANENT))
def test_a_permanent_code_is_final(word: str, code: int) -> None:
    """What cannot be helped ends as a permanent failure, with the table's reason."""
    receipt = parsed(word, str(code))
    assert (receipt.state, receipt.code) == ("permanent-failure", str(code))
    assert receipt.reason == twilio.PERMANENT[code]
    assert receipt.suppress == ("STOP (Twilio 21610)" if code == 21610 else "")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("30003", "off or out of reach"),
        ("30008", "does not say why"),
        ("30001", "Twilio could not deliver the text (30001)."),
        ("30002", "Twilio refuses our account (30002)."),
        ("99999", "Twilio could not deliver the text (99999)."),
        ("", "Twilio could not deliver the text."),
        ("0", "Twilio could not deliver the text."),
        ("soon", "Twilio could not deliver the text."),
        ("²", "Twilio could not deliver the text."),
        ("9" * 5000, "Twilio could not deliver the text."),
    ],
)
def test_another_code_may_change(code: str, words: str) -> None:
    """A phone that was off, an unknown error: a temporary failure with a plain reason."""
    receipt = parsed("undelivered", code)
    assert receipt.state == "temporary-failure"
    assert words in receipt.reason
    assert receipt.reason.endswith(".")


def test_a_code_counts_for_failures_only() -> None:
    """A text that went out has no failure's code or reason, whatever is posted with it."""
    receipt = parsed("sent", "30003")
    assert (receipt.state, receipt.code, receipt.reason) == ("sent", "", "")


def test_the_older_field_names_do() -> None:
    """SmsStatus and SmsSid stand for MessageStatus and MessageSid."""
    receipt = parse_receipts({"SmsStatus": "sent", "SmsSid": "SM7"}, "")[0]
    assert (receipt.state, receipt.provider_id, receipt.attempt_id) == ("sent", "SM7", "")


@pytest.mark.parametrize("fields", [{}, {"MessageSid": "SM1"}, {"MessageStatus": "\0 " * 50}])
def test_without_a_status_there_is_no_receipt(fields: dict[str, str]) -> None:
    """What tells nothing is passed over."""
    assert parse_receipts(fields, "att_1") == []


@pytest.mark.parametrize("odd", ["\0", "a b", "x" * 65, "é", "'; DROP"])
def test_an_odd_id_is_none(odd: str) -> None:
    """What is no id of ours or Twilio's does not get to the ledger."""
    (receipt,) = parse_receipts(form(MessageSid=odd), odd)
    assert (receipt.attempt_id, receipt.provider_id) == ("", "")


def test_a_receipt_names_nobody() -> None:
    """Neither a number nor Twilio's own sentences are kept."""
    receipt = parsed("failed", "99999", ErrorMessage=f"No such number: {NUMBER}")
    assert NUMBER not in repr(receipt)


def opt(form: dict[str, str]) -> str:
    """The keyword of an inbound text."""
    return parse_inbound(form).keyword


@pytest.mark.parametrize(("word", "meaning"), KEYWORDS.items())
@pytest.mark.parametrize("written", ["{}", " {}! ", "“{}.”\n", "_{}_"])
def test_a_word_is_understood_however_written(word: str, meaning: str, written: str) -> None:
    """STOP, START, HELP and their like, in any case, with what stands around them."""
    for body in (word, word.lower(), word.title()):
        assert opt({"Body": written.format(body)}) == meaning


@pytest.mark.parametrize(
    "body",
    [
        *("", "!", "Thanks", "stop it", "don't stop", "nonstop", "no stop", "Yes please", "\u0301"),
        *("STOP please", "please stop texting me", "STOP 2", "stop start", "the end", "🛑", "ends"),
    ],
)
def test_other_words_are_no_wish(body: str) -> None:
    """Only a keyword counts, not a sentence that has one in it."""
    assert opt({"Body": body}) == ""
    assert opt({}) == ""


# How people write it who mean STOP. The next report is a line here, and one in docs/reports.md.
HEARD_AS_STOP = (
    "STOP STOP",
    "stop, stop, STOP!!!",
    "STOP ALL",
    "OPT OUT",
    "opt-out",
    "Opt.Out",
    "\uff33\uff34\uff2f\uff30",  # full width, as Japanese phones write
    "\uff53\uff54\uff4f\uff50\uff01",
    "S T O P",
    "ST\u200bOP",
    "ARRET",
    "Arrêt",
    "arre\u0302t",
    "REMOVE",
    "STOP 🛑",
    "“Stop”\u00a0",
    "(unsubscribe)",
    "stop/cancel",
    "UNSUBSCRİBE",
)


@pytest.mark.parametrize("body", HEARD_AS_STOP)
def test_stop_is_heard_however_people_write_it(body: str) -> None:
    """Said twice, in two words, in wide letters, in French: who means STOP is stopped."""
    assert opt({"Body": body}) == "stop"
    assert opt({"Body": body.lower()}) == "stop"


@given(st.text(max_size=200))
def test_no_text_breaks_the_ear_for_stop(body: str) -> None:
    """Whatever people write is one of the words or none."""
    assert opt({"Body": body}) in ("", "stop", "start", "help")
    assert opt({"Body": body, "OptOutType": body}) == opt({"Body": body})


@pytest.mark.parametrize("meaning", ["stop", "start", "help"])
def test_twilio_says_what_it_took_it_for(meaning: str) -> None:
    """OptOutType wins over the words: a service may have words of its own."""
    assert opt({"OptOutType": meaning.upper(), "Body": "ARRET"}) == meaning
    assert opt({"OptOutType": meaning.upper(), "Body": "HELP"}) == meaning


def signed(token: str, url: str = URL, fields: dict[str, str] | None = None, **how: Any) -> bool:
    """Whether a signature of `twilio-token` over the callback's own address and form is taken."""
    signature = RequestValidator("twilio-token").compute_signature(URL, form())
    settings = Settings(twilio_auth_token=token)
    return twilio.is_signed(settings, url, fields or form(), how.get("signature", signature))


def test_twilios_signature_is_taken() -> None:
    """What Twilio signed with our token is Twilio's."""
    assert signed("twilio-token")


def test_a_signature_may_be_over_the_overrides_too() -> None:
    """No request shows the fragment of its address. Whether Twilio signs it, it does not say, so
    both are taken; another fragment is not ours.
    """
    for overrides, taken in ((twilio.OVERRIDES, True), ("", True), ("#rc=1", False)):
        by = RequestValidator("twilio-token").compute_signature(URL + overrides, form())
        assert signed("twilio-token", signature=by) is taken


def test_any_other_is_not() -> None:
    """Another token, address or form, a missing or odd signature, no token of ours."""
    assert not signed("other-token")
    assert not signed("")
    assert not signed("twilio-token", URL.replace("https", "http"))
    assert not signed("twilio-token", URL + "2")
    assert not signed("twilio-token", fields=form("failed"))
    assert not signed("twilio-token", "https://relay.example:port/")
    for signature in ("", "x", "é" * 28, "=" * 28):
        assert not signed("twilio-token", signature=signature)


def test_a_token_that_is_changed_leaves_no_gap() -> None:
    """While both stand there a call by either is taken; one that was taken away signs nothing."""
    signature = RequestValidator("old").compute_signature(URL, form())
    for current, former, taken in (("new", ("old",), True), ("old", (), True), ("new", (), False)):
        by = Settings(twilio_auth_token=current, former_twilio_auth_token=former)
        assert twilio.is_signed(by, URL, form(), signature) is taken


def test_without_a_token_nothing_is_signed() -> None:
    """An empty token signs nothing, though anybody could compute that signature."""
    signature = RequestValidator("").compute_signature(URL, form())
    assert not twilio.is_signed(Settings(), URL, form(), signature)
