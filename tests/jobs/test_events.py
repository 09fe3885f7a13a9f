"""From an event to its messages: what the lab's API says decides."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from relay.jobs import backoff
from relay.lab.events import EVENTS
from relay.ledger import replay
from relay.ledger.database import now
from relay.ledger.schema import acknowledged_events, events, notifications
from relay.ledger.worklist import unknown_events
from tests.jobs.conftest import KIT, ORDER, RETEST, Clinic
from tests.rows import change, only, open_cases, replay_event, rows
from tests.standins import Reply

RESULTS = f"/api/test_registration/{KIT}/lab_results"
DAY = timedelta(days=1)


def test_results_that_are_not_ready_are_announced_later(clinic: Clinic) -> None:
    """While results answer 204 nobody is told; once they are there, the message goes once."""
    clinic.lab.resources[RESULTS] = Reply(204)
    clinic.results()
    clinic.work()
    assert only(clinic.db, events)["status"] == "received"
    assert "not ready" in only(clinic.db, events)["reason"]
    assert clinic.messages() == []
    del clinic.lab.resources[RESULTS]
    clinic.work(timedelta(minutes=1))
    assert only(clinic.db, events)["status"] == "processed"
    assert clinic.statuses() == [("sms", "sent")]
    clinic.work(DAY)
    assert len(clinic.twilio.accepted) == 1


@pytest.mark.parametrize("status", [204, 301, 403, 404, 429, 500])
def test_a_lab_that_fails_is_asked_again_and_then_a_person(clinic: Clinic, status: int) -> None:
    """A failing lab is asked again after growing delays; after the last one the event is held."""
    clinic.lab.always(Reply(status))
    clinic.results()
    waits = []
    questions = 2 if status in (204, 404) else 1  # no results: the registration is asked for too
    for tries in range(4):
        clinic.work(waits[-1] if waits else timedelta())
        asked = len(clinic.lab.requests)
        row = only(clinic.db, events)
        assert (row["status"], row["tries"], asked) == (
            "received",
            tries + 1,
            (tries + 1) * questions,
        )
        waits.append(row["next_at"] - row["received_at"] - sum(waits, timedelta()))
    assert timedelta() < waits[0] < waits[1] < waits[2] < waits[3]
    change(clinic.db, events, {}, tries=len(backoff.EVENT_DELAYS))
    clinic.work(DAY)
    row = only(clinic.db, events)
    assert row["status"] == "held"
    assert row["reason"].endswith(f"Relay tried {len(backoff.EVENT_DELAYS) + 1} times.")
    clinic.work(DAY)
    assert clinic.messages() == []


def test_all_delays_together_are_three_days() -> None:
    """An event is tried for up to three days, as the lab itself tries a webhook for some days."""
    assert (
        timedelta(days=2.5) <= timedelta(seconds=sum(backoff.EVENT_DELAYS)) <= timedelta(days=3.5)
    )


def test_a_held_event_is_processed_once_it_is_replayed(clinic: Clinic) -> None:
    """When the lab is back, a person replays what is held and the message goes."""
    clinic.lab.always(Reply(500))
    clinic.results()
    change(clinic.db, events, {}, tries=len(backoff.EVENT_DELAYS))
    clinic.work()
    clinic.lab.answers.clear()
    with clinic.db.read() as connection:
        (held,) = replay.ids_to_replay(connection, "held")
    assert replay_event(clinic.db, held)
    clinic.work()
    assert clinic.statuses() == [("sms", "sent")]


def test_the_lab_may_name_the_delay(clinic: Clinic) -> None:
    """A busy lab is asked again no sooner than it said."""
    clinic.lab.once(Reply(429, headers={"Retry-After": "600"}))
    clinic.results()
    clinic.work()
    clinic.work(timedelta(seconds=590))
    assert len(clinic.lab.requests) == 1
    clinic.work(timedelta(minutes=5))
    assert clinic.statuses() == [("sms", "sent")]


def test_results_of_a_cancelled_test_are_never_announced(clinic: Clinic) -> None:
    """A cancelled registration's results are nobody's news, and the ledger says why."""
    clinic.lab.change("test_registration", KIT, status="cancelled")
    event_id = clinic.results()
    clinic.work()
    replay_event(clinic.db, event_id)
    clinic.work(DAY)
    assert clinic.messages() == []
    row = only(clinic.db, events)
    assert (row["status"], row["decisions"]) == (
        "processed",
        [{"rule": "results", "reason": "The test was cancelled.", "is_final": False}],
    )


@pytest.mark.parametrize("order", [(KIT, f"LML-{KIT[:6]}"), (f"LML-{KIT[:6]}", KIT)])
def test_two_names_of_a_kit_are_one_message(clinic: Clinic, order: tuple[str, str]) -> None:
    """An event under an alias and again under the UUID tells the person once."""
    details = clinic.lab.resources[f"/api/test_registration/{KIT}"]
    clinic.lab.resources[f"/api/test_registration/LML-{KIT[:6]}"] = details
    for name in order:
        clinic.results(name)
        clinic.work()
    (row,) = clinic.messages()
    assert row["subject"] == KIT
    assert len(clinic.twilio.accepted) == 1
    assert {event["status"] for event in rows(clinic.db, events)} == {"processed"}


def test_two_names_at_once_are_one_message(clinic: Clinic) -> None:
    """The same, when both events are worked on at the same moment."""
    details = clinic.lab.resources[f"/api/test_registration/{KIT}"]
    for name in ("LML-1", "LML-2", "LML-3", "LML-4"):
        clinic.lab.resources[f"/api/test_registration/{name}"] = {**details, "foreign_id": name}
        clinic.results(name)
    clinic.work()
    assert len(clinic.twilio.accepted) == 1


@pytest.mark.parametrize("by_event", [True, False])
def test_a_retests_results_are_told_anew(clinic: Clinic, by_event: bool) -> None:
    """A retest is a new round of the same kit: its results are a message of their own."""
    clinic.results()
    clinic.work()
    if by_event:
        data = {"testregistration_id": KIT, "retest_testregistration_id": RETEST}
        event_id = clinic.post("test_registration.retest", **data)
        clinic.work()
        assert only(clinic.db, events, id=event_id)["subject"] == KIT
    clinic.results(RETEST)
    clinic.work()
    assert [(row["subject"], row["round"]) for row in clinic.messages()] == [(KIT, 0), (KIT, 1)]
    assert len(clinic.twilio.accepted) == 2


@pytest.mark.parametrize("later", ["retest", "delivered"])
def test_a_later_stage_cancels_what_is_pending(clinic: Clinic, later: str) -> None:
    """A retest cancels the pending message of the old results, a later stage an earlier one's."""
    clinic.results() if later == "retest" else clinic.post()
    jobs = clinic.jobs
    (event,) = jobs.lease_events(1)
    jobs.process(event)
    change(clinic.db, notifications, {}, status="scheduled", due_at=now(3600))
    if later == "retest":
        data = {"testregistration_id": KIT, "retest_testregistration_id": RETEST}
        clinic.post("test_registration.retest", **data)
    else:
        clinic.post("order.delivered", order_id=ORDER)
    (event,) = jobs.lease_events(1)
    jobs.process(event)
    clinic.work()
    assert clinic.statuses() == [("sms", "cancelled")]


