"""An event that cannot be processed: tried for as long as the clinic wants, then a person's."""

from __future__ import annotations

from datetime import timedelta

import pytest

from relay.ledger import replay
from relay.ledger.events import LEASES
from relay.ledger.schema import events
from relay.ledger.worklist import cases
from tests.jobs.conftest import DESK, EMAIL, HEAD, KIT, PHONE, STAFF, Clinic
from tests.rows import change, only, replay_event, rows, time_passes
from tests.standins import Reply

SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)
PATIENCE = HEAD + 'lab_patience = "1m"\n'
TROUBLE = {"error": Reply(500), "no results": Reply(204), "unknown": Reply(404), "busy": Reply(429)}


def held(clinic: Clinic) -> str:
    """Results whose lab fails until its event is held; the event's id."""
    clinic.configure(head=PATIENCE, staff=STAFF)
    clinic.lab.always(Reply(500))
    event_id = clinic.results()
    for after in (timedelta(), 10 * SECOND, 30 * SECOND):
        clinic.work(after)
    return event_id


@pytest.mark.parametrize("reply", TROUBLE.values(), ids=TROUBLE)
def test_an_event_is_tried_for_as_long_as_the_clinic_wants(clinic: Clinic, reply: Reply) -> None:
    """lab_patience = "1m": tried at once, after 5 and 15 s more; then held, and not asked again."""
    clinic.configure(head=PATIENCE, staff=STAFF)
    if reply.status == 204:
        clinic.lab.resources[f"/api/test_registration/{KIT}/lab_results"] = reply
    else:
        clinic.lab.always(reply)
    clinic.results()
    for after in (timedelta(), 10 * SECOND):
        clinic.work(after)
        assert only(clinic.db, events)["status"] == "received"
        assert (clinic.worklist(), clinic.told()) == ([], [])
    clinic.work(30 * SECOND)
    row = only(clinic.db, events)
    assert row["status"] == "held"
    assert row["reason"].endswith("Relay tried 3 times.")
    asked = len(clinic.lab.requests)
    clinic.work(DAY)
    assert len(clinic.lab.requests) == asked
    assert (clinic.worklist(), clinic.told()) == (["held"], [("held", DESK, "sent")])


def test_the_alert_says_what_to_do_and_no_more(clinic: Clinic) -> None:
    """It names the kit as the lab did, and nobody's details: they are not even known."""
    held(clinic)
    (mail,) = clinic.sendgrid.accepted
    text, html = (part["value"] for part in mail.json["content"])
    assert mail.json["subject"] == "An event from the lab is held"
    for words in (text, html):
        assert KIT in words
        assert "have it processed again" in words
        assert [secret for secret in (PHONE, EMAIL, "Jane", "result") if secret in words] == []


def test_a_replay_closes_the_case_and_processes_it(clinic: Clinic) -> None:
    """Once the lab is back a person replays it: the message goes, nobody is told a second time."""
    event_id = held(clinic)
    clinic.lab.answers.clear()
    assert replay_event(clinic.db, event_id)
    closed = only(clinic.db, cases.cases)
    assert (closed["closed_by"], closed["note"]) == ("relay", "It was replayed.")
    clinic.work()
    clinic.work(DAY)
    assert only(clinic.db, events)["status"] == "processed"
    assert [row["status"] for row in clinic.messages(rule="results")] == ["sent"]
    assert (clinic.worklist(), len(clinic.told())) == ([], 1)


def test_a_replay_that_fails_again_is_told_again(clinic: Clinic) -> None:
    """It is tried as long as the first time, and is then a case of its own."""
    event_id = held(clinic)
    assert replay_event(clinic.db, event_id)
    clinic.work()
    clinic.work(10 * SECOND)
    assert (clinic.worklist(), len(clinic.told())) == ([], 1)
    clinic.work(30 * SECOND)
    assert (clinic.worklist(), len(clinic.told())) == (["held"], 2)
    assert len(rows(clinic.db, cases.cases)) == 2


def test_data_that_cannot_be_taken_are_told_at_once(clinic: Clinic) -> None:
    """No trying again mends an event's own data: held, the lab not asked, staff told."""
    clinic.configure(staff=STAFF)
    clinic.post("order.returned", order_id=KIT)
    change(clinic.db, events, {}, name="lab_results.complete")
    with clinic.db.read() as connection:
        (id_,) = replay.ids_to_replay(connection, "unrouted")
    replay_event(clinic.db, id_)
    clinic.work()
    assert (clinic.worklist(), clinic.told()) == (["held"], [("held", DESK, "sent")])
    assert clinic.lab.requests == []


def test_two_held_events_are_two_cases(clinic: Clinic) -> None:
    """Each is a person's to see to, and to replay."""
    first = held(clinic)
    clinic.post()
    for after in (timedelta(), 10 * SECOND, 30 * SECOND):
        clinic.work(after)
    assert (clinic.worklist(), len(clinic.told())) == (["held", "held"], 2)
    replay_event(clinic.db, first)
    assert clinic.worklist() == ["held"]


def test_an_event_that_ends_its_workers_is_held(clinic: Clinic) -> None:
    """Five workers have taken it and were gone before they had ended: the sixth leaves it to a
    person. Others that were in work with them are processed as ever.
    """
    clinic.configure(staff=STAFF)
    poison = clinic.results()
    clinic.post()
    for _ in range(LEASES):
        jobs = clinic.jobs
        taken = [*jobs.lease_events(10), *jobs.lease_lapsed(1)]
        assert poison in {event.id for event in taken}
        time_passes(clinic.db, timedelta(seconds=91))
    clinic.work()
    statuses = {row["name"]: row["status"] for row in rows(clinic.db, events)}
    assert statuses == {"lab_results.complete": "held", "order.shipped": "processed"}
    assert (clinic.worklist(), clinic.told()) == (["held"], [("held", DESK, "sent")])
    assert "none has finished" in only(clinic.db, cases.cases)["reason"]
    replay_event(clinic.db, poison)
    clinic.work()
    assert only(clinic.db, events, id=poison)["status"] == "processed"
