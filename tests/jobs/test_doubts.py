"""Doubts about whom a patient's message goes to: a case for a person, and nothing is held."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from relay.lab.facts import Facts, differing
from relay.ledger.schema import cases, events
from tests.dump import dump, found
from tests.jobs.conftest import KIT, PERSON, PHONE, RULES, STAFF, Clinic
from tests.rows import close_case, only, open_cases, rows
from tests.standins import Reply

PATIENT = "a1b2c3d4-0000-4000-8000-000000000001"
BORN, NEW = "1990-05-15", "+447700900002"
RECORD = {**PERSON, "phone_number": PHONE, "date_of_birth": BORN}
LATER = """
[rules.later]
event = "lab_results.complete"
to = "patient"
channels = ["sms"]
template = "results"
after = "2d"
"""
SAYS = "The registration and the patient's own record at the lab differ in"


@pytest.fixture
def doubtful(clinic: Clinic) -> Clinic:
    """A clinic whose lab has one patient, and the same of her in a registration."""
    clinic.configure(staff=STAFF)
    clinic.lab.change("patient", PATIENT, id=PATIENT, **RECORD)
    register(clinic, KIT)
    return clinic


def register(clinic: Clinic, kit: str, **different: Any) -> None:
    """A kit is registered, by default with what the patient's record has."""
    own = {"patient_id": PATIENT, "mobile_phone_number": PHONE, "date_of_birth": BORN, **PERSON}
    clinic.lab.change("test_registration", kit, **{"id": kit, **own, **different})


def doubts(clinic: Clinic) -> Iterator[str]:
    """What staff are asked about."""
    for case in open_cases(clinic.db):
        assert case["kind"] == "mismatch"
        yield str(case["reason"])


# What a registration has otherwise → the fields, and whether it is a case.
DIFFERENCES: dict[str, tuple[dict[str, Any], tuple[str, ...], bool]] = {
    "nothing": ({}, (), False),
    "another person": (
        {"first_name": "Wilhelmina", "date_of_birth": "1953-11-02"},
        ("first_name", "date_of_birth"),
        True,
    ),
    "a surname": ({"last_name": "Featherstone"}, ("last_name",), True),
    "ways to be reached": (
        {"email": "w@example.net", "mobile_phone_number": NEW},
        ("phone_number", "email"),
        False,
    ),
    "spelling": (
        {
            "first_name": "JANE Ann",
            "last_name": "Śmith",
            "email": "JANE@example.org",
            "mobile_phone_number": "07700 900 001",
            "date_of_birth": f"{BORN}T00:00:00",
        },
        (),
        False,
    ),
    "no name": ({"first_name": "TBC", "last_name": None, "date_of_birth": None}, (), False),
}


@pytest.mark.parametrize("case", DIFFERENCES)
def test_a_registration_that_differs_from_its_patients_record(case: str) -> None:
    """What differs is named; another spelling does not, nor what only one of them has."""
    different, fields, _ = DIFFERENCES[case]
    own = {"mobile_phone_number": PHONE, "date_of_birth": BORN, **PERSON, **different}
    assert differing(own, RECORD) == fields


def test_who_may_be_another_person_is_asked_about_once(doubtful: Clinic) -> None:
    """The message goes out all the same, by the registration. Staff read which fields differ, in no
    value of theirs; what they have closed is not asked again.
    """
    different = DIFFERENCES["another person"][0]
    register(doubtful, KIT, **different)
    doubtful.results()
    doubtful.work()
    assert [*doubts(doubtful)] == [f"{SAYS}: first name, date of birth."]
    assert doubtful.statuses() == [("email", "sent"), ("sms", "sent")]  # the alert, and the results
    (case,) = open_cases(doubtful.db)
    assert case["subject"] == KIT
    assert close_case(doubtful.db, case["id"], "admin", "She goes by both.")
    doubtful.post("test_registration.complete", testregistration_id=KIT)
    doubtful.results()
    doubtful.work()
    assert [*doubts(doubtful)] == []
    everything = dump(doubtful.db, frozenset({"events", "notifications"}))
    for secret in ("Wilhelmina", "1953-11-02", BORN, PHONE):
        assert found(everything, secret) == []
    assert BORN not in str(rows(doubtful.db, cases))


def test_another_way_to_be_reached_is_a_line_of_the_kits_page(doubtful: Clinic) -> None:
    """People have two numbers: no case is made of that, but whoever looks at the kit reads it."""
    register(doubtful, KIT, **DIFFERENCES["ways to be reached"][0])
    doubtful.results()
    doubtful.work()
    assert [*doubts(doubtful)] == []
    said = f"{SAYS}: phone number, email. Messages go by the registration."
    assert [*Facts.from_json(only(doubtful.db, events)["facts"]).notes()] == [said]


def test_a_family_may_share_a_phone(doubtful: Clinic) -> None:
    """Two people are no case. Three are one, whatever comes about them; it is asked again about
    twice as many, and no text is held.
    """
    asked = []
    for number, name in enumerate(("Jane", "Tom", "Ann", "Ivy", "Leo", "Max", "Zoe", "Una")):
        kit = f"kit-{number}"
        register(doubtful, kit, first_name=name, patient_id=None)
        doubtful.results(kit)
        doubtful.work()
        asked.append(len([*doubts(doubtful)]))
        for case in open_cases(doubtful.db):
            assert close_case(doubtful.db, case["id"], "admin", "A family.")
    assert asked == [0, 0, 1, 1, 0, 0, 0, 1]
    assert len(doubtful.messages(channel="sms", status="sent")) == 8


def test_a_number_that_has_changed(doubtful: Clinic) -> None:
    """It is asked about once a kit when a message goes to another number than this patient's last,
    and not when somebody else of the same name has one.
    """
    doubtful.results()
    doubtful.work()
    doubtful.lab.resources["/api/patient/p-2"] = Reply(404)
    register(doubtful, "namesake", patient_id="p-2", mobile_phone_number="+447700900003")
    doubtful.results("namesake")
    doubtful.work()
    assert [*doubts(doubtful)] == []
    register(doubtful, "second", mobile_phone_number=NEW)
    doubtful.results("second")
    doubtful.work()
    assert [*doubts(doubtful)] == ["The last message to this patient went to another number."]
    assert len(doubtful.messages(channel="sms", status="sent")) == 3


def test_a_number_that_changes_while_a_message_waits(doubtful: Clinic) -> None:
    """It goes to the number that the lab has by then, and that is asked about too."""
    doubtful.configure(RULES + LATER, staff=STAFF)
    doubtful.results()
    doubtful.work()
    register(doubtful, KIT, mobile_phone_number=NEW)
    doubtful.work(timedelta(days=3))
    assert doubtful.messages(channel="sms", status="sent")[-1]["address"] == NEW
    assert [*doubts(doubtful)] == ["The last message to this patient went to another number."]


def test_trouble_with_the_patients_record_keeps_nothing_waiting(doubtful: Clinic) -> None:
    """A registration has all that a message needs: the record is only compared with it."""
    doubtful.lab.resources[f"/api/patient/{PATIENT}"] = Reply(500)
    doubtful.results()
    doubtful.work()
    assert doubtful.statuses() == [("sms", "sent")]
