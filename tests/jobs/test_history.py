"""A finished kit leaves the tables that are worked in, and comes back when anything of it comes."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.errors import LedgerUnavailable
from relay.jobs import erase as jobs_erase
from relay.ledger import history as ledger_history
from relay.ledger import packing, schema
from relay.ledger.database import Database
from relay.ledger.removal import erasures
from relay.ledger.schema import (
    aliases,
    attempts,
    cases,
    events,
    history,
    history_names,
    journeys,
    notifications,
    receipts,
)
from relay.ledger.views import status, trail
from relay.ledger.worklist import cases as ledger_cases
from relay.ledger.worklist import releases
from relay.privacy.person import Person, key
from relay.rules.model import Case
from relay.staff.explain import explain
from tests.dump import dump, found
from tests.jobs.conftest import HEAD, KIT, ORDER, RETEST, RULES, STAFF, Clinic
from tests.rows import (
    at_once,
    change,
    empty,
    only,
    open_cases,
    rows,
    time_passes,
)

LONG = timedelta(days=100)
LIVE = (events, notifications, attempts, receipts, cases, journeys, aliases)
ALL = """
[rules.delivered]
event = "order.delivered"
to = "customer"
channels = ["email"]
template = "kit"
[rules.retest]
event = "test_registration.retest"
to = "patient"
channels = ["sms"]
template = "results"
"""
STEPS = (
    ("order.shipped", {"order_id": ORDER}),
    ("order.delivered", {"order_id": ORDER}),
    ("lab_results.complete", {"testregistration_id": KIT}),
)


def one_more(clinic: Clinic) -> None:
    """Another kit is shipped: the newest event stays where it is."""
    id_ = f"later-{len(rows(clinic.db, events))}"
    clinic.lab.change("order", id_, id=id_, tracking_number="RM9", customer={})
    clinic.post(order_id=id_)
    clinic.work()


def night(clinic: Clinic, after: timedelta = LONG) -> int:
    """Time passes, what is old is blanked, and finished kits move; how many did."""
    time_passes(clinic.db, after)
    one_more(clinic)
    clinic.jobs.purge()
    clinic.work()  # the provider deletes its texts
    return clinic.jobs.move_to_history().moved


def live(db: Database) -> set[str]:
    """The tables that have a row about the kit."""
    about = (events, notifications, journeys, aliases)
    return {t.name for t in about for row in rows(db, t) if row["subject"] in (ORDER, KIT)}


@pytest.fixture
def over(clinic: Clinic) -> Clinic:
    """A clinic whose one kit has been through all, and lies in history."""
    clinic.lab.change("order", ORDER, order_number="A-17", test_registrations=[{"id": KIT}])
    clinic.configure(RULES + ALL)
    for name, data in STEPS:
        clinic.post(name, **data)
        clinic.work()
    for row in clinic.messages():
        clinic.tell_of(only(clinic.db, attempts, notification_id=row["id"])["id"], "delivered")
    assert [status for _, status in clinic.statuses()] == ["delivered"] * 3
    assert night(clinic) == 1
    assert live(clinic.db) == set()
    return clinic


def told(clinic: Clinic) -> list[tuple[str, str]]:
    """Rule and status of each message that is about the kit."""
    found = clinic.messages()
    return sorted((row["rule"], row["status"]) for row in found if row["subject"] in (ORDER, KIT))


def dump_of(row: dict[str, Any]) -> set[str]:
    """The words of a kit in history."""
    return set(re.findall(r"[\w@.-]+", packing.text(row["kit"])))


TOLD = [("delivered", "delivered"), ("kit", "delivered"), ("results", "delivered")]


def test_a_kit_leaves_as_one_row(over: Clinic) -> None:
    """None of its rows is left but one, which names nobody."""
    (row,) = rows(over.db, history)
    assert not dump_of(row) & {"Jane", "Smith", "7700900001", "jane@example.org"}


@pytest.mark.parametrize(("name", "data"), STEPS)
def test_a_late_post_tells_nothing_again(over: Clinic, name: str, data: dict[str, str]) -> None:
    """A step that comes once more, months later, brings its kit back, and nobody is told again."""
    over.post(name, **data)
    over.work()
    assert told(over) == TOLD
    assert rows(over.db, history) == []
    assert rows(over.db, history_names) == []
    assert len(rows(over.db, events, subject=data.get("order_id", KIT))) >= 2


@pytest.mark.parametrize("number", ["+447700900055", None])
def test_it_is_told_already_though_the_number_is_another(over: Clinic, number: str | None) -> None:
    """What was told goes by the messages that came back, not by the address."""
    over.lab.change("test_registration", KIT, mobile_phone_number=number)
    over.results()
    over.work()
    assert told(over) == TOLD


@pytest.mark.parametrize("name", [f"LML-{KIT[:6]}", f"lml-{KIT[:6]}".upper(), "mine-4"])
def test_it_is_found_by_each_of_its_names(over: Clinic, name: str) -> None:
    """An event that calls the kit by another name is about the same one."""
    over.lab.change("test_registration", KIT, foreign_id="mine-4")
    over.lab.resources[f"/api/test_registration/{name}"] = over.lab.resources[
        f"/api/test_registration/{KIT}"
    ]
    over.results(name)
    over.work()
    assert told(over) == TOLD


def test_a_retest_that_begins_late_is_of_the_same_kit(over: Clinic) -> None:
    """The original comes back with the retest, which is told as its first round; an event of the
    retest's own id comes back with both.
    """
    over.post(
        "test_registration.retest", testregistration_id=KIT, retest_testregistration_id=RETEST
    )
    over.work()
    assert told(over) == sorted([*TOLD, ("retest", "sent")])
    (row,) = over.messages(rule="retest")
    assert (row["subject"], row["round"]) == (KIT, 1)
    assert night(over) == 2  # and the kit that was "later" before
    over.results(RETEST)
    over.work()
    assert {(row["rule"], row["round"]) for row in over.messages(subject=KIT)} >= {
        ("results", 0),
        ("results", 1),
        ("retest", 1),
    }


def test_it_comes_back_as_it_was(clinic: Clinic) -> None:
    """All that is kept of a kit is the same after it has been in history."""
    clinic.lab.change("order", ORDER, order_number="A-17", test_registrations=[{"id": KIT}])
    clinic.configure(RULES + ALL, HEAD + 'alerts = "desk"\n', STAFF)
    for name, data in STEPS:
        clinic.post(name, **data)
    clinic.work()
    clinic.tell("permanent-failure", "30006", rule="results")
    clinic.work()
    assert open_cases(clinic.db)
    change(clinic.db, cases, {}, closed_at=open_cases(clinic.db)[0]["opened_at"], closed_by="kim")
    time_passes(clinic.db, LONG)
    clinic.jobs.purge()
    clinic.work()
    gone = {
        "events": ("identity", "next_at", "tried_at"),
        "notifications": ("provider_id", "tries"),
        "attempts": ("id", "begun_at", "finished_at", "provider_id"),
        "receipts": ("id", "digest", "attempt_id"),
    }

    def kept() -> dict[str, list[dict[str, object]]]:
        return {
            table.name: sorted(
                (
                    {
                        name: value.replace(microsecond=value.microsecond // 1000 * 1000)
                        if hasattr(value, "microsecond")
                        else value
                        for name, value in row.items()
                        if name not in gone.get(table.name, ())
                    }
                    for row in rows(clinic.db, table)
                ),
                key=str,
            )
            for table in LIVE
        }

    before = kept()
    clinic.lab.change("order", "later", id="later", tracking_number="RM9", customer={})
    clinic.post(order_id="later")
    assert clinic.jobs.move_to_history().moved == 1
    with clinic.db.write() as connection:
        assert ledger_history.bring_back(connection, {KIT.upper()})
        connection.execute(events.delete().where(events.c.subject.is_(None)))  # the one more
    assert kept() == before


def stop_all(clinic: Clinic) -> None:
    """A person says "Do not send"."""
    with clinic.db.write() as connection:
        for row in clinic.messages(status="scheduled"):
            releases.stop(connection, row["id"], "kim", "Jane rang.")


def test_what_a_person_stopped_stays_stopped(clinic: Clinic) -> None:
    """ "Do not send" is for ever; the note that was written with it is not."""
    clinic.configure(RULES.replace('template = "results"', 'template = "results"\nhold = "48h"'))
    clinic.results()
    clinic.work()
    stop_all(clinic)
    clinic.work()
    assert night(clinic) == 1
    assert "Jane" not in dump_of(only(clinic.db, history))
    clinic.results()
    clinic.work(timedelta(days=3))
    (row,) = clinic.messages(rule="results")
    assert (row["status"], row["stopped_by"], row["reason"]) == (
        *("cancelled", "kim"),
        "Stopped by kim.",
    )


UNFINISHED: dict[str, tuple[Any, dict[str, Any]]] = {
    "a message waits": (notifications, {"status": "scheduled"}),
    "nobody knows of one": (notifications, {"status": "unknown"}),
    "one is to be followed up": (notifications, {"follow_up_at": sa.func.now()}),
    "a receipt is awaited": (notifications, {"receipt_by": sa.func.now()}),
    "one was planned for lately": (notifications, {"due_at": sa.func.now()}),
    "one has words": (notifications, {"content": {"text": "Hello"}}),
    "one is looked for": (attempts, {"look_at": sa.func.now()}),
    "Twilio still has one": (attempts, {"erase_at": sa.func.now()}),
    "one is under way": (attempts, {"outcome": "started"}),
    "an event is processed again": (events, {"status": "received"}),
    "an event is held": (events, {"status": "held"}),
    "an event has facts": (events, {"facts": {"order": {"id": ORDER}}}),
    "a case is open": (cases, {"closed_at": None}),
}


@pytest.mark.parametrize("what", UNFINISHED)
def test_a_kit_with_anything_unfinished_stays(clinic: Clinic, what: str) -> None:
    """Whatever may still be needed keeps the whole kit, with its order of which nothing is open."""
    clinic.lab.change("order", ORDER, test_registrations=[{"id": KIT}])
    clinic.post()
    clinic.results()
    clinic.work()
    (event,) = rows(clinic.db, events, name="lab_results.complete")
    with clinic.db.write() as connection:
        about = Case("unreached", "k-1", KIT, "Nobody was reached.", event["id"])
        ledger_cases.open_case(connection, about)
        ledger_cases.close_settled(connection, "unreached", "k-1", "It was.")
    time_passes(clinic.db, LONG)
    clinic.jobs.purge()
    change(clinic.db, notifications, {}, receipt_by=None, follow_up_at=None, status="sent")
    change(clinic.db, attempts, {}, erase_at=None)
    table, values = UNFINISHED[what]
    (own,) = clinic.messages(rule="results")
    mine = {
        "attempts": {"notification_id": own["id"]},
        "notifications": {"id": own["id"]},
        "events": {"id": event["id"]},
        "cases": {"event_id": event["id"]},
    }[table.name]
    before = {name: rows(clinic.db, table)[0].get(name) for name in values}
    change(clinic.db, table, mine, **values)
    clinic.post(order_id="another")
    assert clinic.jobs.move_to_history().moved == 0
    assert live(clinic.db) == {"events", "notifications", "journeys", "aliases"}
    change(clinic.db, table, mine, **before)
    assert clinic.jobs.move_to_history().moved == 1


def test_an_item_stays_until_its_digest_has_gone(clinic: Clinic) -> None:
    """A digest that hangs on another kit's event still needs what it is to tell of this one."""
    clinic.configure(RULES)
    clinic.post()
    clinic.results()
    clinic.work()
    first, other = clinic.messages()
    change(clinic.db, notifications, {"id": first["id"]}, kind="digest", digest=first["identity"])
    change(clinic.db, notifications, {"id": other["id"]}, kind="item", digest=first["identity"])
    time_passes(clinic.db, LONG)
    clinic.jobs.purge()
    change(clinic.db, attempts, {}, erase_at=None)
    change(clinic.db, notifications, {}, receipt_by=None, status="sent")
    change(clinic.db, notifications, {"id": first["id"]}, status="scheduled")
    clinic.post(order_id="another")
    assert clinic.jobs.move_to_history().moved == 0
    change(clinic.db, notifications, {"id": first["id"]}, status="sent")
    assert clinic.jobs.move_to_history().moved == 2


