"""SendGrid's event webhook: whose it is, and what its events mean."""

from __future__ import annotations

import base64
import json
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st

from relay.channels.sendgrid import ATTEMPT, EVENTS, is_signed, parse_receipts, read
from relay.config.settings import Settings
from relay.rules.receipts import STATES, Receipt
from relay.rules.statuses import FAILED, OURS

ADDRESS = "jane@example.org"
AT = int(time.time())
KEY = ec.generate_private_key(ec.SECP256R1())


def public(key: Any = KEY) -> str:
    """A public key as SendGrid shows it: base64 of its DER form."""
    der = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return base64.b64encode(key.public_key().public_bytes(*der)).decode()


def by(*keys: str) -> Settings:
    """Settings with some keys; the first is the current one."""
    current, *former = keys
    return Settings(
        sendgrid_webhook_public_key=current, former_sendgrid_webhook_public_key=tuple(former)
    )


def sign(body: bytes, timestamp: str = str(AT)) -> str:
    """SendGrid's signature."""
    signature = KEY.sign(timestamp.encode() + body, ec.ECDSA(hashes.SHA256()))
    return base64.b64encode(signature).decode()


def event(name: Any = "delivered", **fields: Any) -> dict[str, Any]:
    """An event as SendGrid posts it."""
    return {
        **{"email": ADDRESS, "timestamp": AT, "event": name, "sg_event_id": "ZGVsaXZlcmVkLTA"},
        **{"sg_message_id": "14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0"},
        **{"relay_attempt": "att_1", "smtp-id": "<14c5d75ce93.dfd.64b469@ismtpd-555>", **fields},
    }


def parsed(name: str, **fields: Any) -> Receipt:
    """The one receipt of an event."""
    (receipt,) = parse_receipts([event(name, **fields)])
    return receipt


@pytest.mark.parametrize(
    ("name", "fields", "state", "suppress"),
    [
        ("processed", {}, "sent", ""),
        ("deferred", {"response": "400 try again later", "attempt_number": "5"}, "sent", ""),
        ("delivered", {"response": "250 OK"}, "delivered", ""),
        ("bounce", {"type": "bounce", "status": "5.1.1"}, "permanent-failure", "bounce"),
        ("bounce", {"status": "5.1.1"}, "permanent-failure", "bounce"),
        ("bounce", {"type": "blocked", "status": "4.7.1"}, "temporary-failure", ""),
        ("bounce", {"type": "blocked", "status": "5.7.1"}, "temporary-failure", ""),
        ("bounce", {"type": "bounce", "status": "4.2.2"}, "temporary-failure", ""),
        ("bounce", {"type": "bounce", "status": "4.4.7"}, "temporary-failure", ""),
        ("bounce", {"type": "blocked", "status": "5.2.2"}, "temporary-failure", ""),
        ("bounce", {"type": "bounce", "status": "5.2.2"}, "permanent-failure", ""),
        ("dropped", {"reason": "Bounced Address"}, "permanent-failure", "bounce"),
        ("dropped", {"reason": "Unsubscribed Address"}, "permanent-failure", "unsubscribed"),
        ("dropped", {"reason": "Spam Reporting Address"}, "permanent-failure", "spam report"),
        ("dropped", {"reason": "Invalid"}, "permanent-failure", "invalid address"),
        ("dropped", {"reason": "Spam Content"}, "permanent-failure", ""),
        ("dropped", {"reason": "Invalid SMTPAPI header"}, "permanent-failure", ""),
        ("dropped", {"reason": None}, "permanent-failure", ""),
        ("dropped", {}, "permanent-failure", ""),
        ("spamreport", {}, "", "spam report"),
        ("unsubscribe", {}, "", "unsubscribed"),
        ("group_unsubscribe", {"asm_group_id": 10}, "", "unsubscribed"),
    ],
)
def test_each_event_has_its_state(
    name: str, fields: dict[str, Any], state: str, suppress: str
) -> None:
    """Each event is one of our states; an address that cannot or will not have more is named so."""
    receipt = parsed(name, **fields)
    assert (receipt.state, receipt.word, receipt.suppress) == (state, name, suppress)
    assert (receipt.attempt_id, receipt.provider_id) == ("att_1", "14c5d75ce93")
    assert receipt.happened_at == datetime.fromtimestamp(AT, UTC)
    assert receipt.address == ""
    assert bool(receipt.reason) == state.endswith("failure")
    assert receipt.code == (fields.get("status", "") if receipt.reason else "")
    assert not state or state in STATES


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_a_receipt_names_nobody(name: str) -> None:
    """An address, or what a mail server wrote, is not kept; a reason is one plain sentence."""
    free = f"550 5.1.1 <{ADDRESS}> unknown"
    receipt = parsed(name, reason=free, response=free, status=free, type=free)
    assert ADDRESS not in repr(receipt)
    assert "550" not in repr(receipt)
    assert receipt.reason.count(".") == bool(receipt.reason)


