"""/callbacks: whom Relay listens to, and what it does about what it is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from twilio.request_validator import RequestValidator

from relay.channels.twilio import judge
from relay.config.settings import Settings
from relay.jobs.deliver import refused_ending
from relay.jobs.tasks import Jobs
from relay.ledger import attempts as ledger_attempts
from relay.ledger.database import Database
from relay.ledger.holds import suppressions as ledger_suppressions
from relay.ledger.schema import attempts, notifications, suppressions
from relay.ledger.schema import receipts as kept
from relay.queue import Waker
from relay.rules.model import Ending
from relay.web.callbacks import (
    LARGEST_BATCH,
    LARGEST_FORM,
    MAIL_SIGNATURE,
    MAIL_TIMESTAMP,
    SIGNATURE,
)
from relay.web.forms import MOST_FIELDS
from tests.channels.test_sendgrid_receipts import AT, event, public, sign
from tests.channels.test_twilio_receipts import HEARD_AS_STOP, form
from tests.conftest import drain, one_database
from tests.processes.harness import order
from tests.rows import change, claimed, only, rows, suppress

PHONE, EMAIL = "+447700900001", "jane@example.org"
STATUS, INBOUND, MAIL = (
    "/callbacks/twilio/status",
    "/callbacks/twilio/inbound",
    "/callbacks/sendgrid",
)
HERE = "http://localhost"  # where a test's client thinks that it posts to
PUBLIC = "https://relay.example"
TOKEN = "twilio-token"

Make = Callable[[Settings], Any]


@pytest.fixture
def by(settings: Settings) -> Settings:
    """Settings with which callbacks are signed."""
    return replace(
        settings, twilio_auth_token=TOKEN, sendgrid_webhook_public_key=public(), delivery="live"
    )


@pytest.fixture
def client(by: Settings, make_client: Make) -> Any:
    """A provider: it shows no secret of the lab's."""
    made = make_client(by)
    del made.environ_base["HTTP_AUTHORIZATION"]
    return made


@pytest.fixture
def wakes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often a worker was woken."""
    seen: list[int] = []
    monkeypatch.setattr(Waker, "wake", lambda _self: seen.append(1))
    return seen


def sent(db: Database, channel: str = "sms", address: str = PHONE) -> str:
    """A message that the provider has accepted; its attempt's id."""
    claim = claimed(db, channel=channel, address=address)
    assert ledger_attempts.begin(db, claim, {"text": "Your kit …"})
    told = Ending("accepted", "sent", provider_id="SM1", awaits_receipt=True)
    assert ledger_attempts.finish(db, claim, told)
    return claim.attempt_id


def call(
    client: Any, path: str, fields: dict[str, str], signed: str | None = None, **how: Any
) -> Any:
    """Twilio's call, signed over the address that it was given."""
    signature = RequestValidator(TOKEN).compute_signature(signed or HERE + path, fields)
    headers = {SIGNATURE: signature, **how.pop("headers", {})}
    return client.post(path, data=fields, headers=headers, **how)


def mail(client: Any, body: bytes, **how: Any) -> Any:
    """SendGrid's call."""
    headers = {MAIL_SIGNATURE: sign(body), MAIL_TIMESTAMP: str(AT), **how}
    return client.post(MAIL, data=body, headers=headers, content_type="application/json")


