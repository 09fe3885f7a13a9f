"""What providers tell of our account, of an address, or not at all: the channel waits, the address
is stopped or not, or the provider is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from relay.channels import sendgrid, twilio
from relay.ledger import receipts
from relay.ledger.holds import suppressions
from relay.ledger.schema import attempts
from relay.ledger.schema import suppressions as stopped
from relay.rules.stops import REASONS
from tests.channels.test_sendgrid_receipts import ACCOUNTS, event, public
from tests.channels.test_twilio_receipts import form
from tests.jobs.conftest import DESK, EMAIL, RULES, STAFF, Clinic
from tests.jobs.test_pauses import MAILED, PROBE, STAFF_BOTH, paused
from tests.rows import rows, suppress
from tests.standins import ProviderStandIn, Reply, twilio_error, twilio_list

TEXTED = RULES.replace('fallback = ["email"]', "")
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
THREE_DAYS = timedelta(hours=72, seconds=1)
QUOTA = ACCOUNTS[0]
Drop = Callable[[str], None]


@pytest.fixture
def clinic(clinic: Clinic) -> Clinic:
    """A clinic to which its providers post receipts."""
    told = {"public_url": "https://relay.example", "sendgrid_webhook_public_key": public()}
    clinic.settings = replace(clinic.settings, **told)
    return clinic


def out(clinic: Clinic) -> list[dict[str, Any]]:
    """The customers' messages that are out at their provider now."""
    return [row for row in clinic.messages(rule="kit") if row["status"] == "sent"]


def tell_of(clinic: Clinic, row: dict[str, Any], word: str, **fields: Any) -> None:
    """The provider tells what has become of a message's last attempt."""
    attempt = clinic.attempt_of(id=row["id"])
    if row["channel"] == "sms":
        told = twilio.parse_receipts(form(word, MessageSid=row["provider_id"], **fields), attempt)
    else:
        at = int(datetime.now(UTC).timestamp())
        told = sendgrid.parse_receipts([event(word, relay_attempt=attempt, timestamp=at, **fields)])
    assert len(receipts.record(clinic.db, row["channel"], told)) == 1


DROPS = {
    "SendGrid's quota": (MAILED, "dropped", {"reason": QUOTA}),
    "Twilio's account": (TEXTED, "undelivered", {"code": "30002"}),
    "Twilio's sender": (TEXTED, "failed", {"code": "21606"}),
}


@pytest.fixture(params=DROPS.values(), ids=DROPS)
def accused(clinic: Clinic, request: pytest.FixtureRequest) -> tuple[Clinic, Drop]:
    """Three messages are out, and their provider tells of each that it has dropped it by a fault of
    our account's.
    """
    rules, word, fields = request.param
    clinic.configure(rules, staff=STAFF_BOTH)
    clinic.orders(3)
    clinic.work()

    def drop(_why: str = "") -> None:
        for row in out(clinic):
            tell_of(clinic, row, word, **fields)

    drop()
    return clinic, drop


def provider(clinic: Clinic) -> ProviderStandIn:
    """The one that carries the customers' messages."""
    (channel,) = {row["channel"] for row in clinic.messages(rule="kit")}
    return {"sms": clinic.twilio, "email": clinic.sendgrid}[channel]


def kits(clinic: Clinic) -> list[str]:
    """What stands of the customers' messages."""
    return sorted(row["status"] for row in clinic.messages(rule="kit"))


def test_what_the_account_is_to_blame_for_is_one_case(accused: tuple[Clinic, Drop]) -> None:
    """Each message waits to be sent again, nobody's address is stopped, and staff are told once, by
    the other channel.
    """
    clinic, _ = accused
    clinic.work()
    assert kits(clinic) == ["created"] * 3
    assert clinic.worklist() == ["paused"]
    assert [(kind, state) for kind, _, state in clinic.told()] == [("paused", "sent")]
    assert [row["cause"] for row in paused(clinic.db)] == ["dropped"]
    assert rows(clinic.db, stopped) == []


