"""Before a message that has waited goes out, the facts are fetched and the rule is asked again."""

from __future__ import annotations

from datetime import timedelta

import pytest

from relay.ledger.schema import cases
from tests.jobs.conftest import KIT, ORDER, PERSON, PHONE, RETEST, RULES, STAFF, TO, Clinic
from tests.rows import only, open_cases, replay_event
from tests.standins import Reply, twilio_error

HOUR = timedelta(hours=1)
OTHER = "+447700900002"


@pytest.fixture
def waiting(clinic: Clinic) -> Clinic:
    """A clinic with a kit's and a result's message that were planned, and not taken yet."""
    clinic.twilio.once(twilio_error(429, 20429), twilio_error(429, 20429))
    clinic.post()
    clinic.results()
    clinic.work()
    assert clinic.statuses() == [("sms", "created"), ("sms", "created")]
    clinic.lab.requests.clear()
    clinic.twilio.requests.clear()
    return clinic


def test_facts_that_are_fresh_are_not_fetched_again(waiting: Clinic) -> None:
    """A message that has waited for minutes only goes out as it was planned."""
    waiting.work(timedelta(minutes=1))
    assert waiting.lab.requests == []
    assert waiting.statuses() == [("sms", "sent"), ("sms", "sent")]


def test_words_are_those_of_the_facts_as_they_are_now(waiting: Clinic) -> None:
    """What the lab has put right meanwhile is what the message says."""
    waiting.lab.change("order", ORDER, tracking_number="RM2")
    waiting.work(HOUR)
    (row,) = waiting.messages(rule="kit")
    assert (row["status"], row["content"]["text"]) == ("sent", "Kit RM2 for Jane")


def test_a_changed_address_is_used(waiting: Clinic) -> None:
    """The old address gets nothing: its message is cancelled, and the new one is written to."""
    waiting.lab.change("order", ORDER, customer={**PERSON, "phone_number": OTHER})
    waiting.work(HOUR)
    told = {row["address"]: row["status"] for row in waiting.messages(rule="kit")}
    assert told == {PHONE: "cancelled", OTHER: "sent"}
    assert [r.form["To"] for r in waiting.twilio.accepted if "Kit" in r.form["Body"]] == [OTHER]


def test_an_address_that_is_gone_is_answered_by_the_fallback(waiting: Clinic) -> None:
    """Where the number is not there any more nobody is texted, and the email goes."""
    waiting.lab.change("order", ORDER, customer={**PERSON, "phone_number": "020 7946 0000"})
    waiting.work(HOUR)
    assert [row["channel"] for row in waiting.messages(rule="kit", status="sent")] == ["email"]
    assert all("Kit" not in request.form["Body"] for request in waiting.twilio.accepted)
    (mail,) = waiting.sendgrid.accepted
    assert mail.json["personalizations"][0]["to"] == [TO]


def test_a_condition_that_is_not_true_any_more_cancels(waiting: Clinic) -> None:
    """A rule's `when` is asked again: it may have become false."""
    waiting.lab.change("order", ORDER, shipping_status="returned")
    waiting.work(HOUR)
    (row,) = waiting.messages(rule="kit")
    assert row["status"] == "cancelled"
    assert row["reason"].startswith("Its condition is not met")
    assert waiting.sendgrid.requests == []


def test_a_test_that_was_cancelled_meanwhile_is_not_announced(waiting: Clinic) -> None:
    """Results of a registration that was cancelled after the plan are not announced."""
    waiting.lab.change("test_registration", KIT, status="cancelled")
    waiting.work(HOUR)
    (row,) = waiting.messages(rule="results")
    assert (row["status"], row["reason"]) == ("cancelled", "The test was cancelled.")


def test_a_lab_that_is_away_is_waited_for(waiting: Clinic) -> None:
    """Without facts nothing goes out; when the lab is back it does, once."""
    waiting.lab.always(Reply(500))
    waiting.work(HOUR)
    assert waiting.statuses() == [("sms", "created"), ("sms", "created")]
    assert waiting.twilio.requests == []
    assert all("ask the lab again" in row["reason"] for row in waiting.messages())
    waiting.lab.answers.clear()
    waiting.work(HOUR)
    assert waiting.statuses() == [("sms", "sent"), ("sms", "sent")]


