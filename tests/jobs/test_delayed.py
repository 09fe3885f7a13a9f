"""`after` and `unless`: reminders that come later, if they are still true."""

from __future__ import annotations

from datetime import timedelta

import pytest

from relay.dev import lab_simulator
from tests.jobs.conftest import ORDER, Clinic

DAY = timedelta(days=1)
KIT = lab_simulator.order(ORDER)["test_registrations"][0]["id"]
RECEIVED = {"testregistration_id": KIT, "sample_received_at": "2026-06-01T14:52:32+01:00"}
REMINDER = """
[rules.reminder]
event = "order.delivered"
after = "10d"
unless = ["test_registration.sample_received", "lab_results.complete"]
to = "customer"
channels = ["sms"]
template = "kit"
"""


@pytest.fixture
def reminded(clinic: Clinic) -> Clinic:
    """A clinic that reminds, and a kit that was delivered just now."""
    clinic.configure(REMINDER)
    clinic.post("order.delivered", order_id=ORDER)
    clinic.work()
    return clinic


def test_a_reminder_waits_for_its_day(reminded: Clinic) -> None:
    """It is scheduled for ten days after the event, and goes out then, once."""
    assert reminded.statuses() == [("sms", "scheduled")]
    reminded.work(9 * DAY)
    assert reminded.twilio.accepted == []
    reminded.work(DAY)
    reminded.work(DAY)
    assert reminded.statuses() == [("sms", "sent")]
    assert len(reminded.twilio.accepted) == 1


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("test_registration.sample_received", RECEIVED),
        ("lab_results.complete", {"testregistration_id": KIT}),
    ],
)
def test_it_dies_when_it_is_not_needed(reminded: Clinic, name: str, data: dict[str, str]) -> None:
    """The sample has come, or the results: it is cancelled, and says why."""
    reminded.post(name, **data)
    reminded.work(DAY)
    (row,) = reminded.messages(rule="reminder")
    assert row["status"] == "cancelled"
    assert row["reason"] == f"It is no longer needed: {name} has come."
    reminded.work(10 * DAY)
    assert reminded.twilio.accepted == []


def test_it_is_not_even_planned_where_it_is_not_needed(clinic: Clinic) -> None:
    """The sample came before the delivery was told: no reminder."""
    clinic.configure(REMINDER)
    clinic.post("test_registration.sample_received", **RECEIVED)
    clinic.work()
    clinic.post("order.delivered", order_id=ORDER)
    clinic.work(DAY)
    assert clinic.messages(rule="reminder") == []


def test_other_steps_leave_it(reminded: Clinic) -> None:
    """A kit that was registered still has to be sent back."""
    reminded.post("test_registration.complete", testregistration_id=KIT)
    reminded.work(10 * DAY)
    assert reminded.statuses() == [("sms", "sent")]


def test_its_facts_are_fetched_again(reminded: Clinic) -> None:
    """When it falls due, what the lab says by now is what counts: here, another condition."""
    reminded.configure(REMINDER + "when = \"order.shipping_status != 'returned'\"\n")
    reminded.lab.change("order", ORDER, shipping_status="returned")
    reminded.work(10 * DAY)
    (row,) = reminded.messages(rule="reminder")
    assert row["status"] == "cancelled"
    assert row["reason"].startswith("Its condition is not met")


def test_an_event_that_is_old_is_reminded_of_at_once(clinic: Clinic) -> None:
    """`after` counts from the event: one that was held for longer is due when it is processed."""
    clinic.configure(REMINDER)
    clinic.post("order.delivered", order_id=ORDER)
    clinic.work(11 * DAY)
    assert clinic.statuses() == [("sms", "sent")]