def test_one_id_leads_from_the_webhook_to_the_receipt(
    by: Settings,
    live: Settings,
    make_client: Make,
    make_jobs: Callable[[Settings], Jobs],
    db: Database,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every line about an event, in web and worker, carries the event's id."""
    web = make_client(replace(by, log_level="INFO"))
    event_id = web.post("/webhooks/lab", json=order()).json["id"]
    drain(make_jobs(live))
    attempt = only(db, attempts, channel="sms")
    path = f"{STATUS}?attempt={attempt['id']}"
    assert call(web, path, form(MessageSid=attempt["provider_id"])).status_code == 200
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found = [line["event"] for line in lines if line.get("correlation_id") == event_id]
    assert found == ["webhook accepted", "event processed", *["message sent"] * 2, "receipt"]


def told(attempt_id: str) -> str:
    """The address that Twilio was given for an attempt."""
    return f"{STATUS}?attempt={attempt_id}"


def status(db: Database) -> str:
    """The one notification's."""
    return str(only(db, notifications)["status"])


def is_refused(response: Any) -> bool:
    """Whether it is a 403 in JSON that sets no cookie."""
    assert response.status_code == 403
    assert response.json["error"] == "The signature is missing or wrong."
    return "Set-Cookie" not in response.headers


def test_a_text_that_arrived_is_delivered(client: Any, db: Database, wakes: list[int]) -> None:
    """A signed callback moves the message on, and each news wakes a worker."""
    path = told(sent(db))
    for word in ("queued", "sent", "delivered"):
        assert call(client, path, form(word)).status_code == 200
    assert status(db) == "delivered"
    assert len(wakes) == 3


def test_a_text_that_failed_ends_with_its_reason(client: Any, db: Database) -> None:
    """The reason is ours, in plain words; a landline is a permanent failure."""
    call(client, told(sent(db)), form("undelivered", "30006"))
    row = only(db, notifications)
    assert row["status"] == "permanent-failure"
    assert row["reason"] == "The phone number is a landline or cannot be reached."


def test_a_callback_may_come_before_our_commit(client: Any, db: Database) -> None:
    """The attempt's id in the address finds the message before we know Twilio's id (36)."""
    claim = claimed(db)
    assert ledger_attempts.begin(db, claim, {"text": "Your kit …"})
    call(client, told(claim.attempt_id), form("delivered"))
    assert status(db) == "delivered"
    assert only(db, attempts)["provider_id"] == "SM1"


def test_replayed_callbacks_are_no_news(client: Any, db: Database, wakes: list[int]) -> None:
    """The same call again is answered alike and kept once; nothing goes back (37)."""
    path = told(sent(db))
    for word in ("delivered", "sent", "delivered", "sent", "undelivered", "undelivered"):
        assert call(client, path, form(word)).status_code == 200
    assert status(db) == "delivered"
    assert (len(rows(db, kept)), len(wakes)) == (3, 3)


@pytest.mark.parametrize("path", [told("att_0"), told(""), told("%00"), STATUS, STATUS + "?a=%FF"])
def test_unknown_ids_are_fine(client: Any, db: Database, wakes: list[int], path: str) -> None:
    """Another system may use the account: a signed call for a message not ours is 200."""
    sent(db)
    response = call(client, path, form(MessageSid="SM404", SmsSid="SM404"))
    assert (response.status_code, response.json) == (200, {"status": "ok"})
    assert (status(db), rows(db, kept), wakes) == ("sent", [], [])


def test_a_callback_that_says_nothing_is_fine(client: Any, db: Database) -> None:
    """Signed, and without a status: 200, and nothing is kept."""
    assert call(client, told(sent(db)), {}).status_code == 200
    assert rows(db, kept) == []


@pytest.mark.parametrize("path", [STATUS, INBOUND, MAIL])
@pytest.mark.parametrize("signature", [None, "", "x", "é", "A" * 28])
@one_database
def test_unsigned_is_refused(client: Any, db: Database, path: str, signature: str | None) -> None:
    """Without the right signature it is 403, in JSON, and nothing is done."""
    attempt = sent(db)
    headers = {} if signature is None else {SIGNATURE: signature, MAIL_SIGNATURE: signature}
    fields = {**form(), "From": PHONE, "Body": "STOP"}
    response = client.post(f"{path}?attempt={attempt}", data=fields, headers=headers)
    assert is_refused(response)
    assert (status(db), rows(db, kept), rows(db, suppressions)) == ("sent", [], [])


def test_a_signature_is_of_one_call_only(client: Any, db: Database) -> None:
    """Other fields, another attempt, another route, one parameter more: not what was signed."""
    path = told(sent(db))
    for other, fields in (
        (path, form("failed")),
        (path, {**form(), "More": "1"}),
        (told("att_2"), form()),
        (path + "&more=1", form()),
        (STATUS, form()),
        (INBOUND, form()),
    ):
        signature = RequestValidator(TOKEN).compute_signature(HERE + path, form())
        assert is_refused(client.post(other, data=fields, headers={SIGNATURE: signature}))
    assert rows(db, kept) == []


@one_database
def test_without_a_token_everything_is_refused(settings: Settings, make_client: Make) -> None:
    """Where Twilio and SendGrid are not configured nobody can sign, not with an empty token."""
    client = make_client(settings)
    signature = RequestValidator("").compute_signature(HERE + STATUS, form())
    assert is_refused(client.post(STATUS, data=form(), headers={SIGNATURE: signature}))
    assert is_refused(mail(client, b"[]"))


FORWARDED = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "relay.example"}


