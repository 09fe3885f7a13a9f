"""The ledger's rows as tests look at them, and time that passes without waiting."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from relay.errors import Refused
from relay.lab import events
from relay.lab.events import Incoming
from relay.lab.facts import Facts
from relay.ledger import attempts, replay, unknown_attempts, workers
from relay.ledger import events as ledger_events
from relay.ledger.attempts import Claim
from relay.ledger.audit import open_to_change
from relay.ledger.database import Database
from relay.ledger.events import Event
from relay.ledger.holds import suppressions
from relay.ledger.schema import REVISION, metadata, notifications, sessions
from relay.ledger.schema import events as stored
from relay.ledger.unknown_attempts import UnknownAttempt
from relay.ledger.views import queries
from relay.ledger.worklist import cases, quarantine
from relay.rules.model import Case, Ending, Notice, Plan, Policy, Staff
from relay.rules.schedule import ALWAYS

MONTH = timedelta(days=30)
# A clinic whose desk is told what needs a person.
POLICY = Policy(
    ZoneInfo("Europe/London"), ALWAYS, {"desk": Staff({"email": ("desk@example.org",)})}, "desk"
)
T = TypeVar("T")


def rows(db: Database, table: sa.Table, **where: Any) -> list[dict[str, Any]]:
    """A table's rows, oldest key first."""
    query = table.select().filter_by(**where).order_by(*table.primary_key)
    with db.read() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def only(db: Database, table: sa.Table, **where: Any) -> dict[str, Any]:
    """The one row there is."""
    (row,) = rows(db, table, **where)
    return row


def change(db: Database, table: sa.Table, where: dict[str, Any], **values: Any) -> None:
    """Change rows behind Relay's back."""
    with db.write() as connection:
        connection.execute(table.update().filter_by(**where).values(**values))


@contextmanager
def of_revision(db: Database, revision: str) -> Iterator[None]:
    """A ledger that another version has migrated, for a while."""
    version = sa.table("alembic_version", sa.column("version_num"))

    def write(number: str) -> None:
        with db.write() as connection:
            connection.execute(version.update().values(version_num=number))

    write(revision)
    try:
        yield
    finally:
        write(REVISION)


def as_the_release_before(db: Database, *tables: sa.Table) -> None:
    """Leave what 0005 added as the release before does, which writes beside us during a deploy: by
    default. To be removed a release later, with the tests that use it.
    """
    added: dict[str, dict[str, Any]] = {
        "notifications": {
            "kind": "message",
            "digest_id": None,
            "is_kept": False,
            "stopped_by": None,
            "case_id": None,
        },
        "attempts": {"begun_at": None},
        "cases": {"about": None},
    }
    for table in tables or (notifications, metadata.tables["attempts"], metadata.tables["cases"]):
        change(db, table, {}, **added[table.name])


def close_case(db: Database, case_id: str, by: str, note: str = "") -> bool:
    """Take a case off the worklist, as if somebody had on the desk."""
    with db.write() as connection:
        return cases.close_case(connection, case_id, by, note)


def open_cases(db: Database, kind: str = "") -> list[Mapping[str, Any]]:
    """The worklist."""
    with db.read() as connection:
        return cases.open_cases(connection, kind)


def messages(db: Database, after: str = "", limit: int = 100) -> list[Mapping[str, Any]]:
    """Notifications with words and addresses, by id."""
    with db.read() as connection:
        return queries.messages(connection, after, limit)


def unfinished(db: Database) -> int:
    """How much is not processed or not sent yet."""
    with db.read() as connection:
        return queries.unfinished(connection)


def replay_event(db: Database, event_id: str) -> bool:
    """Have an event processed again, as `flask relay replay` does."""
    with db.write() as connection:
        return replay.replay_event(connection, event_id)


def replay_notification(db: Database, notification_id: str) -> bool:
    """Have a message sent again, as `flask relay replay` does."""
    with db.write() as connection:
        return replay.replay_notification(connection, notification_id)


def suppress(db: Database, channel: str, address: str, source: str) -> bool:
    """Send nothing more to an address."""
    with db.write() as connection:
        return suppressions.suppress(connection, channel, address, source)


def keep_refused(db: Database, body: bytes, refused: Refused) -> str:
    """A body that the webhook has refused; its id in quarantine."""
    with db.write() as connection:
        return quarantine.keep_refused(connection, body, refused)


def beat(db: Database, name: str) -> None:
    """A worker says that it is alive."""
    with db.write() as connection:
        workers.beat(connection, name)


CHANGES_THE_TRAIL = "SET LOCAL relay.erases = 'yes'"  # which PostgreSQL refuses else


