"""Telling staff: one alert of a kind of case in a quarter of an hour, whatever opens in it.

The first goes out at once. Of what opens within a quarter of an hour after it another one tells,
once that is over, unless staff have closed all of it by then. What is urgent waits for no other.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay import fault_injection
from relay.ledger.database import now
from relay.ledger.notifications import insert_notices
from relay.ledger.schema import notifications
from relay.rules.model import Case
from relay.rules.statuses import ALERT, WAITING

QUARTER = 900.0  # seconds
GATHERED = "Staff have just had an alert of this kind. This one tells of all that has come since."
_LOCK = 7_236_842  # the first half of an advisory lock; the other is a kind's
_table = notifications.c
# When an alert was told: while it is being sent, in a moment.
_TOLD_AT = sa.func.coalesce(
    _table.sent_at, _table.lease_until, _table.due_at, type_=_table.due_at.type
)


def plan(connection: Connection, case: Case, case_id: str) -> None:
    """Plan the alerts about a case that has just been opened, unless one that waits tells of it."""
    if not case.alerts:
        return
    rule, role = case.alerts[0].rule, case.alerts[0].role
    if connection.dialect.name == "postgresql":  # two that open at once must not both be the first
        lock = sa.func.pg_advisory_xact_lock(_LOCK, zlib.crc32(rule.encode()) - 2**31)
        connection.execute(sa.select(lock))
    # Locked: who claims it meanwhile would not count this case yet.
    last = connection.execute(_last(rule, role).with_for_update()).first()
    if case.is_urgent:
        last = None
    if last and last.status in WAITING:
        return
    alerts = [replace(alert, key=case_id) for alert in case.alerts]
    if last and last.is_recent:
        due_at = last.told_at + timedelta(seconds=fault_injection.hastened(QUARTER))
        later = {"due_at": due_at, "status": "scheduled", "reason": GATHERED}
        alerts = [replace(alert, **later) for alert in alerts]
    insert_notices(connection, case.event_id, alerts, case_id=case_id)


def _last(rule: str, role: str) -> sa.Select[Any]:
    """A query for the last alert of a kind to a group that was not called off."""
    quarter_ago = now(-fault_injection.hastened(QUARTER))
    is_recent = (quarter_ago < _TOLD_AT).label("is_recent")
    return (
        sa.select(_table.status, _TOLD_AT.label("told_at"), is_recent)
        .where(_table.kind == ALERT, _table.rule == rule, _table.role == role)
        .where(_table.status != "cancelled")
        .order_by(_table.id.desc())
        .limit(1)
    )


def had_to_wait(connection: Connection, alert_id: str) -> bool:
    """Whether an alert did not go out at once, since another of its kind had just gone out."""
    query = sa.select(_table.rule, _table.role, _table.case_id, _table.created_at)
    mine = connection.execute(query.where(_table.id == alert_id)).one()
    others = _table.id < alert_id, _table.case_id != mine.case_id
    before = connection.execute(_last(mine.rule, mine.role).where(*others)).first()
    quarter = timedelta(seconds=fault_injection.hastened(QUARTER))
    return before is not None and before.told_at > mine.created_at - quarter
