"""Use of a channel's daily limit, in a row that each claim adds to, so that no claim has to count.

The row may say too much, because attempts that were rejected later cost nothing. So once it lets
nothing more through, the day's attempts are counted: at once if a claim has added to it since the
last count, or some were still under way then, otherwise once a minute. This also finds messages
sent by a worker of the previous release, which has no such row and counts the day itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay import fault_injection
from relay.ledger.database import now
from relay.ledger.schema import INSERTS, allowances, attempts
from relay.rules.model import Case, DailyLimit

_ANEW = -1  # counted while some were under way: one of them may yet be rejected
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
COUNT_SECONDS = 60.0  # between two counts of a day whose limit is reached


@dataclass(frozen=True)
class Cap:
    """A limit on cost: at most `most` attempts of a channel since a moment.

    `case` makes the case that staff get when messages of an urgency wait for it.
    """

    most: int
    since: datetime
    case: Callable[[int], Case] | None = None


def allowed(connection: Connection, channel: str, cap: Cap, urgencies: list[int]) -> list[bool]:
    """Whether each message, given its urgency and place in line, may go now within a cap.

    The channel's row stays locked until the transaction ends: workers take turns.
    """
    for is_exact in (False, True):
        day = DailyLimit(cap.most, used(connection, channel, cap.since, is_exact=is_exact))
        may_go = [day.lets_through(urgency, ahead) for ahead, urgency in enumerate(urgencies)]
        if any(may_go):
            break
    return may_go


def used(connection: Connection, channel: str, since: datetime, *, is_exact: bool) -> int:
    """The number of attempts that count against a channel's limit since a moment: an upper bound,
    or with `is_exact` a count from the last minute.
    """
    given = {"by": channel, "recent": -fault_injection.hastened(COUNT_SECONDS)}
    row = connection.execute(_LOCKED, given).first()
    if row is None:
        insert = INSERTS[connection.dialect.name](allowances)
        none = insert.values(channel=channel, since=_NEVER, counted_at=now())
        connection.execute(none.on_conflict_do_nothing())
        row = connection.execute(_LOCKED, given).one()
    is_counted = row.used == row.counted and row.is_recent
    if row.since == since and (is_counted or not is_exact):
        return int(row.used)
    day = connection.execute(_SPENT, {"by": channel, "since": since}).one()
    mine = allowances.update().where(allowances.c.channel == channel)
    counted = _ANEW if day.under_way else day.spent
    values = {"since": since, "used": day.spent, "counted": counted, "counted_at": now()}
    connection.execute(mine.values(values))
    return int(day.spent)


def use(connection: Connection, channel: str, count: int) -> None:
    """Add a claim's messages to the channel's row, which it has locked."""
    connection.execute(_USING, {"by": channel, "more": count})


def spent(connection: Connection, channel: str, since: datetime) -> int:
    """Count the attempts of a channel since a moment that count towards its daily limit."""
    return int(connection.execute(_SPENT, {"by": channel, "since": since}).one().spent)


# Each statement is built once: building costs more than running.

_CHANNEL: sa.BindParameter[str] = sa.bindparam("by", type_=sa.String)
_UNDER_WAY = sa.func.count(sa.case((attempts.c.outcome == "started", 1)))
_SPENT = sa.select(sa.func.count().label("spent"), _UNDER_WAY.label("under_way")).where(
    attempts.c.channel == _CHANNEL,
    attempts.c.started_at >= sa.bindparam("since"),
    attempts.c.outcome != "rejected",
)
_IS_RECENT = allowances.c.counted_at > now(sa.bindparam("recent"))
_LOCKED = (
    sa.select(allowances, _IS_RECENT.label("is_recent"))
    .where(allowances.c.channel == _CHANNEL)
    .with_for_update()
)
_USING = (
    allowances.update()
    .where(allowances.c.channel == _CHANNEL)
    .values(used=allowances.c.used + sa.bindparam("more", type_=sa.Integer))
)
