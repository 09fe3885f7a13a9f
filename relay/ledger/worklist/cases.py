"""The worklist: each case is opened once, and stays until a person or Relay closes it.

Staff get one alert of a kind of case in a quarter of an hour, whatever opens in it. The first goes
out at once. Of what opens within a quarter of an hour after it another one tells, once that is
over, unless staff have closed all of it by then. What is urgent waits for no other.
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

OURS = "relay.began"  # the event that cases are kept with before the lab has posted any
RELAY = "relay"  # who closes what has settled by itself
PASSES = "limit"  # is over at midnight: it is not opened again

# What an open case is about, by its digest. `about` is unique among open cases, and stays when one
# is closed. The release before (schema 0004) knows only `digest`, which is unique among all: it is
# written for that release, and read with `about` here only. A release later a migration carries
# over once more what 0005 did. Then ABOUT is `about`, and `digest`, `_guessed` and `_keys` go.
ABOUT: sa.ColumnElement[str] = sa.func.coalesce(cases.c.about, cases.c.digest)
_MARK = 20  # characters of `digest` that stay when a case is closed


def is_about(digest: Any) -> sa.ColumnElement[bool]:
    """A condition: a case is open, and is about the thing that a digest stands for."""
    mine = sa.or_(cases.c.about == digest, cases.c.digest == digest)  # each has an index
    return sa.and_(mine, cases.c.closed_at.is_(None))


def was_about(about: str, digest: str) -> bool:
    """Whether a case, by its ABOUT, is or was about the thing that a digest stands for."""
    return about == digest or (about[_MARK : _MARK + 1] == ":" and about[:_MARK] == digest[:_MARK])


def was_opened_since(connection: Connection, case: Case, since: datetime) -> bool:
    """Whether a case about the same thing was opened since a moment, closed or not."""
    query = sa.select(ABOUT).where(cases.c.kind == case.kind, cases.c.opened_at >= since)
    return any(was_about(about, case.digest) for about in connection.execute(query).scalars())


def open_case(connection: Connection, case: Case) -> str:
    """Open a case and plan its alerts; its id. Empty, and nothing is planned, where it is open
    already: a fault's has one message more then.
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
        found = connection.execute(grown.returning(cases.c.id)).scalar()  # none: closed just now
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
# When an alert went out; where it is being sent or waits, when it will.
_WENT_OUT_AT = sa.func.coalesce(
    _alerts.sent_at, _alerts.lease_until, _alerts.due_at, type_=_alerts.due_at.type
)


def _plan_alerts(connection: Connection, case: Case, case_id: str) -> None:
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
        due_at = last.went_out_at + timedelta(seconds=fault_injection.hastened(QUARTER))
        later = {"due_at": due_at, "status": "scheduled", "reason": GATHERED}
        alerts = [replace(alert, **later) for alert in alerts]
    insert_notices(connection, case.event_id, alerts, case_id=case_id)


def _last(rule: str, role: str) -> sa.Select[Any]:
    """A query for the last alert of a kind to a group that was not called off."""
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
    """Whether an alert did not go out at once, since another of its kind had just gone out."""
    query = sa.select(_alerts.rule, _alerts.role, _alerts.case_id, _alerts.created_at)
    mine = connection.execute(query.where(_alerts.id == alert_id)).one()
    others = _alerts.id < alert_id, _alerts.case_id != mine.case_id
    before = connection.execute(_last(mine.rule, mine.role).where(*others)).first()
    quarter = timedelta(seconds=fault_injection.hastened(QUARTER))
    return before is not None and before.went_out_at > mine.created_at - quarter


def close_case(connection: Connection, case_id: str, by: str, note: str) -> bool:
    """Close a case, in the transaction of what was done about it; False when it is closed already,
    or not known.
    """
    return bool(_close(connection, cases.c.id == case_id, by, note))


def close_settled(connection: Connection, kind: str, key: str | Sequence[str], note: str) -> None:
    """Close the open cases of this kind and key, or keys, if there are any: they have settled by
    themselves.
    """
    keys = [key] if isinstance(key, str) else key
    digests = [case_digest(kind, one) for one in keys]
    mine = sa.or_(cases.c.about.in_(digests), cases.c.digest.in_(digests))  # each has an index
    _close(connection, mine, RELAY, note)


