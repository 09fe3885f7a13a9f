"""The worklist: each case is opened once, and stays until a person or Relay closes it.

Staff get one alert per kind of case in a quarter of an hour, however many cases open. The first
goes out at once. A second covers the cases of the next quarter of an hour, when that is over,
unless staff have closed them all. Urgent alerts wait for no other.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay import fault_injection
from relay.ledger.audit import Act, NotDone, keep
from relay.ledger.database import new_id, now
from relay.ledger.notifications import KIND, insert_notices
from relay.ledger.schema import INSERTS, IS_WAITING, audit, cases, events, notifications, watches
from relay.rules.alerts import OF_NO_KIT
from relay.rules.model import Case, case_digest
from relay.rules.statuses import (
    ALERT,
    ALIVE,
    DIGEST,
    FAILED,
    PROCESSED,
    RECEIVED,
    RELEASE,
    WAITING,
    WAITS_FOR_LAB,
)

OURS = "relay.began"  # the event for cases that open before the lab has posted any
RELAY = "relay"  # who closes cases that have settled by themselves
PASSES = "limit"  # a kind that is over at midnight: it is not opened again

# The digest of the thing that a case is about. `about` is unique among open cases, and stays when
# one is closed. The previous release (schema 0004) knows only `digest`, unique among all cases: we
# write it for that release, and read it with `about` only here. In the next release a migration
# repeats what 0005 did. Then ABOUT is `about`, and `digest`, `guessed` and `keys` go.
ABOUT: sa.ColumnElement[str] = sa.func.coalesce(cases.c.about, cases.c.digest)
_MARK = 20  # characters of `digest` that stay when a case is closed


def is_about(digest: Any) -> sa.ColumnElement[bool]:
    """A condition: a case is open, and about the thing with this digest."""
    mine = sa.or_(cases.c.about == digest, cases.c.digest == digest)  # each has an index
    return sa.and_(mine, cases.c.closed_at.is_(None))


def was_about(about: str, digest: str) -> bool:
    """Whether a case, by its ABOUT, is or was about the thing with this digest."""
    return about == digest or (about[_MARK : _MARK + 1] == ":" and about[:_MARK] == digest[:_MARK])


def was_opened_since(connection: Connection, case: Case, since: datetime) -> bool:
    """Whether a case about the same thing was opened since a moment, closed or not."""
    query = sa.select(ABOUT).where(cases.c.kind == case.kind, cases.c.opened_at >= since)
    return any(was_about(about, case.digest) for about in connection.execute(query).scalars())


def open_case(connection: Connection, case: Case) -> str:
    """Open a case and plan its alerts; return its id. If it is open already, return "" and plan
    nothing; a fault's case then has one message more.
    """
    id_ = new_id("cas")
    insert = INSERTS[connection.dialect.name](cases).values(
        id=id_,
        about=case.digest,
        digest=case.digest,
        kind=case.kind,
        subject=case.subject[:255],
        event_id=case.event_id,
        notification_id=None if case.is_fault else case.notification_id,
        reason=case.reason[:500],
        count=case.count,
        is_urgent=case.is_urgent,
        holds=case.holds,
        opened_at=now(),
    )
    # By RETURNING, here and elsewhere: an INSERT's rowcount is -1 on PostgreSQL.
    opening = insert.on_conflict_do_nothing().returning(cases.c.id)
    grown = cases.update().where(is_about(case.digest)).values(count=cases.c.count + 1)
    found = None
    while not (opened := connection.execute(opening).first()) and case.is_fault and not found:
        found = connection.execute(grown.returning(cases.c.id)).scalar()  # None: just closed
    if case.is_fault:
        mine = notifications.update().where(notifications.c.id == case.notification_id)
        connection.execute(mine.values(case_id=found or id_))
    if opened:
        _plan_alerts(connection, case, id_)
    return id_ if opened else ""


QUARTER = 900.0  # seconds between two alerts of a kind
GATHERED = "Staff have just had an alert of this kind. This one tells of all that has come since."
_LOCK = 7_236_842  # the first half of an advisory lock; the other is a kind's
_alerts = notifications.c
# When an alert went out, or will if it waits or is being sent.
_WENT_OUT_AT = sa.func.coalesce(
    _alerts.sent_at, _alerts.lease_until, _alerts.due_at, type_=_alerts.due_at.type
)


def _plan_alerts(connection: Connection, case: Case, case_id: str) -> None:
    """Plan the alerts about a case that was just opened, unless a waiting alert covers it."""
    if not case.alerts:
        return
    rule, role = case.alerts[0].rule, case.alerts[0].role
    if connection.dialect.name == "postgresql":  # of two opened at once only one is first
        lock = sa.func.pg_advisory_xact_lock(_LOCK, zlib.crc32(rule.encode()) - 2**31)
        connection.execute(sa.select(lock))
    # Locked: a worker that claimed it meanwhile would not count this case.
    last = connection.execute(_last(rule, role).with_for_update()).first()
    if case.is_urgent:
        last = None
    if last and last.status in WAITING:
        return
    alerts = [replace(alert, key=case_id) for alert in case.alerts]
    if last and last.is_recent:
        due_at = last.went_out_at + timedelta(seconds=fault_injection.hastened(QUARTER))
        later = {"due_at": due_at, "status": "scheduled", "reason": GATHERED}
        alerts = [replace(alert, **later) for alert in alerts]
    insert_notices(connection, case.event_id, alerts, case_id=case_id)


def _last(rule: str, role: str) -> sa.Select[Any]:
    """A query for the last alert of a kind to a role, leaving out cancelled ones."""
    quarter_ago = now(-fault_injection.hastened(QUARTER))
    is_recent = (quarter_ago < _WENT_OUT_AT).label("is_recent")
    return (
        sa.select(_alerts.status, _WENT_OUT_AT.label("went_out_at"), is_recent)
        .where(_alerts.kind == ALERT, _alerts.rule == rule, _alerts.role == role)
        .where(_alerts.status != "cancelled")
        .order_by(_alerts.id.desc())
        .limit(1)
    )


def had_to_wait(connection: Connection, alert_id: str) -> bool:
    """Whether an alert had to wait because another of its kind had just gone out."""
    query = sa.select(_alerts.rule, _alerts.role, _alerts.case_id, _alerts.created_at)
    mine = connection.execute(query.where(_alerts.id == alert_id)).one()
    others = _alerts.id < alert_id, _alerts.case_id != mine.case_id
    before = connection.execute(_last(mine.rule, mine.role).where(*others)).first()
    quarter = timedelta(seconds=fault_injection.hastened(QUARTER))
    return before is not None and before.went_out_at > mine.created_at - quarter


def close_case(connection: Connection, case_id: str, by: str, note: str) -> bool:
    """Close a case, in the transaction of the act about it; return False if it is closed already,
    or unknown.
    """
    return bool(_close(connection, cases.c.id == case_id, by, note))


def close_settled(connection: Connection, kind: str, key: str | Sequence[str], note: str) -> None:
    """Close any open cases of this kind and key or keys: they have settled by themselves."""
    keys = [key] if isinstance(key, str) else key
    digests = [case_digest(kind, one) for one in keys]
    mine = sa.or_(cases.c.about.in_(digests), cases.c.digest.in_(digests))  # each has an index
    _close(connection, mine, RELAY, note)


def recount(connection: Connection, kind: str, left: Mapping[str, int], note: str) -> None:
    """Update each open case of a kind with how many things it is about are left; if none is, close
    it with the note. `left` has the numbers by the case's subject.
    """
    about = sa.select(cases.c.id, cases.c.subject, cases.c.count.label("many"))
    about = about.where(cases.c.kind == kind, cases.c.closed_at.is_(None))
    for case in connection.execute(about).all():
        resize(connection, case.id, case.many, left.get(case.subject, 0), note)


def resize(connection: Connection, case_id: str, was: int, left: int, note: str) -> None:
    """Update a case with how many things it is about are left, and close it if none is; but not if
    its number is no longer what it `was`.
    """
    mine = sa.and_(cases.c.id == case_id, cases.c.count == was)
    if not left:
        _close(connection, mine, RELAY, note)
    elif left != was:
        connection.execute(cases.update().where(mine).values(count=left))


def close_reached(connection: Connection, obligation: str) -> None:
    """Close the case about somebody unreached, if a message may now reach them: one that is planned
    again may already exist, and have failed.
    """
    digest = case_digest("unreached", obligation)
    connection.execute(_REACHED, {"about_": digest, "owed": obligation})


def close_overtaken(connection: Connection, reasons: Mapping[str, str]) -> None:
    """Stop asking staff about those of these messages that failed, each with its reason: a later
    step has made them out of date. A fault's case then counts one message fewer.
    """
    table = notifications.c
    columns = (table.id, table.obligation, table.status, table.reason, table.case_id)
    failed = sa.select(*columns).where(table.id.in_(reasons), table.status.in_(FAILED))
    for row in connection.execute(failed.order_by(table.id)).all():
        why, unreached = reasons[row.id], is_about(case_digest("unreached", row.obligation))
        is_faults = row.status == "technical-failure" and row.case_id
        if _close(connection, unreached, RELAY, why) or is_faults:
            mine = notifications.update().where(table.id == row.id)
            connection.execute(mine.values(reason=f"{row.reason} {why}"[:500], case_id=None))


def close_cases_of(connection: Connection, messages: Sequence[str], note: str) -> None:
    """Close the open cases about messages that no longer need a person."""
    _close(connection, cases.c.notification_id.in_(messages), RELAY, note)


def _close(connection: Connection, which: sa.ColumnElement[bool], by: str, note: str) -> int:
    return connection.execute(_closing(which, by, note)).rowcount


def _closing(which: sa.ColumnElement[bool], by: str, note: str) -> sa.Update:
    # Its `digest` changes, so that the previous release may open the same case again.
    return (
        cases.update()
        .where(which, cases.c.closed_at.is_(None))
        .values(
            closed_at=now(),
            closed_by=by[:100],
            note=note[:500],
            digest=sa.func.substr(cases.c.digest, 1, _MARK) + ":" + cases.c.id,
        )
    )


# Used for each event and built once: building costs more than running.
_ALIVE = sa.exists().where(
    notifications.c.obligation == sa.bindparam("owed"), notifications.c.status.in_(ALIVE)
)
_REACHED = _closing(
    sa.and_(is_about(sa.bindparam("about_")), _ALIVE), RELAY, "A message is on its way after all."
)


def open_cases(
    connection: Connection, kind: str = "", limit: int | None = 200, *, with_closed: bool = False
) -> Sequence[Mapping[str, Any]]:
    """The worklist, or one kind of case: first urgent ones, then messages that will go out unless
    stopped, then by harm (results before retests before the rest), the oldest first. `with_closed`
    adds closed cases below, the latest first.
    """
    query = _cases()
    if with_closed:
        query = query.order_by(cases.c.closed_at.is_not(None), cases.c.closed_at.desc())
    else:
        query = query.where(cases.c.closed_at.is_(None))
    if kind:
        query = query.where(cases.c.kind == kind)
    harm = sa.case((cases.c.kind.in_(OF_NO_KIT), 0), else_=events.c.urgency)
    urgent_first = (cases.c.is_urgent.desc(), cases.c.kind != RELEASE, harm.desc())
    query = query.order_by(*urgent_first, cases.c.opened_at, cases.c.id)
    return _counted(connection, connection.execute(query.limit(limit)).mappings())


def get_case(connection: Connection, case_id: str) -> dict[str, Any] | None:
    """A case by its id, open or closed."""
    found = connection.execute(_cases().where(cases.c.id == case_id)).mappings()
    return next(iter(_counted(connection, found)), None)


def open_kinds(connection: Connection) -> dict[str, int]:
    """The number of open cases of each kind."""
    query = sa.select(cases.c.kind, sa.func.count()).where(cases.c.closed_at.is_(None))
    return {kind: many for kind, many in connection.execute(query.group_by(cases.c.kind))}


def open_for_all(connection: Connection, case: Case, *, at_first: bool = False) -> bool:
    """Open a case that is about no event; return False if it is open already. It is kept with the
    newest event. If there is none yet, it is not opened, or with `at_first` uses one of our own.
    """
    newest = sa.select(events.c.id).order_by(events.c.id.desc()).limit(1)
    event_id = connection.execute(newest).scalar()
    if not event_id and at_first:
        event_id = own_event(connection)
    case = replace(case, event_id=str(event_id))
    return bool(event_id and open_case(connection, case))


def own_event(connection: Connection) -> str:
    """Return the id of our own event, which is about no kit; insert it if it is missing."""
    id_ = new_id("evt")
    values = {"id": id_, "name": OURS, "identity": OURS, "data": {}, "status": PROCESSED}
    moments = {"received_at": now(), "processed_at": now()}
    insert = INSERTS[connection.dialect.name](events).values(**values, **moments, source=RELAY)
    connection.execute(insert.on_conflict_do_nothing())
    mine = sa.select(events.c.id).where(events.c.identity == OURS)
    return str(connection.execute(mine).scalar_one())


def _cases() -> sa.Select[Any]:
    """A query for cases, with columns of their events and messages."""
    joined = cases.join(events, events.c.id == cases.c.event_id)
    joined = joined.join(notifications, notifications.c.id == cases.c.notification_id, isouter=True)
    table, is_digest = notifications.c, (KIND == DIGEST).label("is_digest")
    about = (events.c.name.label("event"), table.rule, table.channel, is_digest)
    return sa.select(cases, *about).select_from(joined)


def _counted(connection: Connection, found: Iterable[Mapping[Any, Any]]) -> list[dict[str, Any]]:
    """Cases as dicts; the `count` of an open one about the lab, a paused channel or the daily limit
    is how much waits for that now.
    """
    waiting = cache(lambda kind, about: _waiting(connection, kind, about))
    listed = [dict(case) for case in found]
    for case in listed:
        if case["kind"] in ("lab", "paused", "limit") and case["closed_at"] is None:
            case["count"] = waiting(case["kind"], case["subject"]) or case["count"]
    return listed


def _waiting(connection: Connection, kind: str, about: str) -> int:
    """Count the events and messages that wait for the lab, or the messages for a channel."""
    table = notifications.c
    is_due = sa.or_(table.status == "created", table.due_at <= now())
    waits = sa.select(sa.func.count()).where(IS_WAITING, is_due)
    if kind != "lab":
        of_channel = waits.where(table.channel == about, table.waits_for.is_(None))
        return connection.execute(of_channel).scalar_one()
    unread = sa.select(sa.func.count()).where(events.c.status == RECEIVED)
    of_lab = waits.where(table.waits_for == WAITS_FOR_LAB)
    return connection.execute(unread).scalar_one() + connection.execute(of_lab).scalar_one()


CASE_ACT = "case "  # begins the name of an act about a case in the audit trail
CLOSE, OPEN, RESEND = "close", "open", "resend"
CLOSED_ALREADY = "That case is already closed."
_OPEN_ALREADY = "That case is already open."
_TOO_LATE = "It is too late for that: what was done about the case is done."
_NEWER = "A newer case about this is already on the worklist."


def see_to(connection: Connection, case_id: str, act: Act, note: str) -> None:
    """Close a case and write the act to the audit trail, in the transaction of that act.

    Raises NotDone if somebody has closed it already, so that the act is rolled back.
    """
    if not close_case(connection, case_id, act.actor, note):
        raise NotDone(CLOSED_ALREADY)
    keep(connection, act)


def closed_cases(
    connection: Connection, limit: int = 20, case_id: str = ""
) -> list[Mapping[str, Any]]:
    """The cases closed most recently, or the one with this id. Each has `can_open`: whether it can
    be opened again.
    """
    last = closed().order_by(cases.c.closed_at.desc()).limit(limit)
    if case_id:
        last = last.where(cases.c.id == case_id)
    rows = [dict(row) for row in connection.execute(last).mappings()]
    return [{**row, "can_open": bool(original_digest(connection, row))} for row in rows]


def reopen(connection: Connection, case_id: str, act: Act, done: str = CLOSE) -> None:
    """Open again a case that somebody has just closed, or undo another act `done` about it. Raises
    NotDone if that is impossible.
    """
    row = connection.execute(closed().where(cases.c.id == case_id)).mappings().first()
    digest = original_digest(connection, dict(row), done) if row else ""
    if not digest:
        raise NotDone(_TOO_LATE if row else _OPEN_ALREADY)
    if connection.execute(sa.select(cases.c.id).where(is_about(digest))).first():
        raise NotDone(_NEWER)
    mine = cases.update().where(cases.c.id == case_id, cases.c.closed_at.is_not(None))
    opened = {"closed_at": None, "closed_by": None, "about": digest, "digest": digest}
    connection.execute(mine.values(opened))
    keep(connection, act)


def closed() -> sa.Select[Any]:
    """A query for closed cases, each with the last act about it and its message's obligation."""
    last = (
        sa.select(audit.c.action)
        .where(audit.c.target == cases.c.id)
        .order_by(audit.c.at.desc(), audit.c.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    joined = cases.join(events, events.c.id == cases.c.event_id)
    joined = joined.join(notifications, notifications.c.id == cases.c.notification_id, isouter=True)
    owed = notifications.c.obligation.label("obligation")
    columns = (last.label("action"), owed, events.c.round)
    query = sa.select(cases, events.c.name.label("event"), *columns).select_from(joined)
    return query.where(cases.c.closed_at.is_not(None))


def original_digest(connection: Connection, row: Mapping[str, Any], done: str = CLOSE) -> str:
    """The digest of the thing a closed case is about; empty if it cannot be opened again."""
    if row["closed_by"] == RELAY or row["action"] != CASE_ACT + done or row["kind"] == PASSES:
        return ""
    return str(row["about"] or guessed(connection, row))


def guessed(connection: Connection, row: Mapping[str, Any]) -> str:
    """The digest of a case that the previous release opened and closed: that release keeps only
    the first characters of the digest.
    """
    digests = (case_digest(row["kind"], key) for key in keys(connection, row) if key)
    return next((digest for digest in digests if was_about(row["digest"], digest)), "")


def keys(connection: Connection, row: Mapping[str, Any]) -> Iterator[str | None]:
    """Yield each key that a case of this kind may have been opened with."""
    yield from (row["obligation"], row["notification_id"], row["event_id"], row["subject"])
    if row["kind"] == "missing":
        names = connection.execute(sa.select(watches.c.name)).scalars()
        yield from (f"{name}:{row['subject']}:{row['round']}" for name in names)
