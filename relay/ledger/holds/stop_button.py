"""The stop button: people stop all messages, a channel's or a rule's, and let them go on.

From the commit of a stop nothing of it is handed over. What waits is then held, some rows at a
time; the sweep does what is left, and what another worker has put back meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.ledger.attempts import record_outcome
from relay.ledger.audit import CANCEL, RESUME, STOP, Act, keep
from relay.ledger.database import Database, ago, now
from relay.ledger.holds import halts as ledger_halts
from relay.ledger.holds.halts import RULE, WAITS, is_halted, is_of, standing
from relay.ledger.schema import INSERTS, IS_WAITING, attempts, halts, notifications
from relay.rules.model import Ending
from relay.rules.statuses import WAITING

HOUR = timedelta(hours=1)  # a rule's latest messages are those of the last
_table = notifications.c


def stop(db: Database, what: str, by: str, reason: str) -> bool:
    """Stop all that has a name such as "channel sms"; False where that is stopped already. It owns
    its transactions: the stop holds from the first, and what waits is held in others.
    """

    def put_down(connection: Connection) -> bool:
        insert = INSERTS[connection.dialect.name](halts).values(
            what=what, actor=by[:100], reason=reason[:500], since=now()
        )
        new = connection.execute(insert.on_conflict_do_nothing().returning(halts.c.what)).first()
        keep(connection, Act(by, STOP, what, reason) if new else None)
        return new is not None

    is_new = db.transact(put_down)
    settle(db)
    return is_new


def resume(db: Database, what: str, by: str, *, drop: bool = False) -> int | None:
    """End a stop, and let what has waited for that go on, or `drop` it; how many were dropped. None
    where no such stop stands. What another stop holds too is left to that. It owns its
    transactions, of some rows each.
    """
    with db.read() as connection:
        found = {halt.what: halt for halt in standing(connection)}
    halt, dropped = found.pop(what, None), 0
    if halt is None:
        return None
    if drop:
        why = f"Cancelled by {by}, who resumed what {halt.actor} had stopped: {halt.reason}"
        dropped = _cancel_all(db, by, why, is_of(what), *(~is_of(other) for other in found))
    act = Act(by, RESUME, what, f"{dropped} cancelled" if drop else "")
    with db.write() as connection:
        ended = connection.execute(halts.delete().where(halts.c.what == what)).rowcount
        keep(connection, act if ended else None)
    db.in_turns(sa.select(_table.id).where(WAITS, is_of(what)), _go_on)
    settle(db)
    return dropped


def settle(db: Database) -> None:
    """Hold what is stopped, and let go what is not any more. It owns its transactions, of some rows
    each.
    """
    with db.read() as connection:
        found = standing(connection)
    for halt in found:
        db.in_turns(ledger_halts.waiting(halt), partial(ledger_halts.hold, halt=halt))
    db.in_turns(sa.select(_table.id).where(WAITS, ~is_halted()), _go_on)


def _go_on(connection: Connection, ids: Sequence[str]) -> None:
    stands = sa.case((_table.due_at <= now(), WAITING[0]), else_=_table.status)
    let_go = notifications.update().where(_table.id.in_(ids), WAITS)
    connection.execute(let_go.values(waits_for=None, reason="", status=stands))


def cancel_latest(db: Database, rule: str, by: str, reason: str) -> int:
    """Cancel a rule's messages of the last hour that have not left; how many that was. It owns its
    transactions, of some rows each.
    """
    why = f"Cancelled by {by}, with all messages of the rule's last hour: {reason}"
    done = _cancel_all(db, by, why, is_of(f"{RULE} {rule}"), _table.created_at > ago(HOUR))
    with db.write() as connection:
        keep(connection, Act(by, CANCEL, f"{RULE} {rule}", f"{done}: {reason}"))
    return done


def _cancel_all(db: Database, by: str, reason: str, *which: sa.ColumnElement[bool]) -> int:
    """Cancel what has not left, for good, as a person's decision; how many that was."""
    done: set[str] = set()
    for unsent in (IS_WAITING, sa.and_(_table.status == "sending", ~_has_begun())):
        db.in_turns(
            sa.select(_table.id).where(unsent, *which),
            lambda connection, ids: done.update(_cancel(connection, ids, by, reason)),
        )
    return len(done)


def _has_begun() -> sa.ColumnElement[bool]:
    """A condition: a worker has begun to hand over a message that is being sent."""
    this = (attempts.c.notification_id == _table.id, attempts.c.outcome == "started")
    return sa.exists().where(*this, attempts.c.begun_at.is_not(None))


def _cancel(connection: Connection, ids: Sequence[str], by: str, reason: str) -> Sequence[str]:
    """Cancel messages that are locked; the ids of those that had not left by then."""
    claimed = sa.select(attempts.c.notification_id, attempts.c.id).where(
        attempts.c.notification_id.in_(ids),
        attempts.c.outcome == "started",
        attempts.c.begun_at.is_(None),
    )
    ending = Ending("rejected", "cancelled", reason)
    for row in connection.execute(claimed).all():
        record_outcome(connection, *row, ending, ("started",))
    unsent = (_table.id.in_(ids), _table.status.in_((*WAITING, "cancelled")))
    given = {"status": "cancelled", "reason": reason[:500], "stopped_by": by[:100]}
    cancelled = notifications.update().where(*unsent).values(waits_for=None, **given)
    return connection.execute(cancelled.returning(_table.id)).scalars().all()
