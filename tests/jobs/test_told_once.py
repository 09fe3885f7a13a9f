"""What the stateful machine (tests/stateful) found: told twice, too late, though denied, or never.
Each by the fewest steps.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from relay.ledger.schema import attempts, events, notifications
from relay.rules.statuses import UNCONFIRMED
from tests.jobs.conftest import KIT, ORDER, RETEST, STAFF, Clinic, suppress
from tests.rows import change, only, replay_event, replay_notification
from tests.standins import Reply, twilio_error

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
RESULTS = f"/api/test_registration/{KIT}/lab_results"
RULES = """
[rules.results]
event = "lab_results.complete"
to = "patient"
channels = ["sms"]
fallback = ["email"]
template = "results"
"""
STEPS = """
[rules.kit]
event = "order.shipped"
to = "customer"
channels = ["sms"]
template = "kit"
"""

RETESTS = """
[rules.retest]
event = "test_registration.retest"
to = "patient"
channels = ["sms"]
template = "results"
"""


@pytest.fixture
def told(clinic: Clinic) -> Clinic:
    """A clinic that has told of results by text, and could by email."""
    for name in ("subject.txt", "email.txt", "email.html"):
        (clinic.settings.templates / "results" / name).write_text("Ready", "utf-8")
    clinic.configure(RULES, staff=STAFF)
    clinic.results()
    clinic.work()
    assert clinic.statuses() == [("sms", "sent")]
    return clinic


def test_a_number_that_is_wrong_by_now_brings_no_fallback(told: Clinic) -> None:
    """Whoever was told by text is not told again by email because the number is none any more."""
    told.lab.change("test_registration", KIT, mobile_phone_number="020 7946 0018")
    assert replay_event(told.db, told.messages()[0]["event_id"])
    told.work()
    assert told.statuses() == [("sms", "sent")]


def test_a_channel_in_anothers_place_tells_nobody_again(told: Clinic) -> None:
    """A rule that writes emails now does not write one about what it has told by text."""
    told.configure(RULES.replace('["sms"]', '["email"]').replace('fallback = ["email"]\n', ""))
    assert replay_event(told.db, told.messages()[0]["event_id"])
    told.work()
    assert told.statuses() == [("sms", "sent")]


def test_what_nobody_has_confirmed_is_not_told_again(told: Clinic) -> None:
    """A text without a receipt may have arrived: a post that comes again tells by no other way."""
    change(told.db, notifications, {}, status="temporary-failure")
    change(told.db, attempts, {}, code=UNCONFIRMED)
    told.lab.change("test_registration", KIT, mobile_phone_number="020 7946 0018")
    told.results()
    told.work()
    assert told.statuses() == [("sms", "temporary-failure")]


def test_a_case_stays_while_nothing_is_on_its_way(told: Clinic) -> None:
    """A text that failed for good is planned again to the same number, which sends nothing: the
    case about it stays open."""
    told.configure(RULES.replace('fallback = ["email"]\n', ""), staff=STAFF)
    told.tell("permanent-failure", "30005", rule="results")
    told.work()
    assert told.worklist() == ["unreached"]
    told.results()
    told.work()
    assert told.worklist() == ["unreached"]
    assert len(told.twilio.accepted) == 1


def test_old_facts_are_no_newer_for_being_held(clinic: Clinic) -> None:
    """A message that is held for staff goes by the lab's answer of that moment, though its event
    was looked at again meanwhile, and held."""
    clinic.configure(RULES.replace('fallback = ["email"]', 'hold = "48h"'), staff=STAFF)
    event = clinic.results()
    clinic.work()
    clinic.lab.resources[RESULTS] = Reply(204)
    clinic.work(49 * HOUR - 5 * MINUTE)
    assert replay_event(clinic.db, event)
    change(clinic.db, events, {}, tries=30)
    clinic.work()
    assert only(clinic.db, events)["status"] == "held"
    clinic.work(10 * MINUTE)
    assert clinic.twilio.accepted == []


def test_a_cancelled_tests_retest_has_to_be_there_too(clinic: Clinic) -> None:
    """A retest of a cancelled registration is announced when the lab's API says what it repeats."""
    clinic.configure(RETESTS)
    clinic.lab.change("test_registration", KIT, status="cancelled")
    clinic.lab.change("test_registration", RETEST, parent_id=None)
    data = {"testregistration_id": KIT, "retest_testregistration_id": RETEST}
    clinic.post("test_registration.retest", **data)
    clinic.work()
    assert clinic.statuses() == []
    clinic.lab.change("test_registration", RETEST, parent_id=KIT)
    clinic.work(MINUTE)
    assert clinic.statuses() == [("sms", "sent")]


def test_a_message_that_has_waited_for_minutes_asks_what_has_come(clinic: Clinic) -> None:
    """A text that Twilio was too busy for does not go out once the next step has been known for
    more than a minute, though its facts are not a quarter of an hour old."""
    clinic.configure(STEPS)
    clinic.twilio.once(twilio_error(429, 20429, **{"Retry-After": "240"}))
    clinic.post()
    jobs, claim = clinic.claimed()
    clinic.post("order.delivered", order_id=claim.event_data["order_id"])
    (event,) = jobs.lease_events(1)
    jobs.process(event)
    jobs.deliver(claim)
    clinic.work(5 * MINUTE)
    assert clinic.twilio.accepted == []
    (row,) = clinic.messages()
    assert (row["status"], "order.delivered has come" in row["reason"]) == ("cancelled", True)


def test_a_stop_counts_until_the_last_moment(clinic: Clinic) -> None:
    """A message that is claimed and not handed over yet is not sent to who has said STOP since."""
    clinic.post()
    jobs, claim = clinic.claimed()
    suppress(clinic.db, "sms", claim.address)
    jobs.deliver(claim)
    clinic.work()
    assert clinic.twilio.accepted == []
    assert clinic.messages(channel="sms")[0]["status"] == "cancelled"


def test_a_step_has_come_though_it_is_looked_at_again(clinic: Clinic) -> None:
    """While a later step is looked at again, and the lab is away, what it made old stays so."""
    clinic.configure(STEPS)
    delivered = clinic.post("order.delivered", order_id=ORDER)
    clinic.work()
    assert replay_event(clinic.db, delivered)
    clinic.lab.once(Reply(503))
    clinic.work()
    clinic.post()
    clinic.work()
    assert clinic.twilio.accepted == []


def test_a_way_and_its_fallback_are_not_sent_again_together(clinic: Clinic) -> None:
    """Where a text was refused, and the email in its stead too, a replay sends one of them."""
    clinic.twilio.once(twilio_error(400, 21614))
    clinic.sendgrid.once(Reply(400, b"", {}))
    event = clinic.post()
    clinic.work()
    assert clinic.statuses() == [("email", "permanent-failure"), ("sms", "permanent-failure")]
    assert replay_event(clinic.db, event)
    clinic.work()
    assert clinic.statuses() == [("email", "permanent-failure"), ("sms", "sent")]
    for row in clinic.messages(channel="email"):
        assert not replay_notification(clinic.db, row["id"])