@pytest.mark.parametrize("fresh", [True, False])
def test_a_rule_that_was_removed_sends_nothing(waiting: Clinic, fresh: bool) -> None:
    """What a rule had planned waits for it, and the ledger says why: nobody has cancelled it."""
    waiting.configure("[rules.results" + RULES.partition("[rules.results")[2])
    waiting.work(timedelta(minutes=1) if fresh else HOUR)
    (row,) = waiting.messages(rule="kit")
    assert (row["status"], row["reason"]) == (
        "scheduled",
        "Its rule, kit, is no longer in config.toml.",
    )
    assert len(waiting.twilio.requests) == 1


@pytest.mark.parametrize("fresh", [True, False])
def test_a_rule_that_was_switched_off_sends_nothing(waiting: Clinic, fresh: bool) -> None:
    """`enabled = false` stops what the rule had planned too."""
    waiting.configure(RULES.replace("[rules.kit]", "[rules.kit]\nenabled = false"))
    waiting.work(timedelta(minutes=1) if fresh else HOUR)
    assert [row["status"] for row in waiting.messages(rule="kit")] == ["cancelled"]


def test_a_changed_address_is_used_once(waiting: Clinic) -> None:
    """The new address is written to once, whatever is replayed."""
    waiting.lab.change("order", ORDER, customer={**PERSON, "phone_number": OTHER})
    waiting.work(HOUR)
    for event_id in {row["event_id"] for row in waiting.messages()}:
        replay_event(waiting.db, event_id)
    waiting.work(HOUR)
    assert len(waiting.twilio.accepted) == 2
    assert len(waiting.messages()) == 3


MOVED_ON = "The kit has moved on: order.delivered has come."


def test_what_cannot_matter_any_more_is_nobodys_task(clinic: Clinic) -> None:
    """The kit's text failed and staff were asked: once a later step has come that case closes by
    itself, and the message and the case say why. Results that failed stay, whatever comes.
    """
    clinic.configure(RULES.replace('fallback = ["email"]\n', ""), staff=STAFF)
    clinic.twilio.answers.append(lambda request: twilio_error(400, 21614))
    clinic.post()
    clinic.results()
    clinic.work()
    assert clinic.worklist() == ["unreached"] * 2
    clinic.work(HOUR)
    clinic.post("order.delivered", order_id=ORDER)
    clinic.post(
        "test_registration.retest", testregistration_id=KIT, retest_testregistration_id=RETEST
    )
    clinic.work()
    assert [case["subject"] for case in open_cases(clinic.db)] == [KIT]
    case = only(clinic.db, cases, subject=ORDER)
    assert (case["closed_by"], case["note"]) == ("relay", MOVED_ON)
    (row,) = clinic.messages(rule="kit")
    assert (row["status"], row["reason"].endswith(MOVED_ON)) == ("permanent-failure", True)
    clinic.work(HOUR)
    clinic.post("test_registration.complete", testregistration_id=KIT)
    clinic.work()
    (row,) = clinic.messages(rule="kit")
    assert row["reason"].count("has come") == 1


def test_a_faults_case_is_about_what_still_matters(clinic: Clinic) -> None:
    """Two kits' words could not be made: one moves on and the case is about the other alone; then
    about none, and it closes by itself.
    """
    clinic.configure(RULES.replace('fallback = ["email"]\n', ""), staff=STAFF)
    (clinic.settings.templates / "kit" / "sms.txt").write_text("{{ customer.foreign_id }}", "utf-8")
    clinic.orders(2)
    clinic.work()
    (case,) = open_cases(clinic.db)
    assert (case["kind"], case["count"]) == ("broken", 2)
    for order, left in (("o-0", [1]), ("o-1", [])):
        clinic.work(HOUR)
        clinic.post("order.delivered", order_id=order)
        clinic.work()
        clinic.work()
        assert [case["count"] for case in open_cases(clinic.db)] == left