def recount(connection: Connection, kind: str, left: Mapping[str, int], note: str) -> None:
    """Each open case of a kind says how much is left of what it is about; where nothing is, it is
    closed with the note. `left` counts it by the case's subject.
    """
    about = sa.select(cases.c.id, cases.c.subject, cases.c.count.label("many"))
    about = about.where(cases.c.kind == kind, cases.c.closed_at.is_(None))
    for case in connection.execute(about).all():
        resize(connection, case.id, case.many, left.get(case.subject, 0), note)


def resize(connection: Connection, case_id: str, was: int, left: int, note: str) -> None:
    """Let a case say how much is left of what it is about, and close it where nothing is; not where
    it has become another number than it `was` meanwhile.
    """
    mine = sa.and_(cases.c.id == case_id, cases.c.count == was)
    if not left:
        _close(connection, mine, RELAY, note)
    elif left != was:
        connection.execute(cases.update().where(mine).values(count=left))


def close_reached(connection: Connection, obligation: str) -> None:
    """Close the case that says that somebody is unreached, if a message may reach them now: what
    is planned again may be there already, and have failed.
    """
    digest = case_digest("unreached", obligation)
    connection.execute(_REACHED, {"about_": digest, "owed": obligation})


def close_overtaken(connection: Connection, reasons: Mapping[str, str]) -> None:
    """Stop asking staff about the failed ones among these messages, each for its reason: a later
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
    """Close the open cases about messages that need nobody any more."""
    _close(connection, cases.c.notification_id.in_(messages), RELAY, note)


def _close(connection: Connection, which: sa.ColumnElement[bool], by: str, note: str) -> int:
    return connection.execute(_closing(which, by, note)).rowcount


def _closing(which: sa.ColumnElement[bool], by: str, note: str) -> sa.Update:
    # Its `digest` is given up, so that the release before may open the same again.
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


# For each event: built once, since that costs more than running it.
_ALIVE = sa.exists().where(
    notifications.c.obligation == sa.bindparam("owed"), notifications.c.status.in_(ALIVE)
)
_REACHED = _closing(
    sa.and_(is_about(sa.bindparam("about_")), _ALIVE), RELAY, "A message is on its way after all."
)


def open_cases(
    connection: Connection, kind: str = "", limit: int | None = 200, *, with_closed: bool = False
) -> Sequence[Mapping[str, Any]]:
    """The worklist, or one kind of case: the urgent, what goes out by itself, then by harm (results
    before retests before the rest), the oldest first. `with_closed` adds those that are closed
    below, the latest first.
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
    """How many cases of each kind are open."""
    query = sa.select(cases.c.kind, sa.func.count()).where(cases.c.closed_at.is_(None))
    return {kind: many for kind, many in connection.execute(query.group_by(cases.c.kind))}


def open_for_all(connection: Connection, case: Case, *, at_first: bool = False) -> bool:
    """Open a case that is about no event; False where it is open already. It is kept with the
    newest. While the lab has posted none it is not opened, or `at_first` with one of our own.
    """
    newest = sa.select(events.c.id).order_by(events.c.id.desc()).limit(1)
    event_id = connection.execute(newest).scalar()
    if not event_id and at_first:
        event_id = own_event(connection)
    case = replace(case, event_id=str(event_id))
    return bool(event_id and open_case(connection, case))


def own_event(connection: Connection) -> str:
    """The id of the one event that is ours and about no kit."""
    id_ = new_id("evt")
    values = {"id": id_, "name": OURS, "identity": OURS, "data": {}, "status": PROCESSED}
    moments = {"received_at": now(), "processed_at": now()}
    insert = INSERTS[connection.dialect.name](events).values(**values, **moments, source=RELAY)
    connection.execute(insert.on_conflict_do_nothing())
    mine = sa.select(events.c.id).where(events.c.identity == OURS)
    return str(connection.execute(mine).scalar_one())


