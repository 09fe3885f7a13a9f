"""Emails that bounce after they were delivered: the person is told in another way, or staff are."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from relay.channels.sendgrid import parse_receipts
from relay.ledger import receipts
from relay.ledger.holds import suppressions
from relay.ledger.schema import attempts
from relay.ledger.schema import suppressions as stopped
from relay.ledger.views import trail
from relay.ledger.views.status import Blockers
from relay.staff.explain import explain
from tests.channels.test_sendgrid_receipts import event
from tests.jobs.conftest import DESK, EMAIL, ORDER, PHONE, STAFF, Clinic
from tests.jobs.test_digests import NIGHT, desk, digest
from tests.rows import close_case, only, open_cases, replay_notification, rows

__all__ = ["desk"]  # a fixture

BY_EMAIL = """
[rules.kit]
event = "order.shipped"
to = "customer"
channels = ["email"]
template = "kit"
"""
WITH_FALLBACK = BY_EMAIL + 'fallback = ["sms"]\n'
MINUTE, HOUR = 60, 3600
BOUNCED = "The email bounced: there is no such mailbox, or it is closed."


def now() -> int:
    """As SendGrid writes it."""
    return int(datetime.now(UTC).timestamp())


def say(
    clinic: Clinic, *said: tuple[str, int], of: str = "kit", named: bool = True, **fields: Any
) -> None:
    """SendGrid's events about a rule's last email: each a word and so many seconds from now."""
    mine = {row["id"] for row in clinic.messages(rule=of, channel="email")}
    tried = [row for row in rows(clinic.db, attempts) if row["notification_id"] in mine]
    last = max(tried, key=lambda row: row["started_at"])
    whose = {"relay_attempt": last["id"]} if named else {"relay_attempt": None, "sg_message_id": ""}
    batch = [event(word, timestamp=now() + by, email=EMAIL, **whose, **fields) for word, by in said]
    receipts.record(clinic.db, "email", parse_receipts(batch))


@pytest.fixture
def told(clinic: Clinic) -> Clinic:
    """A clinic whose customer was sent an email a moment ago; staff have an address too."""
    clinic.configure(BY_EMAIL, staff=STAFF)
    clinic.post()
    clinic.work()
    return clinic


@pytest.fixture
def either(clinic: Clinic) -> Clinic:
    """The same, where the rule has texts to fall back on."""
    clinic.configure(WITH_FALLBACK, staff=STAFF)
    clinic.post()
    clinic.work()
    return clinic


@pytest.mark.parametrize("named", [True, False], ids=["with an id", "without an id"])
@pytest.mark.parametrize(
    ("word", "fields", "status"),
    [
        ("bounce", {"type": "bounce"}, "permanent-failure"),
        ("dropped", {"reason": "Bounced Address"}, "permanent-failure"),
        ("bounce", {"type": "blocked"}, "temporary-failure"),
    ],
    ids=["bounce", "dropped", "blocked"],
)
def test_a_later_bounce_leads_to_the_fallback(
    either: Clinic, word: str, fields: dict[str, Any], status: str, named: bool
) -> None:
    """Delivered, and an hour later sent back: the customer gets the text instead, once."""
    say(either, ("delivered", 0))
    either.work()
    assert either.twilio.accepted == []
    for by in (HOUR, HOUR, 2 * HOUR):
        say(either, (word, by), named=named, **fields)
        either.work()
    assert [text.form["To"] for text in either.twilio.accepted] == [PHONE]
    assert either.statuses() == [("email", status), ("sms", "sent")]
    assert either.worklist() == []
    assert len(rows(either.db, stopped)) == (fields.get("type") != "blocked")


def test_a_batch_in_any_order_leads_to_the_fallback(either: Clinic) -> None:
    """The bounce stands first in SendGrid's batch: what counts is when it happened."""
    say(either, ("bounce", HOUR), ("processed", 0), ("delivered", MINUTE), type="bounce")
    either.work()
    assert either.statuses() == [("email", "permanent-failure"), ("sms", "sent")]


def test_a_later_bounce_without_a_fallback_is_a_case(told: Clinic) -> None:
    """There is no other way to reach the customer: staff are told why, once."""
    say(told, ("delivered", 0))
    say(told, ("bounce", HOUR), type="bounce")
    for _ in range(2):
        told.work()
    (case,) = open_cases(told.db)
    assert (case["kind"], case["subject"], case["reason"]) == ("unreached", ORDER, BOUNCED)
    assert told.told() == [("unreached", DESK, "sent")]


def test_an_earlier_bounce_changes_nothing(told: Clinic) -> None:
    """It was sent back, tried once more by the mail server in between, and arrived."""
    say(told, ("delivered", 0))
    say(told, ("bounce", -HOUR), type="blocked")
    told.work()
    assert told.statuses() == [("email", "delivered")]
    assert told.worklist() == []


def test_a_fallback_that_was_not_needed_any_more_is_needed_again(clinic: Clinic) -> None:
    """Blocked, so that a text was planned for the morning; delivered, so that it was called off;
    bounced: the text goes after all.
    """
    later = datetime.now(ZoneInfo("Europe/London")) + timedelta(hours=2)
    window = f'send_window = "{later:%H}:00-{later + timedelta(hours=2):%H}:00"'
    clinic.configure(WITH_FALLBACK, staff=STAFF)
    clinic.post()
    clinic.work()
    clinic.configure(WITH_FALLBACK + window, staff=STAFF)
    say(clinic, ("bounce", MINUTE), type="blocked")
    clinic.work()
    assert clinic.statuses() == [("email", "temporary-failure"), ("sms", "scheduled")]
    say(clinic, ("delivered", 2 * MINUTE))
    assert clinic.statuses() == [("email", "delivered"), ("sms", "cancelled")]
    say(clinic, ("bounce", 3 * MINUTE), type="bounce")
    clinic.work()
    assert clinic.statuses() == [("email", "permanent-failure"), ("sms", "scheduled")]
    clinic.work(timedelta(days=1))
    assert clinic.worklist() == []


