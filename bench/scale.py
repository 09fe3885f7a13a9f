"""What five million events cost: accepting, claiming and sweeping, against an empty ledger."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from bench.load import bodies
from bench.measure import Bench, Figures, fresh_ledger, say
from relay import events
from relay.ledger import claiming, delivery, intake, processing, upkeep
from relay.ledger.database import Database

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


def growth(bench: Bench, count: int) -> Figures:
    """Medians on an empty ledger, then on one of `count` events and as many messages."""
    with fresh_ledger(bench.postgresql) as db:
        empty = _medians(db)
        _fill(db, count)
        full = _medians(db)
        for line in _plans(db):
            say(line)
    say(f"empty: {empty}\n  full:  {full}")
    return {
        "events": count,
        "accept_ratio": full["accept"] / empty["accept"],
        "claim_ratio": full["claim"] / empty["claim"],
        "lease_ratio": full["lease"] / empty["lease"],
        "sweep_ms": full["sweep"],
    }


def _fill(db: Database, count: int) -> None:
    for first in range(1, count + 1, CHUNK):
        last = min(first + CHUNK - 1, count)
        with db.engine.begin() as connection:
            connection.execute(sa.text("SET LOCAL synchronous_commit = off"))
            for statement in (_EVENTS, _NOTIFICATIONS):
                connection.execute(sa.text(statement), {"first": first, "last": last})
        say(f"{last:,} of {count:,} events")
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("VACUUM ANALYZE"))


def _medians(db: Database) -> dict[str, float]:
    return {
        "accept": _ms(_accept(db), 300),
        "lease": _ms(lambda: processing.lease_events(db, 16), 50),
        "claim": _ms(_claim(db), 50),
        "sweep": _ms(lambda: delivery.lapse(db), 20),
        "purge": _ms(lambda: upkeep.purge(db, timedelta(days=90)), 3),
    }


def _ms(work: Callable[[], object], times: int) -> float:
    took = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        took.append((time.perf_counter() - started) * 1000)
    return round(statistics.median(took), 2)


def _accept(db: Database) -> Callable[[], object]:
    made: Iterator[bytes] = bodies(100_000)
    return lambda: intake.record(db, events.parse(next(made)), timedelta(days=30))


def _claim(db: Database) -> Callable[[], object]:
    """Claims of nothing due: what a worker asks every two seconds."""
    return lambda: claiming.claim(db, "sms", 24)


def _plans(db: Database) -> list[str]:
    """How PostgreSQL goes about each hot statement, as it is really sent."""
    sent: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        sent.append((statement, parameters))

    sa.event.listen(db.engine, "before_cursor_execute", note)
    for work in (lambda: processing.lease_events(db, 16), _claim(db), lambda: delivery.lapse(db)):
        work()
    sa.event.remove(db.engine, "before_cursor_execute", note)
    lines = []
    with db.read() as connection:
        for statement, parameters in sent:
            if statement.startswith(("SELECT", "UPDATE", "WITH")):
                plan = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars()
                lines += [" ".join(statement.split())[:90], *(f"    {step}" for step in plan)]
    return lines
