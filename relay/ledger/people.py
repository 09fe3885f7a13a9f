"""Accounts of the people who use the desk, their sessions, and wrong passwords.

ADMIN_PASSWORD's account has no row: it is called ADMIN, and its sessions are kept like others'.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.ledger.audit import Act, NotDone, keep
from relay.ledger.database import ago, first_id, new_id, now
from relay.ledger.schema import INSERTS, ended_sessions, login_failures, sessions, users
from relay.rules.schedule import utc_now

ADMIN = "admin"
LONGEST_SESSION = timedelta(hours=12)  # from the login, however busy it is
LONGEST_PAUSE = timedelta(days=1)  # for which a wrong password counts
_CLOCKS_DIFFER = timedelta(minutes=10)  # an id holds the web process's time
INVITED = timedelta(days=7)  # for which an invitation's link works
_NOBODY = "There is no such account. `flask relay user list` shows them all."
_ROW = users.c
# Blank values for the secrets of an account's sign-in.
_BLANK: Mapping[str, Any] = {
    "password_hash": "",
    "totp_secret": "",
    "totp_step": 0,
    "recovery": None,
    "oidc_subject": "",
}


def digest(token: str) -> str:
    """The hash that the ledger keeps of a long random token."""
    return hashlib.sha256(token.encode()).hexdigest()


def everyone(connection: Connection) -> Sequence[Mapping[str, Any]]:
    """All accounts, by email address."""
    return [dict(row) for row in connection.execute(users.select().order_by(_ROW.login)).mappings()]


def find(connection: Connection, login: str) -> Mapping[str, Any] | None:
    """The account of an email address, in capitals or not; None if there is none."""
    query = users.select().where(_ROW.login == login.strip().lower())
    return _one(connection, query)


def invited(connection: Connection, invitation: str) -> Mapping[str, Any] | None:
    """The account that an invitation is for; None if the invitation cannot be used any more."""
    query = users.select().where(_ROW.invite == digest(invitation), _ROW.invited_at > ago(INVITED))
    return _one(connection, query.where(_ROW.disabled_at.is_(None)))


def _one(connection: Connection, query: sa.Select[Any]) -> Mapping[str, Any] | None:
    row = connection.execute(query).mappings().first()
    return dict(row) if row else None


def add(connection: Connection, login: str, role: str, token: str, act: Act) -> None:
    """Create an account that its owner takes up with a token. Raises NotDone if it exists."""
    row = {"id": new_id("usr"), "login": login.strip().lower(), "role": role, "created_at": now()}
    insert = INSERTS[connection.dialect.name](users).values(
        **row, invite=digest(token), invited_at=now()
    )
    if not connection.execute(insert.on_conflict_do_nothing().returning(_ROW.id)).first():
        raise NotDone("There is such an account already. Change its role, or reset it.")
    keep(connection, act, role)


def set_role(connection: Connection, login: str, role: str, act: Act) -> None:
    """Give an account another role, from its next request on. Raises NotDone."""
    _change(connection, login, act, role, role=role)


def disable(connection: Connection, login: str, act: Act) -> None:
    """Disable an account's sign-in, and end its sessions. Raises NotDone."""
    _change(connection, login, act, "", disabled_at=now(), invite="")
    end_all(connection, login)


def reset(connection: Connection, login: str, token: str, act: Act) -> None:
    """Remove an account's password and second factor, end its sessions, and invite its owner again;
    this enables a disabled account. Raises NotDone.
    """
    anew = {"invite": digest(token), "invited_at": now(), "disabled_at": None}
    _change(connection, login, act, "", **_BLANK, **anew)
    end_all(connection, login)


def _change(connection: Connection, login: str, act: Act, detail: str, **values: Any) -> None:
    mine = users.update().where(_ROW.login == login.strip().lower()).values(**values)
    if not connection.execute(mine.returning(_ROW.id)).first():
        raise NotDone(_NOBODY)
    keep(connection, act, detail)


def take_up(
    connection: Connection, id_: str, password_hash: str, totp_secret: str, recovery: Sequence[str]
) -> None:
    """Keep the credentials that an invited person has set up, and use up their invitation."""
    kept = {
        "password_hash": password_hash,
        "totp_secret": totp_secret,
        "recovery": [digest(code) for code in recovery],
        "invite": "",
    }
    connection.execute(users.update().where(_ROW.id == id_).values(**kept))


