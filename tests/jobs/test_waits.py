"""Messages that wait for a rule, an order or an account: none is cancelled unasked, none lost."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from relay.ledger.holds import waits
from relay.ledger.schema import cases
from tests.jobs.conftest import KIT, ORDER, PERSON, PHONE, RULES, STAFF, Clinic
from tests.rows import only
from tests.standins import Reply

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LATER = RULES.replace('template = "kit"', 'template = "kit"\nafter = "1h"')
CUSTOMER = """
[rules.customer]
event = "test_registration.complete"
to = "customer"
channels = ["sms"]
template = "results"
"""
ACCOUNT = {"twilio_account_sid": "AC1", "twilio_auth_token": "token"}


@pytest.mark.parametrize("change", ["gone", "to"])
def test_a_message_waits_for_its_rule(clinic: Clinic, change: str) -> None:
    """A rule that is renamed, or writes to somebody else, leaves its message waiting, and one case
    says so; when the rule is as it was the message is sent, once, and the case closes by itself."""
    clinic.configure(LATER, staff=STAFF)
    clinic.post()
    clinic.work()
    edits = {
        "gone": LATER.replace("[rules.kit]", "[rules.kit-sent]"),
        "to": LATER.replace('to = "customer"', 'to = "desk"').replace('["sms"]', '["email"]', 1),
    }
    clinic.configure(edits[change].replace('fallback = ["email"]', ""), staff=STAFF)
    clinic.work(DAY)
    clinic.work(DAY)
    (row,) = clinic.messages(rule="kit", role="customer")
    assert (row["status"], "kit" in row["reason"]) == ("scheduled", True)
    assert (clinic.worklist(), clinic.twilio.accepted) == (["rule"], [])
    clinic.configure(LATER, staff=STAFF)
    clinic.work()
    assert len(clinic.twilio.accepted) == 1
    assert clinic.worklist() == []


def test_closing_the_case_cancels_what_waits(clinic: Clinic) -> None:
    """A person decides that messages of a rule that is gone are not sent."""
    clinic.configure(LATER, staff=STAFF)
    clinic.post()
    clinic.work()
    clinic.configure(CUSTOMER, staff=STAFF)
    clinic.work(DAY)
    with clinic.db.write() as connection:
        assert waits.cancel(connection, "kit", "Cancelled by admin.") == 1
    assert clinic.messages(rule="kit")[0]["status"] == "cancelled"


def test_a_message_is_made_by_its_rule_as_it_is_now(clinic: Clinic) -> None:
    """Another template's words are sent, and by another channel where the rule has changed it."""
    clinic.configure(LATER)
    clinic.post()
    clinic.work()
    folder = clinic.settings.templates / "kit_new"
    folder.mkdir()
    for name in ("subject.txt", "email.txt", "email.html"):
        (folder / name).write_text("New words.", "utf-8")
    edited = LATER.replace('template = "kit"', 'template = "kit_new"')
    edited = edited.replace('channels = ["sms"]\nfallback = ["email"]', 'channels = ["email"]')
    clinic.configure(edited)
    clinic.work(2 * HOUR)
    clinic.work()
    assert clinic.statuses() == [("email", "sent"), ("sms", "cancelled")]
    (mail,) = clinic.sendgrid.accepted
    assert "New words." in str(mail.json)


def link(clinic: Clinic) -> None:
    """The lab's order has the kit in it."""
    customer = {**PERSON, "phone_number": PHONE}
    kits = [{"id": KIT, "trf_code": None}]
    clinic.lab.change("order", ORDER, customer=customer, test_registrations=kits)


def test_a_customer_who_is_not_known_yet_is_waited_for(clinic: Clinic) -> None:
    """A registration's event may come before its order's: the message waits for the order, is sent
    to who ordered, and no other rule's message waits for it."""
    clinic.configure(CUSTOMER + CUSTOMER.replace("customer", "patient"))
    clinic.post("test_registration.complete", testregistration_id=KIT)
    clinic.work()
    assert [row["rule"] for row in clinic.messages(status="sent")] == ["patient"]
    assert clinic.messages(rule="customer")[0]["status"] == "scheduled"
    link(clinic)
    clinic.post("order.delivered", order_id=ORDER)
    clinic.work()
    clinic.work()
    assert [row["address"] for row in clinic.messages(rule="customer", status="sent")] == [PHONE]
    assert len(clinic.twilio.accepted) == 2


def test_a_customer_is_waited_for_after_hours_without_the_lab(clinic: Clinic) -> None:
    """The lab was away for hours: of what has gathered, a registration's event is processed before
    its order's. The hour is counted from then on, and who ordered hears of it."""
    clinic.configure(CUSTOMER, staff=STAFF)
    clinic.lab.once(Reply(503, headers={"Retry-After": "7200"}))
    clinic.post("test_registration.complete", testregistration_id=KIT)
    clinic.work()
    clinic.work(3 * HOUR)
    assert clinic.messages(rule="customer")[0]["status"] == "scheduled"
    link(clinic)
    clinic.post("order.delivered", order_id=ORDER)
    clinic.work()
    clinic.work()
    assert [row["address"] for row in clinic.messages(rule="customer", status="sent")] == [PHONE]
    assert clinic.worklist() == []


def test_a_customer_who_stays_unknown_is_a_case(clinic: Clinic) -> None:
    """After an hour the message ends as validation-failed, and staff hear of it."""
    clinic.configure(CUSTOMER, staff=STAFF)
    clinic.post("test_registration.complete", testregistration_id=KIT)
    clinic.work()
    clinic.work(HOUR + MINUTE)
    clinic.work()
    assert clinic.messages(rule="customer")[0]["status"] == "validation-failed"
    assert clinic.worklist() == ["unreached"]


def test_without_an_account_live_messages_wait(clinic: Clinic) -> None:
    """Where delivery is live and the account is lost, patients' texts wait and a case says so; they
    do not count as sent, and go out once the account is there again."""
    live = clinic.settings
    clinic.settings = replace(live, twilio_auth_token="")
    clinic.configure(RULES, staff=STAFF)
    clinic.post()
    clinic.work()
    (row,) = clinic.messages(rule="kit")
    assert (row["status"], row["provider_id"]) == ("scheduled", None)
    assert clinic.worklist() == ["account"]
    clinic.orders(11)
    clinic.work()
    clinic.work()
    assert only(clinic.db, cases)["count"] == 12
    clinic.settings = live
    clinic.configure(RULES, staff=STAFF)
    clinic.work()
    assert {row["status"] for row in clinic.messages(rule="kit")} == {"sent"}
    assert clinic.worklist() == []
