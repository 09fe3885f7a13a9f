"""Orders of several kits, retests of their own, names that are shared: the right person, once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from relay.lab.events import REGISTRATION
from relay.ledger.schema import events
from relay.ledger.views import kit_history
from relay.rules.schedule import utc_now
from tests.jobs.conftest import DESK, KIT, ORDER, PERSON, PHONE, RETEST, STAFF, Clinic
from tests.rows import replay_event, rows

DAY = timedelta(days=1)
RECEIVED, RETESTED = "test_registration.sample_received", "test_registration.retest"
TWO, OTHER, NEW_ORDER = "order-of-two", "other-kit", "order-of-the-retest"
OTHER_PHONE = "+447700900002"
REMINDER = f"""
[rules.reminder]
event = "order.delivered"
after = "10d"
unless = ["{RECEIVED}", "lab_results.complete"]
to = "customer"
channels = ["sms"]
template = "kit"
"""
RETEST_RULES = f"""
[rules.retest]
event = "{RETESTED}"
to = "patient"
channels = ["sms"]
template = "results"
[rules.desk-retest]
event = "{RETESTED}"
to = "desk"
channels = ["email"]
template = "results"
"""
CUSTOMER = """
[rules.customer]
event = "test_registration.complete"
to = "customer"
channels = ["sms"]
template = "results"
"""
MUCH_LATER = f"""
[rules.later]
event = "{RECEIVED}"
after = "10d"
to = "patient"
channels = ["sms"]
template = "results"
"""


@pytest.fixture
def two(clinic: Clinic) -> Clinic:
    """A clinic with an order of two kits."""
    clinic.lab.change(
        "test_registration", OTHER, id=OTHER, **PERSON, mobile_phone_number=OTHER_PHONE
    )
    kits = [{"id": KIT, "trf_code": None}, {"id": OTHER, "trf_code": None}]
    order(clinic, TWO, kits, PHONE)
    return clinic


def order(clinic: Clinic, id_: str, kits: list[dict[str, Any]], phone: str) -> None:
    """The lab knows an order of these kits."""
    customer = {**PERSON, "phone_number": phone}
    clinic.lab.change(
        "order", id_, customer=customer, test_registrations=kits, tracking_number="RM2"
    )


def received(clinic: Clinic, kit: str) -> str:
    """The lab has a kit's sample."""
    at = "2026-06-01T14:52:32+01:00"
    return clinic.post(RECEIVED, testregistration_id=kit, sample_received_at=at)


def texts(clinic: Clinic) -> list[str]:
    """The rules whose texts have gone out, in order."""
    return [row["rule"] for row in clinic.messages(channel="sms", status="sent")]


def test_one_sample_of_two_calls_no_reminder_off(two: Clinic) -> None:
    """The owner of the other kit is reminded: a step of an order has come when it has come for each
    of its kits."""
    two.configure(REMINDER)
    two.post("order.delivered", order_id=TWO)
    two.work()
    received(two, KIT)
    two.work()
    assert two.statuses() == [("sms", "scheduled")]
    two.work(11 * DAY)
    assert texts(two) == ["reminder"]


def test_both_samples_call_the_reminder_off(two: Clinic) -> None:
    """When both samples are there, nobody is reminded, and the message says why."""
    two.configure(REMINDER)
    two.post("order.delivered", order_id=TWO)
    two.work()
    for kit in (OTHER, KIT):
        received(two, kit)
        two.work()
    (row,) = two.messages()
    assert (row["status"], RECEIVED in row["reason"]) == ("cancelled", True)


@pytest.mark.parametrize("sampled", [True, False])
def test_a_retest_makes_no_news_of_what_was_old(clinic: Clinic, sampled: bool) -> None:
    """The first order's delivery, posted late, was old once its sample was there. It is old after a
    retest too, when nothing of the new kit has come; also where only the retest tells of a sample.
    The new kit's own delivery is news."""
    clinic.configure(REMINDER.replace('after = "10d"', "").replace("unless", "#"))
    order(clinic, ORDER, [{"id": KIT, "trf_code": None}], PHONE)
    clinic.post()
    clinic.work()
    if sampled:
        received(clinic, KIT)
        clinic.work()
    clinic.post(RETESTED, testregistration_id=KIT, retest_testregistration_id=RETEST)
    order(clinic, NEW_ORDER, [{"id": RETEST, "trf_code": None}], PHONE)
    clinic.work()
    for late in (ORDER, NEW_ORDER):
        clinic.post("order.delivered", order_id=late)
        clinic.work()
    assert [row["subject"] for row in clinic.messages(status="sent")] == [NEW_ORDER]


