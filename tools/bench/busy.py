"""A busy morning: many reminders are scheduled, many texts went out today, and a backlog is due.

Claims are timed with all of that there. Then one, two and four workers send a backlog each, and two
workers another through PgBouncer.
"""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from relay.ledger import attempts
from relay.ledger.database import Database
from relay.ledger.holds.allowances import Cap
from relay.rules.schedule import midnight
from tests.servers import pgbouncer
from tools.bench import servers
from tools.bench.measure import (
    Bench,
    Figures,
    await_sent,
    fill,
    fill_tables,
    fresh_ledger,
    rate,
    say,
)
from tools.bench.scale import milliseconds

SCHEDULED, SENT, BACKLOG = 300_000, 150_000, 1500
CHUNK, LIMIT = 50_000, 10_000_000  # the limit of tools/bench/config.toml
_ID = "lpad(to_hex(n), 12, '0') || left(md5(n::text), 16)"
_EVENTS = f"""
INSERT INTO events (id, name, identity, data, status, received_at, subject, facts, processed_at)
SELECT 'evt_' || {_ID}, 'order.shipped', md5('i' || n::text), '{{"order_id": "1"}}'::json,
       'processed', now() - interval '1 hour', md5('s' || n::text),
       '{{"order": {{"id": "1"}}}}'::json, now() - interval '1 hour'
FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) n
"""
_NOTIFICATIONS = f"""
INSERT INTO notifications (id, event_id, rule, template, subject, role, channel, address, identity,
  family, status, due_at, created_at, sent_at, attempts, urgency, waits_for)
SELECT 'msg_' || {_ID}, 'evt_' || {_ID}, 'kit-shipped', 'kit_shipped', md5('s' || n::text),
       'customer', 'sms', '+447700900000', md5('n' || n::text), md5('f' || n::text),
       CASE WHEN n > :sent THEN 'scheduled' ELSE 'sent' END,
       CASE WHEN n > :sent THEN now() + (1 + n % 20) * interval '1 day' ELSE now() END,
       now(), CASE WHEN n > :sent THEN NULL ELSE now() END, 1, n % 6,
       CASE WHEN n > :sent AND n % 2 = 0 THEN 'lab' END
FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) n
"""
_ATTEMPTS = f"""
INSERT INTO attempts (id, notification_id, channel, outcome, provider_id, started_at, looks)
SELECT md5('a' || n::text), 'msg_' || {_ID}, 'sms', 'accepted', 'SM' || md5(n::text), now(), 0
FROM generate_series(CAST(:first AS bigint), least(CAST(:last AS bigint), :sent)) n
"""
_FILLING = tuple(one.replace(":sent", str(SENT)) for one in (_EVENTS, _NOTIFICATIONS, _ATTEMPTS))


def busy(bench: Bench) -> Figures:
    """Milliseconds a claim takes, and messages a second, on a busy morning's ledger."""
    with fresh_ledger(bench.postgresql) as db:
        fill_tables(db, _FILLING, SCHEDULED + SENT, CHUNK)
        told = {"none_ms": _claim_ms(db, 0), "claim_ms": _claim_ms(db, 24)}
        say(f"a claim of 24 takes {told['claim_ms']} ms, one of nothing {told['none_ms']} ms")
        for count in (1, 2, 4):
            told[f"rate_{count}"] = _rate(bench, db, bench.postgresql, count)
        with pgbouncer(bench.postgresql, sessions=20) as through:
            told["rate_pooled"] = _rate(bench, db, through, 2)
    return {**told, "pooled_ratio": told["rate_pooled"] / told["rate_2"]}


def _claim_ms(db: Database, due: int) -> float:
    """The median of a claim of all that is `due`, within the day's limit; it is put back then."""
    cap = Cap(LIMIT, midnight(datetime.now(UTC), ZoneInfo("Europe/London")))
    _due(db, due)
    took = milliseconds(lambda: attempts.claim(db, "sms", 24, cap), 20, after=lambda: _due(db, due))
    _due(db, 0)
    return took


def _due(db: Database, count: int) -> None:
    """So many of the reminders that need no look at the lab are due, and no others."""
    with db.write() as connection:
        connection.execute(
            sa.text(
                "UPDATE notifications SET status = 'scheduled', lease_until = NULL,"
                " due_at = now() + interval '1 day' WHERE status = 'sending' OR"
                " (status = 'scheduled' AND due_at < now())"
            )
        )
        connection.execute(
            sa.text(
                "UPDATE notifications SET due_at = now() - interval '1 second' WHERE id IN ("
                "SELECT id FROM notifications WHERE status = 'scheduled' AND waits_for IS NULL"
                " LIMIT :count)"
            ),
            {"count": count},
        )


def _rate(bench: Bench, db: Database, ledger: str, workers: int) -> float:
    """Messages a second that so many workers send, of a backlog of events."""
    servers.get(f"{bench.standins}/reset")
    fill(db, BACKLOG)
    with ExitStack() as stack:
        for _ in range(workers):
            stack.enter_context(servers.worker(bench.environ(ledger)))
        found = rate(await_sent(bench, BACKLOG, 180))
    say(f"{workers} workers: {found:.0f} messages/s")
    return found
