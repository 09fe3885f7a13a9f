"""The stop button: people stop all messages, a channel's or a rule's, and resume them.

Once a stop is committed, no message that it covers is handed over. Waiting ones are then held, a
few rows at a time; the sweep holds the rest, and any that another worker puts back meanwhile.
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

HOUR = timedelta(hours=1)  # how far back a rule's latest messages go
_table = notifications.c


def stop(db: Database, what: str, by: str, reason: str) -> bool:
    """Make the stop with a name such as "channel sms"; return False if it is in force already. It
    owns its transactions: the first commits the stop, and others hold the messages that wait.
    """

    def put_down(connection: Connection) -> bool:
        insert = INSERTS[connection.dialect.name](halts).values(
            what=what, actor=by[:100], reason=reason[:500], since=now()
        )
        new = connection.execute(insert.on_conflict_do_nothing().returning(halts.c.what)).first()
        keep(connection, Act(by, STOP, what, reason) if new else None)
        return new is not None

    is_new = db.transact(put_down)
    apply_stops(db)
    return is_new


def resume(db: Database, what: str, by: str, *, drop: bool = False) -> int | None:
    """End a stop, and resume the messages that waited for this, or `drop` them; return how many
    were dropped, or None if no such stop is in force. Messages that another stop also covers stay
    held. It owns its transactions, a few rows each.
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
    apply_stops(db)
    return dropped


def apply_stops(db: Database) -> None:
    """Hold messages that are stopped, and resume those that no longer are. It owns its
    transactions, a few rows each.
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
    """Cancel a rule's messages of the last hour that have not left; return how many there were. It
    owns its transactions, a few rows each.
    """
    why = f"Cancelled by {by}, with all messages of the rule's last hour: {reason}"
    done = _cancel_all(db, by, why, is_of(f"{RULE} {rule}"), _table.created_at > ago(HOUR))
    with db.write() as connection:
        keep(connection, Act(by, CANCEL, f"{RULE} {rule}", f"{done}: {reason}"))
    return done


def _cancel_all(db: Database, by: str, reason: str, *which: sa.ColumnElement[bool]) -> int:
    """Cancel for good, as a person's decision, messages that have not left; return how many."""
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
    """Cancel locked messages; return the ids of those that had not left."""
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
