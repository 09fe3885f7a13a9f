"""Counts of a day: its messages by channel and status, and the segments of its texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.ledger.database import Database, first_id
from relay.ledger.notifications import IS_KEPT
from relay.ledger.schema import INSERTS, attempts, days, events, notifications
from relay.rules.channels import CHANNEL_NAMES
from relay.rules.statuses import FAILED

DAYS = 30  # that the desk shows
# A day is recounted every hour while receipts come, then daily: a text may wait for weeks.
LIVELY, HOUR = timedelta(days=4), timedelta(hours=1)
# A busy day shows the last sweep's count, if that is recent.
BUSY, BRIEF, JUST_NOW = 20_000, timedelta(seconds=25), timedelta(minutes=2)
_ONE_DAY = timedelta(days=1)
_PARTS = 4  # kept for a day: the fields of Tally, without `counted_at`
KEPT = "kept"  # the status of messages that count as sent but went to nobody, in a dry run
SLACK = timedelta(minutes=10)  # between the process's clock in an event's id and received_at


class Count(NamedTuple):
    """Messages of one channel and status that were planned on a day, or were tried on it."""

    channel: str
    status: str  # of notifications, or KEPT
    messages: int
    out: int  # those of them that a provider accepted
    segments: int  # of those that were accepted


class Ended(NamedTuple):
    """Attempts of one channel that began on a day and ended with one final outcome."""

    channel: str
    outcome: str  # accepted, rejected
    attempts: int


class Day(NamedTuple):
    """A day of the clinic's calendar: 23 to 25 hours."""

    day: date
    begins: datetime
    ends: datetime


class Tally(NamedTuple):
    """The counts of a day: events by status, the messages planned on it, while it lasts those that
    went out or failed on it, and its attempts.
    """

    events: Mapping[str, int]
    messages: Sequence[Count]
    counted_at: datetime
    tried: Sequence[Count] = ()
    ended: Sequence[Ended] = ()


class Totals(NamedTuple):
    """The counts of all days together, of things that never become fewer."""

    events: int
    messages: Mapping[str, int]  # planned, by channel
    attempts: Mapping[tuple[str, str], int]  # by channel and outcome


def last_days(zone: ZoneInfo, now: datetime, many: int = DAYS) -> Iterator[Day]:
    """Yield the last `many` days in the clinic's time zone; the last is today."""
    today = now.astimezone(zone).date()
    for back in reversed(range(many)):
        yield day_of(today - back * _ONE_DAY, zone)


def day_of(day: date, zone: ZoneInfo) -> Day:
    """A calendar day in the clinic's time zone. Raises OverflowError."""
    begins, ends = (datetime.combine(d, time(), zone) for d in (day, day + _ONE_DAY))
    return Day(day, begins.astimezone(UTC), ends.astimezone(UTC))


def today(connection: Connection, day: Day, now: datetime) -> Tally:
    """Count a day that is not over yet, or return the kept count of a busy one."""
    row = kept(connection, [day]).get(day.day)
    many = max(_many(row.messages), _many(row.tried)) if row else 0
    if row and many > BUSY and row.counted_at > now - JUST_NOW:
        return row
    return count(connection, day, now)


def _many(counts: Sequence[Count]) -> int:
    return sum(one.messages for one in counts)


def count(connection: Connection, day: Day, now: datetime) -> Tally:
    """Count a day as it is now."""
    given = {
        "begins": day.begins,
        "ends": day.ends,
        "first": first_id("evt", day.begins - SLACK),
        "last": first_id("evt", day.ends + SLACK),
    }
    messages = [Count(*row) for row in connection.execute(_planned(), given)]
    coming = {name: many for name, many in connection.execute(_came(), given)}
    queries = _tried() if now < day.ends else ()
    tried = [Count(*row) for query in queries for row in connection.execute(query, given)]
    ended = [Ended(*row) for row in connection.execute(_ended(), given)]
    return Tally(coming, messages, now, tried, ended)


# Queries for the day from `begins` to `ends`. The clock runs all of them at each sweep.


@cache
def _planned() -> sa.Select[Any]:
    return by_status(sa.func.count()).where(*_within(notifications.c.created_at))


@cache
def _came() -> sa.Select[Any]:
    of_the_day = (
        events.c.id >= sa.bindparam("first"),
        events.c.id < sa.bindparam("last"),
        *_within(events.c.received_at),
    )
    query = sa.select(events.c.status, sa.func.count())
    return query.where(*of_the_day).group_by(events.c.status)


@cache
def _ended() -> sa.Select[Any]:
    table = attempts.c
    tried = (table.channel.in_(CHANNEL_NAMES), *_within(table.started_at))
    query = sa.select(table.channel, table.outcome, sa.func.count())
    is_over = table.outcome.in_(("accepted", "rejected"))
    return query.where(*tried, is_over).group_by(table.channel, table.outcome)


