"""`hold`: a message that waits for a clinician, who is told first."""

from __future__ import annotations

from datetime import timedelta

import pytest

from relay.ledger.schema import cases as stored
from relay.ledger.schema import notifications
from relay.ledger.worklist import releases
from tests.jobs.conftest import DESK, EMAIL, HEAD, KIT, PHONE, RETEST, RULES, STAFF, Clinic
from tests.rows import change, only, open_cases, replay_event, replay_notification

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
HELD = RULES.replace("[rules.results]", '[rules.results]\nhold = "48h"\nfallback = ["email"]')
TEMPLATES = {"subject.txt": "Ready", "email.txt": "Ready", "email.html": "<p>Ready</p>"}


@pytest.fixture
def held(clinic: Clinic) -> Clinic:
    """A clinic whose results wait for a clinician, and results that have come."""
    for name, text in TEMPLATES.items():
        (clinic.settings.templates / "results" / name).write_text(text, "utf-8")
    clinic.configure(HELD, staff=STAFF)
    clinic.results()
    clinic.work()
    return clinic


def test_staff_are_told_first(held: Clinic) -> None:
    """The message waits, staff are written at once; with the kit's id and nobody's details."""
    assert [row["status"] for row in held.messages(rule="results")] == ["scheduled"]
    assert (held.worklist(), held.told()) == (["release"], [("release", DESK, "sent")])
    (mail,) = held.sendgrid.accepted
    said = str((mail.json["subject"], mail.json["content"]))
    assert KIT in said
    assert [secret for secret in (PHONE, EMAIL, "Jane", "result") if secret in said] == []


def test_it_goes_out_by_itself_when_nobody_objects(held: Clinic) -> None:
    """After 48 hours, and no sooner, it is sent once; the case closes, and nobody is told again."""
    held.work(47 * HOUR)
    assert held.twilio.accepted == []
    held.work(HOUR)
    held.work(DAY)
    assert len(held.twilio.accepted) == 1
    closed = only(held.db, stored)
    assert (closed["closed_by"], closed["note"]) == (
        "relay",
        "It went out, as nobody stopped it in time.",
    )
    assert len(held.told()) == 1


def test_it_is_asked_again_before_it_goes_out(held: Clinic) -> None:
    """A test that was cancelled while its message waited is not told, and the case says why."""
    held.lab.change("test_registration", KIT, status="cancelled")
    held.work(2 * DAY)
    held.work()
    assert held.twilio.accepted == []
    assert only(held.db, stored)["note"] == "It was not sent. The test was cancelled."


def test_a_retest_takes_it_off_the_worklist(held: Clinic) -> None:
    """What another event cancels needs no word any more."""
    held.post(
        "test_registration.retest", testregistration_id=KIT, retest_testregistration_id=RETEST
    )
    held.work()
    held.work()
    assert held.worklist() == []
    assert only(held.db, stored)["note"] == "It was not sent. A retest has begun since then."


def test_released_it_may_go_another_way_at_once(held: Clinic) -> None:
    """What a person has let go is not held a second time: not to a new number, not by fallback."""
    number = "+447700900002"
    held.lab.change("test_registration", KIT, mobile_phone_number=number)
    (message,) = held.messages(rule="results")
    with held.db.write() as connection:
        assert releases.release(connection, message["id"], message["created_at"], "admin")
    held.work(HOUR)
    assert [sent.form["To"] for sent in held.twilio.accepted] == [number]
    held.tell("permanent-failure", "30005", rule="results", address=number)
    held.work()
    assert [row["address"] for row in held.messages(rule="results", status="sent")] == [EMAIL]


def test_without_an_address_nobody_is_asked(clinic: Clinic) -> None:
    """Where nothing waits there is nothing to release: staff hear that somebody is not reached."""
    clinic.configure(RULES.replace("[rules.results]", '[rules.results]\nhold = "48h"'), staff=STAFF)
    clinic.lab.change("test_registration", KIT, mobile_phone_number="none", patient_id=None)
    clinic.results()
    clinic.work()
    assert clinic.worklist() == ["unreached"]


def test_a_replay_does_not_pass_by_the_clinician(held: Clinic) -> None:
    """Stopped it says by whom, and stays so: no replay of its event and no other name of its kit
    brings it back; only who names that very message does."""
    (message,) = held.messages(rule="results")
    with held.db.write() as connection:
        assert releases.stop(connection, message["id"], "admin", "")
    assert held.messages(stopped_by="admin") == held.messages(rule="results")
    held.work()
    assert replay_event(held.db, message["event_id"])
    held.work(DAY)
    name = f"LML-{KIT[:6]}"
    held.lab.resources[f"/api/test_registration/{name}"] = held.lab.resources[
        f"/api/test_registration/{KIT}"
    ]
    held.results(name)
    held.results()
    held.work(3 * DAY)
    assert (held.worklist(), held.twilio.accepted) == ([], [])
    assert [row["stopped_by"] for row in held.messages(rule="results")] == ["admin"]
    assert replay_notification(held.db, message["id"])
    held.work()
    assert len(held.twilio.accepted) == 1


def test_what_failed_while_it_was_held_keeps_its_time(held: Clinic) -> None:
    """Sent again after it could not be planned, it still waits as long as it was to."""
    change(held.db, notifications, {"rule": "results"}, status="technical-failure")
    (message,) = held.messages(rule="results")
    assert replay_notification(held.db, message["id"])
    held.work(47 * HOUR)
    assert held.twilio.accepted == []
    held.work(HOUR)
    assert len(held.twilio.accepted) == 1


def test_without_a_group_there_is_still_the_case(clinic: Clinic) -> None:
    """A clinic that names no staff finds it on the worklist, and it goes out by itself."""
    clinic.configure(RULES.replace("[rules.results]", '[rules.results]\nhold = "48h"'), HEAD)
    clinic.results()
    clinic.work()
    assert (clinic.worklist(), clinic.told()) == (["release"], [])
    clinic.work(2 * DAY)
    clinic.work()
    assert (len(clinic.twilio.accepted), open_cases(clinic.db)) == (1, [])