def use_step(connection: Connection, id_: str, step: int) -> bool:
    """Use up the code of a time step; False if it, or a later one, was used before."""
    mine = users.update().where(_ROW.id == id_, _ROW.totp_step < step)
    return bool(connection.execute(mine.values(totp_step=step).returning(_ROW.id)).first())


def use_recovery(connection: Connection, id_: str, code: str) -> bool:
    """Use up a recovery code; False if there is no such code, or it was used before."""
    locked = sa.select(_ROW.recovery).where(_ROW.id == id_).with_for_update()
    left, used = connection.execute(locked).scalar() or [], digest(code)
    if used not in left:
        return False
    rest = [one for one in left if one != used]
    connection.execute(users.update().where(_ROW.id == id_).values(recovery=rest))
    return True


def bind(connection: Connection, id_: str, subject: str) -> bool:
    """Bind an account to the first organisation identity that signs in to it; False for others."""
    mine = users.update().where(_ROW.id == id_, _ROW.oidc_subject.in_(("", subject)))
    found = connection.execute(mine.values(oidc_subject=subject, invite="").returning(_ROW.id))
    return found.first() is not None


def begin_session(connection: Connection, id_: str, person: str, source: str, browser: str) -> None:
    """Keep a new session: its person, a mark of the address that it came from, and its browser."""
    moments = {"began_at": now(), "seen_at": now()}
    row = {"id": id_, "person": person, "source": source, "browser": browser[:60], **moments}
    connection.execute(sessions.insert().values(row))


def session(connection: Connection, id_: str) -> Mapping[str, Any] | None:
    """An open session, with its account's columns, which are null for ADMIN; None if not open."""
    joined = sessions.join(users, users.c.login == sessions.c.person, isouter=True)
    mine = (sessions.c.id == id_, *_GOES_ON, _ROW.disabled_at.is_(None))
    columns = (sessions.c.person, _ROW.role, _ROW.password_hash, _ROW.oidc_subject)
    return _one(connection, sa.select(*columns).select_from(joined).where(*mine))


_GOES_ON = (sessions.c.ended_at.is_(None), sessions.c.began_at > ago(LONGEST_SESSION))


def open_sessions(connection: Connection) -> Sequence[Mapping[str, Any]]:
    """The open sessions, the most recently used first."""
    query = sessions.select().where(*_GOES_ON).order_by(sessions.c.seen_at.desc())
    return [dict(row) for row in connection.execute(query).mappings()]


def note_seen(connection: Connection, id_: str) -> None:
    """Record that a session is used now."""
    connection.execute(sessions.update().where(sessions.c.id == id_).values(seen_at=now()))


def end(connection: Connection, id_: str) -> None:
    """End a session for good: a copy of its cookie does not work either."""
    connection.execute(_ENDING.where(sessions.c.id == id_))


def end_for_release_before(connection: Connection, id_: str) -> None:
    """Mark a session as ended where the previous release looks."""
    insert = INSERTS[connection.dialect.name](ended_sessions)
    connection.execute(insert.values(id=id_, ended_at=now()).on_conflict_do_nothing())


def end_all(connection: Connection, login: str) -> None:
    """End all sessions of an account."""
    connection.execute(_ENDING.where(sessions.c.person == login.strip().lower()))


_ENDING = sessions.update().where(sessions.c.ended_at.is_(None)).values(ended_at=now())


def add_failure(connection: Connection, visitor: str) -> None:
    """Record a wrong password of a visitor, who is named by a mark and not by an address."""
    row = {"id": new_id("lgf"), "visitor": visitor, "failed_at": now()}
    connection.execute(login_failures.insert().values(row))


def count_failures(connection: Connection, interval: timedelta, visitor: str = "") -> int:
    """Count the wrong passwords within the last `interval`: a visitor's, or everybody's."""
    table = login_failures.c
    query = sa.select(sa.func.count()).where(table.failed_at > ago(interval))
    if visitor:
        query = query.where(table.visitor == visitor)
    else:  # along the primary key: ids sort by time
        query = query.where(table.id >= first_id("lgf", utc_now() - interval - _CLOCKS_DIFFER))
    return int(connection.execute(query).scalar_one())
