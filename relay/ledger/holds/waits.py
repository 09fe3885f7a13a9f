"""Messages that wait for something to be put right, not for a time; no worker claims them.

A rule that is gone from config.toml or writes to somebody else, a provider's account that is
missing, an order that the lab has not linked yet, the lab while it does not answer, a person who is
to close a case. `waits_for` says which. So waiting uses up no tries, and nothing is cancelled that
a person has not decided to cancel.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.ledger.database import Database, now
from relay.ledger.notifications import KIND
from relay.ledger.schema import (
    IS_WAITING,
    WAITS_FOR_THE_LAB,
    cases,
    events,
    journeys,
    notifications,
)
from relay.ledger.worklist.cases import recount
from relay.rules.statuses import (
    MESSAGE,
    RECEIVED,
    WAITS_FOR_ACCOUNT,
    WAITS_FOR_LAB,
    WAITS_FOR_ORDER,
    WAITS_FOR_PERSON,
    WAITS_FOR_RULE,
)

_table = notifications.c
_WAIT_NO_MORE = "Its messages are no longer waiting."


def make_wait(
    connection: Connection, notification_id: str, what: str, case_id: str | None = None
) -> None:
    """Make a message wait for `what`: a rule, an account, an order, the lab or a person, who has to
    close the case `case_id`.
    """
    mine = sa.and_(_table.id == notification_id, IS_WAITING)
    held = {"case_id": case_id} if case_id else {}
    connection.execute(notifications.update().where(mine).values(waits_for=what, **held))


def planned(connection: Connection) -> Sequence[sa.Row[Any]]:
    """Messages planned for later, by `rule` and `role`: how `many`, and the `event_id` of one. It
    reads all of them.
    """
    query = sa.select(
        *(_table.rule, _table.role),
        sa.func.count().label("many"),
        sa.func.min(_table.event_id).label("event_id"),
    )
    return connection.execute(query.where(_PLANNED).group_by(_table.rule, _table.role)).all()


def keep_planned(db: Database, rule: str, role: str, reason: str) -> None:
    """Make messages that a rule has planned for later to a role wait for that rule. It owns its
    transactions, a few rows each.
    """
    mine = sa.select(_table.id).where(_PLANNED, _table.rule == rule, _table.role == role)
    waits = notifications.update().values(
        status="scheduled", reason=reason, waits_for=WAITS_FOR_RULE
    )
    db.in_turns(mine, lambda connection, ids: connection.execute(waits.where(_table.id.in_(ids))))


# A message that a person has to release waits for that person first.
_IS_HELD = sa.exists().where(cases.c.notification_id == _table.id, cases.c.closed_at.is_(None))
_PLANNED = sa.and_(
    *(IS_WAITING, _table.due_at > now()),
    sa.or_(_table.waits_for.is_(None), WAITS_FOR_THE_LAB),
    *(KIND == MESSAGE, ~_IS_HELD),
)


def resume_rules(db: Database, rules: Collection[tuple[str, str]]) -> int:
    """Resume messages whose rule, by (name, recipient), exists again; return how many there were.

    The cases of other rules then say how many wait. It owns its transactions, a few rows each.
    """
    waiting = sa.select(_table.rule, _table.role, sa.func.count().label("many"))
    waiting = waiting.where(_waits(WAITS_FOR_RULE)).group_by(_table.rule, _table.role)
    with db.read() as connection:
        found = connection.execute(waiting).all()
    left: dict[str, int] = {}
    resumed = 0
    for row in found:
        if (row.rule, row.role) in rules:
            mine = sa.and_(_table.rule == row.rule, _table.role == row.role)
            resumed += _resume(db, WAITS_FOR_RULE, mine)
        else:
            left[row.rule] = left.get(row.rule, 0) + row.many
    db.transact(recount, "rule", left, _WAIT_NO_MORE)
    return resumed


def cancel(connection: Connection, rule: str, reason: str) -> int:
    """Cancel messages that wait for a rule whose case a person has closed; return how many."""
    waits = sa.and_(_waits(WAITS_FOR_RULE), _table.rule == rule)
    return connection.execute(
        notifications.update()
        .where(waits)
        .values(status="cancelled", reason=reason[:500], waits_for=None)
    ).rowcount


def resume_channels(db: Database, channels: Collection[str]) -> int:
    """Resume messages on channels whose provider now has an account; return how many there were.

    The cases of other channels then say how many wait. It owns its transactions, a few rows each.
    """
    resumed = _resume(db, WAITS_FOR_ACCOUNT, _table.channel.in_(channels))
    waiting = sa.select(_table.channel, sa.func.count().label("many"))
    waiting = waiting.where(_waits(WAITS_FOR_ACCOUNT)).group_by(_table.channel)
    with db.read() as connection:
        left = {row.channel: row.many for row in connection.execute(waiting)}
    db.transact(recount, "account", left, _WAIT_NO_MORE)
    return resumed


def resume_orders(db: Database) -> int:
    """Let messages ask the lab once their kit's order is known, or their hour to learn it is over.
    It owns its transactions, a few rows each.
    """
    linked = sa.exists().where(
        journeys.c.order_subject.is_not(None),
        sa.or_(journeys.c.subject == _table.subject, journeys.c.original_subject == _table.subject),
    )
    return _resume(
        db, WAITS_FOR_ORDER, sa.or_(_table.due_at <= now(), linked), next_waits_for=WAITS_FOR_LAB
    )


def resume_held(db: Database) -> int:
    """Resume messages whose case is closed; return how many there were. It owns its transactions, a
    few rows each.
    """
    is_open = sa.exists().where(cases.c.id == _table.case_id, cases.c.closed_at.is_(None))
    return _resume(db, WAITS_FOR_PERSON, ~is_open)


def lab_answers(db: Database) -> None:
    """Resume the events that wait for the lab: they are due now, urgent ones first. It owns its
    transactions, a few rows each.
    """
    waiting = sa.and_(events.c.status == RECEIVED, events.c.waits_for == WAITS_FOR_LAB)
    let_go = events.update().values(waits_for=None, next_at=now())
    db.in_turns(
        sa.select(events.c.id).where(waiting),
        lambda connection, ids: connection.execute(let_go.where(events.c.id.in_(ids))),
    )


def _waits(what: str) -> sa.ColumnElement[bool]:
    return sa.and_(_table.waits_for == what, IS_WAITING)


def _resume(
    db: Database,
    what: str,
    *which: sa.ColumnElement[bool],
    next_waits_for: str | None = None,
) -> int:
    def let_go(connection: Connection, ids: Sequence[str]) -> None:
        # A message that waits for its order is due once its hour is over.
        due_at = sa.case((_table.due_at > now(), _table.due_at), else_=now())
        when = due_at if what == WAITS_FOR_RULE else now()
        go_on = notifications.update().values(waits_for=next_waits_for, due_at=when, reason="")
        connection.execute(go_on.where(_table.id.in_(ids)))

    return db.in_turns(sa.select(_table.id).where(_waits(what), *which), let_go)