@cache
def _tried() -> tuple[sa.Select[Any], ...]:
    """Queries for the messages that went out on a day, and those that failed on it and never went
    out, tried in vain or not at all.
    """
    table, tries = notifications.c, attempts.c
    failed = (table.status.in_(FAILED), table.sent_at.is_(None))
    in_vain = tries.outcome.in_(("rejected", "unknown"))  # few: a join of all reads them all
    return (
        by_status(sa.func.count()).where(*_within(table.sent_at)),
        by_status(sa.func.count(table.id.distinct()))
        .join_from(attempts, notifications, table.id == tries.notification_id)
        .where(tries.channel.in_(CHANNEL_NAMES), *_within(tries.started_at), in_vain, *failed),
        by_status(sa.func.count()).where(*_within(table.created_at), table.attempts == 0, *failed),
    )


def by_status(many: sa.ColumnElement[int]) -> sa.Select[Any]:
    """A query for the values of `Count`, grouped by channel and status."""
    table = notifications.c
    is_out = sa.and_(table.sent_at.is_not(None), ~IS_KEPT)
    stands = sa.case((sa.and_(table.status == "sent", IS_KEPT), KEPT), else_=table.status)
    return (
        sa.select(
            table.channel,
            stands.label("stands"),
            many,
            sa.func.count().filter(is_out),
            sa.func.sum(sa.case((is_out, table.segments), else_=0)),
        )
        .group_by(table.channel, "stands")
        .order_by(table.channel, "stands")
    )


def keep(db: Database, zone: ZoneInfo, now: datetime) -> int:
    """Count the days whose row is missing or out of date; return how many there were.

    It owns its transactions: counting may take seconds, which must not hold up writers.
    """
    with db.read() as connection:
        came = connection.scalar(sa.select(events.c.received_at).order_by(events.c.id).limit(1))
        planned = connection.scalar(sa.select(sa.func.min(notifications.c.created_at)))
        # There is nothing to count before the ledger's first row.
        wanted = [d for d in last_days(zone, now) if d.ends > min(came or now, planned or now, now)]
        seen = {row.day: row for row in connection.execute(days.select().where(_among(wanted)))}
        # A day counted by a version that counts fewer things is out of date.
        known = {day: row.counted_at for day, row in seen.items() if len(row.counts) == _PARTS}
        rows = [
            {
                "day": day.day.isoformat(),
                "counts": [found.events, found.messages, found.tried, found.ended],
                "counted_at": now,
                "was": seen[name].counted_at if (name := day.day.isoformat()) in seen else None,
            }
            for day in wanted
            if _is_stale(day, known.get(day.day.isoformat()), now)
            for found in [count(connection, day, now)]
        ]
    if rows:
        with db.write() as connection:
            insert = INSERTS[connection.dialect.name](days)
            new = {name: insert.excluded[name] for name in ("counts", "counted_at")}
            # Do not overwrite another process's newer count: a total never becomes less.
            is_same = days.c.counted_at == sa.bindparam("was", type_=days.c.counted_at.type)
            update = {"index_elements": ["day"], "set_": new, "where": is_same}
            connection.execute(insert.on_conflict_do_update(**update), rows)
    return len(rows)


def _is_stale(day: Day, counted_at: datetime | None, now: datetime) -> bool:
    if counted_at is None:
        return True
    if now < day.ends:
        return counted_at < now - BRIEF
    if counted_at < day.ends:
        return True
    return counted_at < now - (HOUR if now < day.ends + LIVELY else _ONE_DAY)


def kept(connection: Connection, wanted: Iterable[Day]) -> Mapping[date, Tally]:
    """The tallies of these days, as far as they have been counted."""
    return {
        date.fromisoformat(row.day): tally(row.counts, row.counted_at)
        for row in connection.execute(sa.select(days).where(_among([*wanted])))
    }


def tally(counts: list[Any], counted_at: datetime) -> Tally:
    """A tally as it was kept, perhaps by a version that counted fewer things."""
    came, planned, tried, ended = (counts + [[]] * _PARTS)[:_PARTS]
    messages, gone = ([Count(*one) for one in some] for some in (planned, tried))
    return Tally(came, messages, counted_at, gone, [Ended(*one) for one in ended])


def totals(connection: Connection) -> Totals:
    """The counts of all days, as the clock kept them within the last half minute."""
    events, planned, ended = 0, Counter[str](), Counter[tuple[str, str]]()
    for row in connection.execute(days.select()):
        day = tally(row.counts, row.counted_at)
        events += sum(day.events.values())
        for message in day.messages:
            planned[message.channel] += message.messages
        for one in day.ended:
            ended[one.channel, one.outcome] += one.attempts
    return Totals(events, planned, ended)


def _within(moment: sa.Column[Any]) -> tuple[sa.ColumnElement[bool], ...]:
    return moment >= sa.bindparam("begins"), moment < sa.bindparam("ends")


def _among(wanted: list[Day]) -> sa.ColumnElement[bool]:
    return days.c.day.in_([one.day.isoformat() for one in wanted])