def test_an_accepted_message_does_not_end_it(accused: tuple[Clinic, Drop]) -> None:
    """The provider accepts every trial message and drops it again: staff are not told once more,
    and no other message goes out meanwhile.
    """
    clinic, drop = accused
    clinic.work()
    for _ in range(3):
        clinic.work(6 * MINUTE)
        assert kits(clinic) == ["created", "created", "sent"]
        drop()
        clinic.work()
        assert kits(clinic) == ["created"] * 3
    assert (clinic.worklist(), len(clinic.told())) == (["paused"], 1)


def test_a_message_that_arrives_ends_it(accused: tuple[Clinic, Drop]) -> None:
    """Once a trial message arrives all go out, and the case closes by itself."""
    clinic, _ = accused
    clinic.work()
    clinic.work(PROBE)
    (probe,) = out(clinic)
    tell_of(clinic, probe, "delivered")
    assert (paused(clinic.db), clinic.worklist()) == ([], [])
    clinic.work()
    assert kits(clinic) == ["delivered", "sent", "sent"]
    assert len(provider(clinic).accepted) == 6


def test_what_was_sent_before_shows_nothing(accused: tuple[Clinic, Drop]) -> None:
    """An email of before the fault arrives only now: the channel goes on waiting."""
    clinic, _ = accused
    (first, *_others) = clinic.messages(rule="kit")
    clinic.work()
    (attempt,) = [row for row in rows(clinic.db, attempts) if row["notification_id"] == first["id"]]
    clinic.tell_of(attempt["id"], "delivered")
    assert len(paused(clinic.db)) == 1


def test_an_alert_that_is_dropped_goes_again(clinic: Clinic) -> None:
    """Staff are written to by email alone: it waits with the others."""
    clinic.configure(MAILED, staff=STAFF)
    clinic.post()
    clinic.work()
    tell_of(clinic, out(clinic)[0], "dropped", reason=QUOTA)
    clinic.work()
    assert clinic.told() == [("paused", DESK, "created")]
    clinic.work(PROBE)
    assert clinic.told() == [("paused", DESK, "sent")]


WORDS = {
    "STOP": "The person has opted out of emails.",
    "wrong number": "Somebody has answered that this is the wrong number.",
    "staff": "Staff have stopped emails to this address.",
    "bounce": "An earlier email to this address bounced: there is no such mailbox.",
    "invalid address": "An earlier email was refused: this address is not valid.",
    "unsubscribed": "The person has unsubscribed from emails.",
    "spam report": "The person has reported an earlier email as spam.",
}


def test_each_source_of_a_stop_has_its_words() -> None:
    """None is said to be another's."""
    assert WORDS.keys() == REASONS.keys()


@pytest.mark.parametrize(("source", "reason"), WORDS.items())
def test_the_next_message_says_who_or_what_has_stopped_it(
    clinic: Clinic, source: str, reason: str
) -> None:
    """By the source that is kept, in words: a bounce is no opt-out."""
    clinic.configure(MAILED, staff=STAFF)
    suppress(clinic.db, "email", EMAIL, source)
    clinic.post()
    clinic.work()
    (row,) = clinic.messages(rule="kit")
    assert (row["status"], row["reason"]) == ("cancelled", reason)


PASSING = (
    {"type": "bounce", "status": "4.2.2"},
    {"type": "bounce", "status": "4.4.7"},
    {"type": "blocked", "status": "4.7.1"},
    {"type": "bounce", "status": "5.2.2"},
)


@pytest.mark.parametrize("fields", PASSING, ids=lambda fields: " ".join(fields.values()))
def test_a_full_mailbox_stops_nobody_for_good(clinic: Clinic, fields: dict[str, str]) -> None:
    """What may be otherwise tomorrow is told to staff today, and the next email goes out."""
    clinic.configure(MAILED, staff=STAFF)
    clinic.post()
    clinic.work()
    tell_of(clinic, out(clinic)[0], "bounce", **fields)
    clinic.work()
    assert clinic.worklist() == ["unreached"]
    assert rows(clinic.db, stopped) == []
    clinic.lab.change("order", "o-2", customer={"first_name": "Jane", "email": EMAIL})
    clinic.post(order_id="o-2")
    clinic.work()
    assert [row["subject"] for row in out(clinic)] == ["o-2"]