@pytest.mark.parametrize("other_is_registered", [True, False])
def test_news_of_two_kits_is_old_once_both_are_further_on(
    two: Clinic, other_is_registered: bool
) -> None:
    """One is tested again, the other registered: their delivery, posted late, is old. While nothing
    has come of the other, it is news."""
    two.configure(REMINDER.replace('after = "10d"', "").replace("unless", "#"))
    two.post("order.shipped", order_id=TWO)
    received(two, KIT)
    two.work()
    two.post(RETESTED, testregistration_id=KIT, retest_testregistration_id=RETEST)
    if other_is_registered:
        two.post("test_registration.complete", testregistration_id=OTHER)
    two.work()
    two.post("order.delivered", order_id=TWO)
    two.work()
    assert texts(two) == ([] if other_is_registered else ["reminder"])


def test_a_kit_that_is_tested_again_is_reminded_of_its_new_sample(two: Clinic) -> None:
    """Its old sample and the other kit's call no reminder off; its new one does."""
    two.configure(REMINDER)
    two.post("order.delivered", order_id=TWO)
    received(two, KIT)
    two.work()
    two.post(RETESTED, testregistration_id=KIT, retest_testregistration_id=RETEST)
    two.work()
    received(two, OTHER)
    two.work()
    assert two.statuses() == [("sms", "scheduled")]
    received(two, RETEST)
    two.work()
    assert two.statuses() == [("sms", "cancelled")]


@pytest.mark.parametrize("is_late", [True, False])
def test_a_retests_own_order_calls_its_reminder_off(clinic: Clinic, is_late: bool) -> None:
    """A retest's kit that is shipped as an order of its own is a kit like any other."""
    clinic.configure(REMINDER)
    clinic.post(RETESTED, testregistration_id=KIT, retest_testregistration_id=RETEST)
    order(clinic, NEW_ORDER, [{"id": RETEST, "trf_code": None}], PHONE)
    clinic.work()
    posts = [lambda: clinic.post("order.delivered", order_id=NEW_ORDER)]
    posts.insert(0 if is_late else 1, lambda: received(clinic, RETEST))
    for post in posts:
        post()
        clinic.work()
    clinic.work(11 * DAY)
    assert texts(clinic) == []


def test_the_new_kit_on_its_way_overtakes_the_request_for_it(clinic: Clinic) -> None:
    """A patient whose new kit is shipped already is not asked for a new sample, however late the
    lab posts the retest; staff hear of it all the same."""
    for name in ("subject.txt", "email.txt", "email.html"):
        (clinic.settings.templates / "results" / name).write_text("A new sample.", "utf-8")
    clinic.configure(RETEST_RULES, staff=STAFF)
    order(clinic, NEW_ORDER, [{"id": RETEST, "trf_code": None}], PHONE)
    clinic.post("test_registration.complete", testregistration_id=RETEST)
    clinic.work()
    clinic.post("order.shipped", order_id=NEW_ORDER)
    clinic.work()
    clinic.post(RETESTED, testregistration_id=KIT, retest_testregistration_id=RETEST)
    clinic.work()
    assert texts(clinic) == []
    assert [
        mail.json["personalizations"][0]["to"][0]["email"] for mail in clinic.sendgrid.accepted
    ] == [DESK]


def test_what_if_reads_a_retest_shipped_on_its_own_as_part_of_its_kit(clinic: Clinic) -> None:
    """Its order's steps are in the history of the registration that it repeats, where the links are
    known; the order of somebody else is a history of its own."""
    clinic.configure(CUSTOMER)
    order(clinic, NEW_ORDER, [{"id": RETEST, "trf_code": None}], PHONE)
    clinic.post("order.shipped", order_id=NEW_ORDER)
    clinic.post(RETESTED, testregistration_id=KIT, retest_testregistration_id=RETEST)
    clinic.post("order.shipped", order_id="order-of-another")
    clinic.work()
    with clinic.db.read() as connection:
        kits = kit_history.kits(connection, utc_now() - DAY)
        found = kit_history.histories(connection, kits, [])
    shipped, retested = ("order.shipped", 0), (RETESTED, 1)
    told = {frozenset((one.name, one.round) for one in history.events) for history in found}
    assert told == {frozenset({shipped, retested}), frozenset({shipped})}
    both = next(history for history in found if len(history.events) == 2)
    assert ("order.shipped", 1) in {
        (step.name, step.round) for step in both.kits_at(1).steps(REGISTRATION, KIT)
    }