@pytest.mark.parametrize(
    ("public_url", "development", "headers", "signed"),
    [
        (PUBLIC, False, FORWARDED, PUBLIC),
        (PUBLIC, False, {"X-Forwarded-Host": "evil.example"}, PUBLIC),
        (PUBLIC, True, {}, PUBLIC),
        (PUBLIC + "/relay", False, FORWARDED, PUBLIC + "/relay"),
        ("", False, FORWARDED, PUBLIC),
        ("", True, {}, HERE),
        ("https://my-relay.fly.dev", False, FORWARDED, PUBLIC),
    ],
)
@one_database
def test_the_address_that_was_signed_is_the_public_one(
    by: Settings,
    make_client: Make,
    db: Database,
    public_url: str,
    development: bool,
    headers: dict[str, str],
    signed: str,
) -> None:
    """PUBLIC_URL, whatever a proxy says; without it, also where the platform names an address of
    its own, what the one trusted proxy says.
    """
    is_platforms = public_url.endswith("fly.dev")
    made = replace(by, public_url=public_url, is_platforms_url=is_platforms)
    client = make_client(replace(made, development=development))
    path = told(sent(db))
    assert is_refused(call(client, path, form(), "http://10.0.0.1:8000" + path, headers=headers))
    assert call(client, path, form(), signed + path, headers=headers).status_code == 200
    assert status(db) == "delivered"


def text(body: str, number: str = PHONE, **more: str) -> dict[str, str]:
    """A text from a person as Twilio posts it."""
    return {"MessageSid": "SM2", "From": number, "To": "+447700900200", "Body": body, **more}


def test_stop_and_start(client: Any, db: Database) -> None:
    """STOP suppresses the number, START takes it back, and a worker's next claim obeys."""
    words = (("Stop.", "STOP"), ("stop", "STOP"), ("START", ""), ("start", ""))
    for number, (body, source) in enumerate(words):
        response = call(client, INBOUND, text(body, MessageSid=f"SM{number}"))
        assert (response.status_code, response.text) == (200, "<Response/>")
        assert response.mimetype == "text/xml"
        assert "Set-Cookie" not in response.headers
        with db.read() as connection:
            found = ledger_suppressions.suppressed(connection, PHONE)
        assert [row["source"] for row in found] == [source] * bool(source)


def test_a_text_that_comes_again_lifts_no_later_stop(client: Any, db: Database) -> None:
    """Twilio may post a START twice: the second does not undo the STOP that came in between."""
    for sid, body in (("SM1", "STOP"), ("SM2", "START"), ("SM3", "STOP"), ("SM2", "START")):
        call(client, INBOUND, text(body, MessageSid=sid))
    assert only(db, suppressions)["source"] == "STOP"
    call(client, INBOUND, text("START", MessageSid="SM4"))
    assert rows(db, suppressions) == []


def test_a_text_that_comes_again_stops_nobody_who_came_back(client: Any, db: Database) -> None:
    """A STOP that is played again undoes no START that came in between; a new STOP stops."""
    for sid, body in (("SM1", "STOP"), ("SM2", "START"), ("SM1", "STOP")):
        assert call(client, INBOUND, text(body, MessageSid=sid)).status_code == 200
    assert rows(db, suppressions) == []
    call(client, INBOUND, text("STOP", MessageSid="SM3"))
    assert only(db, suppressions)["source"] == "STOP"


def test_a_stop_without_an_id_stops(client: Any, db: Database) -> None:
    """Whether a text without an id came before cannot be told: when in doubt nothing is sent."""
    for body in ("STOP", "START", "STOP"):
        call(client, INBOUND, text(body, MessageSid=""))
    assert only(db, suppressions)["source"] == "STOP"