MALFORMED = (
    None,
    7,
    "delivered",
    [],
    [event()],
    {},
    {"event": "delivered"},
    event("open"),
    event(None),
    event(7),
    event(["delivered"]),
    event("Delivered"),
    event(relay_attempt=None, sg_message_id=None),
    event(relay_attempt="\0", sg_message_id=".filter"),
    event(relay_attempt=["att_1"], sg_message_id=7),
    event(relay_attempt="\ud800", sg_message_id="\ud800.x"),
    event(relay_attempt=ADDRESS, sg_message_id="x" * 101),
)


@pytest.mark.parametrize("bad", MALFORMED, ids=map(str, range(len(MALFORMED))))
def test_what_is_malformed_is_passed_over(bad: Any) -> None:
    """A bad event, or one that tells nothing of a message, does not keep the others from us."""
    receipts = parse_receipts([event("processed"), bad, event("bounce")])
    assert [receipt.word for receipt in receipts] == ["processed", "bounce"]


ODD = [None, "1790000000", 1.5, True, 0, -1, 1 << 33, 10**400, [1]]


@pytest.mark.parametrize("moment", ODD, ids=lambda odd: str(odd)[:20])
def test_an_odd_moment_is_none(moment: Any) -> None:
    """A time that is no whole number, or that nobody lives to see, is left out."""
    assert parsed("delivered", timestamp=moment).happened_at is None


def test_an_event_without_an_attempt_has_the_messages_id() -> None:
    """SendGrid's id up to the first dot is the one that the send was answered with."""
    receipt = parsed("delivered", relay_attempt=None)
    assert (receipt.attempt_id, receipt.provider_id) == ("", "14c5d75ce93")


# What a delayed bounce looks like: https://github.com/sendgrid/docs/issues/5177
@pytest.mark.parametrize("id_", ["", None])
@pytest.mark.parametrize(
    ("name", "fields", "suppress"),
    [
        ("bounce", {"type": "bounce", "status": "5.1.10"}, "bounce"),
        ("bounce", {"type": "blocked"}, ""),
        ("dropped", {"reason": "Bounced Address"}, "bounce"),
    ],
)
def test_a_bounce_without_an_id_has_its_address(
    name: str, fields: dict[str, Any], suppress: str, id_: str | None
) -> None:
    """When a mail server bounces an email hours later, SendGrid says neither its own id of it nor
    ours, but whose address it was. Nothing prints that.
    """
    delayed = event(name, **fields, sg_message_id=id_, email=" Jane@Example.ORG ")
    del delayed["relay_attempt"]
    (receipt,) = parse_receipts([delayed])
    assert (receipt.attempt_id, receipt.provider_id) == ("", "")
    assert (receipt.address, receipt.suppress) == ("Jane@example.org", suppress)
    assert receipt.state in FAILED
    assert "jane" not in repr(receipt).lower()


