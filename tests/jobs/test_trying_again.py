"""A person whom nobody reached is tried again from the worklist: by cause, and never twice."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from relay.forgetting import forget
from relay.ledger import cases, erasing, replaying, suppressing
from relay.ledger.schema import audit, notifications
from relay.settings import Settings
from tests.jobs.conftest import KIT, PHONE, RULES, STAFF, Clinic
from tests.rows import at_once, only, rows
from tests.standins import twilio_error
from tests.test_desk import log_in, token

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
OTHER = "+447700900002"
NO_MOBILE, OPTED_OUT = twilio_error(400, 21614), twilio_error(400, 21610)
Press = Callable[..., str]


@pytest.fixture
def results(clinic: Clinic) -> Clinic:
    """A clinic whose patients are told of their results by text, and in no other way."""
    clinic.configure(staff=STAFF)
    return clinic


@pytest.fixture
def press(clinic: Clinic, make_client: Callable[[Settings], Any]) -> Press:
    """Presses a button of the first case on the worklist; what the desk tells then."""

    def pressing(act: str = "resend", case_id: str = "", **form: str) -> str:
        inside = make_client(clinic.settings)
        del inside.environ_base["HTTP_AUTHORIZATION"]
        log_in(inside)
        page = inside.get("/worklist").text
        case_id = case_id or str(cases.open_cases(clinic.db)[0]["id"])
        form = {"csrf_token": token(page), "act": act, **form}
        page = inside.post(f"/worklist/{case_id}", data=form, follow_redirects=True).text
        return " ".join(re.findall(r'role="status"[^>]*>\s*(.*?)\s*<', page))

    return pressing


def no_number(clinic: Clinic) -> None:
    """The lab has no number."""
    clinic.lab.change("test_registration", KIT, mobile_phone_number=None)
    clinic.work()


def number_is_there(clinic: Clinic) -> None:
    """The lab has one by now."""
    clinic.lab.change("test_registration", KIT, mobile_phone_number=PHONE)


def undelivered(clinic: Clinic) -> None:
    """Twilio took it, and tells later that it did not arrive."""
    clinic.work()
    clinic.tell("permanent-failure", "30005", rule="results")
    clinic.work()


def off_twice(clinic: Clinic) -> None:
    """The phone was off, and again half an hour later."""
    for _ in range(2):
        clinic.work(HOUR)
        clinic.tell("temporary-failure", "30003", rule="results")
        clinic.work()


def refused(clinic: Clinic) -> None:
    """Twilio did not take it."""
    clinic.twilio.once(NO_MOBILE)
    clinic.work()


def opted_out(clinic: Clinic) -> None:
    """They wanted no texts when it was sent."""
    suppressing.suppress(clinic.db, "sms", PHONE, suppressing.STOP)
    clinic.work()


def off_then_out(clinic: Clinic) -> None:
    """The phone was off, and they wanted no texts when it was to be tried once more."""
    clinic.work()
    clinic.tell("temporary-failure", "30003", rule="results")
    clinic.work()
    suppressing.suppress(clinic.db, "sms", PHONE, suppressing.STOP)
    clinic.work(HOUR)


def twilio_knows(clinic: Clinic) -> None:
    """Twilio did not take it, since they had sent STOP."""
    clinic.twilio.once(OPTED_OUT)
    clinic.work()


def lifted(clinic: Clinic) -> None:
    """They have sent START."""
    suppressing.unsuppress(clinic.db, "sms", PHONE)


def as_it_was(clinic: Clinic) -> None:
    """Nothing had to be mended at Relay or the lab."""


CAUSES = [
    (no_number, number_is_there, "processed again"),
    (undelivered, as_it_was, "sent again"),
    (off_twice, as_it_was, "sent again"),
    (refused, as_it_was, "sent again"),
    (opted_out, lifted, "processed again"),
    (off_then_out, lifted, "sent again"),
    (twilio_knows, lifted, "sent again"),
]


@pytest.mark.parametrize(("fail", "mend", "said"), CAUSES)
def test_once_the_cause_is_gone_they_are_told(
    results: Clinic,
    press: Press,
    fail: Callable[[Clinic], None],
    mend: Callable[[Clinic], None],
    said: str,
) -> None:
    """Whatever it was, one press sends one text; a second press, and time, send none."""
    results.results()
    fail(results)
    (case,) = cases.open_cases(results.db)
    assert case["kind"] == "unreached"
    before = len(results.twilio.accepted)
    mend(results)
    assert said in press(case_id=case["id"])
    assert "closed already" in press(case_id=case["id"])
    results.work()
    results.work(HOUR)
    (told,) = results.twilio.accepted[before:]
    assert told.form["To"] == PHONE
    assert results.worklist() == []
    found = cases.get_case(results.db, case["id"])
    assert found
    assert (found["closed_by"], only(results.db, audit, action="case resend")["target"]) == (
        "admin",
        case["id"],
    )


@pytest.mark.parametrize("fail", [undelivered, twilio_knows])
def test_a_new_number_is_used_though_the_old_one_is_out(
    results: Clinic, press: Press, fail: Callable[[Clinic], None]
) -> None:
    """The lab has another number by now: that is texted, once, and the old one is not."""
    results.results()
    fail(results)
    before = len(results.twilio.accepted)
    results.work(HOUR)
    results.lab.change("test_registration", KIT, mobile_phone_number=OTHER)
    press()
    results.work()
    results.work(HOUR)
    assert [told.form["To"] for told in results.twilio.accepted[before:]] == [OTHER]
    assert results.worklist() == []


@pytest.mark.parametrize("fail", [no_number, opted_out, twilio_knows, refused])
def test_while_the_cause_is_there_it_is_a_case_again(
    results: Clinic, press: Press, fail: Callable[[Clinic], None]
) -> None:
    """Pressed too soon, nothing goes out, and staff are told anew that nobody was reached."""
    results.results()
    fail(results)
    results.twilio.answers.append(lambda request: NO_MOBILE)
    press()
    assert results.worklist() == []
    results.work()
    results.work(timedelta(minutes=3))
    results.work(DAY)
    assert results.twilio.accepted == []
    assert (results.worklist(), len(results.told())) == (["unreached"], 2)


def test_a_stopped_message_that_went_out_before_is_seen_to(results: Clinic, press: Press) -> None:
    """It did not arrive, and the number was stopped since: the event is processed, and staff hear
    when that reaches nobody either.
    """
    results.results()
    undelivered(results)
    suppressing.suppress(results.db, "sms", PHONE, suppressing.STOP)
    assert "processed again" in press()
    results.work()
    results.work(timedelta(minutes=3))
    assert (len(results.twilio.accepted), results.worklist()) == (1, ["unreached"])


def overtaken(clinic: Clinic) -> None:
    """The kit is further on."""
    clinic.results()
    refused(clinic)
    clinic.post("test_registration.retest", testregistration_id=KIT, retest_testregistration_id="r")
    clinic.work(HOUR)


def erased(clinic: Clinic) -> None:
    """The person was erased."""
    clinic.results()
    undelivered(clinic)
    asked = erasing.ask(clinic.db, "sms", PHONE, target="sms m", actor="cli", note="")
    taken = erasing.take(clinic.db, asked.id)
    assert taken
    jobs = clinic.jobs
    forget(clinic.db, jobs.exits, jobs.config.policy, taken)


def erased_without_a_number(clinic: Clinic) -> None:
    """The person was erased, and there was no number either."""
    clinic.results()
    no_number(clinic)
    asked = erasing.ask(clinic.db, "email", "jane@example.org", target="", actor="cli", note="")
    taken = erasing.take(clinic.db, asked.id)
    assert taken
    jobs = clinic.jobs
    forget(clinic.db, jobs.exits, jobs.config.policy, taken)


def blanked(clinic: Clinic) -> None:
    """It is older than the clinic keeps."""
    clinic.results()
    refused(clinic)
    clinic.work(timedelta(days=100))
    clinic.jobs.purge()


def untold(clinic: Clinic) -> None:
    """Nobody has told whether it arrived."""
    clinic.results()
    clinic.work()
    clinic.work(timedelta(days=4))


def without_its_rule(clinic: Clinic) -> None:
    """The rule has gone."""
    clinic.results()
    refused(clinic)
    clinic.configure(RULES.partition("[rules.results]")[0], staff=STAFF)


@pytest.mark.parametrize(
    ("fail", "why"),
    [
        (overtaken, "A retest has begun since."),
        (erased, "erased, or older than the retention time"),
        (erased_without_a_number, "erased, or older than the retention time"),
        (blanked, "erased, or older than the retention time"),
        (untold, "It may have arrived"),
        (without_its_rule, "no longer in config.toml"),
    ],
)
def test_what_cannot_be_tried_again_says_why(
    results: Clinic,
    press: Press,
    make_client: Callable[[Settings], Any],
    fail: Callable[[Clinic], None],
    why: str,
) -> None:
    """There is no button for it, and the case says the true reason; pressed all the same, it does
    nothing, says so, and the case stays.
    """
    fail(results)
    before = len(results.twilio.accepted)
    inside = make_client(results.settings)
    log_in(inside)
    page = inside.get("/worklist").text
    assert why in page
    assert 'value="resend"' not in page
    assert why in press()
    results.work(HOUR)
    assert (len(results.twilio.accepted), results.worklist()) == (before, ["unreached"])
    assert rows(results.db, audit, action="case resend") == []


def test_what_arrives_while_it_waits_is_not_sent(results: Clinic, press: Press) -> None:
    """The receipt of the first attempt comes late: it arrived, and no second text goes out."""
    results.results()
    undelivered(results)
    first = results.attempt_of(rule="results")
    press()
    results.tell_of(first, "delivered")
    results.work(HOUR)
    assert len(results.twilio.accepted) == 1


def test_pressed_at_once_by_several_it_is_sent_once(results: Clinic, press: Press) -> None:
    """Two people in two browsers: one press counts."""
    results.results()
    undelivered(results)
    (case,) = cases.open_cases(results.db)
    said = at_once(lambda _: press(case_id=case["id"]), 2)
    assert [words for words in said if "sent again" in words] != said
    results.work()
    assert len(results.twilio.accepted) == 2
    assert len(rows(results.db, audit, action="case resend")) == 1


def test_only_a_person_who_names_it_sends_what_went_out_before(results: Clinic) -> None:
    """A replay of all that failed, or of the event, leaves out what a provider had taken."""
    event_id = results.results()
    undelivered(results)
    (row,) = results.messages(rule="results")
    assert replaying.failed_ids(results.db) == []
    assert replaying.replay_event(results.db, event_id)
    results.work()
    assert len(results.twilio.accepted) == 1
    assert replaying.replay_notification(results.db, row["id"])
    assert not replaying.replay_notification(results.db, row["id"])
    results.work()
    assert len(results.twilio.accepted) == 2


def test_others_of_the_event_are_not_told_twice(clinic: Clinic, press: Press) -> None:
    """An event that is processed again for one message sends none of its others again."""
    clinic.configure(
        RULES.replace('channels = ["sms"]\nfallback = ["email"]', 'channels = ["email"]')
        + '[rules.kit-text]\nevent = "order.shipped"\nto = "customer"\nchannels = ["sms"]\ntemplate = "kit"\n',
        staff=STAFF,
    )
    suppressing.suppress(clinic.db, "sms", PHONE, suppressing.STOP)
    clinic.post()
    clinic.work()
    suppressing.unsuppress(clinic.db, "sms", PHONE)
    press()
    clinic.work()
    assert only(clinic.db, notifications, rule="kit-text")["status"] == "sent"
    emails = [sent for sent in clinic.sendgrid.accepted if "jane@" in str(sent.json)]
    assert (len(clinic.twilio.accepted), len(emails)) == (1, 1)
