"""A post that comes again: told once it can be told, and never twice."""

from __future__ import annotations

from datetime import timedelta

import pytest

from relay.ledger.schema import events
from tests.jobs.conftest import KIT, PHONE, STAFF, Clinic, suppress
from tests.rows import change, only
from tests.standins import Reply, twilio_error

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
RESULTS = f"/api/test_registration/{KIT}/lab_results"
SUCCESS = """
[rules.results]
event = "lab_results.complete"
to = "patient"
channels = ["sms"]
template = "results"
when = "registration.status == 'success'"
"""


def status(clinic: Clinic, value: str) -> None:
    """The registration's status at the lab."""
    clinic.lab.change("test_registration", KIT, status=value)


def test_results_that_are_held_are_told_when_the_lab_posts_again(clinic: Clinic) -> None:
    """Held after days of 204, the results are told once they are there and posted again; the answer
    has the first id, and the case closes by itself, or was closed by staff before."""
    clinic.configure(staff=STAFF)
    clinic.lab.resources[RESULTS] = Reply(204)
    first = clinic.results()
    clinic.work()
    clinic.work(4 * DAY)
    change(clinic.db, events, {}, tries=30)
    clinic.work(DAY)
    assert (only(clinic.db, events)["status"], clinic.worklist()) == ("held", ["held"])
    del clinic.lab.resources[RESULTS]
    assert clinic.results() == first
    assert clinic.worklist() == []
    clinic.work()
    assert clinic.statuses() == [("email", "sent"), ("sms", "sent")]


def test_results_that_were_partial_are_told_when_they_are_complete(clinic: Clinic) -> None:
    """A rule that told nobody is asked again by what the lab says now, and only once tells it."""
    clinic.configure(SUCCESS)
    status(clinic, "partial_result")
    clinic.results()
    clinic.work()
    assert clinic.statuses() == []
    status(clinic, "success")
    for _ in range(3):
        clinic.results()
        clinic.work()
    assert clinic.statuses() == [("sms", "sent")]


def test_one_rule_that_told_keeps_no_other_from_telling(clinic: Clinic) -> None:
    """Staff's message about partial results does not keep the patient from hearing of success."""
    staff = SUCCESS.replace("rules.results", "rules.desk").replace('"patient"', '"desk"')
    staff = staff.replace('["sms"]', '["sms"]').replace("== 'success'", "== 'partial_result'")
    clinic.configure(SUCCESS + staff, staff='[staff.desk]\nsms = ["+447700900100"]\n')
    status(clinic, "partial_result")
    clinic.results()
    clinic.work()
    assert [row["rule"] for row in clinic.messages(status="sent")] == ["desk"]
    status(clinic, "success")
    clinic.results()
    clinic.work()
    clinic.results()
    clinic.work()
    assert sorted(row["rule"] for row in clinic.messages(status="sent")) == ["desk", "results"]


def test_a_corrected_number_is_told_when_the_lab_posts_again(clinic: Clinic) -> None:
    """A landline reaches nobody; corrected at the lab and posted again, the person is told, and the
    case about them closes."""
    clinic.configure(SUCCESS, staff=STAFF)
    status(clinic, "success")
    clinic.lab.change("test_registration", KIT, mobile_phone_number="020 7946 0018")
    clinic.results()
    clinic.work()
    assert clinic.worklist() == ["unreached"]
    clinic.lab.change("test_registration", KIT, mobile_phone_number=PHONE)
    clinic.results()
    clinic.work()
    sent = clinic.messages(rule="results", status="sent")
    assert [row["address"] for row in sent] == [PHONE]
    assert clinic.worklist() == []


@pytest.mark.parametrize("delay", ["0m", "2h"])
def test_a_stop_of_an_old_number_is_none_of_the_new_one(clinic: Clinic, delay: str) -> None:
    """A text that waits for its number's STOP, or that this refused, goes to the number that its
    reader has by now, whichever worker comes first, and their case closes when it arrives."""
    clinic.configure(SUCCESS + f'after = "{delay}"\n', staff=STAFF)
    status(clinic, "success")
    if delay == "0m":
        clinic.twilio.once(twilio_error(400, 21610))
    else:
        suppress(clinic.db, "sms", PHONE)
    clinic.results()
    clinic.work()
    clinic.lab.change("test_registration", KIT, mobile_phone_number="+447700900456")
    clinic.results()
    jobs = clinic.jobs
    for event in jobs.lease_events(1):
        jobs.process(event)
    clinic.work(2 * HOUR)
    sent = clinic.messages(rule="results", status="sent")
    assert [row["address"] for row in sent] == ["+447700900456"]
    clinic.tell("delivered", rule="results", status="sent")
    clinic.work()
    assert clinic.worklist() == []


@pytest.mark.parametrize(("ago", "asked"), [(timedelta(seconds=30), 1), (2 * MINUTE, 2)])
def test_an_event_that_waits_is_tried_at_once(clinic: Clinic, ago: timedelta, asked: int) -> None:
    """In its back-off it is tried when the lab posts it anew, but at most once a minute."""
    clinic.lab.once(Reply(503))
    clinic.results()
    change(clinic.db, events, {}, tries=8)  # it waits for hours
    clinic.work()
    clinic.work(ago)
    clinic.results()
    clinic.work()
    assert clinic.lab.paths.count(f"{RESULTS}/") == asked


def test_what_was_told_is_counted_and_no_more(clinic: Clinic) -> None:
    """A post that comes again after everybody was told asks the lab nothing and tells nobody."""
    clinic.configure(SUCCESS)
    status(clinic, "success")
    clinic.results()
    clinic.work()
    asked = len(clinic.lab.requests)
    for _ in range(3):
        clinic.results()
    clinic.work()
    row = only(clinic.db, events)
    assert (row["status"], row["duplicates"], len(clinic.lab.requests)) == ("processed", 3, asked)
    assert row["posted_again_at"] is not None
    assert len(clinic.twilio.accepted) == 1


def test_a_case_stays_while_nobody_is_reached(clinic: Clinic) -> None:
    """A text that has failed for good is not sent again by a post that comes again, so the case
    about whom it did not reach stays: nobody is forgotten."""
    clinic.configure(SUCCESS, staff=STAFF)
    status(clinic, "success")
    clinic.results()
    clinic.work()
    clinic.tell("permanent-failure", "30006", rule="results")
    clinic.work()
    assert clinic.worklist() == ["unreached"]
    clinic.results()
    clinic.work()
    assert [row["status"] for row in clinic.messages(rule="results")] == ["permanent-failure"]
    assert clinic.worklist() == ["unreached"]