@pytest.mark.parametrize("body", ["HELP", "Thank you!", "", "don't stop"])
@one_database
def test_other_texts_change_nothing(client: Any, db: Database, body: str) -> None:
    """HELP and what is no word of these are answered by silence."""
    assert call(client, INBOUND, text(body)).status_code == 200
    assert rows(db, suppressions) == []


@pytest.mark.parametrize("number", ["", "EXCLINIC", "+15005550006", "+442079460000"])
@one_database
def test_a_number_that_gets_no_texts_changes_nothing(
    client: Any, db: Database, number: str
) -> None:
    """Whom we could never text need not be stopped."""
    assert call(client, INBOUND, text("STOP", number)).status_code == 200
    assert rows(db, suppressions) == []


def test_twilios_reading_of_a_text_wins(client: Any, db: Database) -> None:
    """A service with words of its own says in OptOutType what they mean."""
    call(client, INBOUND, text("ARRET", OptOutType="STOP"))
    assert only(db, suppressions)["address"] == PHONE


@pytest.mark.parametrize("body", HEARD_AS_STOP)
def test_stop_is_heard(client: Any, db: Database, body: str) -> None:
    """However it is written."""
    call(client, INBOUND, text(body))
    assert only(db, suppressions)["source"] == "STOP"


def test_a_form_in_odd_bytes_is_read(client: Any, db: Database) -> None:
    """A text whose letters stand in the form as latin-1 has them is no stranger's."""
    fields = text("Arr\u00eat")
    signature = RequestValidator(TOKEN).compute_signature(HERE + INBOUND, fields)
    body = urlencode(fields, encoding="latin-1")
    assert "%EA" in body
    kind = "application/x-www-form-urlencoded"
    response = client.post(INBOUND, data=body, content_type=kind, headers={SIGNATURE: signature})
    assert response.status_code == 200
    assert only(db, suppressions)["source"] == "STOP"


def test_start_does_not_lift_what_staff_decided(client: Any, db: Database) -> None:
    """A person takes back an own STOP, and nothing else; not another channel's either."""
    suppress(db, "sms", PHONE, ledger_suppressions.STAFF)
    call(client, INBOUND, text("START"))
    assert only(db, suppressions)["source"] == ledger_suppressions.STAFF


def test_an_opted_out_failure_is_taken_back_by_start(client: Any, db: Database) -> None:
    """What a callback's 21610 has suppressed is a STOP too."""
    call(client, told(sent(db)), form("failed", "21610"))
    assert only(db, suppressions)["source"] == "STOP (Twilio 21610)"
    call(client, INBOUND, text("START"))
    assert rows(db, suppressions) == []


def test_a_refused_send_is_taken_back_by_start(client: Any, db: Database) -> None:
    """Twilio's own 21610 to a send is the person's STOP as well: their START lifts it here too."""
    claim = claimed(db)
    assert ledger_attempts.begin(db, claim, {"text": "Your kit …"})
    assert ledger_attempts.finish(db, claim, refused_ending(claim, judge(400, 21610)))
    assert only(db, suppressions)["address"] == PHONE
    call(client, INBOUND, text("START"))
    assert rows(db, suppressions) == []


def test_an_emails_events(client: Any, db: Database, wakes: list[int]) -> None:
    """A signed batch moves the message on; the same batch again is no news."""
    attempt = sent(db, "email", EMAIL)
    batch = json.dumps([event(name, relay_attempt=attempt) for name in ("processed", "delivered")])
    for _ in range(2):
        response = mail(client, batch.encode())
        assert (response.status_code, response.json) == (200, {"status": "ok"})
        assert "Set-Cookie" not in response.headers
    assert (status(db), len(rows(db, kept)), len(wakes)) == ("delivered", 2, 1)


def test_a_bounce_ends_it_and_stops_the_address(client: Any, db: Database) -> None:
    """A mailbox that is not there gets nothing more, and neither does who calls it spam."""
    attempt = sent(db, "email", EMAIL)
    mail(client, json.dumps([event("bounce", relay_attempt=attempt, type="bounce")]).encode())
    assert status(db) == "permanent-failure"
    row = only(db, suppressions)
    assert (row["channel"], row["address"], row["source"]) == ("email", EMAIL, "bounce")


