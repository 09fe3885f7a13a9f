"""Erases one person, in the ledger and at the providers, and then checks that nothing is left."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from relay.channels import Channels
from relay.jobs.expire import NOBODY, delete_text
from relay.ledger.database import Database
from relay.ledger.removal import erasures, personal_data, retention
from relay.ledger.removal.erasures import Asked
from relay.ledger.removal.personal_data import Change, Handed, Progress
from relay.logs import get_logger
from relay.privacy.person import Person, is_address, key
from relay.rules import alerts
from relay.rules.channels import DELETED_BY_ADDRESS, channel_of, sharing
from relay.rules.model import Case, Policy

log = get_logger("relay.erase")

ROUNDS = 3  # the next round erases what workers write during one
NOTE_SECONDS = 2.0  # between two notes of how far a search is
_NAMED = {"notifications": "messages", "events": "events"}
_ONE = {
    "events": "event",
    "kits": "kit",
    "messages": "message",
    "messages that wait": "message that waits",
    "other rows": "other row",
}
# What an erasure keeps, and what it cannot reach, in words for the person who asks for it.
STAYS = (
    "Relay keeps ids, times, counts and reasons. It keeps an opt-out with its address too, or the "
    "person would get messages again."
)
OUT_OF_REACH = (
    "A note that has only a surname which others have too stays. "
    "Backups of the ledger, the providers' own logs and lists, and the lab still have it. If the "
    "lab reports on this person again, Relay writes to them again; suppress the address to stop it."
)


@dataclass(frozen=True)
class Erased:
    """The result of an erasure: rows changed, rows left despite it, and what the providers have not
    erased (sentences).
    """

    counts: Mapping[str, int]
    left: Mapping[str, int]
    refused: tuple[str, ...]


_NOTHING: Mapping[str, Any] = {"others": (), "names": (), "counts": {}, "texts": (), "emails": ()}


@dataclass
class SoFar:
    """The progress of an erasure: facts that cannot be found out again once it has begun."""

    person: Person
    counts: Counter[str] = field(default_factory=Counter)
    handed: Handed = field(default_factory=Handed)

    @classmethod
    def of(cls, asked: Asked) -> SoFar:
        """The state that the previous worker left, or the state at the start."""
        known = {**_NOTHING, **(asked.known or {})}
        names = frozenset((first, last) for first, last in known["names"])
        person = Person(key(asked.address), frozenset(known["others"]), names)
        handed = Handed(set(known["texts"]), set(known["emails"]))
        return cls(person, Counter(known["counts"]), handed)

    def to_json(self) -> dict[str, Any]:
        """The state as JSON, for the ledger. `of` reads it."""
        return {
            "others": sorted(self.person.others),
            "names": sorted(self.person.names),
            "counts": dict(self.counts),
            "texts": sorted(self.handed.texts),
            "emails": sorted(self.handed.emails),
        }


def _nowhere(*_: Any) -> None:
    pass


def beginning(person: Person) -> Mapping[str, Any]:
    """The facts that an erasure needs about a person who was found by an id or a name."""
    return SoFar(person).to_json()


def look(db: Database, person: Person, progress: Progress = _nowhere) -> Mapping[str, int]:
    """Count the rows that have personal data of somebody, by kind. Changes nothing."""
    person = personal_data.learn(db, person, progress)
    counts: Counter[str] = Counter()
    for made in personal_data.changes(db, person, progress):
        counts.update(_words(made))
    return counts


def forget(
    db: Database, channels: Channels, policy: Policy, asked: Asked, progress: Progress = _nowhere
) -> None:
    """Erase a person, or continue to, and keep the outcome in the ledger.

    Safe to repeat: the second time finds nothing.
    """
    so_far = SoFar.of(asked)
    noted = _Noted(db, asked, progress)
    try:
        so_far.person = personal_data.learn(db, so_far.person, noted)
        if is_address(asked.address) and any(map(channels.reaches, deleted_by(asked.address))):
            so_far.handed.emails.add(asked.address)  # it may still have what was blanked here
        with db.write() as connection:
            erasures.note(connection, asked, known=so_far.to_json())
        done = _forget(db, channels, asked, so_far, noted)
    except erasures.Lapsed:
        log.warning("erasure goes on elsewhere", id=asked.id)
        return
    outcome = {"counts": done.counts, "left": done.left, "refused": done.refused}
    note = "" if so_far.person.is_in(asked.note) else asked.note
    said = ". ".join(filter(None, (counts_in_words(done.counts), note)))
    case = _case(asked, done, policy)
    with db.write() as connection:
        erasures.finish(connection, asked, outcome, said, case)


def _case(asked: Asked, done: Erased, policy: Policy) -> Case | None:
    """A case about what an erasure has left; None if it has left nothing."""
    left = [f"{number} rows of {table} still have it." for table, number in done.left.items()]
    reason = " ".join([*left, *done.refused])
    now = datetime.now(UTC)
    kind, id_ = erasures.KIND, asked.id
    return alerts.case(kind, id_, id_, reason, policy=policy, now=now) if reason else None


class _Noted:
    """Notes in the ledger how far a search is, every few seconds, which keeps the lease."""

    def __init__(self, db: Database, asked: Asked, shown: Progress):
        self._db, self._asked, self._shown = db, asked, shown
        self._table, self._rows, self._next = "", 0, 0.0

    def __call__(self, table: str, rows: int) -> None:
        """Count more rows of a table as read. Raises Lapsed."""
        self._rows = rows + (self._rows if table == self._table else 0)
        self._table = table
        self._shown(table, rows)
        if time.monotonic() >= self._next:
            with self._db.write() as connection:
                erasures.note(connection, self._asked, searched=table, rows_read=self._rows)
            self._next = time.monotonic() + NOTE_SECONDS


def _forget(
    db: Database, channels: Channels, asked: Asked, so_far: SoFar, progress: Progress
) -> Erased:
    person, counts, handed = so_far.person, so_far.counts, so_far.handed
    for _ in range(ROUNDS):
        before = counts.total()
        for made in personal_data.changes(db, person, progress):
            counts.update(_words(made))
            with db.write() as connection:
                personal_data.apply(connection, made, handed)
                erasures.note(connection, asked, known=so_far.to_json())
        if counts.total() == before:
            break
    left: Counter[str] = Counter()
    for made in personal_data.changes(db, person, progress):
        left.update(change.table.name for change in made)
    with db.read() as connection:
        kept = retention.kept_texts(connection, handed.texts)
    refused = [said for text in kept for said in delete_text(db, channels, text)]
    for channel in DELETED_BY_ADDRESS:
        theirs = frozenset(one for one in handed.emails if channel in deleted_by(one))
        refused += channels.erase(channel, theirs, NOBODY)
    log.info("person erased", left=left.total(), refused=len(refused), **_counted(counts))
    return Erased(counts, left, tuple(dict.fromkeys(refused)))


def deleted_by(address: str) -> list[str]:
    """The channels whose providers can delete everything sent to an address."""
    return [channel for channel in sharing(channel_of(address)) if channel in DELETED_BY_ADDRESS]


def _words(made: Iterable[Change]) -> Iterator[str]:
    """Yield a word for each change, as people read it."""
    for change in made:
        yield _NAMED.get(change.table.name, "other rows")
        if change.is_stopped:
            yield "messages that wait"


def counts_in_words(counts: Mapping[str, int]) -> str:
    """Counts of rows as a phrase without personal data: 1 event, 2 messages; or nothing."""
    return ", ".join(phrases(counts)) or "nothing"


def phrases(counts: Mapping[str, int]) -> list[str]:
    """Counts of rows, a phrase for each kind: "1 event", "2 messages"."""
    return [
        f"{number} {_ONE[words] if number == 1 else words}"
        for words, number in sorted(counts.items())
    ]


def _counted(counts: Mapping[str, int]) -> dict[str, int]:
    return {words.replace(" ", "_"): number for words, number in counts.items()}