@pytest.mark.parametrize("name", sorted(set(EVENTS) - {"bounce", "dropped", "group_resubscribe"}))
def test_other_news_without_an_id_is_none(name: str) -> None:
    """Only a bounce comes without an id: whatever else does is another system's."""
    assert parse_receipts([event(name, relay_attempt=None, sg_message_id=None)]) == []


NOBODY = [None, "", 7, ["a@b.example"], "nobody", "a@b c.example", "x" * 400]


@pytest.mark.parametrize("email", NOBODY, ids=lambda odd: repr(odd)[:20])
def test_a_bounce_of_nobody_is_none(email: Any) -> None:
    """Without an id, and without an address that Relay could have written to."""
    nameless = {"relay_attempt": None, "sg_message_id": "", "email": email}
    assert parse_receipts([event("bounce", **nameless)]) == []


BODY = json.dumps([event()], ensure_ascii=False).encode()


def test_sendgrids_signature_is_taken() -> None:
    """What SendGrid signed, to the byte, is SendGrid's."""
    for body in (BODY, "[“é”]\r\n".encode(), b""):
        assert is_signed(by(public()), body, sign(body), str(AT))


def test_any_other_is_not() -> None:
    """Another key, body or time, a missing signature."""
    other = ec.generate_private_key(ec.SECP256R1())
    assert not is_signed(by(public(other)), BODY, sign(BODY), str(AT))
    assert not is_signed(by(public()), BODY + b" ", sign(BODY), str(AT))
    assert not is_signed(by(public()), BODY, sign(BODY), str(AT + 1))
    assert not is_signed(by(public()), BODY, sign(BODY), "")
    assert not is_signed(by(public()), BODY, "", str(AT))


@pytest.mark.parametrize(
    ("age", "is_taken"),
    [
        (timedelta(hours=25), True),  # SendGrid tries for a day
        (timedelta(days=4), False),
        (timedelta(days=365), False),
        (-timedelta(days=4), False),
    ],
    ids=str,
)
def test_what_was_signed_long_ago_is_refused(age: timedelta, is_taken: bool) -> None:
    """A batch that somebody kept is not played again a year later; SendGrid's own repeats are
    taken.
    """
    when = str(int((datetime.now(UTC) - age).timestamp()))
    assert is_signed(by(public()), BODY, sign(BODY, when), when) == is_taken


@pytest.mark.parametrize("signature", ["x", "é", "====", "AAAA", "\0", "a" * 10_000])
def test_an_odd_signature_is_none(signature: str) -> None:
    """A signature of any shape is refused, and nothing is raised."""
    assert not is_signed(by(public()), BODY, signature, str(AT))


@pytest.mark.parametrize(
    "key",
    ["", "x", "é", "AAAA", "\0", public(ed25519.Ed25519PrivateKey.generate())],
    ids=["none", "a letter", "not ASCII", "short", "a null", "another kind"],
)
def test_an_odd_key_signs_nothing(key: str) -> None:
    """Without a key, or with one that is none, every batch is refused, and nothing is raised."""
    assert not is_signed(by(key), BODY, sign(BODY), str(AT))


def test_a_key_that_is_changed_leaves_no_gap() -> None:
    """While both stand there a batch by either is taken; one that was taken away signs nothing."""
    old, new = public(), public(ec.generate_private_key(ec.SECP256R1()))
    for keys in ((old, new), (new, old)):
        assert is_signed(by(*keys), BODY, sign(BODY), str(AT))
    assert not is_signed(by(new), BODY, sign(BODY), str(AT))


def test_a_body_that_is_no_text_is_signed_all_the_same() -> None:
    """A signature is over bytes, whatever they stand for: a batch has mail servers' answers."""
    body = b"\xff[]"
    assert is_signed(by(public()), body, sign(body), str(AT))
    assert not is_signed(by(public()), b"\xfe[]", sign(body), str(AT))


