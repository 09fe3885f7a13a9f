"""An admin changes config.toml while messages wait, and changes it back."""

from __future__ import annotations

from datetime import timedelta

import pytest

from relay.ledger.schema import cases, events
from tests.jobs.conftest import RULES, Clinic
from tests.rows import only, replay_event
from tests.standins import Reply, twilio_error

MINUTE = timedelta(minutes=1)
STAFF = '[staff.desk]\nemail = ["{}"]\n'
DESK = """
[rules.desk]
event = "order.shipped"
to = "desk"
channels = ["email"]
template = "kit"
"""


@pytest.fixture
def waiting(clinic: Clinic) -> Clinic:
    """A clinic with a text that Twilio was too busy for."""
    clinic.twilio.once(twilio_error(429, 20429))
    clinic.post()
    clinic.work()
    assert clinic.statuses() == [("sms", "created")]
    return clinic


def test_a_rule_switched_off_by_mistake_can_be_made_good(waiting: Clinic) -> None:
    """What was cancelled goes out once the rule is back and its event is replayed: once."""
    waiting.configure(RULES.replace("[rules.kit]", "[rules.kit]\nenabled = false"))
    waiting.work(MINUTE)
    assert waiting.statuses() == [("sms", "cancelled")]
    waiting.configure()
    for _ in range(2):
        replay_event(waiting.db, waiting.messages()[0]["event_id"])
        waiting.work(MINUTE)
    assert waiting.statuses() == [("sms", "sent")]
    assert len(waiting.twilio.accepted) == 1


def test_a_number_that_changes_and_changes_back_is_told_once(waiting: Clinic) -> None:
    """The lab corrects a number to and fro while the message waits: it reaches the right one."""
    first = waiting.lab.resources.copy()
    path = next(path for path in first if "/order/" in path)
    for phone in ("+447700900777", first[path]["customer"]["phone_number"]):
        waiting.twilio.once(twilio_error(429, 20429))
        customer = {**first[path]["customer"], "phone_number": phone}
        waiting.lab.resources[path] = {**first[path], "customer": customer}
        waiting.work(timedelta(hours=1))
    waiting.work(timedelta(hours=1))
    assert [request.form["To"] for request in waiting.twilio.accepted] == [phone]


def test_a_rule_that_writes_to_others_now_sends_nothing_old(waiting: Clinic) -> None:
    """A message planned for one person is not sent when the rule now writes to another: it waits,
    and says so."""
    waiting.configure(
        RULES.replace('"customer"', '"patient"').replace('fallback = ["email"]\n', "")
    )
    waiting.work(MINUTE)
    assert waiting.statuses() == [("sms", "scheduled")]
    assert "now writes to patient, not to customer" in waiting.messages()[0]["reason"]
    assert waiting.twilio.accepted == []


def test_what_is_planned_for_later_says_at_once_that_its_rule_is_gone(clinic: Clinic) -> None:
    """A reminder of next week waits from the edit on, not from its day; one case says how many.
    Once its rule is back it goes on its own day, and no sooner.
    """
    later = RULES.replace("[rules.kit]", '[rules.kit]\nafter = "7d"')
    clinic.configure(later)
    clinic.orders(3)
    clinic.work()
    clinic.configure(STAFF.format("desk@example.org") + DESK)
    clinic.work(MINUTE)
    gone = "Its rule, kit, is no longer in config.toml."
    assert [row["reason"] for row in clinic.messages(channel="sms")] == [gone] * 3
    case = only(clinic.db, cases, kind="rule")
    assert (case["count"], case["closed_at"]) == (3, None)
    clinic.configure(later)
    clinic.work(MINUTE)
    assert only(clinic.db, cases, kind="rule")["closed_at"]
    assert clinic.twilio.accepted == []
    clinic.work(timedelta(days=7))
    assert len(clinic.twilio.accepted) == 3


def test_a_rule_that_uses_another_channel_now_is_followed(waiting: Clinic) -> None:
    """The old way ends cancelled and says why; the message goes by the new one, once."""
    new = RULES.replace('["sms"]\nfallback = ["email"]', '["email"]')
    waiting.configure(new)
    waiting.work(MINUTE)
    assert waiting.statuses() == [("email", "sent"), ("sms", "cancelled")]
    assert "no longer uses sms" in waiting.messages(channel="sms")[0]["reason"]


def test_staff_who_left_get_nothing_more(clinic: Clinic) -> None:
    """An address taken out of a group gets no waiting message; the one put in gets it."""
    clinic.configure(STAFF.format("old@example.org") + DESK)
    clinic.sendgrid.once(Reply(429, b"", {}))
    clinic.post()
    clinic.work()
    clinic.configure(STAFF.format("new@example.org") + DESK)
    clinic.work(MINUTE)
    assert [request.json["personalizations"][0]["to"] for request in clinic.sendgrid.accepted] == [
        [{"email": "new@example.org"}]
    ]


def test_a_condition_that_breaks_on_the_facts_ends_with_a_reason(clinic: Clinic) -> None:
    """An expression that fails on what the lab sent is our fault, told once and not for ever."""
    broken = " or ".join(["order.items|length < order.carrier"] * 12)
    clinic.configure(RULES.replace("order.shipping_status != 'returned'", broken))
    clinic.post()
    clinic.work()
    assert {status for _, status in clinic.statuses()} == {"technical-failure"}
    assert only(clinic.db, events)["status"] == "processed"
    clinic.work(timedelta(days=1))
    assert len(clinic.messages()) == 2  # by SMS and by its fallback, once each


def test_a_short_retry_after_does_not_use_up_the_tries(clinic: Clinic) -> None:
    """A lab that says "again in a second" is asked at our own growing pace."""
    clinic.lab.always(Reply(503, b"", {"Retry-After": "1"}))
    clinic.post()
    for _ in range(10):  # twenty seconds: at once, and after five and fifteen more
        clinic.work(timedelta(seconds=2))
    assert only(clinic.db, events)["tries"] <= 3