def test_what_was_told_of_a_retest_before_it_was_linked_stays_told(clinic: Clinic) -> None:
    """Results of a retest, told before the lab said what it repeats, are not told again when the
    link is learned: not by a replay, and not by another name."""
    path = f"/api/test_registration/{RETEST}"
    clinic.lab.resources[path]["parent_id"] = None
    first = clinic.results(RETEST)
    clinic.work()
    assert len(clinic.twilio.accepted) == 1
    clinic.lab.resources[path]["parent_id"] = KIT
    clinic.post(RETESTED, testregistration_id=KIT, retest_testregistration_id=RETEST)
    clinic.work()
    assert [(row["subject"], row["round"]) for row in clinic.messages()] == [(KIT, 1)]
    assert replay_event(clinic.db, first)
    name = f"LML-{RETEST[:6]}"
    clinic.lab.resources[f"/api/test_registration/{name}"] = clinic.lab.resources[path]
    clinic.results(name)
    clinic.work()
    assert len(clinic.twilio.accepted) == 1
    assert {row["subject"] for row in rows(clinic.db, events)} == {KIT}


def test_a_name_that_two_kits_share_leads_to_neither(clinic: Clinic) -> None:
    """Two registrations have one foreign id: each one's customer gets their own message, never the
    other's, whatever name the lab posts."""
    clinic.configure(CUSTOMER)
    phones = {KIT: PHONE, OTHER: OTHER_PHONE}
    for kit, phone in phones.items():
        clinic.lab.change("test_registration", kit, id=kit, **PERSON, foreign_id="family")
        order(clinic, f"order-of-{kit}", [{"id": kit, "trf_code": None}], phone)
        clinic.post("order.shipped", order_id=f"order-of-{kit}")
        clinic.work()
    for kit in phones:
        clinic.lab.resources["/api/test_registration/family"] = clinic.lab.resources[
            f"/api/test_registration/{kit}"
        ]
        clinic.post("test_registration.complete", testregistration_id="family", url=kit)
        clinic.work()
    made = {row["subject"]: row["address"] for row in clinic.messages(rule="customer")}
    assert set(made.items()) <= set(phones.items())
    assert made


@pytest.mark.parametrize("is_replayed", [False, True])
def test_a_name_that_goes_to_another_kit_takes_no_message_with_it(
    clinic: Clinic, is_replayed: bool
) -> None:
    """The clinic's reference of a kit is another kit's by the time that its message goes out, or
    its event is replayed: whom it was about hears of it, and the other hears nothing."""
    clinic.configure(MUCH_LATER)
    kits = {KIT: PHONE, OTHER: OTHER_PHONE}
    for kit, phone in kits.items():
        clinic.lab.change("test_registration", kit, id=kit, **PERSON, mobile_phone_number=phone)
    for owner, passes in ((KIT, timedelta()), (OTHER, 11 * DAY)):
        clinic.lab.change("test_registration", owner, foreign_id="ref")
        clinic.lab.resources["/api/test_registration/ref"] = clinic.lab.resources[
            f"/api/test_registration/{owner}"
        ]
        if owner == KIT:
            first = received(clinic, "ref")
        elif is_replayed:
            assert replay_event(clinic.db, first)
        clinic.work(passes)
    assert [sent.form["To"] for sent in clinic.twilio.accepted] == [PHONE]


def test_a_retests_own_order_says_nothing_of_the_order_before(two: Clinic) -> None:
    """Results of a retest, and then its own order, call off no reminder about the other kit of the
    first order."""
    two.configure(REMINDER)
    two.post("order.delivered", order_id=TWO)
    two.post(RETESTED, testregistration_id=KIT, retest_testregistration_id=RETEST)
    two.work()
    two.results(RETEST)
    two.work()
    order(two, NEW_ORDER, [{"id": RETEST, "trf_code": None}], PHONE)
    two.post("order.shipped", order_id=NEW_ORDER)
    two.work()
    assert two.statuses() == [("sms", "scheduled")]
