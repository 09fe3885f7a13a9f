"""A person whom nobody reached is tried again from the worklist: by cause, and never twice."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from relay.config.settings import Settings
from relay.jobs.erase import forget
from relay.ledger import replay
from relay.ledger.holds import suppressions
from relay.ledger.removal import erasures
from relay.ledger.schema import audit, notifications
from relay.rules import resend
from relay.staff import send_again
from tests.jobs.conftest import KIT, PERSON, PHONE, RULES, STAFF, Clinic
from tests.rows import only, open_cases, replay_event, replay_notification, rows, suppress
from tests.standins import twilio_error
from tests.test_desk import log_in, token

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SOON = timedelta(seconds=send_again.UNDO_SECONDS)  # what is pressed on the desk has gone by then
NO_MOBILE, OPTED_OUT = twilio_error(400, 21614), twilio_error(400, 21610)
Press = Callable[..., str]
# Kits, each of a patient with a phone of their own, by what becomes of their text.
CAUSES = ("no-number", "undelivered", "off-twice", "refused", "opted-out", "off-then-out", "stop")
PHONES = {cause: f"+4477009001{n:02}" for n, cause in enumerate(CAUSES)}


@pytest.fixture
def results(clinic: Clinic) -> Clinic:
    """A clinic whose patients are told of their results by text, and in no other way."""
    clinic.configure(staff=STAFF)
    return clinic


@pytest.fixture
def inside(clinic: Clinic, make_client: Callable[[Settings], Any]) -> Any:
    """A browser in which somebody is logged in to the clinic's desk."""
    client = make_client(clinic.settings)
    log_in(client)
    return client


@pytest.fixture
def press(clinic: Clinic, inside: Any) -> Press:
    """Presses "Try again" at the first case of the worklist; what the desk tells then."""

    def pressing(case_id: str = "", **form: str) -> str:
        page = inside.get("/worklist").text
        case_id = case_id or str(open_cases(clinic.db)[0]["id"])
        form = {"csrf_token": token(page), "act": "resend", **form}
        page = inside.post(f"/worklist/{case_id}", data=form, follow_redirects=True).text
        return " ".join(re.findall(r'role="status"[^>]*>\s*(.*?)\s*<', page))

    return pressing


def unreached(clinic: Clinic) -> None:
    """Each of CAUSES has come: nobody of them was reached, and each is a case."""
    for cause, phone in PHONES.items():
        number = "none" if cause == "no-number" else phone
        details = {"mobile_phone_number": number, "patient_id": None, "id": cause}
        clinic.lab.change("test_registration", cause, **PERSON, **details)
        clinic.results(cause)
    refusals = {PHONES["refused"]: NO_MOBILE, PHONES["stop"]: OPTED_OUT}
    clinic.twilio.answers.append(lambda request: refusals.get(request.form.get("To", "")))
    suppress(clinic.db, "sms", PHONES["opted-out"], suppressions.STOP)
    clinic.work()
    clinic.tell("permanent-failure", "30005", subject="undelivered", rule="results")
    for cause in ("off-twice", "off-then-out"):
        clinic.tell("temporary-failure", "30003", subject=cause, rule="results")
    clinic.work()
    suppress(clinic.db, "sms", PHONES["off-then-out"], suppressions.STOP)
    clinic.work(HOUR)
    clinic.tell("temporary-failure", "30003", subject="off-twice", rule="results")
    clinic.work()
    assert sorted(waiting(clinic)) == sorted(CAUSES)


def waiting(clinic: Clinic) -> dict[str, str]:
    """The open cases, by their kits."""
    return {row["subject"]: row["id"] for row in open_cases(clinic.db)}


def texted(clinic: Clinic) -> Counter[str]:
    """How many texts Twilio took to each number."""
    return Counter(told.form["To"] for told in clinic.twilio.accepted)


def test_once_the_cause_is_gone_they_are_told(results: Clinic, press: Press) -> None:
    """Whatever it was, one press sends one text; a second press, and time, send none."""
    unreached(results)
    before, mine = texted(results), waiting(results)
    results.lab.change("test_registration", "no-number", mobile_phone_number=PHONES["no-number"])
    for cause in ("opted-out", "off-then-out", "stop"):
        with results.db.write() as connection:
            suppressions.unsuppress(connection, "sms", PHONES[cause])
    results.twilio.answers.clear()
    said = {cause: press(mine[cause]) for cause in CAUSES}
    by_event = {cause for cause, words in said.items() if "processing its event again" in words}
    assert by_event == {"no-number", "opted-out"}
    assert {cause for cause, words in said.items() if "sending it again" in words} | by_event == {
        *CAUSES
    }
    assert "already closed" in press(mine["undelivered"])
    results.work()
    results.work(HOUR)
    assert texted(results) - before == Counter(PHONES.values())
    assert waiting(results) == {}
    kept = {(row["actor"], row["target"]) for row in rows(results.db, audit, action="case resend")}
    assert kept == {("admin", case_id) for case_id in mine.values()}


def test_while_the_cause_is_there_it_is_a_case_again(results: Clinic, press: Press) -> None:
    """Pressed too soon, nothing goes to who wants nothing or has no number, and staff are told
    anew. Where the lab has another number by now, that is texted, and the old one is not.
    """
    unreached(results)
    before, mine = texted(results), waiting(results)
    fresh = {"undelivered": "+447700900201", "stop": "+447700900202"}
    for cause, phone in fresh.items():
        results.lab.change("test_registration", cause, mobile_phone_number=phone)
    same = ("no-number", "opted-out", "off-then-out", "refused")
    for cause in (*fresh, *same):
        press(mine[cause])
    assert [*waiting(results)] == ["off-twice"]
    results.work()
    results.work(timedelta(minutes=3))
    results.work(DAY)
    assert texted(results) - before == Counter(fresh.values())
    again = waiting(results)
    assert sorted(again) == sorted(("off-twice", *same))
    assert {mine[cause] == again[cause] for cause in same} == {False}
    assert len(results.told()) < len(CAUSES) + len(same)  # some tell of several