def text_of(clinic: Clinic, **fields: Any) -> Reply:
    """The first text as Twilio has it by now."""
    asked = clinic.twilio.requests[0]
    asked.path = asked.path.replace("/Messages.json", f"/Messages/SM{1:032x}.json")
    return Reply(200, {**twilio_list(asked, clinic.twilio.accepted).body, **fields})


@pytest.fixture
def untold(clinic: Clinic) -> Clinic:
    """A text is out, and Relay answered 503 to every one of Twilio's callbacks."""
    clinic.configure(TEXTED, staff=STAFF)
    clinic.post()
    clinic.work()
    return clinic


ASKED = {
    "it arrived": ({"status": "delivered"}, "delivered", ""),
    "no such number": (
        {"status": "undelivered", "error_code": 30005},
        "permanent-failure",
        "The phone number is not in use.",
    ),
    "it is on its way": (
        {"status": "sent"},
        "temporary-failure",
        "No receipt came within 72 hours, and its provider was asked and knows no more.",
    ),
}


@pytest.mark.parametrize(("fields", "status", "reason"), ASKED.values(), ids=ASKED)
def test_twilio_is_asked_before_a_receipt_is_given_up(
    untold: Clinic, fields: dict[str, Any], status: str, reason: str
) -> None:
    """A callback met a 503: after 72 hours Twilio is asked, once, and its word counts."""
    untold.twilio.answers.append(
        lambda request: text_of(untold, **fields) if request.method == "GET" else None
    )
    untold.work(71 * HOUR)
    assert untold.twilio.looks == 0
    untold.work(HOUR + MINUTE)
    (row,) = untold.messages(rule="kit")
    assert (row["status"], row["reason"]) == (status, reason)
    kinds = {"delivered": [], "temporary-failure": ["unconfirmed"]}
    assert untold.worklist() == kinds.get(status, ["unreached"])
    untold.work(HOUR)
    assert untold.twilio.looks == 1


def test_a_text_that_twilio_has_no_more_is_given_up(untold: Clinic) -> None:
    """It was deleted there: nobody knows more."""
    untold.twilio.accepted.clear()
    untold.work(THREE_DAYS)
    assert untold.statuses()[-1] == ("sms", "temporary-failure")


UNREADABLE = {
    "401": twilio_error(401, 20003),
    "500": Reply(500),
    "hang-up": Reply(hang_up=True),
    "garbage": Reply(200, b"<html>"),
    "nothing": Reply(200, {}),
}


@pytest.mark.parametrize("reply", UNREADABLE.values(), ids=UNREADABLE)
def test_while_twilio_cannot_be_asked_nothing_is_settled(untold: Clinic, reply: Reply) -> None:
    """It is asked again every ten minutes, for a day; then it is given up as before."""
    untold.twilio.answers.append(lambda request: reply if request.method == "GET" else None)
    untold.work(THREE_DAYS)
    untold.work(MINUTE)
    assert (untold.statuses(), untold.twilio.looks) == ([("sms", "sent")], 1)
    untold.work(11 * MINUTE)
    assert (untold.statuses(), untold.twilio.looks) == ([("sms", "sent")], 2)
    untold.work(24 * HOUR)
    (row,) = untold.messages(rule="kit")
    assert (row["status"], row["reason"]) == (
        "temporary-failure",
        "No receipt came within 72 hours.",
    )


def test_an_email_is_given_up_without_asking(clinic: Clinic) -> None:
    """SendGrid has nothing that could be asked."""
    clinic.configure(MAILED, staff=STAFF)
    clinic.post()
    clinic.work()
    clinic.work(THREE_DAYS)
    assert [row["status"] for row in clinic.messages(rule="kit")] == ["temporary-failure"]


def test_who_comes_back_is_sent_emails_again(clinic: Clinic) -> None:
    """They left by SendGrid's link, and came back by it."""
    clinic.configure(MAILED, staff=STAFF)
    clinic.post()
    clinic.work()
    for word, there in (("group_unsubscribe", ["unsubscribed"]), ("group_resubscribe", [])):
        tell_of(clinic, out(clinic)[0], word)
        with clinic.db.read() as connection:
            found = suppressions.suppressed(connection, EMAIL)
        assert [row["source"] for row in found] == there
