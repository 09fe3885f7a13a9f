"""Digests in the ledger: an item is in one digest, whoever plans and whoever claims meanwhile."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from relay.lab.facts import Facts
from relay.ledger import attempts as ledger_attempts
from relay.ledger import events as ledger_events
from relay.ledger.attempts import Claim
from relay.ledger.database import Database
from relay.ledger.digests import items, take_out
from relay.ledger.events import Event, Kit
from relay.ledger.removal import retention
from relay.ledger.schema import attempts, events, notifications
from relay.rules.model import Notice, Plan
from relay.rules.statuses import DIGEST, ITEM
from tests.rows import MONTH, at_once, change, incoming, notice, only, rows, time_passes

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


def pair(subject: str, closed: frozenset[str] = frozenset()) -> tuple[Notice, Notice]:
    """An item about a kit, and the first of the hourly digests that has not closed."""
    due_at = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + HOUR
    how = {"rule": "desk", "role": "desk", "channel": "email", "address": "a@example.org"}
    while True:
        made = notice(**how, subject=f"digest {due_at:%H}", status="scheduled", due_at=due_at)
        digest = replace(made, kind=DIGEST, digest=made.identity)
        if digest.identity not in closed:
            item = notice(**how, subject=subject, status="cancelled", reason="It is told …")
            return replace(item, kind=ITEM, digest=digest.identity), digest
        due_at += HOUR


def gather(db: Database, event: Event) -> list[str]:
    """Process an event about an order that the desk is told of in a digest."""

    def decide(kit: Kit) -> Plan:
        return Plan(pair(kit.place.subject, kit.closed_digests))

    with db.write() as connection:
        return ledger_events.plan_and_mark_processed(
            connection, event, Facts(order={"id": event.data["order_id"]}), decide
        )


def come(db: Database, count: int) -> list[Event]:
    """So many events about orders, leased."""
    for number in range(count):
        ledger_events.record_webhook(db, incoming(order_id=f"o-{number}"), MONTH)
    return ledger_events.lease_events(db, count)


def fall_due(db: Database) -> Claim:
    """The one digest that waits falls due, and this worker claims it.

    SQLite's clock counts milliseconds: what is due at this microsecond is due in the next of them.
    """
    change(db, notifications, {"status": "scheduled"}, due_at=datetime.now(UTC) - SECOND)
    (claim,) = ledger_attempts.claim(db, "email", 10)
    return claim


def told_by(db: Database, digest: str) -> list[str]:
    """The events that a digest tells of."""
    with db.read() as connection:
        return [item.event_id for item in items(connection, digest)]


def test_what_comes_while_a_digest_is_claimed_goes_into_the_next(db: Database) -> None:
    """The digest was claimed after the plan and before its commit: the item is not lost in it."""
    first, second = come(db, 2)
    gather(db, first)
    claim = fall_due(db)
    gather(db, second)
    assert told_by(db, claim.id) == [first.id]
    (waiting,) = rows(db, notifications, status="scheduled")
    assert told_by(db, waiting["id"]) == [second.id]


def test_planners_and_workers_at_once_lose_nothing(db: Database) -> None:
    """Whatever is put into a digest while it falls due is in it when it is claimed, or in the next.

    Two workers claim it: one of them gets it.
    """
    first, *others = come(db, 9)
    gather(db, first)
    change(db, notifications, {"status": "scheduled"}, due_at=datetime.now(UTC) - SECOND)
    seen: dict[str, list[str]] = {}

    def work(number: int) -> None:
        if number < len(others):
            gather(db, others[number])
            return
        while not seen:
            for claim in ledger_attempts.claim(db, "email", 10):
                assert claim.id not in seen
                seen[claim.id] = told_by(db, claim.id)

    at_once(work, len(others) + 2)
    (id_,) = seen
    assert told_by(db, id_) == seen[id_]
    digests = {row["id"] for row in rows(db, notifications, kind=DIGEST)}
    told = [event_id for one in digests for event_id in told_by(db, one)]
    assert sorted(told) == sorted(row["id"] for row in rows(db, events))


def test_a_digest_that_may_have_gone_out_takes_no_more(db: Database) -> None:
    """It waits to be sent again, but may have arrived without the new item."""
    first, second = come(db, 2)
    gather(db, first)
    claim = fall_due(db)
    change(db, attempts, {}, outcome="unknown")
    change(db, notifications, {"id": claim.id}, status="created")
    gather(db, second)
    with db.read() as connection:
        (item,) = items(connection, claim.id)
    assert item.event_id == first.id
    with db.write() as connection:
        take_out(connection, claim.id, {item.id: "It is not true any more."})
    assert only(db, notifications, id=item.id)["digest_id"] == claim.id  # it may have been told


def test_what_a_digest_still_has_to_tell_is_kept(db: Database) -> None:
    """Retention blanks no event that a waiting digest tells, and does so once it has gone."""
    for event in come(db, 2):
        gather(db, event)
    time_passes(db, timedelta(days=2))
    change(db, notifications, {"status": "scheduled"}, due_at=datetime.now(UTC) + HOUR)
    retention.purge(db, timedelta(days=1))
    assert all(row["facts"] for row in rows(db, events))
    change(db, notifications, {"status": "scheduled"}, status="sent")
    retention.purge(db, timedelta(days=1))
    assert not any(row["facts"] for row in rows(db, events))
