"""Editions: every version of config.toml and the templates, numbered and kept for good."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.ledger.audit import PUBLISH, Act, keep
from relay.ledger.database import Database, now
from relay.ledger.schema import INSERTS, editions
from relay.rules.edition import FILES, Content, Edition, digest

_COLUMNS = ("number", "digest", "author", "note", "source", "made_at")


def listed(connection: Connection, limit: int = 1000) -> Sequence[Edition]:
    """The editions, the newest first, which is the one in use."""
    query = sa.select(*(editions.c[name] for name in _COLUMNS)).order_by(editions.c.number.desc())
    return [Edition(**row) for row in connection.execute(query.limit(limit)).mappings()]


def newest(connection: Connection) -> Edition | None:
    """The edition in use, if there is one."""
    return next(iter(listed(connection, 1)), None)


def content(connection: Connection, number: int) -> Content | None:
    """An edition's files; None if there is no such edition."""
    query = sa.select(editions.c.content).where(editions.c.number == number)
    blob = connection.execute(query).scalar()
    return None if blob is None else dict(json.loads(zlib.decompress(blob)))


def last_from_files(connection: Connection) -> Edition | None:
    """The last edition that came from a release, or an edit on a machine."""
    return next((one for one in listed(connection) if not one.is_published), None)


def add(
    connection: Connection, after: Edition | None, files: Content, by: str, note: str, source: str
) -> int | None:
    """Keep files as the edition that follows another; return its number, or None if somebody else
    was faster.
    """
    number = after.number + 1 if after else 1
    insert = INSERTS[connection.dialect.name](editions).values(
        number=number,
        digest=digest(files),
        author=by[:100],
        note=note[:500],
        source=source,
        made_at=now(),
        content=zlib.compress(json.dumps(files).encode(), 9),
    )
    added = insert.on_conflict_do_nothing().returning(editions.c.number)
    made: int | None = connection.execute(added).scalar()
    keep(connection, Act(by, PUBLISH, f"edition {number}", note) if made else None)
    return made


class Shelf:
    """The editions, for a whole process. It owns its reads and transactions, because its callers
    have none. Raises LedgerUnavailable.
    """

    def __init__(self, db: Database, *, follows: bool = False):
        self._db = db
        self._follows = follows

    def newest(self) -> Edition | None:
        """The edition that should be in use."""
        with self._db.read() as connection:
            return newest(connection)

    def content(self, number: int) -> Content:
        """An edition's files."""
        with self._db.read() as connection:
            return content(connection, number) or {}

    def number(self, digest: str) -> int | None:
        """The number of the latest edition whose files have this digest."""
        query = sa.select(sa.func.max(editions.c.number)).where(editions.c.digest == digest)
        with self._db.read() as connection:
            return connection.execute(query).scalar()

    def follow(self, after: Edition | None, files: Content) -> int | None:
        """Keep a machine's files as the next edition, if this process should; return its number."""
        if not self._follows:
            return None
        note = "Edited on the machine." if after else "The files at the start."
        return self._db.transact(add, after, files, "files", note, FILES)