def test_a_case_that_was_settled_is_opened_anew(told: Clinic) -> None:
    """Blocked: a case. It arrived after all: closed. It came back after all: a new one."""
    say(told, ("bounce", MINUTE), type="blocked")
    told.work()
    assert told.worklist() == ["unreached"]
    say(told, ("delivered", 2 * MINUTE))
    assert told.worklist() == []
    say(told, ("bounce", 3 * MINUTE), type="bounce")
    told.work()
    (case,) = open_cases(told.db)
    assert (case["kind"], case["reason"]) == ("unreached", BOUNCED)


def test_what_is_no_news_any_more_is_let_be(either: Clinic) -> None:
    """The kit has arrived meanwhile: nobody is told that it is on its way, by text or by a case."""
    say(either, ("delivered", 0))
    either.post("order.delivered", order_id=ORDER)
    either.work(timedelta(hours=1))
    say(either, ("bounce", HOUR), type="bounce")
    either.work()
    assert (either.twilio.accepted, either.worklist()) == ([], [])
    (row,) = either.messages(rule="kit")
    assert row["reason"] == f"{BOUNCED} The kit has moved on: order.delivered has come."


def test_a_digest_that_bounces_is_a_case(desk: Clinic) -> None:
    """A digest has no fallback: staff find it on the worklist, with its items named."""
    desk.orders(2)
    desk.work()
    desk.work(NIGHT)
    say(desk, ("delivered", 0), of="desk")
    say(desk, ("bounce", HOUR), of="desk", type="bounce")
    desk.work()
    assert digest(desk)["status"] == "permanent-failure"
    (case,) = open_cases(desk.db)
    assert (case["kind"], case["notification_id"]) == ("unreached", digest(desk)["id"])


def test_an_alert_that_bounces_is_not_told_by_an_alert(told: Clinic) -> None:
    """Staff's mailbox has gone: the case that it was about is what remains."""
    say(told, ("bounce", MINUTE), type="bounce")
    told.work()
    (alert,) = told.told()
    assert alert == ("unreached", DESK, "sent")
    for said in (("delivered", MINUTE), ("bounce", HOUR)):
        say(told, said, of="relay:unreached", type="bounce")
    told.work()
    assert told.told() == [("unreached", DESK, "permanent-failure")]
    assert told.worklist() == ["unreached"]


def test_it_can_be_sent_again(told: Clinic) -> None:
    """Once the mailbox is there and staff have lifted the stop, the message goes once more, and
    counts as delivered for good.
    """
    say(told, ("delivered", 0))
    say(told, ("bounce", HOUR), type="bounce")
    told.work()
    (row,) = told.messages(rule="kit")
    assert close_case(told.db, only(told.db, trail.cases, closed_at=None)["id"], "admin")
    with told.db.write() as connection:
        assert suppressions.unsuppress(connection, "email", EMAIL) == "bounce"
    assert replay_notification(told.db, row["id"])
    told.work()
    say(told, ("delivered", 2 * HOUR))
    told.work()
    assert [row["status"] for row in told.messages(rule="kit")] == ["delivered"]
    assert told.worklist() == []


def test_in_dry_run_nothing_can_have_bounced(told: Clinic) -> None:
    """A bounce of another system's email stops the address; what was kept here stays as it is."""
    told.settings = replace(told.settings, delivery="dry-run")
    told.post(order_id="o-2")
    told.lab.change("order", "o-2", tracking_number="RM2", customer={"email": "ann@example.org"})
    told.work()
    (kept,) = told.messages(subject="o-2")
    unnamed = {"relay_attempt": None, "sg_message_id": ""}
    bounce = event("bounce", timestamp=now(), email="ann@example.org", **unnamed)
    receipts.record(told.db, "email", parse_receipts([bounce]))
    assert kept["status"] == "sent"
    assert told.messages(subject="o-2") == [kept]
    assert only(told.db, stopped)["address"] == "ann@example.org"


def test_the_record_shows_it_in_its_place(told: Clinic) -> None:
    """`explain` and the kit's page tell receipts in the order of what happened, by the provider's
    clock, and not of when they came in.
    """
    say(told, ("bounce", HOUR), ("delivered", MINUTE), ("processed", 0), type="bounce")
    told.work()
    with told.db.read() as connection:
        (found,) = trail.find(connection, ORDER)
    standing = Blockers(datetime.now(UTC), 1, {}, {})
    lines = [line for _, line in explain(found, ZoneInfo("UTC"), standing, str)]
    (first, *_) = said = [line for line in lines if "the provider said" in line]
    words = [line.partition('"')[2].partition('"')[0] for line in said]
    assert words == ["processed", "delivered", "bounce"]
    assert datetime.fromtimestamp(now(), UTC).strftime("%d %b %Y %H:") in first
    assert said[-1].endswith(BOUNCED)
    assert f"It cannot arrive (permanent-failure). {BOUNCED}" in lines
