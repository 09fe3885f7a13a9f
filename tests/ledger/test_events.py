"""An event's way from received to processed, and back when a person replays it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from relay.lab.events import EVENTS
from relay.lab.facts import Facts
from relay.ledger import attempts, replay
from relay.ledger import events as ledger_events
from relay.ledger.database import Database
from relay.ledger.events import Kit
from relay.ledger.journeys import Place
from relay.ledger.schema import events, notifications
from relay.rules.model import AlreadyNotified, Decision, Ending, Plan
from relay.rules.statuses import ALIVE, FAILED, STATUSES
from tests.rows import (
    MONTH,
    at_once,
    change,
    claimed,
    incoming,
    leased,
    notice,
    only,
    planned,
    replay_event,
    replay_notification,
    rows,
    settled,
    time_passes,
)

FACTS = Facts(order={"id": "o-1"})


def test_a_leased_event_is_nobody_elses(db: Database) -> None:
    """A leased event is handed out again only after its lease; that is no failed try of the lab."""
    assert leased(db).tries == 1
    assert ledger_events.lease_events(db, 10) == []
    time_passes(db, timedelta(seconds=ledger_events.LEASE_SECONDS + 1))
    assert ledger_events.lease_events(db, 10) == []  # it is leased apart: it may have done harm
    (again,) = ledger_events.lease_events(db, 10, lapsed=True)
    assert (again.tries, again.name, again.data) == (1, "order.shipped", {"order_id": "o-1"})


def test_the_urgent_event_is_leased_first(db: Database) -> None:
    """In a backlog results come before retests, and those before what else there is."""
    ledger_events.record_webhook(db, incoming(order_id="o-1"), MONTH)
    data = {"testregistration_id": "r-1", "retest_testregistration_id": "r-2"}
    ledger_events.record_webhook(db, incoming("test_registration.retest", **data), MONTH)
    ledger_events.record_webhook(
        db, incoming("lab_results.complete", testregistration_id="r-1"), MONTH
    )
    names = [event.name for _ in range(3) for event in ledger_events.lease_events(db, 1)]
    assert names == ["lab_results.complete", "test_registration.retest", "order.shipped"]


def test_workers_lease_each_event_once(db: Database) -> None:
    """Ten workers that lease at once share the events out; none gets another's."""
    for number in range(20):
        ledger_events.record_webhook(db, incoming(order_id=f"o-{number}"), MONTH)
    batches = at_once(lambda _: ledger_events.lease_events(db, 2))
    ids = [event.id for batch in batches for event in batch]
    ids += [event.id for event in ledger_events.lease_events(db, 20)]
    assert len(ids) == len(set(ids)) == 20


def test_an_unrouted_event_is_not_leased(db: Database) -> None:
    """What nobody can route waits for a person."""
    ledger_events.record_webhook(db, incoming("order.returned", order_id="o-1"), MONTH)
    assert ledger_events.lease_events(db, 10) == []


def test_an_event_that_is_put_back_waits(db: Database) -> None:
    """An event that failed is still received, says why, and is due after the delay."""
    event = leased(db)
    with db.write() as connection:
        ledger_events.put_back(connection, event.id, 300, "The lab's API did not answer.")
    row = only(db, events)
    assert (row["status"], row["reason"]) == ("received", "The lab's API did not answer.")
    time_passes(db, timedelta(seconds=290))
    assert ledger_events.lease_events(db, 10) == []
    time_passes(db, timedelta(seconds=20))
    assert [again.tries for again in ledger_events.lease_events(db, 10)] == [2]


def test_a_held_event_waits_for_a_person(db: Database) -> None:
    """A held event says why, is not tried any more, and is listed for replay."""
    event = leased(db)
    with db.write() as connection:
        ledger_events.hold(connection, event.id, "Tried for three days.")
    time_passes(db, MONTH)
    assert ledger_events.lease_events(db, 10) == []
    assert (only(db, events)["status"], only(db, events)["reason"]) == (
        "held",
        "Tried for three days.",
    )
    with db.read() as connection:
        assert replay.ids_to_replay(connection, "held") == [event.id]


@pytest.mark.parametrize("verb", ["put_back", "hold"])
def test_a_processed_event_stays_processed(db: Database, verb: str) -> None:
    """A worker that comes late can neither put back nor hold what another has processed."""
    event = leased(db)
    settled(db, event)
    if verb == "put_back":
        with db.write() as connection:
            ledger_events.put_back(connection, event.id, 0, "late")
    else:
        with db.write() as connection:
            ledger_events.hold(connection, event.id, "late")
    assert (only(db, events)["status"], only(db, events)["reason"]) == ("processed", "")


def test_a_plan_is_saved_with_its_event(db: Database) -> None:
    """The event, its facts, its decisions and its messages are committed together."""
    event = leased(db)
    plan = Plan((notice(),), (Decision("kit-email", "Its condition is not met: false"),))
    with db.write() as connection:
        (made,) = ledger_events.plan_and_mark_processed(connection, event, FACTS, lambda _kit: plan)
    row, message = only(db, events), only(db, notifications)
    assert (row["status"], row["subject"], row["round"]) == ("processed", "o-1", 0)
    assert row["facts"] == {"order": {"id": "o-1"}}
    assert row["decisions"] == [
        {"rule": "kit-email", "reason": "Its condition is not met: false", "is_final": False}
    ]
    assert (message["id"], message["event_id"], message["status"]) == (made, event.id, "created")
    assert message["identity"] == notice().identity


