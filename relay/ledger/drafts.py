"""Drafts of editions: kept, named and shared until they are published or thrown away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.ledger.audit import Act, NotDone, keep
from relay.ledger.database import new_id, now
from relay.ledger.schema import drafts
from relay.rules.edition import Content

START, SAVE, ASK, DROP = "draft start", "draft save", "draft ask", "draft drop"
GONE = "That draft is published or thrown away."
SAVED_BY = (
    "{} has saved this draft meanwhile, so nothing of yours was kept. What differs is below: bring "
    "the two together, then save."
)
LEFT_SECONDS = 30.0  # without a report from the process that tries a draft: another may start
_table = drafts.c


@dataclass(frozen=True)
class Draft:
    """An edit of the edition `base`: the `files` that differ, by name; none of them is deleted."""

    id: str
    name: str
    base: int
    version: int
    files: Mapping[str, str]
    author: str
    authors: Sequence[str]
    saved_at: datetime
    asked_by: str | None
    note: str
    trial_of: str | None
    trial: Mapping[str, Any] | None  # its trial on recent events: see relay.staff.trial

    def on(self, content: Content) -> Content:
        """An edition's files, with this draft's in place of theirs."""
        return {**content, **self.files}


_COLUMNS = tuple(Draft.__dataclass_fields__)


def listed(connection: Connection) -> Sequence[Draft]:
    """The drafts that are open, the last saved first."""
    found = connection.execute(_open().order_by(_table.saved_at.desc())).mappings()
    return [Draft(**row) for row in found]


def get(connection: Connection, id_: str) -> Draft | None:
    """The open draft with this id, or None."""
    row = connection.execute(_open().where(_table.id == id_)).mappings().first()
    return Draft(**row) if row else None


def _open() -> sa.Select[Any]:
    return sa.select(*(_table[name] for name in _COLUMNS)).where(_table.closed_at.is_(None))


def start(connection: Connection, name: str, base: int, by: str) -> str:
    """Begin a draft; return its id. Raises NotDone without a name."""
    if not name:
        raise NotDone('Give the draft a name, as "Christmas hours".')
    id_ = new_id("drf")
    row = {
        "id": id_,
        "name": name[:100],
        "base": base,
        "files": {},
        "author": by[:100],
        "authors": [],
    }
    connection.execute(drafts.insert().values(**row, saved_at=now()))
    keep(connection, Act(by, START, id_, name))
    return id_


def save(connection: Connection, draft: Draft, name: str, text: str | None, by: str) -> None:
    """Keep a file's text, or with None go back to the base's; withdraw any request for approval.
    Raises NotDone if somebody else was faster.
    """
    files = {one: kept for one, kept in draft.files.items() if one != name}
    files |= {name: text} if text is not None else {}
    _change(connection, draft, by, files=files, authors=sorted({*draft.authors, by[:100]}))
    keep(connection, Act(by, SAVE, draft.id, name))


def catch_up(connection: Connection, draft: Draft, base: int, by: str) -> None:
    """Make a draft follow a newer edition. Raises NotDone."""
    _change(connection, draft, by, base=base)
    keep(connection, Act(by, SAVE, draft.id, f"follows edition {base}"))


def ask(connection: Connection, draft: Draft, by: str, note: str) -> None:
    """Ask for somebody else's approval of a draft. Raises NotDone."""
    _change(connection, draft, draft.author, asked_by=by[:100], note=note[:500])
    keep(connection, Act(by, ASK, draft.id, note))


def begin_trial(connection: Connection, draft: Draft, of: str) -> bool:
    """Claim the trial of a draft, unless it is done or still running; return whether we have it."""
    is_left = _table.trial_at < now(-LEFT_SECONDS)
    is_new = sa.or_(_table.trial_of.is_(None), _table.trial_of != of)
    mine = drafts.update().where(_table.id == draft.id, sa.or_(is_new, is_left))
    begun = mine.values(trial_of=of, trial_at=now(), trial=None)
    return connection.execute(begun).rowcount > 0


def tell_trial(
    connection: Connection, id_: str, of: str, state: Mapping[str, Any], *, is_over: bool = False
) -> None:
    """Keep a trial's progress or its result, unless another trial has begun since."""
    mine = drafts.update().where(_table.id == id_, _table.trial_of == of)
    connection.execute(mine.values(trial=state, trial_at=None if is_over else now()))


def close(connection: Connection, draft: Draft, by: str, edition: int | None = None) -> None:
    """Close a draft that was published, as an edition, or thrown away. Raises NotDone."""
    _change(connection, draft, by, closed_at=now(), edition=edition)
    if edition is None:
        keep(connection, Act(by, DROP, draft.id, draft.name))


def _change(connection: Connection, draft: Draft, by: str, **values: Any) -> None:
    unless = {"asked_by": None, "author": by[:100], "saved_at": now(), "version": draft.version + 1}
    mine = drafts.update().where(
        _table.id == draft.id, _table.version == draft.version, _table.closed_at.is_(None)
    )
    if not connection.execute(mine.values(**{**unless, **values})).rowcount:
        newer = get(connection, draft.id)
        raise NotDone(SAVED_BY.format(newer.author) if newer else GONE)