def delayed(**fields: Any) -> dict[str, Any]:
    """A bounce that a mail server sends back hours later: it names an address and no message."""
    unnamed = {"relay_attempt": None, "sg_message_id": ""}
    return event("bounce", **{"type": "bounce", "email": EMAIL, **unnamed, **fields})


@pytest.mark.parametrize("order", [1, -1], ids=["as it happened", "the bounce first"])
@pytest.mark.parametrize("named", [True, False], ids=["with an id", "without an id"])
def test_an_email_that_bounces_after_it_was_delivered_has_failed(
    client: Any, db: Database, wakes: list[int], order: int, named: bool
) -> None:
    """The mail server took it and sent it back later: it has failed, a worker is woken to see to
    it, and the address gets nothing more. Told once more it is no news.
    """
    attempt = sent(db, "email", EMAIL)
    arrived = event("delivered", relay_attempt=attempt, timestamp=AT)
    bounced = delayed(timestamp=AT + 60, relay_attempt=attempt if named else None)
    for _ in range(2):
        batch = [arrived, bounced][::order]
        assert mail(client, json.dumps(batch).encode()).status_code == 200
    row = only(db, notifications)
    assert (row["status"], bool(row["follow_up_at"])) == ("permanent-failure", True)
    assert only(db, suppressions)["address"] == EMAIL
    assert (len(rows(db, kept)), len(wakes)) == (2, 1)


def test_a_bounce_before_it_was_delivered_undoes_nothing(client: Any, db: Database) -> None:
    """It was delivered since, by SendGrid's own clock, whichever is posted last."""
    attempt = sent(db, "email", EMAIL)
    mail(client, json.dumps([event("delivered", relay_attempt=attempt, timestamp=AT)]).encode())
    for moment in (AT - 60, AT):
        late = event("bounce", relay_attempt=attempt, type="blocked", timestamp=moment)
        assert mail(client, json.dumps([late]).encode()).status_code == 200
    assert status(db) == "delivered"


def test_a_bounce_without_an_id_stops_an_address_that_nothing_was_sent_to(
    client: Any, db: Database, wakes: list[int]
) -> None:
    """Another system has, or Relay more than 7 days ago: the mailbox is gone all the same."""
    sent(db, "email", "ann@example.org")
    assert mail(client, json.dumps([delayed()]).encode()).status_code == 200
    row = only(db, suppressions)
    assert (row["channel"], row["address"], row["source"]) == ("email", EMAIL, "bounce")
    assert (status(db), rows(db, kept), wakes) == ("sent", [], [])


def test_one_bad_event_keeps_nothing_from_the_others(client: Any, db: Database) -> None:
    """What is malformed or not ours is passed over; the rest of the batch is taken."""
    attempt = sent(db, "email", EMAIL)
    odd = [event(relay_attempt="\0"), event(relay_attempt={})]
    bad = [None, 7, {}, event("nonsense"), event(["x"]), *odd]
    nameless = event(relay_attempt=None, sg_message_id="other.x")
    strangers = [event(relay_attempt="att_404"), nameless]
    batch = [*bad, *strangers, event(relay_attempt=attempt), {"event": "bounce"}]
    assert mail(client, json.dumps(batch).encode()).status_code == 200
    assert status(db) == "delivered"
    assert len(rows(db, kept)) == 1


def test_one_odd_byte_costs_no_receipt(client: Any, db: Database) -> None:
    """A mail server answers in latin-1, and SendGrid passes its bytes on, signed: both receipts
    are taken.
    """
    attempt = sent(db, "email", EMAIL)
    odd = event("processed", relay_attempt=attempt, response="250 re\u00e7u")
    batch = [odd, event(relay_attempt=attempt)]
    body = json.dumps(batch, ensure_ascii=False).encode("latin-1")
    assert mail(client, body).status_code == 200
    assert is_refused(mail(client, body, **{MAIL_SIGNATURE: sign(body.replace(b"\xe7", b"c"))}))
    assert (status(db), len(rows(db, kept))) == ("delivered", 2)


