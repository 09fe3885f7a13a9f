"""`fallback_after`: what nobody has reported as arrived in time is told by the fallback too."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from relay.ledger import attempts
from relay.rules.model import Ending
from tests.jobs.conftest import HEAD, ORDER, PHONE, RULES, Clinic
from tests.jobs.test_followups import NURSES, TO_NURSES
from tests.jobs.test_sent_again import again
from tests.rows import replay_event, time_passes
from tests.standins import Reply

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
TIMELY = RULES.replace('fallback = ["email"]', 'fallback = ["email"]\nfallback_after = "4h"')
STAFF_TIMELY = TO_NURSES.replace('["email"]', '["email"]\nfallback_after = "4h"')


@pytest.fixture
def timely(clinic: Clinic) -> Clinic:
    """A clinic whose texts are to arrive within four hours."""
    clinic.configure(TIMELY)
    return clinic


def test_what_has_not_arrived_in_time_is_told_otherwise_too(timely: Clinic) -> None:
    """After four hours without a report the email goes, once, and the text says why. A report that
    comes later still is kept, and no more; a replay tells nobody twice.
    """
    event_id = timely.post()
    timely.work()
    timely.tell("sent", channel="sms")  # on its way: that is no arrival
    timely.work(4 * HOUR - MINUTE)
    assert timely.statuses() == [("sms", "sent")]
    timely.work(2 * MINUTE)
    assert timely.statuses() == [("email", "sent"), ("sms", "sent")]
    (text,) = timely.messages(channel="sms")
    assert text["reason"] == (
        "Nobody reported within 4 hours that it had arrived: the fallback goes out too."
    )
    timely.work(DAY)
    timely.tell("delivered", channel="sms")
    replay_event(timely.db, event_id)
    timely.work(DAY)
    assert timely.statuses() == [("email", "sent"), ("sms", "delivered")]
    assert (len(timely.twilio.accepted), len(timely.sendgrid.accepted)) == (1, 1)
    assert timely.worklist() == []


def test_what_arrives_in_time_is_told_once(timely: Clinic) -> None:
    """The mark goes with the report."""
    timely.post()
    timely.work()
    timely.work(HOUR)
    timely.tell("delivered", channel="sms")
    timely.work(DAY)
    assert timely.statuses() == [("sms", "delivered")]


def test_a_report_calls_off_the_fallback_that_waits(timely: Clinic) -> None:
    """Four hours are over at night: until the window of the fallback opens, the text may arrive."""
    timely.post()
    timely.work()
    opens = datetime.now(UTC) + timedelta(hours=9)
    window = f'send_window = "{opens:%H:%M}-{opens + HOUR:%H:%M}"'
    timely.configure(TIMELY, HEAD.replace('send_window = "always"', window))
    timely.work(5 * HOUR)
    assert timely.statuses() == [("email", "scheduled"), ("sms", "sent")]
    timely.tell("delivered", channel="sms")
    assert timely.statuses() == [("email", "cancelled"), ("sms", "delivered")]
    assert timely.messages(channel="email")[0]["reason"].startswith("It is no longer needed")


@pytest.mark.parametrize("is_early", [True, False], ids=["before", "after"])
def test_a_failure_leads_there_once(timely: Clinic, is_early: bool) -> None:
    """Whether the text fails before its time is over or after it, there is one email."""
    timely.post()
    timely.work()
    timely.work(HOUR if is_early else 5 * HOUR)
    timely.tell("permanent-failure", "30006", channel="sms")
    timely.work()
    timely.work(5 * HOUR)
    assert timely.statuses() == [("email", "sent"), ("sms", "permanent-failure")]
    assert (len(timely.sendgrid.accepted), timely.worklist()) == (1, [])


def test_what_is_kept_here_needs_no_fallback(timely: Clinic) -> None:
    """In a dry run nobody reports anything."""
    timely.settings = replace(timely.settings, delivery="dry-run")
    timely.post()
    timely.work()
    timely.work(5 * HOUR)
    assert timely.statuses() == [("sms", "sent")]


def test_a_fallback_that_fails_leaves_it_to_the_first(timely: Clinic) -> None:
    """There is no email address: the text may still arrive, so that nobody is asked yet. If it
    fails, somebody is.
    """
    timely.lab.change("order", ORDER, customer={"phone_number": PHONE, "email": "none"})
    timely.post()
    timely.work()
    timely.work(5 * HOUR)
    timely.work()
    assert timely.statuses() == [("email", "validation-failed"), ("sms", "sent")]
    assert timely.worklist() == []
    timely.tell("permanent-failure", "30006", channel="sms")
    timely.work()
    assert timely.worklist() == ["unreached"]


@pytest.mark.parametrize("told", [{}, {"+447700900102": "delivered"}, {"+447700900102": "failed"}])
def test_of_a_group_it_is_enough_that_one_is_reached(clinic: Clinic, told: dict[str, str]) -> None:
    """Both nurses' texts are late, or one is and the other has failed: the group's email goes,
    once. Where one has arrived, it does not.
    """
    clinic.configure(STAFF_TIMELY, staff=NURSES)
    clinic.post()
    clinic.work()
    for address, state in told.items():
        word = {"failed": "permanent-failure"}.get(state, state)
        clinic.tell(word, "30006" if state == "failed" else "", address=address)
    for after in (MINUTE, 4 * HOUR, DAY):
        clinic.work(after)
    assert len(clinic.sendgrid.accepted) == (told != {"+447700900102": "delivered"})


def test_a_receipt_that_is_faster_than_we_changes_nothing(timely: Clinic) -> None:
    """The provider tells that it is on its way before we have written that it has it."""
    timely.post()
    _, claim = timely.claimed()
    assert attempts.begin(timely.db, claim, {"text": "Words."})
    timely.tell_of(claim.attempt_id, "sent")
    ending = Ending("accepted", "sent", provider_id="SM1", fallback_in=4 * 3600.0)
    assert not attempts.finish(timely.db, claim, ending)
    timely.work(5 * HOUR)
    assert timely.statuses() == [("email", "sent"), ("sms", "sent")]


def test_what_was_unknown_and_is_found_has_its_time_too(timely: Clinic) -> None:
    """Twilio did not answer and had taken it: from then on it has four hours."""
    timely.twilio.once(Reply(hang_up=True))
    timely.post()
    timely.work()
    request = timely.twilio.requests[-1]
    timely.twilio.accepted.append(request)
    timely.work(3 * MINUTE)
    assert timely.statuses() == [("sms", "sent")]
    timely.work(5 * HOUR)
    assert timely.statuses() == [("email", "sent"), ("sms", "sent")]


def test_a_repeat_has_its_time_too(timely: Clinic) -> None:
    """What a person had sent again is told otherwise too, though the first had arrived."""
    timely.post()
    timely.work()
    timely.tell("delivered", channel="sms")
    again(timely, timely.messages()[0]["id"])
    timely.work()
    timely.work(5 * HOUR)
    assert timely.statuses() == [("email", "sent"), ("sms", "delivered"), ("sms", "sent")]


@pytest.mark.parametrize("by", ["its kit", "the key", "the rule"])
def test_what_is_not_wanted_any_more_is_not_told_otherwise(timely: Clinic, by: str) -> None:
    """The kit has moved on, the key is gone from the rule, or the rule is switched off."""
    timely.post()
    timely.work()
    if by == "its kit":
        timely.post("order.delivered")
    else:
        off = TIMELY.replace("[rules.kit]", "[rules.kit]\nenabled = false")
        timely.configure(RULES if by == "the key" else off)
    timely.work(5 * HOUR)
    timely.work(DAY)
    assert timely.sendgrid.accepted == []


def test_a_failure_in_that_very_moment_is_followed_up_by_itself(timely: Clinic) -> None:
    """A worker is about to plan the fallback when the text fails, since the phone was off: it is
    sent once more, as it would have been.
    """
    timely.post()
    timely.work()
    time_passes(timely.db, 5 * HOUR)
    jobs = timely.jobs
    (item,) = jobs.follow_ups.due(1)
    timely.tell("temporary-failure", "30003", channel="sms")
    jobs.follow_ups.follow_up(item)
    assert timely.statuses() == [("sms", "temporary-failure")]
    timely.work()
    timely.work(HOUR)
    assert (len(timely.twilio.accepted), timely.sendgrid.accepted) == (2, [])
