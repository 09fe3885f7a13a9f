"""How many bytes a kit takes, while it is worked on and once it is finished; how long it takes to
move kits to history, and to bring one back.

A kit is an order of one registration: its six events, ten messages by the shipped rules with an
attempt and one or two receipts each, and its six names.
"""

from __future__ import annotations

import hashlib
import statistics
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from relay.lab import samples
from relay.ledger import history as ledger_history
from relay.ledger.database import Database
from relay.ledger.packing import TABLES
from relay.ledger.removal import retention
from relay.ledger.schema import (
    aliases,
    attempts,
    events,
    history,
    history_names,
    journeys,
    notifications,
    receipts,
)
from relay.rules.model import identity, obligation
from tools.bench.measure import Bench, Figures, fresh_ledger, say

AT_ONCE = 500  # kits in one transaction
OLD = timedelta(days=120)
QUIET = timedelta(days=91)
KEPT = timedelta(days=3000)
_ORDERS, _KITS = "order_id", "testregistration_id"
# Event → the field with its id, the day on which it comes, and what is sent: rule, role, channels.
STEPS: tuple[tuple[str, str, int, tuple[tuple[str, str, tuple[str, ...]], ...]], ...] = (
    ("order.shipped", _ORDERS, 0, (("kit-shipped", "customer", ("sms", "email")),)),
    ("order.delivered", _ORDERS, 2, (("kit-delivered", "customer", ("sms", "email")),)),
    ("test_registration.complete", _KITS, 3, (("kit-registered", "patient", ("email",)),)),
    ("test_registration.sample_received", _KITS, 5, (("sample-received", "patient", ("sms",)),)),
    ("test_registration.lml_lab_id_created", _KITS, 5, (("desk-lab-id", "lab-desk", ("email",)),)),
    (
        *("lab_results.complete", _KITS, 9),
        (("results-ready", "patient", ("sms", "email")), ("desk-results", "lab-desk", ("email",))),
    ),
)
_TEXT = "Example Clinic: your kit AB123456785GB is on its way. Questions? Ring 020 7946 0000."
_EMAIL = {"subject": "Your test kit", "text": _TEXT * 6, "html": f"<p>{_TEXT}</p>" * 30}

Rows = dict[sa.Table, list[dict[str, Any]]]


def size(bench: Bench, kits: int) -> Figures:
    """Fill a ledger with kits that were finished long ago, blank them, and move them."""
    with fresh_ledger(bench.postgresql) as db:
        _tidy(db)
        before = _bytes(db, *TABLES)
        for first in range(0, kits, AT_ONCE):
            _write(db, range(first, min(first + AT_ONCE, kits)))
        _tidy(db)
        live = (_bytes(db, *TABLES) - before) / kits
        for table in TABLES:
            say(f"{table.name}: {_bytes(db, table) / kits:,.0f} bytes a kit")
        started = time.perf_counter()
        retention.purge(db, QUIET)
        with db.write() as connection:  # the provider has deleted its texts
            connection.execute(attempts.update().values(erase_at=None))
        say(f"blanked in {time.perf_counter() - started:.1f} s")
        started = time.perf_counter()
        turn = ledger_history.in_turns(db, QUIET, KEPT, lambda: True)
        seconds = time.perf_counter() - started
        _tidy(db)
        finished = _bytes(db, history, history_names) / turn.moved
        for table in (history, history_names):
            say(f"{table.name}: {_bytes(db, table) / turn.moved:,.0f} bytes a kit")
        back = [_bring_back(db, number) for number in range(100)]
    say(f"{turn.moved:,} of {kits:,} kits moved in {seconds:.1f} s")
    return {
        "kits": kits,
        "live_bytes": round(live),
        "finished_bytes": round(finished),
        "move_1000_seconds": round(seconds / turn.moved * 1000, 2),
        "back_ms": round(statistics.median(back), 1),
    }


def _bring_back(db: Database, number: int) -> float:
    started = time.perf_counter()
    with db.write() as connection:
        if not ledger_history.bring_back(connection, {f"A-{number:07}"}):
            raise AssertionError("a kit is not in history")
    return (time.perf_counter() - started) * 1000