def _cases() -> sa.Select[Any]:
    """Cases with what their events and their messages say."""
    joined = cases.join(events, events.c.id == cases.c.event_id)
    joined = joined.join(notifications, notifications.c.id == cases.c.notification_id, isouter=True)
    table, is_digest = notifications.c, (KIND == DIGEST).label("is_digest")
    about = (events.c.name.label("event"), table.rule, table.channel, is_digest)
    return sa.select(cases, *about).select_from(joined)


def _counted(connection: Connection, found: Iterable[Mapping[Any, Any]]) -> list[dict[str, Any]]:
    """Cases; an open one about the lab, a provider's account or the day's limit with how much waits
    for that now.
    """
    waiting = cache(lambda kind, about: _waiting(connection, kind, about))
    listed = [dict(case) for case in found]
    for case in listed:
        if case["kind"] in ("lab", "paused", "limit") and case["closed_at"] is None:
            case["count"] = waiting(case["kind"], case["subject"]) or case["count"]
    return listed


def _waiting(connection: Connection, kind: str, about: str) -> int:
    """How many events and messages wait for the lab, or messages for their channel."""
    table = notifications.c
    is_due = sa.or_(table.status == "created", table.due_at <= now())
    waits = sa.select(sa.func.count()).where(IS_WAITING, is_due)
    if kind != "lab":
        of_channel = waits.where(table.channel == about, table.waits_for.is_(None))
        return connection.execute(of_channel).scalar_one()
    unread = sa.select(sa.func.count()).where(events.c.status == RECEIVED)
    of_lab = waits.where(table.waits_for == WAITS_FOR_LAB)
    return connection.execute(unread).scalar_one() + connection.execute(of_lab).scalar_one()


CASE_ACT = "case "  # begins what the audit trail calls an act about a case
CLOSE, OPEN, RESEND = "close", "open", "resend"
CLOSED_ALREADY = "That case is already closed."
_OPEN_ALREADY = "That case is already open."
_TOO_LATE = "It is too late for that: what was done about the case is done."
_NEWER = "A newer case about this is already on the worklist."


def see_to(connection: Connection, case_id: str, act: Act, note: str) -> None:
    """Close a case and write the act to the audit trail, in the transaction of what was done.

    Raises NotDone where somebody has closed it already, so that what was done is rolled back.
    """
    if not close_case(connection, case_id, act.actor, note):
        raise NotDone(CLOSED_ALREADY)
    keep(connection, act)


def closed_cases(
    connection: Connection, limit: int = 20, case_id: str = ""
) -> list[Mapping[str, Any]]:
    """The cases that were closed last, or the one with this id. Each says whether it `can_open`
    again.
    """
    last = closed().order_by(cases.c.closed_at.desc()).limit(limit)
    if case_id:
        last = last.where(cases.c.id == case_id)
    rows = [dict(row) for row in connection.execute(last).mappings()]
    return [{**row, "can_open": bool(original_digest(connection, row))} for row in rows]


def reopen(connection: Connection, case_id: str, act: Act, done: str = CLOSE) -> None:
    """Open a case again that somebody has just closed; or that something else was `done` about,
    which is undone. Raises NotDone where it cannot be.
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
    """The digest of what a closed case is about; empty where it cannot be opened again."""
    if row["closed_by"] == RELAY or row["action"] != CASE_ACT + done or row["kind"] == PASSES:
        return ""
    return str(row["about"] or guessed(connection, row))


def guessed(connection: Connection, row: Mapping[str, Any]) -> str:
    """The digest of a case that the release before has opened and closed: that release keeps the
    digest's first characters only.
    """
    digests = (case_digest(row["kind"], key) for key in keys(connection, row) if key)
    return next((digest for digest in digests if was_about(row["digest"], digest)), "")


def keys(connection: Connection, row: Mapping[str, Any]) -> Iterator[str | None]:
    """Yield each key that a case of this kind may have been opened with."""
    yield from (row["obligation"], row["notification_id"], row["event_id"], row["subject"])
    if row["kind"] == "missing":
        names = connection.execute(sa.select(watches.c.name)).scalars()
        yield from (f"{name}:{row['subject']}:{row['round']}" for name in names)