def test_what_is_younger_stays(clinic: Clinic) -> None:
    """Nothing moves before `retention`, `dedupe_window`, the chart's days and all watches are over:
    here a watch looks longest.
    """
    expect = """
[expect.results]
after = "order.shipped"
event = "lab_results.complete"
within = "80d"
to = "desk"
"""
    clinic.configure(RULES + expect, HEAD, STAFF)
    assert clinic.jobs.quiet == timedelta(days=110)
    clinic.configure(RULES, HEAD + 'retention = "1d"\n')
    assert clinic.jobs.quiet == timedelta(days=31)


def test_nothing_moves_while_somebody_is_erased(over: Clinic) -> None:
    """An erasure finds what it looks for where it looks."""
    over.post()
    over.work()
    asked = erasures.ask(
        over.db, "email", "tom@example.com", target="…", actor="kim", note="", stop=False
    )
    far = datetime.now(UTC) + 2 * LONG
    change(over.db, schema.erasures, {"id": asked.id}, next_at=far)
    assert night(over) == 0
    with over.db.write() as connection:
        connection.execute(schema.erasures.delete())
    assert over.jobs.move_to_history().moved >= 1


def test_who_is_erased_is_found_in_history(clinic: Clinic) -> None:
    """A clinic's reference that is a person's address goes, though its kit was put away: the kit
    comes back for that.
    """
    clinic.lab.change("test_registration", KIT, foreign_id="jane@example.org")
    clinic.configure(RULES)
    clinic.results()
    clinic.work()
    clinic.tell("delivered", rule="results")
    assert night(clinic) == 1
    assert "jane@example.org" in dump_of(only(clinic.db, history))
    person = Person(key("jane@example.org"))
    assert jobs_erase.look(clinic.db, person)
    erasures.ask(clinic.db, "email", "jane@example.org", target="…", actor="kim", note="")
    clinic.work()
    (done,) = rows(clinic.db, schema.erasures)
    assert (done["state"], done["outcome"]["left"]) == ("done", {})
    assert not found(dump(clinic.db), "jane@example.org")
    assert len(clinic.messages(rule="results")) == 1