def test_one_phone_may_serve_a_family(clinic: Clinic) -> None:
    """Two kits whose people share a number are two messages."""
    person = {"first_name": "Amir", "mobile_phone_number": "+447700900001"}
    clinic.lab.change("test_registration", "r-2", id="r-2", parent_id=None, **person)
    clinic.results()
    clinic.results("r-2")
    clinic.work()
    assert len(clinic.twilio.accepted) == 2


def test_a_replayed_event_with_bad_data_is_held(clinic: Clinic) -> None:
    """What came before its schema existed and does not fit it waits for a person."""
    clinic.post("order.returned", order_id=ORDER)
    change(clinic.db, events, {}, name="lab_results.complete")
    with clinic.db.read() as connection:
        (id_,) = replay.ids_to_replay(connection, "unrouted")
    assert replay_event(clinic.db, id_)
    clinic.work()
    row = only(clinic.db, events)
    assert row["status"] == "held"
    assert "testregistration_id" in row["reason"]
    assert clinic.lab.requests == []


NEWER = "test_registration.lml_lab_id_created"


@contextmanager
def rolled_back() -> Iterator[None]:
    """A version that does not know an event yet; afterwards all are there, in their order."""
    known = dict(EVENTS)
    del EVENTS[NEWER]
    try:
        yield
    finally:
        EVENTS.clear()
        EVENTS.update(known)


def test_an_event_of_a_newer_version_is_left_to_a_person(clinic: Clinic) -> None:
    """After a rollback an event waits whose name this version does not know: it is set aside, with
    a case for all of its name, also where staff had dealt with that name before. The next update
    processes it.
    """
    ids = [clinic.post(NEWER, testregistration_id=KIT, lab_id=f"l-{n}") for n in range(2)]
    with clinic.db.write() as connection:
        seen = {"name": NEWER, "actor": "anna", "acknowledged_at": datetime.now(UTC)}
        connection.execute(acknowledged_events.insert().values(seen))
    with rolled_back():
        clinic.work()
        assert {row["status"] for row in rows(clinic.db, events)} == {"unrouted"}
        assert [case["reason"] for case in open_cases(clinic.db)] == [
            f"This version of Relay does not know {NEWER}. A newer one has taken it."
        ]
        with clinic.db.read() as connection:
            assert unknown_events.count(connection) == 1
        assert not replay_event(clinic.db, ids[0])
    assert all(replay_event(clinic.db, id_) for id_ in ids)
    clinic.work()
    assert open_cases(clinic.db) == []
    assert {row["status"] for row in rows(clinic.db, events)} == {"processed"}


def test_a_kit_with_an_event_of_a_newer_version_is_told_of_the_others(clinic: Clinic) -> None:
    """After a rollback a kit has an event that this version knows nothing of: its next step is told
    all the same.
    """
    clinic.post(NEWER, testregistration_id=KIT, lab_id="l-1")
    clinic.work()
    with rolled_back():
        clinic.results()
        clinic.work()
    assert [row["status"] for row in clinic.messages(rule="results")] == ["sent"]


def test_a_rule_that_is_switched_off_says_so(clinic: Clinic) -> None:
    """Why a rule told nobody is kept with the event."""
    clinic.configure(
        "[rules.kit]\nenabled = false\n" + 'event = "order.shipped"\nto = "customer"\n'
        'channels = ["sms"]\ntemplate = "kit"\n'
    )
    clinic.post()
    clinic.work()
    assert clinic.messages() == []
    (decision,) = only(clinic.db, events)["decisions"]
    assert decision["rule"] == "kit"
    assert "switched off" in decision["reason"]
