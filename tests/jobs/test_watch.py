"""[expect.…]: a step that does not come is asked for at the lab, made up for, or told to staff."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from relay.jobs import watchdog
from relay.jobs.watchdog import Watch
from relay.ledger import events as ledger_events
from relay.ledger.schema import cases as stored
from relay.ledger.schema import events, watches
from relay.ledger.views import trail
from relay.ledger.views.status import Blockers
from relay.staff.explain import explain
from tests.jobs.conftest import HEAD, KIT, ORDER, RETEST, RULES, STAFF, Clinic
from tests.rows import (
    MONTH,
    at_once,
    change,
    close_case,
    incoming,
    only,
    open_cases,
    rows,
    time_passes,
)
from tests.standins import Reply

NOTHING = Blockers(datetime.now(UTC), 1, {}, {})  # that holds messages up
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
RECEIVED, RESULTS = "test_registration.sample_received", "lab_results.complete"
REGISTERED = "test_registration.complete"
NURSES = '[staff.nurses]\nemail = ["nurses@example.org"]\n'
EXPECT = """
[expect.results]
after = "test_registration.sample_received"
event = "lab_results.complete"
within = "10d"
to = "nurses"
"""
REGISTRATION = """
[expect.registration]
after = "order.shipped"
event = "test_registration.complete"
within = "21d"
to = "nurses"
"""
SAMPLE = {"testregistration_id": KIT, "sample_received_at": "2026-06-01T14:52:32+01:00"}
Past = Callable[..., str]


@pytest.fixture
def watched(clinic: Clinic) -> Clinic:
    """A clinic that expects results within ten days, and a lab that has none of the kit."""
    clinic.configure(RULES + EXPECT, staff=STAFF + NURSES)
    clinic.lab.change("test_registration", KIT, status="success")
    no_results(clinic)
    return clinic


def no_results(clinic: Clinic, id_: str = KIT) -> None:
    """The lab has no results of a kit."""
    clinic.lab.resources[f"/api/test_registration/{id_}/lab_results"] = Reply(204)


def has_results(clinic: Clinic) -> None:
    """The lab has the kit's results by now, and nobody told."""
    del clinic.lab.resources[f"/api/test_registration/{KIT}/lab_results"]


def drain_events(clinic: Clinic) -> None:
    """Process what has come, and nothing else."""
    jobs = clinic.jobs
    for event in jobs.lease_events(9):
        jobs.process(event)