def _bytes(db: Database, *tables: sa.Table) -> int:
    """With their indexes and what is stored beside them."""
    names = ", ".join(f"pg_total_relation_size('{table.name}')" for table in tables)
    with db.read() as connection:
        return int(sum(connection.exec_driver_sql(f"SELECT {names}").one()))


def _tidy(db: Database) -> None:
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")


def _write(db: Database, numbers: range) -> None:
    made: Rows = defaultdict(list)
    for number in numbers:
        for table, row in _kit(number):
            made[table].append(row)
    with db.write() as connection:
        for table in TABLES:
            if made[table]:
                connection.execute(table.insert(), made[table])


def _kit(number: int) -> Iterator[tuple[sa.Table, dict[str, Any]]]:
    """The rows of a finished kit."""
    order, kit = str(uuid.uuid4()), str(uuid.uuid4())
    began = datetime.now(UTC) - OLD + timedelta(seconds=number)
    names = {
        "order": (order, order, f"A-{number:07}", f"AB{number:09}GB"),
        "test_registration": (kit, kit, f"LML-{kit[:8]}", f"CLINIC-{number:07}"),
    }
    for resource, (subject, *called) in names.items():
        row = {"subject": subject, "resource": resource, "round": 0, "created_at": began}
        yield journeys, {**row, "order_subject": order if subject == kit else None}
        for name in called:
            yield aliases, {"resource": resource, "alias": name, "subject": subject}
    for event, field, day, told in STEPS:
        at = began + timedelta(days=day, seconds=len(event))
        subject = order if field == _ORDERS else kit
        yield from _event(event, {field: subject}, at, told)


def _event(
    name: str, data: dict[str, str], at: datetime, told: tuple[Any, ...]
) -> Iterator[tuple[sa.Table, dict[str, Any]]]:
    id_, (subject,) = _id("evt", at), data.values()
    facts = samples.full("Jane").to_json()
    reason = "Its condition was not met: registration.status in ['fail', 'processing_error']."
    row = {"id": id_, "name": name, "subject": subject, "round": 0, "data": data, "named": subject}
    row |= {"identity": _hash(id_), "status": "processed", "facts": facts, "person": "smith jane"}
    row |= {"decisions": [{"rule": "desk-retest", "reason": reason, "is_final": False}]}
    row |= {"received_at": at, "processed_at": at + timedelta(seconds=1), "tries": 1}
    yield events, row | {"next_at": at, "tried_at": at}
    for rule, role, channels in told:
        for channel in channels:
            address = f"+4477{_hash(subject)[:8]}" if channel == "sms" else f"{subject}@example.org"
            who = (rule, subject, 0, role)
            message = _id("msg", at)
            content = {"text": _TEXT} if channel == "sms" else _EMAIL
            row = {"id": message, "event_id": id_, "rule": rule, "template": rule, "role": role}
            row |= {"subject": subject, "round": 0, "channel": channel, "address": address}
            row |= {"identity": identity(*who, channel, address), "obligation": obligation(*who)}
            row |= {"status": "delivered", "attempts": 1, "tries": 1, "urgency": 1, "due_at": at}
            row |= {"created_at": at, "sent_at": at + timedelta(seconds=2), "content": content}
            row |= {"delivered_at": at + timedelta(seconds=9), "segments": 1}
            yield notifications, row | {"provider_id": f"SM{uuid.uuid4().hex}"}
            attempt = uuid.uuid4().hex
            row = {"id": attempt, "notification_id": message, "channel": channel}
            row |= {"outcome": "accepted", "provider_id": f"SM{uuid.uuid4().hex}", "looks": 0}
            row |= {"started_at": at + timedelta(seconds=2), "begun_at": at + timedelta(seconds=2)}
            yield attempts, row | {"finished_at": at + timedelta(seconds=2.3)}
            heard = ((4, "sent"), (9, "delivered")) if channel == "sms" else ((9, "delivered"),)
            for seconds, word in heard:
                row = {"id": _id("rcp", at), "digest": _hash(attempt + word), "state": word}
                row |= {"attempt_id": attempt, "word": word}
                yield receipts, row | {"received_at": at + timedelta(seconds=seconds)}


def _id(prefix: str, at: datetime) -> str:
    return f"{prefix}_{int(at.timestamp() * 1000):012x}{uuid.uuid4().hex[:16]}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