# Who stopped an address, SendGrid's events, and whether it is stopped after them. The next report
# is a line here, and one in docs/reports.md.
CAME_BACK = (
    ("", ["group_unsubscribe"], "unsubscribed"),
    ("", ["group_unsubscribe", "group_resubscribe"], ""),
    ("", ["group_unsubscribe", "group_resubscribe", "group_unsubscribe"], "unsubscribed"),
    ("", ["group_resubscribe"], ""),
    ("staff", ["group_unsubscribe", "group_resubscribe"], "staff"),
    ("STOP", ["group_unsubscribe", "group_resubscribe"], "STOP"),
    ("bounce", ["group_resubscribe"], "bounce"),
    ("spam report", ["group_unsubscribe", "group_resubscribe"], "spam report"),
)


@pytest.mark.parametrize(("before", "words", "after"), CAME_BACK, ids=str)
@pytest.mark.parametrize("apart", [True, False], ids=["one by one", "in one batch, backwards"])
def test_who_comes_back_by_sendgrids_link_is_written_to(
    client: Any, db: Database, before: str, words: list[str], after: str, apart: bool
) -> None:
    """What was stopped by SendGrid's link is lifted by it; what staff, or the person in another
    way, have stopped stays. A call that comes again changes nothing.
    """
    attempt = sent(db, "email", EMAIL)
    if before:
        suppress(db, "email", EMAIL, before)
    told = [event(word, relay_attempt=attempt, timestamp=AT + n) for n, word in enumerate(words)]
    for batch in [[one] for one in told] + [told[:-1]] if apart else [told[::-1]]:
        assert mail(client, json.dumps(batch).encode()).status_code == 200
    assert [row["source"] for row in rows(db, suppressions)] == [after] * bool(after)


def test_who_comes_back_by_another_systems_email_is_written_to(client: Any, db: Database) -> None:
    """The link may stand in an email of another system's. An old event lifts no later stop."""
    suppress(db, "email", EMAIL, "unsubscribed")
    now = int(datetime.now(UTC).timestamp())
    for moment, left in ((now - 60, 1), (now + 60, 0)):
        nameless = event("group_resubscribe", relay_attempt=None, timestamp=moment)
        mail(client, json.dumps([nameless]).encode())
        assert len(rows(db, suppressions)) == left


@pytest.mark.parametrize(
    "names",
    [
        {"relay_attempt": "its"},
        {"relay_attempt": "its", "attempt": "5"},
        {"relay_attempt": None, "attempt": "its", "sg_message_id": None},
        {"relay_attempt": None, "attempt": "5", "sg_message_id": "SM1.recvd-1.0"},
        {"relay_attempt": "another", "sg_message_id": "SM1.recvd-1.0"},
    ],
    ids=["ours", "beside SendGrid's own", "of the release before", "lost", "unknown"],
)
def test_an_emails_event_is_matched_by_our_argument_or_by_its_id(
    client: Any, db: Database, names: dict[str, Any]
) -> None:
    """SendGrid has a field `attempt` of its own: how often it has tried."""
    attempt = sent(db, "email", EMAIL)
    mine = {name: attempt if value == "its" else value for name, value in names.items()}
    assert mail(client, json.dumps([event(**mine)]).encode()).status_code == 200
    assert status(db) == "delivered"


@pytest.mark.parametrize("body", [b"", b"{}", b"7", b"null", b"[", b"[" * 100_000, b'{"a": 1}'])
@one_database
def test_a_signed_body_that_is_no_list_is_400(client: Any, body: bytes) -> None:
    """What SendGrid signed and nobody can read is refused, in JSON."""
    response = mail(client, body)
    assert response.status_code == 400
    assert response.json["error"]


def test_a_batch_signed_over_other_bytes_is_refused(client: Any, db: Database) -> None:
    """Another body or time, or a key of somebody else's."""
    body = json.dumps([event(relay_attempt=sent(db, "email", EMAIL))]).encode()
    assert is_refused(mail(client, body, **{MAIL_SIGNATURE: sign(body + b" ")}))
    assert is_refused(mail(client, body, **{MAIL_TIMESTAMP: str(AT + 1)}))
    assert rows(db, kept) == []


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [100_000, LARGEST_BATCH])
@one_database
def test_a_batch_may_be_larger_than_a_webhook(client: Any, size: int, chunked: bool) -> None:
    """SendGrid's batches go up to 4 MiB, whole or in chunks."""
    assert large(client, size, chunked).status_code == 200


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [LARGEST_BATCH + 1, LARGEST_BATCH + 2, 2 * LARGEST_BATCH])
@one_database
def test_a_batch_of_more_is_413(client: Any, size: int, chunked: bool) -> None:
    """A byte more is not read, signed or not."""
    response = large(client, size, chunked)
    assert response.status_code == 413
    assert response.json["error"]


