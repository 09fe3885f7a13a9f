"""A finished kit leaves the tables that are worked in, and comes back when anything of it comes."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from relay.ledger import history as ledger_history
from relay.ledger.database import Database
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
from tests.jobs.conftest import HEAD, KIT, ORDER, RETEST, RULES, STAFF, Clinic
from tests.rows import change, only, open_cases, rows, time_passes

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


def live(db: Database) -> dict[str, int]:
    """How many rows of the kit that all this is about are in each table."""
    with db.read() as connection:
        found = {
            table.name: connection.execute(
                sa.select(sa.func.count()).select_from(table)
            ).scalar_one()
            for table in LIVE
        }
    mine = {row["subject"] for row in rows(db, events)} & {ORDER, KIT}
    return {**found, "mine": len(mine)}


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
    assert live(clinic.db)["mine"] == 0
    return clinic


def told(clinic: Clinic) -> list[tuple[str, str]]:
    """Rule and status of each message that is about the kit."""
    found = clinic.messages()
    return sorted((row["rule"], row["status"]) for row in found if row["subject"] in (ORDER, KIT))


TOLD = [("delivered", "delivered"), ("kit", "delivered"), ("results", "delivered")]


def test_a_kit_leaves_as_one_row(over: Clinic) -> None:
    """None of its rows is left but one, and the numbers that stand for its names."""
    assert len(rows(over.db, history)) == 1
    assert live(over.db) == {
        **{"events": 1, "notifications": 1, "attempts": 0, "receipts": 0, "cases": 0},
        **{"journeys": 1, "aliases": 2, "mine": 0},
    }


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