@pytest.mark.parametrize("threads", [1, 10])
def test_a_plan_is_saved_once(db: Database, threads: int) -> None:
    """An event that is processed twice, even at once, leads to its messages once."""
    event = leased(db)

    def save(_: int) -> list[str]:
        return settled(db, event, notice())

    made = [id_ for ids in at_once(save, threads) for id_ in ids]
    assert save(0) == []
    assert made == [only(db, notifications)["id"]]


def test_nobody_is_told_the_same_by_two_events(db: Database) -> None:
    """Two events that lead to the same notification have one row between them."""
    planned(db, notice())
    other = leased(db, order_id="o-1-by-another-name")
    assert len(settled(db, other, notice(), notice(address="+447700900002"))) == 1
    assert sorted(row["address"] for row in rows(db, notifications)) == [
        "+447700900001",
        "+447700900002",
    ]


@pytest.mark.parametrize("status", STATUSES)
def test_told_is_what_is_on_its_way_or_arrived(db: Database, status: str) -> None:
    """A person counts as told while a message may still reach them or has; not after it failed."""
    planned(db, notice(), notice(round=1, role="patient"), notice(subject="o-2", channel="email"))
    change(db, notifications, {}, status=status)
    expected = {("kit-shipped", "customer", "sms")} if status in ALIVE else set()
    told: list[AlreadyNotified] = []

    def decide(kit: Kit) -> Plan:
        assert kit.place == Place("o-1", 0)
        told.append(kit.notified)
        return Plan()

    event = leased(db, order_id="o-1-by-another-name")
    with db.write() as connection:
        ledger_events.plan_and_mark_processed(connection, event, FACTS, decide)
    assert told == [expected]


@pytest.mark.parametrize("status", STATUSES)
def test_a_replay_revives_only_what_failed(db: Database, status: str) -> None:
    """Replay sends again what ended in failure and nothing else."""
    (id_,) = planned(db, notice())
    change(db, notifications, {}, status=status, due_at=datetime.now(UTC) - timedelta(days=1))
    assert replay_notification(db, id_) is (status in FAILED)
    assert only(db, notifications)["status"] == ("created" if status in FAILED else status)
    with db.read() as connection:
        assert replay.failed_ids(connection) == []


@pytest.mark.parametrize("outcome", ["accepted", "unknown", "rejected", None])
def test_a_replay_never_revives_what_may_have_been_sent(db: Database, outcome: str | None) -> None:
    """A failed message that a provider has, or may have, is not sent again by any replay."""
    claim = claimed(db)
    if outcome:
        attempts.finish(db, claim, Ending(outcome, "permanent-failure"))
    change(db, notifications, {}, status="permanent-failure")
    assert replay_event(db, claim.event_id)
    assert replay_notification(db, claim.id) is False
    revived = only(db, notifications)["status"] == "created"
    assert revived is (outcome == "rejected")
    assert len(attempts.claim(db, "sms", 10)) == revived


def test_a_message_without_an_address_is_not_revived(db: Database) -> None:
    """There is nobody to send it to: its event has to be processed again."""
    (id_,) = planned(db, notice(address="", status="validation-failed"))
    with db.read() as connection:
        assert replay.failed_ids(connection) == []
    assert replay_notification(db, id_) is False


@pytest.mark.parametrize("status", ["processed", "held"])
def test_an_event_is_replayed(db: Database, status: str) -> None:
    """A processed or held event is due again, as if it had never been tried."""
    event = leased(db)
    change(db, events, {}, status=status, reason="The lab's API did not answer.", tries=16)
    assert replay_event(db, event.id)
    (again,) = ledger_events.lease_events(db, 10)
    assert (again.id, again.tries, only(db, events)["reason"]) == (event.id, 1, "")


def test_what_is_waiting_or_unknown_is_not_replayed(db: Database) -> None:
    """A replay of what is in work, cannot be routed or is not there says that it did nothing."""
    event = leased(db)
    unrouted = ledger_events.record_webhook(db, incoming("order.returned", order_id="o-1"), MONTH)
    assert not replay_event(db, event.id)
    assert not replay_event(db, unrouted.id)
    assert not replay_event(db, "evt_none")
    assert not replay_notification(db, "msg_none")
    with db.read() as connection:
        assert replay.ids_to_replay(connection, "unrouted") == []


def test_an_unrouted_event_is_replayed_once_its_name_is_known(db: Database) -> None:
    """An event that came before its schema existed is routed afterwards, as urgent as its kind."""
    ledger_events.record_webhook(db, incoming("order.returned", testregistration_id="r-1"), MONTH)
    change(db, events, {}, name="lab_results.complete")
    with db.read() as connection:
        (id_,) = replay.ids_to_replay(connection, "unrouted")
    assert replay_event(db, id_)
    assert only(db, events)["urgency"] == EVENTS["lab_results.complete"].urgency
    assert [event.id for event in ledger_events.lease_events(db, 10)] == [id_]


def test_an_event_is_found_by_its_id(db: Database) -> None:
    """An event is read as its worker sees it, without the try under way; an unknown id is None."""
    event = leased(db)
    with db.read() as connection:
        assert ledger_events.get_event(connection, event.id) == replace(event, tries=0)
        assert ledger_events.get_event(connection, "evt_none") is None