def large(client: Any, size: int, chunked: bool) -> Any:
    """A signed batch of so many bytes."""
    body = b"[" + b" " * (size - 2) + b"]"
    how = {"HTTP_TRANSFER_ENCODING": "chunked"} if chunked else {"CONTENT_LENGTH": str(size)}
    return client.post(
        MAIL,
        input_stream=BytesIO(body),
        headers={MAIL_SIGNATURE: sign(body), MAIL_TIMESTAMP: str(AT)},
        environ_overrides={"wsgi.input_terminated": chunked, **how},
    )


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"Body": "x" * (LARGEST_FORM - len("Body="))}, 200),
        ({"Body": "x" * (LARGEST_FORM - len("Body=") + 1)}, 413),
        ({"Body": "x" * 2 * LARGEST_FORM}, 413),
        ({f"f{number}": "1" for number in range(MOST_FIELDS)}, 200),
        ({f"f{number}": "1" for number in range(MOST_FIELDS + 1)}, 413),
    ],
    ids=["32 KiB", "a byte more", "64 KiB", "100 fields", "a field more"],
)
@one_database
def test_a_form_is_taken_as_far_as_twilios_may_go(
    client: Any, fields: dict[str, str], code: int
) -> None:
    """Signed, 32 KiB and a hundred fields are taken, and no more. The longest text there is takes
    half of it: 1,600 characters, nine bytes each as a form has them."""
    response = call(client, STATUS, fields)
    assert response.status_code == code
    assert code == 200 or response.json["error"]


@one_database
def test_a_form_in_many_parts_is_refused(client: Any) -> None:
    """The other kind of form, which Twilio does not send, has no more fields either."""
    parts = {f"f{number}": "1" for number in range(MOST_FIELDS + 1)}
    kind = "multipart/form-data"
    response = client.post(STATUS, data=parts, content_type=kind, headers={SIGNATURE: "x"})
    assert response.status_code == 413


@one_database
def test_without_a_ledger_the_provider_tries_again(
    by: Settings, make_client: Make, tmp_path: Path
) -> None:
    """While the ledger is away a signed call is 503: providers call again."""
    client = make_client(replace(by, database_url=f"sqlite:///{tmp_path}/empty.db"))
    responses = [
        call(client, told("att_1"), form()),
        call(client, INBOUND, text("STOP")),
        mail(client, json.dumps([event()]).encode()),
    ]
    assert [response.status_code for response in responses] == [503, 503, 503]
    assert all(response.headers["Retry-After"] for response in responses)


@pytest.mark.parametrize("path", [STATUS, INBOUND, MAIL])
@one_database
def test_only_post_is_taken(client: Any, path: str) -> None:
    """Another method is 405."""
    response = client.get(path)
    assert response.status_code == 405
    assert response.json["error"]


def test_logs_name_nobody(
    by: Settings, make_client: Make, db: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    """Calls are logged by words and counts; no number, no address, nothing a person wrote."""
    client = make_client(replace(by, log_level="DEBUG"))
    path = told(sent(db))
    call(client, path, form("delivered"))
    call(client, INBOUND, text("STOP"))
    call(client, INBOUND, text("My name is Canarina", "+447700900123"))
    mail(client, json.dumps([event(reason="canary"), delayed(reason="canary")]).encode())
    is_refused(client.post(path, data=form()))
    log = "".join(capsys.readouterr())
    assert "callback refused" in log
    assert "text came in" in log
    for word in ("7700900", "Canarina", "canary", EMAIL, "STOP"):
        assert word not in log


def test_a_blanked_message_is_followed_too(client: Any, db: Database) -> None:
    """A receipt that comes after retention has blanked the address suppresses nobody."""
    attempt = sent(db, "email", EMAIL)
    change(db, notifications, {}, address="", content=None)
    mail(client, json.dumps([event("bounce", relay_attempt=attempt)]).encode())
    assert (status(db), rows(db, suppressions)) == ("permanent-failure", [])