def test_a_press_is_taken_back_while_it_waits(results: Clinic, press: Press) -> None:
    """For some seconds nothing goes, and one more press puts the case back as it was, with the
    message as it failed. Later it is too late, and says so.
    """
    results.twilio.answers.append(lambda request: NO_MOBILE)
    results.results()
    results.work()
    failed, case_id = only(results.db, notifications, rule="results"), waiting(results)[KIT]
    results.twilio.answers.clear()
    assert "sending it again" in press(case_id)
    results.work()
    assert waiting(results) == {}
    assert "back on the worklist" in press(case_id, act="open")
    results.work(HOUR)
    assert waiting(results) == {KIT: case_id}
    same = ("status", "reason", "waits_for", "follow_up_at")
    now = only(results.db, notifications, rule="results")
    assert [now[key] for key in same] == [failed[key] for key in same]
    assert texted(results) == Counter()
    press(case_id)
    results.work(SOON)
    assert texted(results) == Counter([PHONE])
    assert "too late" in press(case_id, act="open")


def test_what_cannot_be_tried_again_says_why(results: Clinic, press: Press, inside: Any) -> None:
    """There is no button for it, and the case says the true reason; pressed all the same, it does
    nothing, says so, and the case stays.
    """
    results.settings = replace(results.settings, public_url="https://relay.example")
    details = {**PERSON, "id": "untold", "mobile_phone_number": PHONE}
    results.lab.change("test_registration", "untold", **details)
    results.results("untold")
    results.work()
    results.twilio.answers.append(lambda request: NO_MOBILE)
    results.results()
    results.work(timedelta(days=4))
    results.post(
        "test_registration.retest", testregistration_id=KIT, retest_testregistration_id="r"
    )
    results.work(HOUR)
    before, mine = texted(results), waiting(results)
    page = inside.get("/worklist").text
    assert (len(mine), 'value="resend"' in page) == (2, False)
    assert "A retest has begun since then." in page
    assert "A retest has begun since then." in press(mine[KIT])
    assert "has not reported since whether it arrived" in page
    results.work(HOUR)
    assert (texted(results), waiting(results)) == (before, mine)
    assert rows(results.db, audit, action="case resend") == []


def test_what_is_blank_is_not_tried_again(results: Clinic) -> None:
    """Of whom the ledger has nothing any more nobody is looked up again: erased, though there never
    was a number, or older than the clinic keeps.
    """
    unreached(results)
    wanted = {row["subject"]: row["id"] for row in results.messages(rule="results")}
    asked = erasures.ask(results.db, "email", PERSON["email"], target="", actor="cli", note="")
    taken = erasures.take(results.db, asked.id)
    assert taken
    jobs = results.jobs
    forget(results.db, jobs.channels, jobs.config.policy, taken)

    def whys() -> set[str]:
        with results.db.read() as connection:
            found = replay.failed_messages(connection, [*wanted.values()])
        return {resend.decide(one).why for one in found.values()}

    assert len(whys()) == 1
    assert "erased, or older than the retention time" in whys().pop()


def undelivered(clinic: Clinic) -> None:
    """Twilio took it, and tells later that it did not arrive."""
    clinic.work()
    clinic.tell("permanent-failure", "30005", rule="results")
    clinic.work()


def test_what_arrives_while_it_waits_is_not_sent(results: Clinic, press: Press) -> None:
    """The receipt of the first attempt comes late: it arrived, and no second text goes out."""
    results.results()
    undelivered(results)
    first = results.attempt_of(rule="results")
    press()
    results.tell_of(first, "delivered")
    results.work(HOUR)
    assert len(results.twilio.accepted) == 1


def test_only_a_person_who_names_it_sends_what_went_out_before(results: Clinic) -> None:
    """A replay of all that failed, or of the event, leaves out what a provider had taken."""
    event_id = results.results()
    undelivered(results)
    (row,) = results.messages(rule="results")
    with results.db.read() as connection:
        assert replay.failed_ids(connection) == []
    assert replay_event(results.db, event_id)
    results.work()
    assert len(results.twilio.accepted) == 1
    assert replay_notification(results.db, row["id"])
    assert not replay_notification(results.db, row["id"])
    results.work()
    assert len(results.twilio.accepted) == 2


def test_others_of_the_event_are_not_told_twice(clinic: Clinic, press: Press, inside: Any) -> None:
    """An event that is processed again for one message sends none of its others again."""
    clinic.configure(
        RULES.replace('channels = ["sms"]\nfallback = ["email"]', 'channels = ["email"]')
        + RULES.partition("[rules.results]")[0]
        .replace("[rules.kit]", "[rules.kit-text]")
        .replace('fallback = ["email"]', ""),
        staff=STAFF,
    )
    inside.application.extensions["relay"].reloader.look()
    suppress(clinic.db, "sms", PHONE, suppressions.STOP)
    clinic.post()
    clinic.work()
    with clinic.db.write() as connection:
        suppressions.unsuppress(connection, "sms", PHONE)
    press()
    clinic.work(SOON)
    assert only(clinic.db, notifications, rule="kit-text")["status"] == "sent"
    emails = [sent for sent in clinic.sendgrid.accepted if "jane@" in str(sent.json)]
    assert (len(clinic.twilio.accepted), len(emails)) == (1, 1)
