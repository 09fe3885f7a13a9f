"""What the messages of a day have come to, by channel and status, and what the texts cost.

A month of messages is too much to count at each look at the desk. So each day of it is a row, which
the sweep writes; only the day that it is now is counted when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from relay.ledger.database import Database
from relay.ledger.household import days
from relay.ledger.schema import INSERTS, events, notifications, quarantine

DAYS = 30  # that are kept in sight
# A day is counted anew every hour while receipts come, then daily: a text may wait for weeks.
LIVELY, HOUR = timedelta(days=4), timedelta(hours=1)
_ONE_DAY = timedelta(days=1)
_CLOCKS_DIFFER = timedelta(minutes=10)  # an event's id has the web process's clock in it


class Count(NamedTuple):
    """Messages of one channel and status that were planned on a day."""

    channel: str
    status: str
    messages: int
    out: int  # of them, those that a provider took
    segments: int  # of those


class Day(NamedTuple):
    """A day of the clinic's calendar: 23 to 25 hours."""

    day: date
    begins: datetime
    ends: datetime


def last_days(zone: ZoneInfo, now: datetime, many: int = DAYS) -> Iterator[Day]:
    """The last days where the clinic is, today the last of them."""
    today = now.astimezone(zone).date()
    for back in reversed(range(many)):
        day = today - back * _ONE_DAY
        begins, ends = (datetime.combine(d, time(), zone) for d in (day, day + _ONE_DAY))
        yield Day(day, begins.astimezone(UTC), ends.astimezone(UTC))


def count(db: Database, day: Day) -> list[Count]:
    """A day's messages, as they are now."""
    table = notifications.c
    taken = sa.case((table.sent_at.is_not(None), table.segments), else_=0)
    query = (
        sa.select(
            *(table.channel, table.status),
            *(sa.func.count(), sa.func.count(table.sent_at), sa.func.sum(taken)),
        )
        .where(table.created_at >= day.begins, table.created_at < day.ends)
        .group_by(table.channel, table.status)
        .order_by(table.channel, table.status)
    )
    with db.read() as connection:
        return [Count(*row) for row in connection.execute(query)]


def keep(db: Database, zone: ZoneInfo, now: datetime) -> int:
    """Count the past days whose row is missing or out of date; how many that was."""
    past = [*last_days(zone, now)][:-1]
    with db.read() as connection:
        asked = sa.select(days.c.day, days.c.counted_at).where(_within(past))
        kept = {row.day: row.counted_at for row in connection.execute(asked)}
    stale = [day for day in past if _is_stale(day, kept.get(day.day.isoformat()), now)]
    rows = [
        {"day": day.day.isoformat(), "counts": count(db, day), "counted_at": now} for day in stale
    ]
    if rows:
        with db.write() as connection:
            insert = INSERTS[connection.dialect.name](days)
            new = {name: insert.excluded[name] for name in ("counts", "counted_at")}
            connection.execute(insert.on_conflict_do_update(index_elements=["day"], set_=new), rows)
    return len(rows)


def _is_stale(day: Day, counted_at: datetime | None, now: datetime) -> bool:
    if counted_at is None or counted_at < day.ends:
        return True
    return counted_at < now - (HOUR if now < day.ends + LIVELY else _ONE_DAY)


def kept(db: Database, wanted: Iterable[Day]) -> Mapping[date, list[Count]]:
    """The counts of these days, of those that have been counted."""
    query = sa.select(days.c.day, days.c.counts).where(_within([*wanted]))
    with db.read() as connection:
        return {
            date.fromisoformat(row.day): [Count(*one) for one in row.counts]
            for row in connection.execute(query)
        }


def _within(wanted: list[Day]) -> sa.ColumnElement[bool]:
    return days.c.day.in_([one.day.isoformat() for one in wanted])


def events_of(db: Database, day: Day) -> Mapping[str, int]:
    """How many events came on a day, by status. By their ids: these sort by time."""
    since = int((day.begins - _CLOCKS_DIFFER).timestamp() * 1000)
    query = sa.select(events.c.status, sa.func.count()).where(
        events.c.id >= f"evt_{since:012x}",
        events.c.received_at >= day.begins,
        events.c.received_at < day.ends,
    )
    with db.read() as connection:
        found = connection.execute(query.group_by(events.c.status))
        return {status: many for status, many in found}


def quarantined(db: Database) -> int:
    """How many bodies that were refused have not become events."""
    query = sa.select(sa.func.count()).select_from(quarantine)
    with db.read() as connection:
        return int(connection.execute(query.where(quarantine.c.event_id.is_(None))).scalar_one())