@pytest.fixture
def past(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> Past:
    """An event that came a while ago, and was processed then: its id is of that time too."""

    def post(ago: timedelta, name: str = RECEIVED, *, work: bool = True, **data: Any) -> str:
        with monkeypatch.context() as then:
            shift = int(ago.total_seconds() * 1e9)
            then.setattr("relay.ledger.database.time_ns", lambda: time.time_ns() - shift)
            id_ = clinic.post(name, **(data or SAMPLE))
        if work:
            drain_events(clinic)
        time_passes(clinic.db, ago)
        return id_

    return post


def test_what_was_only_not_told_is_made_up_for(watched: Clinic, past: Past) -> None:
    """The lab has the results: the patient is told, staff are not; the lab's own post, late, is a
    duplicate and tells nobody twice.
    """
    past(10 * DAY + HOUR)
    has_results(watched)
    watched.work()
    made_up = only(watched.db, events, name=RESULTS)
    assert (made_up["source"], made_up["status"]) == ("watch", "processed")
    assert [row["status"] for row in watched.messages()] == ["sent"]
    late = ledger_events.record_webhook(
        watched.db, incoming(RESULTS, testregistration_id=KIT), MONTH
    )
    assert (late.status, late.id) == ("duplicate", made_up["id"])
    watched.work(DAY)
    assert (len(watched.twilio.accepted), watched.worklist()) == (1, [])
    with watched.db.read() as connection:
        (told,) = trail.find(connection, made_up["id"])
    lines = [line for _, line in explain(told, ZoneInfo("UTC"), NOTHING, str)]
    assert "the lab had not posted lab_results.complete; Relay asked" in lines[0]


def test_what_the_lab_does_not_have_is_told_once(watched: Clinic, past: Past) -> None:
    """A case, and one email to the group that is named; closed by hand it is not opened again."""
    event_id = past(10 * DAY + HOUR)
    watched.work()
    assert watched.worklist() == ["missing"]
    assert watched.told() == [("missing", "nurses@example.org", "sent")]
    (case,) = open_cases(watched.db)
    assert (case["subject"], case["event_id"]) == (KIT, event_id)
    assert case["reason"].endswith(
        ", and no lab_results.complete since. The lab's API does not show it either."
    )
    assert close_case(watched.db, case["id"], "admin", "Asked them.")
    for _ in range(2):
        watched.work(HOUR)
    assert (watched.worklist(), len(watched.told())) == ([], 1)
    with watched.db.read() as connection:
        (told,) = trail.find(connection, event_id)
    assert "on the worklist: missing" in str(list(explain(told, ZoneInfo("UTC"), NOTHING, str)))


def test_the_case_closes_when_the_step_comes(watched: Clinic, past: Past) -> None:
    """Results that come on the twelfth day take the kit off the worklist."""
    past(10 * DAY + HOUR)
    watched.work()
    has_results(watched)
    watched.results()
    watched.work(HOUR)
    watched.work(HOUR)
    assert watched.worklist() == []
    closed = only(watched.db, stored)
    assert (closed["closed_by"], closed["note"]) == ("relay", "lab_results.complete has come.")


def test_it_is_not_missing_before_its_time(watched: Clinic, past: Past) -> None:
    """Until then the lab is not asked."""
    past(9 * DAY + 23 * HOUR)
    asked = len(watched.lab.requests)
    watched.work()
    assert (watched.worklist(), len(watched.lab.requests)) == ([], asked)


@pytest.mark.parametrize("how", ["come", "retested", "cancelled", "held", "other round"])
def test_what_is_not_missing(how: str, watched: Clinic, past: Past) -> None:
    """Results that have come or are held already, a test that is over, a round that has results."""
    if how == "other round":
        past(timedelta(), "test_registration.retest", **_retest())
        no_results(watched, RETEST)
        past(10 * DAY + HOUR, **{**SAMPLE, "testregistration_id": RETEST})
        watched.lab.resources.pop(f"/api/test_registration/{RETEST}/lab_results")
        watched.results(RETEST)
    else:
        past(10 * DAY + HOUR)
    if how == "come":
        has_results(watched)
        watched.results()
    elif how == "retested":
        watched.post("test_registration.retest", **_retest())
    elif how == "cancelled":
        watched.lab.change("test_registration", KIT, status="cancelled")
    elif how == "held":
        id_ = watched.results()
        with watched.db.write() as connection:
            ledger_events.hold(connection, id_, "The lab has none.")
    drain_events(watched)  # before the watch looks
    watched.work()
    assert watched.worklist() == []
    assert {row["source"] for row in rows(watched.db, events)} == {"lab"}


def _retest() -> dict[str, str]:
    return {"testregistration_id": KIT, "retest_testregistration_id": RETEST}


def test_results_of_the_first_round_are_none_of_the_second(watched: Clinic, past: Past) -> None:
    """A retest's sample whose results do not come is missed, though the original's came."""
    has_results(watched)
    past(timedelta(), RESULTS, testregistration_id=KIT)
    past(timedelta(), "test_registration.retest", **_retest())
    no_results(watched, RETEST)
    past(10 * DAY + HOUR, **{**SAMPLE, "testregistration_id": RETEST})
    watched.work()
    assert watched.worklist() == ["missing"]


def test_while_the_lab_does_not_answer_it_is_asked_again(watched: Clinic, past: Past) -> None:
    """For as long as lab_patience nobody is told; what it then has is made up for."""
    past(10 * DAY + HOUR)
    watched.lab.always(Reply(503))
    watched.work()
    watched.work(HOUR)
    assert watched.worklist() == []
    watched.lab.answers.clear()
    has_results(watched)
    watched.work(HOUR)
    assert only(watched.db, events, name=RESULTS)["source"] == "watch"


def test_a_lab_that_never_answers_is_told(watched: Clinic, past: Past) -> None:
    """After lab_patience a person has to ask; other kits were seen to meanwhile."""
    head = HEAD + 'lab_patience = "1h"\n'
    watched.configure(RULES + EXPECT, head=head, staff=STAFF + NURSES)
    past(10 * DAY + 2 * HOUR)
    watched.lab.resources[f"/api/test_registration/{KIT}"] = Reply(500)
    watched.work()
    (case,) = open_cases(watched.db)
    assert case["reason"].endswith("The lab's API did not give what was asked (500).")


def test_one_email_tells_of_all_that_a_look_finds(watched: Clinic, past: Past) -> None:
    """Each kit is a case of its own; an old ledger is looked back into for thirty days only."""
    for days in (41, 39, 20, 12):
        kit = f"kit-{days}"
        no_results(watched, kit)
        past(days * DAY, **{**SAMPLE, "testregistration_id": kit})
    watched.work()
    assert len(watched.worklist()) == 3
    assert watched.told() == [("missing", "nurses@example.org", "sent")]
    (mail,) = watched.sendgrid.accepted
    assert "2 more cases of this kind are on the worklist" in str(mail.json["content"])


@pytest.mark.parametrize("known", [True, False])
def test_each_kit_of_an_order_is_watched(known: bool, clinic: Clinic, past: Past) -> None:
    """Of two kits that were shipped together the one that was not registered is missed; also where
    the lab tells only later which they are.
    """
    clinic.configure(RULES + REGISTRATION, staff=STAFF + NURSES)
    listed = [{"id": KIT}, {"id": RETEST}]
    clinic.lab.change("order", ORDER, test_registrations=listed if known else [])
    clinic.lab.change("test_registration", RETEST, status="awaiting_patient", parent_id=None)
    clinic.lab.change("test_registration", KIT, status="awaiting_patient", completed_at="2026")
    past(21 * DAY + HOUR, "order.shipped", order_id=ORDER)
    clinic.lab.change("order", ORDER, test_registrations=listed)
    clinic.work()
    made_up = only(clinic.db, events, source="watch")
    assert (made_up["name"], made_up["subject"]) == (REGISTERED, KIT)
    (case,) = open_cases(clinic.db)
    assert case["subject"] == (RETEST if known else ORDER)


def test_an_event_that_is_not_processed_holds_the_watch_back(watched: Clinic, past: Past) -> None:
    """A sample whose own event still waits is watched once it is processed."""
    past(10 * DAY + HOUR, work=False)
    jobs = watched.jobs
    for look in Watch(jobs.config, jobs.db, jobs.lab).due(9):
        Watch(jobs.config, jobs.db, jobs.lab).look(look)
    assert watched.worklist() == []
    watched.work(HOUR)
    watched.work(HOUR)
    assert watched.worklist() == ["missing"]


def test_a_look_is_one_workers(watched: Clinic) -> None:
    """Of several workers that ask at the same moment one gets the look, and nobody for a while."""
    jobs = watched.jobs
    made = Watch(jobs.config, jobs.db, jobs.lab)
    assert sorted(map(len, at_once(lambda _: made.due(9), 4))) == [0, 0, 0, 1]
    time_passes(watched.db, 6 * MINUTE)
    assert len(made.due(9)) == 1


def test_a_look_goes_on_where_the_one_before_stopped(
    watched: Clinic, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that takes too long leaves the rest to the next; page by page it misses no kit."""
    monkeypatch.setattr("relay.ledger.expectations.BATCH", 1)
    for kit in ("kit-1", "kit-2"):
        no_results(watched, kit)
        past(10 * DAY + HOUR, **{**SAMPLE, "testregistration_id": kit})
    monkeypatch.setattr(watchdog, "LOOK_SECONDS", -1.0)
    watched.work()
    assert watched.worklist() == []
    monkeypatch.setattr(watchdog, "LOOK_SECONDS", 60.0)
    watched.work(HOUR)
    assert watched.worklist() == ["missing", "missing"]


DELIVERY = """
[expect.delivery]
after = "order.shipped"
event = "order.delivered"
within = "3d"
to = "nurses"
"""
TWO = [{"id": KIT}, {"id": RETEST}]
NEW_ORDER = "5a1e6a1e-0000-4000-8000-00000000000a"


def shipped_two(clinic: Clinic, expect: str) -> None:
    """The lab has an order of two kits that is under way, and shows no step of either."""
    clinic.configure(RULES + expect, staff=STAFF + NURSES)
    clinic.lab.change("order", ORDER, shipping_status="shipped", test_registrations=TWO)
    for kit in (KIT, RETEST):
        clinic.lab.change("test_registration", kit, status="awaiting_patient", parent_id=None)


def retested(clinic: Clinic, expect: str) -> None:
    """A kit's sample was there; its retest is shipped as an order of its own, and goes no further
    as far as the lab shows.
    """
    shipped_two(clinic, expect)
    clinic.lab.change("order", ORDER, test_registrations=TWO[:1])
    clinic.lab.change("order", NEW_ORDER, shipping_status="shipped", test_registrations=TWO[1:])
    clinic.lab.change("test_registration", RETEST, parent_id=KIT)


def test_an_orders_step_has_come_when_it_has_for_each_of_its_kits(
    clinic: Clinic, past: Past
) -> None:
    """One kit of two is registered, so the order is not known to be delivered: staff hear of it,
    and its case closes when the other is registered too.
    """
    shipped_two(clinic, DELIVERY)
    past(3 * DAY + HOUR, "order.shipped", order_id=ORDER)
    clinic.post(REGISTERED, testregistration_id=KIT)
    drain_events(clinic)
    clinic.work(HOUR)
    assert [case["subject"] for case in open_cases(clinic.db)] == [ORDER]
    clinic.post(REGISTERED, testregistration_id=RETEST)
    for _ in range(2):
        clinic.work(HOUR)
    assert (clinic.worklist(), len(clinic.told())) == ([], 1)


def test_a_retests_own_order_is_not_delivered_by_the_first_rounds_steps(
    clinic: Clinic, past: Past
) -> None:
    """The first kit's sample says nothing of where the second parcel is; the first order is done,
    though its delivery was never posted.
    """
    retested(clinic, DELIVERY)
    past(timedelta(), "order.shipped", order_id=ORDER)
    past(timedelta(), **SAMPLE)
    past(DAY, "test_registration.retest", **_retest())
    past(3 * DAY + HOUR, "order.shipped", order_id=NEW_ORDER)
    clinic.work()
    assert [case["subject"] for case in open_cases(clinic.db)] == [NEW_ORDER]
    clinic.post(REGISTERED, testregistration_id=RETEST)
    for _ in range(2):
        clinic.work(HOUR)
    assert (clinic.worklist(), len(clinic.told())) == ([], 1)


def test_a_retest_in_its_own_order_is_watched_as_a_kit(clinic: Clinic, past: Past) -> None:
    """The original was registered long ago: that the new kit is not is told, of its own round."""
    retested(clinic, REGISTRATION)
    past(timedelta(), REGISTERED, testregistration_id=KIT)
    past(timedelta(), **SAMPLE)
    past(DAY, "test_registration.retest", **_retest())
    past(21 * DAY + HOUR, "order.shipped", order_id=NEW_ORDER)
    clinic.work()
    (case,) = open_cases(clinic.db)
    assert (case["kind"], case["subject"]) == ("missing", KIT)
    clinic.post(REGISTERED, testregistration_id=RETEST)
    for _ in range(2):
        clinic.work(HOUR)
    assert (clinic.worklist(), len(clinic.told())) == ([], 1)


@pytest.mark.parametrize("expect", [REGISTRATION, EXPECT], ids=["order", "sample"])
def test_a_case_stays_one_case_when_its_kit_turns_out_to_be_a_retest(
    expect: str, clinic: Clinic, past: Past
) -> None:
    """The lab links the kit only after staff were told that its step is late: they are not told
    again under its new name, and the case closes when the step comes.
    """
    retested(clinic, expect)
    no_results(clinic, RETEST)
    clinic.lab.change("test_registration", RETEST, parent_id=None)
    if expect == EXPECT:
        past(10 * DAY + HOUR, **{**SAMPLE, "testregistration_id": RETEST})
    else:
        past(21 * DAY + HOUR, "order.shipped", order_id=NEW_ORDER)
    clinic.work()
    assert [case["subject"] for case in open_cases(clinic.db)] == [RETEST]
    clinic.lab.change("test_registration", RETEST, parent_id=KIT)
    clinic.post("test_registration.retest", **_retest())
    clinic.work()
    change(clinic.db, watches, {}, looked_to=datetime.now(UTC) - 40 * DAY)  # it looks once more
    clinic.work(HOUR)
    assert (clinic.worklist(), len(clinic.told())) == (["missing"], 1)
    step = REGISTERED if expect == REGISTRATION else RESULTS
    clinic.lab.resources.pop(f"/api/test_registration/{RETEST}/lab_results", None)
    clinic.post(step, testregistration_id=RETEST)
    for _ in range(2):
        clinic.work(HOUR)
    assert (clinic.worklist(), len(clinic.told())) == ([], 1)


def test_a_case_about_an_order_closes_when_the_step_has_come_for_each_of_its_kits(
    clinic: Clinic, past: Past
) -> None:
    """Which kits an order has was not known when it was told: one step of two does not close it."""
    shipped_two(clinic, REGISTRATION)
    clinic.lab.change("order", ORDER, test_registrations=[])
    past(21 * DAY + HOUR, "order.shipped", order_id=ORDER)
    clinic.work()
    assert [case["subject"] for case in open_cases(clinic.db)] == [ORDER]
    clinic.lab.change("order", ORDER, shipping_status="delivered", test_registrations=TWO)
    clinic.post("order.delivered", order_id=ORDER)
    for kit, left in ((KIT, ["missing"]), (RETEST, [])):
        clinic.post(REGISTERED, testregistration_id=kit)
        for _ in range(2):
            clinic.work(HOUR)
        assert (clinic.worklist(), len(clinic.told())) == (left, 1)


def test_results_are_missed_of_each_kit_by_itself(clinic: Clinic, past: Past) -> None:
    """Of an order of two the results of one have come: the other's are missed, and only its own
    results take it off the worklist.
    """
    expect = EXPECT.replace(RECEIVED, "order.shipped")
    shipped_two(clinic, expect)
    no_results(clinic, RETEST)
    past(10 * DAY + HOUR, "order.shipped", order_id=ORDER)
    clinic.results(KIT)
    drain_events(clinic)
    clinic.work()
    assert [case["subject"] for case in open_cases(clinic.db)] == [RETEST]
    clinic.results(KIT)
    clinic.work(HOUR)
    assert clinic.worklist() == ["missing"]
    clinic.lab.resources.pop(f"/api/test_registration/{RETEST}/lab_results")
    clinic.results(RETEST)
    for _ in range(2):
        clinic.work(HOUR)
    assert clinic.worklist() == []


def test_a_registration_of_the_orders_id_is_another_kit(clinic: Clinic, past: Past) -> None:
    """The lab's own examples have an order and a registration of one id: what comes of that
    registration does not deliver the order.
    """
    shipped_two(clinic, DELIVERY)
    clinic.lab.change("test_registration", ORDER, id=ORDER, status="awaiting_patient")
    past(3 * DAY + HOUR, "order.shipped", order_id=ORDER)
    clinic.post(REGISTERED, testregistration_id=ORDER)
    drain_events(clinic)
    clinic.work()
    assert clinic.worklist() == ["missing"]
