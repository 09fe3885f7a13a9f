"""Requests to erase a person: who it is, how far the work is, and its outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay import fault_injection
from relay.ledger.audit import Act, write_audit
from relay.ledger.database import Database, leasing, new_id, now
from relay.ledger.holds.suppressions import STAFF, suppress
from relay.ledger.schema import INSERTS, erasures
from relay.ledger.worklist.cases import open_for_all
from relay.rules.model import Case

WAITING, RUNNING, DONE = "waiting", "running", "done"
KIND = "erasure"  # the kind of the case about an incomplete one
LEASE_SECONDS = 60.0
_NOBODY: Mapping[str, Any] = {"address": "", "target": "", "note": "", "known": None}


class Lapsed(Exception):
    """The worker's lease of an erasure has ended: another worker continues it, or has done it."""


@dataclass(frozen=True)
class Asked:
    """An erasure that this worker has leased."""

    id: str
    address: str
    target: str
    actor: str
    note: str
    tries: int
    known: Mapping[str, Any] | None


_CARRIED = tuple(erasures.c[name] for name in Asked.__dataclass_fields__)


class Asking(NamedTuple):
    """A request for an erasure, and whether its address was suppressed with it."""

    id: str
    stopped: bool


def ask(
    db: Database,
    channel: str,
    address: str,
    *,
    target: str,
    actor: str,
    note: str,
    known: Mapping[str, Any] | None = None,
    stop: bool = False,
) -> Asking:
    """Ask for the erasure of the person who has an address. A request that is not done yet is not
    made twice. With `stop` the address is suppressed too. `known` has what an id or a name led to.

    `target` is what the audit trail calls the address, which the note must not name. It owns its
    transactions: if an erasure that was in the way has just ended, it tries again in another.
    """
    values: dict[str, Any] = {"channel": channel, "address": address, "target": target}
    values |= {"id": new_id("era"), "actor": actor, "note": note, "state": WAITING, "known": known}
    insert = INSERTS[db.engine.dialect.name](erasures).on_conflict_do_nothing()
    insert = insert.values(values | {"asked_at": now(), "next_at": now()}).returning(erasures.c.id)
    open_ = sa.select(erasures.c.id).where(erasures.c.address == address)
    stopping = Act(actor, "suppress", target)
    stopped = False
    while True:  # again, if the one that was in the way has just been done
        with db.write() as connection:
            if stop:
                stopped |= suppress(connection, channel, address, STAFF, stopping, note)
            if made := connection.execute(insert).scalar():
                write_audit(connection, actor, "forget asked", target, note)
            if found := made or connection.execute(open_).scalar():
                return Asking(str(found), stopped)


def lease(db: Database, limit: int) -> list[Asked]:
    """Lease up to `limit` due erasures: no other worker gets them for a while.

    It owns its transaction: a lease holds once it is committed.
    """
    with db.write() as connection:
        leased = connection.execute(_leasing(), {"most": limit, "lease": _lease()})
        return [Asked(**row._mapping) for row in leased]


@cache
def _leasing() -> Any:
    table = erasures.c
    return _leased(leasing(table.next_at, table.address != "", table.next_at <= now()))


def take(db: Database, id_: str) -> Asked | None:
    """Lease the erasure with this id, even if another worker has it; return None if it is done.

    It owns its transaction: a lease holds once it is committed.
    """
    mine = erasures.update().where(erasures.c.id == id_, erasures.c.address != "")
    mine = mine.values(next_at=now(sa.bindparam("lease")))
    with db.write() as connection:
        row = connection.execute(_leased(mine), {"lease": _lease()}).first()
    return Asked(**row._mapping) if row else None


def _leased(these: sa.Update) -> Any:
    return these.values(state=RUNNING, tries=erasures.c.tries + 1).returning(*_CARRIED)


def note(connection: Connection, asked: Asked, **values: Any) -> None:
    """Keep the progress of an erasure, and renew its lease. Raises Lapsed."""
    table = erasures.c
    mine = erasures.update().where(
        table.id == asked.id, table.tries == asked.tries, table.address != ""
    )
    if not connection.execute(mine.values(next_at=now(_lease()), **values)).rowcount:
        raise Lapsed


def finish(
    connection: Connection, asked: Asked, outcome: Mapping[str, Any], said: str, case: Case | None
) -> None:
    """End an erasure: keep its outcome, there and in the audit trail, and nothing of the person.
    `case` is about what is left for a person to do.

    The first worker to finish ends it, even if its lease has lapsed: it has searched everything.
    """
    table = erasures.c
    open_ = erasures.update().where(table.id == asked.id, table.address != "")
    done = open_.values(**_NOBODY, state=DONE, done_at=now(), outcome=outcome, searched="")
    if connection.execute(done).rowcount:
        write_audit(connection, asked.actor, "forget", asked.target, said)
        if case:
            open_for_all(connection, case)


def find(connection: Connection, id_: str) -> Mapping[str, Any] | None:
    """An erasure by its id, without the person's data; None if there is none."""
    row = connection.execute(_anonymous().where(erasures.c.id == id_)).mappings().first()
    return dict(row) if row else None


def latest(connection: Connection, limit: int = 10) -> list[Mapping[str, Any]]:
    """The latest requests for erasures, the newest first, without the people's data."""
    query = _anonymous().order_by(erasures.c.id.desc()).limit(limit)
    return [dict(row) for row in connection.execute(query).mappings()]


def _anonymous() -> sa.Select[Any]:
    return sa.select(*(column for column in erasures.c if column.name not in _NOBODY))


def _lease() -> float:
    return fault_injection.hastened(LEASE_SECONDS)