def empty(db: Database) -> None:
    """Take all rows out of the ledger, those of the trail as well."""
    with db.write() as connection:
        open_to_change(connection)
        for table in reversed(metadata.sorted_tables):
            connection.execute(table.delete())


def time_passes(db: Database, by: timedelta) -> None:
    """Move every time in the ledger back, as if `by` had gone by; by nothing, they stay. Whoever is
    logged in stays so.
    """
    if not (seconds := by.total_seconds()):
        return
    moved = [
        f"UPDATE {table.name} SET " + ", ".join(_earlier(db, name, seconds) for name in times)  # noqa: S608
        for table in metadata.sorted_tables
        if table is not sessions
        and (times := [c.name for c in table.c if isinstance(c.type, sa.types.TypeDecorator)])
    ]
    with db.write() as connection:
        # SQLite takes one statement at a time, PostgreSQL all of them in one call.
        for statement in moved if db.is_sqlite else ["; ".join((CHANGES_THE_TRAIL, *moved))]:
            connection.exec_driver_sql(statement)


def _earlier(db: Database, column: str, seconds: float) -> str:
    if db.is_sqlite:
        return f"{column} = strftime('%Y-%m-%d %H:%M:%f000', {column}, '{-seconds} seconds')"
    return f"{column} = {column} - interval '{seconds} seconds'"


def at_once(work: Callable[[int], T], threads: int = 10) -> list[T]:
    """What `threads` threads get that start at the same moment."""
    gate = threading.Barrier(threads)

    def run(number: int) -> T:
        gate.wait(10)
        return work(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


def incoming(name: str = "order.shipped", **data: Any) -> Incoming:
    """An event as the webhook's parser gives it."""
    data = data or {"order_id": "o-1"}
    return events.parse(json.dumps({"event": name, "data": data}).encode())


def leased(db: Database, name: str = "order.shipped", **data: Any) -> Event:
    """An event that has come in and that this worker has leased."""
    ledger_events.record_webhook(db, incoming(name, **data), MONTH)
    (event,) = ledger_events.lease_events(db, 1)
    return event


def notice(**fields: Any) -> Notice:
    """A notice that is due now."""
    return Notice(
        **{
            **{"rule": "kit-shipped", "template": "kit_shipped", "subject": "o-1", "round": 0},
            **{"role": "customer", "channel": "sms", "address": "+447700900001"},
            **{"status": "created", "reason": "", "urgency": 0},
            "due_at": datetime.now(UTC) - timedelta(minutes=1),
            **fields,
        }
    )


def settled(db: Database, event: Event, *notices: Notice) -> list[str]:
    """Process an event about order o-1; the ids of the new notifications."""
    facts = Facts(order={"id": "o-1"})
    with db.write() as connection:
        return ledger_events.plan_and_mark_processed(
            connection, event, facts, lambda _kit: Plan(notices)
        )


def planned(db: Database, *notices: Notice) -> list[str]:
    """Notifications of one processed event; their ids, in the notices' order."""
    event = leased(db, order_id=f"o-{len(rows(db, stored)) + 1}")
    settled(db, event, *notices)
    return [only(db, notifications, identity=one.identity)["id"] for one in notices]


def claimed(db: Database, **fields: Any) -> Claim:
    """A notification that this worker has claimed."""
    planned(db, notice(**fields))
    (claim,) = attempts.claim(db, fields.get("channel", "sms"), 10)
    return claim


def unknown(db: Database, **fields: Any) -> Claim:
    """A notification that was begun, and of which nobody knows whether it went out."""
    claim = claimed(db, **fields)
    assert attempts.begin(db, claim, {"text": "Your kit …"})
    assert attempts.finish(db, claim, Ending("unknown", "unknown", "Twilio did not answer."))
    return claim


def looked(db: Database, after: float = 120.0) -> UnknownAttempt:
    """The unknown attempt that this worker looks for once `after` seconds have gone by."""
    time_passes(db, timedelta(seconds=after + 1))
    (look,) = unknown_attempts.lease_unknown(db, 10)
    return look


def resent(db: Database, **fields: Any) -> tuple[Claim, Claim]:
    """A notification's two attempts: one unknown and not found, and the one in flight."""
    first = unknown(db, **fields)
    look = looked(db, attempts.LOOKS[first.channel][0])
    reason = "The provider has no record of it, so Relay is sending it again."
    with db.write() as connection:
        assert unknown_attempts.give_up_unknown(connection, look, reason, None)
    (second,) = attempts.claim(db, first.channel, 10)
    return first, second


def case(kind: str = "unreached", key: str = "k-1", event_id: str = "", *alerts: Notice) -> Case:
    """Something that staff have to see to."""
    return Case(kind, key, "o-1", "Nobody was reached.", event_id, None, alerts)
