"""What the messages of a day have come to, by channel and status, and what the texts cost.

A month of messages is too much to count at each look at the desk. So each day of it is a row, which
the sweep writes; only a day as it goes on is counted when it is asked for, unless much has come.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from relay.ledger.database import Database
from relay.ledger.household import days
from relay.ledger.schema import INSERTS, events, first_id, notifications

DAYS = 30  # that are kept in sight
# A day is counted anew every hour while receipts come, then daily: a text may wait for weeks.
LIVELY, HOUR = timedelta(days=4), timedelta(hours=1)
# Of a busy day what the last sweep counted is shown, if that was just now.
BUSY, BRIEF, JUST_NOW = 20_000, timedelta(seconds=25), timedelta(minutes=2)
_ONE_DAY = timedelta(days=1)
SLACK = timedelta(minutes=10)  # between an event's id, by a process's clock, and received_at


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


class Tally(NamedTuple):
    """What a day has come to by the time it was counted: events by status, and its messages."""

    events: Mapping[str, int]
    messages: Sequence[Count]
    counted_at: datetime


def last_days(zone: ZoneInfo, now: datetime, many: int = DAYS) -> Iterator[Day]:
    """The last days where the clinic is, today the last of them."""
    today = now.astimezone(zone).date()
    for back in reversed(range(many)):
        day = today - back * _ONE_DAY
        begins, ends = (datetime.combine(d, time(), zone) for d in (day, day + _ONE_DAY))
        yield Day(day, begins.astimezone(UTC), ends.astimezone(UTC))


def today(db: Database, day: Day, now: datetime) -> Tally:
    """A day as it goes on."""
    row = kept(db, [day]).get(day.day)
    many = sum(one.messages for one in row.messages) if row else 0
    if row and many > BUSY and row.counted_at > now - JUST_NOW:
        return row
    return count(db, day, now)


def count(db: Database, day: Day, now: datetime) -> Tally:
    """A day as it is now."""
    table = notifications.c
    taken = sa.case((table.sent_at.is_not(None), table.segments), else_=0)
    told = (
        sa.select(
            *(table.channel, table.status),
            *(sa.func.count(), sa.func.count(table.sent_at), sa.func.sum(taken)),
        )
        .where(table.created_at >= day.begins, table.created_at < day.ends)
        .group_by(table.channel, table.status)
        .order_by(table.channel, table.status)
    )
    came = (
        sa.select(events.c.status, sa.func.count())
        .where(
            events.c.id >= first_id("evt", day.begins - SLACK),
            events.c.id < first_id("evt", day.ends + SLACK),
            *(events.c.received_at >= day.begins, events.c.received_at < day.ends),
        )
        .group_by(events.c.status)
    )
    with db.read() as connection:
        messages = [Count(*row) for row in connection.execute(told)]
        return Tally({name: many for name, many in connection.execute(came)}, messages, now)


def keep(db: Database, zone: ZoneInfo, now: datetime) -> int:
    """Count the days whose row is missing or out of date; how many that was."""
    wanted = [*last_days(zone, now)]
    with db.read() as connection:
        asked = sa.select(days.c.day, days.c.counted_at).where(_within(wanted))
        known = {row.day: row.counted_at for row in connection.execute(asked)}
    rows = [
        {"day": day.day.isoformat(), "counts": [found.events, found.messages], "counted_at": now}
        for day in wanted
        if _is_stale(day, known.get(day.day.isoformat()), now)
        for found in [count(db, day, now)]
    ]
    if rows:
        with db.write() as connection:
            insert = INSERTS[connection.dialect.name](days)
            new = {name: insert.excluded[name] for name in ("counts", "counted_at")}
            connection.execute(insert.on_conflict_do_update(index_elements=["day"], set_=new), rows)
    return len(rows)


def _is_stale(day: Day, counted_at: datetime | None, now: datetime) -> bool:
    if counted_at is None:
        return True
    if now < day.ends:
        return counted_at < now - BRIEF
    if counted_at < day.ends:
        return True
    return counted_at < now - (HOUR if now < day.ends + LIVELY else _ONE_DAY)


def kept(db: Database, wanted: Iterable[Day]) -> Mapping[date, Tally]:
    """These days, of those that have been counted."""
    with db.read() as connection:
        return {
            date.fromisoformat(row.day): Tally(
                row.counts[0], [Count(*one) for one in row.counts[1]], row.counted_at
            )
            for row in connection.execute(sa.select(days).where(_within([*wanted])))
        }


def _within(wanted: list[Day]) -> sa.ColumnElement[bool]:
    return days.c.day.in_([one.day.isoformat() for one in wanted])