def test_it_leaves_history_after_its_time(over: Clinic) -> None:
    """After `history` nothing of the kit is left at all, not its names either."""
    over.configure(RULES + ALL, HEAD + 'history = "200d"\n')
    time_passes(over.db, timedelta(days=90))
    over.jobs.move_to_history()
    assert len(rows(over.db, history)) >= 1
    time_passes(over.db, timedelta(days=20))
    over.jobs.move_to_history()
    with over.db.read() as connection, ledger_history.opened(connection, {KIT}) as past:
        assert past is None
    names = {row["history_id"] for row in rows(over.db, history_names)}
    assert names == {row["id"] for row in rows(over.db, history)}


def test_a_move_that_fails_changes_nothing(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a move is none: the rows go in the transaction that keeps them in history."""
    clinic.results()
    clinic.work()
    clinic.tell("delivered", rule="results")
    time_passes(clinic.db, LONG)
    clinic.jobs.purge()
    clinic.work()
    one_more(clinic)
    before = [rows(clinic.db, table) for table in LIVE]

    def broken(*_: Any) -> None:
        raise LedgerUnavailable("the ledger is away")

    with monkeypatch.context() as patch:
        patch.setattr(ledger_history, "_delete", broken)
        with pytest.raises(LedgerUnavailable):
            clinic.jobs.move_to_history()
    assert [rows(clinic.db, table) for table in LIVE] == before
    assert rows(clinic.db, history) == []
    assert clinic.jobs.move_to_history().moved == 1


def test_ten_workers_at_once_move_each_kit_once(clinic: Clinic) -> None:
    """Kits that are moved away, and posts about them at the same moment: each is in one place, and
    nobody is told twice.
    """
    clinic.orders(5)
    clinic.work()
    for row in clinic.messages():
        clinic.tell_of(only(clinic.db, attempts, notification_id=row["id"])["id"], "delivered")
    time_passes(clinic.db, LONG)
    clinic.jobs.purge()
    clinic.work()
    clinic.orders(5)
    leased = clinic.jobs.lease_events(10)
    assert len(leased) == 5

    def work(number: int) -> None:
        jobs = clinic.jobs
        if number % 2:
            jobs.process(leased[number // 2])
        else:
            jobs.move_to_history()

    at_once(work)
    clinic.work()
    clinic.jobs.move_to_history()
    assert rows(clinic.db, history) == []
    assert [row["status"] for row in clinic.messages()] == ["delivered"] * 5


def test_two_late_posts_at_once_bring_it_back_once(over: Clinic) -> None:
    """Whoever comes second finds the rows that the first has put back."""
    for name, data in STEPS:
        over.post(name, **data)
    leased = over.jobs.lease_events(10)
    at_once(lambda number: over.jobs.process(leased[number]), len(leased))
    over.work()
    assert told(over) == TOLD
    assert rows(over.db, history) == []


def test_what_another_release_told_meanwhile_is_kept_too(over: Clinic) -> None:
    """A release that knew nothing of history may have told it again: both messages are there."""
    over.configure(RULES)
    with over.db.read() as connection, ledger_history.opened(connection, {KIT}) as past:
        assert past is not None
        (theirs,) = past.execute(
            sa.select(notifications.c.identity).where(notifications.c.rule == "results")
        ).scalars()
    (mine,) = over.messages()
    change(over.db, notifications, {"id": mine["id"]}, identity=theirs)
    over.results()
    over.work()
    assert len(over.messages(rule="results")) == 1
    assert len({row["identity"] for row in over.messages()}) == len(over.messages())


@pytest.mark.parametrize("wanted", [KIT, ORDER, "a-17", f"{KIT[:6]}", "RM1"])
def test_its_record_is_there_under_every_name(over: Clinic, wanted: str) -> None:
    """`explain` tells what became of a kit in history, and that it lies there."""
    with over.db.read() as connection:
        found = trail.find(connection, wanted)
        told = [
            line
            for one in found
            for _, line in explain(
                one,
                ZoneInfo("Europe/London"),
                status.blockers(connection, ZoneInfo("UTC"), 9),
                str,
            )
        ]
    assert [one.event["name"] for one in found] == [name for name, _ in STEPS]
    assert sum("in history" in line for line in told) == 3
    assert sum("It has arrived." in line for line in told) == 3
    assert len(rows(over.db, history)) == 1


def test_its_record_is_found_by_an_events_or_a_messages_id(clinic: Clinic) -> None:
    """What `list` has shown once can be asked for later."""
    clinic.results()
    clinic.work()
    clinic.tell("delivered", rule="results")
    (row,) = clinic.messages()
    assert night(clinic) == 1
    with clinic.db.read() as connection:
        assert trail.find(connection, row["event_id"])[0].event["id"] == row["event_id"]
        assert trail.find(connection, row["id"])[0].messages[0]["id"] == row["id"]
        assert trail.find(connection, row["id"][:-1] + "x") == []


def test_a_name_that_another_has_by_now_leads_to_neither(over: Clinic) -> None:
    """A reference that is used for another kit later is shared, as if the first had never left."""
    over.lab.change("test_registration", KIT, foreign_id="mine-4")
    over.results()
    over.work()
    night(over)
    over.lab.change("test_registration", "other", id="other", foreign_id="mine-4")
    over.results("other")
    over.work()
    assert only(over.db, aliases, alias="mine-4")["is_shared"]


ORDER_2 = "2b8a4c9e-6c37-4f07-a7ce-7d1c6a1f2b20"
TRF = f"LML-{KIT[:6]}"
POSTS = (
    *STEPS,
    ("order.shipped", {"order_id": "A-17"}),
    ("lab_results.complete", {"testregistration_id": TRF}),
    (
        "test_registration.retest",
        {"testregistration_id": KIT, "retest_testregistration_id": RETEST},
    ),
    (
        "test_registration.retest",
        {"testregistration_id": TRF, "retest_testregistration_id": RETEST},
    ),
    ("lab_results.complete", {"testregistration_id": RETEST}),
    ("order.delivered", {"order_id": ORDER_2}),
)
SOME = st.lists(st.sampled_from(POSTS), min_size=1, max_size=4)


@pytest.mark.long
@given(before=SOME, after=SOME, works=st.booleans())
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_nothing_is_told_otherwise_for_it(
    clinic: Clinic, before: list[Any], after: list[Any], works: bool
) -> None:
    """Whatever was posted before kits moved and whatever comes later, under whichever name: the
    same is told, about the same kit and round, as if they had stayed.
    """
    assert played(clinic, before, after, works, moves=True) == played(
        clinic, before, after, works, moves=False
    )


def played(
    clinic: Clinic, before: list[Any], after: list[Any], works: bool, *, moves: bool
) -> tuple[list[tuple[Any, ...]], ...]:
    """What is told and what the events are about, where kits move in between, or do not."""
    empty(clinic.db)
    customer = {"first_name": "Jane", "phone_number": "+447700900001"}
    for id_, kit, number in ((ORDER, KIT, "A-17"), (ORDER_2, RETEST, "A-27")):
        own = {"id": id_, "order_number": number, "test_registrations": [{"id": kit}]}
        clinic.lab.change("order", id_, **own, customer=customer)
    clinic.lab.resources["/api/order/A-17"] = clinic.lab.resources[f"/api/order/{ORDER}"]
    path = "/api/test_registration/"
    clinic.lab.resources[path + TRF] = clinic.lab.resources[path + KIT]
    clinic.configure(RULES + ALL)
    for name, data in before:
        clinic.post(name, **data)
        clinic.work()
    change(clinic.db, notifications, {}, receipt_by=None)
    time_passes(clinic.db, LONG)
    one_more(clinic)
    clinic.jobs.purge()
    clinic.work()
    if moves:
        clinic.jobs.move_to_history()
        assert rows(clinic.db, history) or rows(clinic.db, cases)
    for name, data in after:
        clinic.post(name, **data)
        if works:
            clinic.work()
    clinic.work()
    with clinic.db.write() as connection:
        put = sa.select(history.c.id)
        ledger_history.put_back(connection, [*connection.execute(put).scalars()])
    about = ("name", "subject", "round", "status")
    what = ("rule", "subject", "round", "role", "channel", "status", "address")
    return (
        sorted(tuple(str(row[key]) for key in about) for row in rows(clinic.db, events)),
        sorted(tuple(str(row[key]) for key in what) for row in rows(clinic.db, notifications)),
        sorted(
            (row["subject"], str(row["original_subject"]), str(row["order_subject"]), row["round"])
            for row in rows(clinic.db, journeys)
        ),
        sorted(
            (row["alias"], row["subject"], row["is_shared"]) for row in rows(clinic.db, aliases)
        ),
    )