# Batches with an event that is hard to read. The next report is a line here, and one in
# docs/reports.md.
HARD_TO_READ = {
    "one byte of latin-1": b'"response": "550 bo\xeete inconnue"',
    "half a character": b'"response": "550 \xe2\x82"',
    "half a surrogate pair": b'"response": "\\ud83d"',
    "a line's end in a text": b'"response": "550-no\r\n550 such user"',
    "NUL": b'"response": "\\u0000"',
    "a number without end": b'"tls": ' + b"9" * 5000,
    "no number": b'"tls": NaN',
    "the same key twice": b'"tls": 1, "tls": 0',
}


@pytest.mark.parametrize("odd", HARD_TO_READ.values(), ids=HARD_TO_READ)
def test_an_event_that_is_hard_to_read_sinks_no_other(odd: bytes) -> None:
    """Whatever a mail server has answered, the receipt is read, and so are the others."""
    one, other = json.dumps(event("bounce")).encode(), json.dumps(event()).encode()
    receipts = parse_receipts(read(b"[" + one[:-1] + b", " + odd + b"}, " + other + b"]"))
    assert [receipt.word for receipt in receipts] == ["bounce", "delivered"]


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reading(body: bytes) -> None:
    """Whatever is posted is a list, or refused as none."""
    with suppress(ValueError):
        parse_receipts(read(body))
    assert parse_receipts(read(b"[" + json.dumps(body.hex()).encode() + b"]")) == []


ACCOUNTS = (
    "Recipient List over Package Quota",
    "recipient list over package quota ",
    "Maximum credits exceeded",
    "Account suspended",
    "Account under review",
    "Account is frozen for billing",
    "Account deactivated",
)


@pytest.mark.parametrize("reason", ACCOUNTS)
def test_what_the_account_is_to_blame_for_is_no_patients_fault(reason: str) -> None:
    """It says nothing of the address, and is marked so that the channel waits and it goes again."""
    receipt = parsed("dropped", reason=reason, status="5.0.0")
    assert (receipt.state, receipt.code, receipt.suppress) == ("temporary-failure", OURS, "")
    assert receipt.reason.startswith("SendGrid drops our emails")
    nameless = event("dropped", reason=reason, relay_attempt=None, sg_message_id="")
    assert parse_receipts([nameless]) == []


def test_who_comes_back_is_known_by_the_address() -> None:
    """A person may come back by the link in any email: what counts is whose address it is."""
    receipt = parsed("group_resubscribe", relay_attempt=None, sg_message_id="other.x")
    assert (receipt.state, receipt.lifts, receipt.address) == ("", "unsubscribed", ADDRESS)


def test_a_batch_is_read_in_the_order_in_which_it_happened() -> None:
    """SendGrid posts events in any order."""
    came_back, left = event("group_resubscribe", timestamp=AT + 1), event("group_unsubscribe")
    told = [receipt.word for receipt in parse_receipts([came_back, left])]
    assert told == ["group_unsubscribe", "group_resubscribe"]


# SendGrid's own fields, of all its events: https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event
THEIRS = {
    *("email", "timestamp", "event", "smtp-id", "useragent", "ip", "sg_event_id", "sg_message_id"),
    *("reason", "status", "response", "tls", "url", "url_offset", "category", "asm_group_id"),
    *("attempt", "pool", "sg_machine_open", "bounce_classification", "type", "sg_content_type"),
    *("unique_args", "cert_err", "newsletter", "send_at", "sg_template_id", "sg_template_name"),
    *("marketing_campaign_id", "marketing_campaign_name", "singlesend_id", "from", "to", "subject"),
}


def test_our_argument_has_a_name_of_its_own() -> None:
    """No field of SendGrid's own can win over it; `attempt` was how often it has tried."""
    assert ATTEMPT not in THEIRS
    assert ATTEMPT.startswith("relay_")
    assert parsed("deferred", attempt="5").attempt_id == "att_1"


def test_the_argument_of_the_release_before_is_read_too() -> None:
    """An email that was sent before the deploy names its attempt in the old way."""
    receipt = parsed("delivered", relay_attempt=None, attempt="att_0")
    assert (receipt.attempt_id, receipt.provider_id) == ("att_0", "14c5d75ce93")
