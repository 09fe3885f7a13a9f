"""What five million events cost: accepting, claiming and sweeping, against an empty ledger."""

from __future__ import annotations

import json
import statistics
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from relay.lab import events
from relay.lab.facts import Facts
from relay.ledger import attempts, followups, receipts, unknown_attempts
from relay.ledger import events as ledger_events
from relay.ledger.database import Database
from relay.ledger.removal import retention
from relay.rules.model import Ending, Notice, Plan
from relay.rules.receipts import Receipt
from tools.bench.load import bodies
from tools.bench.measure import Bench, Figures, fill_tables, fresh_ledger, say

CHUNK = 250_000
_EVENTS = """
INSERT INTO events (id, name, identity, data, status, received_at, subject, facts, processed_at)
SELECT 'evt_' || lpad(to_hex(n), 12, '0') || left(md5(n::text), 16), 'order.shipped',
       md5('i' || n::text), '{"order_id": "1"}'::json, 'processed',
       now() - (n % 80) * interval '1 day', md5('s' || n::text),
       '{"order": {"id": "1"}}'::json, now()
FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) n
"""
_NOTIFICATIONS = """
INSERT INTO notifications (id, event_id, rule, template, subject, role, channel, address, identity,
  family, status, due_at, created_at, sent_at, provider_id, attempts)
SELECT 'msg_' || lpad(to_hex(n), 12, '0') || left(md5(n::text), 16),
       'evt_' || lpad(to_hex(n), 12, '0') || left(md5(n::text), 16), 'kit-shipped',
       'kit_shipped',
       md5('s' || n::text), 'customer', 'sms', '+447700900000', md5('n' || n::text),
       md5('f' || n::text), 'sent', now() - (n % 80) * interval '1 day',
       now() - (n % 80) * interval '1 day', now(), 'SM' || md5(n::text), 1
FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) n
"""
_ATTEMPTS = """
INSERT INTO attempts (id, notification_id, channel, outcome, provider_id, started_at, looks)
SELECT md5('a' || n::text), 'msg_' || lpad(to_hex(n), 12, '0') || left(md5(n::text), 16),
       'sms', 'accepted', 'SM' || md5(n::text), now() - (n % 80) * interval '1 day', 0
FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) n
"""
_JOURNEYS = """
INSERT INTO journeys (subject, resource, round, created_at)
SELECT md5('s' || n::text), 'order', 0, now()
FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) n
"""
FILLING = (_EVENTS, _NOTIFICATIONS, _ATTEMPTS, _JOURNEYS)


def growth(bench: Bench, count: int) -> Figures:
    """Medians on an empty ledger, then on one of `count` events and as many messages."""
    with fresh_ledger(bench.postgresql) as db:
        empty = _medians(db)
        fill_tables(db, FILLING, count, CHUNK)
        full = _medians(db)
        for line in _plans(db):
            say(line)
    say(f"empty: {empty}\n  full:  {full}")
    return {
        "events": count,
        "accept_ratio": full["accept"] / empty["accept"],
        "claim_ratio": full["claim"] / empty["claim"],
        "message_ratio": full["message"] / empty["message"],
        "sweep_ms": full["sweep"],
    }


def _medians(db: Database) -> dict[str, float]:
    return {
        "accept": milliseconds(_accept(db), 300),
        "message": milliseconds(_message(db), 100),
        "claim": milliseconds(_claim(db), 50),
        "sweep": milliseconds(lambda: _sweep(db), 20),
        "purge": milliseconds(lambda: retention.purge(db, timedelta(days=90)), 3),
    }


def milliseconds(
    work: Callable[[], object], times: int, after: Callable[[], object] = lambda: None
) -> float:
    """The median of what a piece of work takes; `after` each time it, something that does not
    count.
    """
    took = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        took.append((time.perf_counter() - started) * 1000)
        after()
    return round(statistics.median(took), 2)


def _accept(db: Database) -> Callable[[], object]:
    made: Iterator[bytes] = bodies(100_000)
    return lambda: ledger_events.record_webhook(db, events.parse(next(made)), timedelta(days=30))


def _claim(db: Database) -> Callable[[], object]:
    """Claims of nothing due: what a worker asks every two seconds."""
    return lambda: attempts.claim(db, "sms", 24)


def _message(db: Database) -> Callable[[], object]:
    """All that the ledger does for one message, from the lease of its event to its receipt."""

    def work() -> None:
        id_ = str(uuid.uuid4())
        event = _leased(db, id_)
        facts = Facts(order={"id": id_})
        with db.write() as connection:
            ledger_events.plan_and_mark_processed(
                connection, event, facts, lambda kit: Plan((_notice(kit.place.subject),))
            )
        (claim,) = attempts.claim(db, "sms", 1)
        attempts.begin(db, claim, {"text": "Your kit is on its way."})
        ending = Ending("accepted", "sent", provider_id=f"SM{id_}", awaits_receipt=True)
        attempts.finish(db, claim, ending)
        told = Receipt("delivered", "delivered", claim.attempt_id, f"SM{id_}")
        if not receipts.record(db, "sms", [told]):
            raise AssertionError("a receipt was lost")

    return work


def _leased(db: Database, id_: str) -> ledger_events.Event:
    body = json.dumps({"event": "order.delivered", "data": {"order_id": id_}}).encode()
    ledger_events.record_webhook(db, events.parse(body), timedelta(days=30))
    while True:  # the accepted ones of the measurement before are leased along the way
        for event in ledger_events.lease_events(db, 1):
            if event.data["order_id"] == id_:
                return event


def _notice(subject: str) -> Notice:
    return Notice(
        "kit-delivered",
        "kit_delivered",
        subject,
        0,
        "customer",
        "sms",
        "+447700900000",
        "created",
        "",
        due_at=datetime.now(UTC) - timedelta(minutes=1),
        urgency=1,
    )


def _sweep(db: Database) -> None:
    """What the clock asks of the ledger each minute, and a worker in between."""
    attempts.lapse(db)
    receipts.give_up(db)
    unknown_attempts.lease_unknown(db, 8)
    followups.lease_follow_ups(db, 8)


def _plans(db: Database) -> list[str]:
    """How PostgreSQL goes about each hot statement, as it is really sent."""
    sent: dict[str, Any] = {}

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        sent.setdefault(statement, parameters)

    sa.event.listen(db.engine, "before_cursor_execute", note)
    for work in (_message(db), lambda: _sweep(db)):
        work()
    sa.event.remove(db.engine, "before_cursor_execute", note)
    lines = []
    with db.read() as connection:
        for statement, parameters in sent.items():
            if statement.startswith(("SELECT", "UPDATE", "WITH")) and "FROM" in statement:
                plan = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars()
                lines += [" ".join(statement.split())[:90], *(f"    {step}" for step in plan)]
    return lines
