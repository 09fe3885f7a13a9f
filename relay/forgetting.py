"""Erases one person: in the ledger, and at the providers; then looks whether anything is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from relay import erasure
from relay.channels import Exits
from relay.erasure import Person
from relay.ledger import forgetting
from relay.ledger.database import Database
from relay.ledger.forgetting import Handed
from relay.ledger.tracing import Progress
from relay.logs import get_logger

log = get_logger("relay.forgetting")

ROUNDS = 3  # what workers write meanwhile is erased in the next one
_ONE = {
    "events": "event",
    "messages": "message",
    "messages that wait": "message that waits",
    "other rows": "other row",
}
# What is not erased, and what cannot be, in words for whoever erases.
STAYS = (
    "Ids, times, counts and reasons stay, and an opt-out with its address: without it the person "
    "would be written to again."
)
OUT_OF_REACH = (
    "Backups of the ledger, logs and lists of the providers' own, and the lab have it still. What "
    "the lab tells of the person from now on is told again; suppress the address to stop that."
)


@dataclass(frozen=True)
class Erased:
    """What an erasure came to: what was changed, what is left all the same, by table, and what the
    providers have not erased.
    """

    counts: Mapping[str, int]
    left: Mapping[str, int]
    refused: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left that could be erased."""
        return not (self.left or self.refused)


def _silent(_table: str, _rows: int) -> None:
    pass


def look(
    db: Database, address: str, progress: Progress = _silent
) -> tuple[Person, Mapping[str, int]]:
    """Who goes by an address, and how much the ledger has of them."""
    person = forgetting.learn(db, Person(erasure.key(address)), progress)
    counts: Counter[str] = Counter()
    forgetting.tally(forgetting.changes(db, person, progress), lambda word: counts.update([word]))
    return person, counts


def forget(db: Database, exits: Exits, person: Person, progress: Progress = _silent) -> Erased:
    """Erase a person. Safe to do twice: the second time finds nothing."""
    counts: Counter[str] = Counter()
    handed = Handed()
    for _ in range(ROUNDS):
        before = counts.total()
        for made in forgetting.changes(db, person, progress):
            forgetting.apply(db, made, handed)
            forgetting.tally([made], lambda word: counts.update([word]))
        if counts.total() == before:
            break
    left: Counter[str] = Counter()
    for made in forgetting.changes(db, person, progress):
        left.update(change.table.name for change in made)
    refused = [
        *exits.erase("sms", frozenset(), frozenset(handed.texts)),
        *exits.erase("email", frozenset(handed.emails), frozenset()),
    ]
    log.info("person erased", left=left.total(), refused=len(refused), **_counted(counts))
    return Erased(counts, left, tuple(refused))


def told(counts: Mapping[str, int]) -> str:
    """How much it is, in a phrase without anything personal."""
    return ", ".join(phrases(counts)) or "nothing"


def phrases(counts: Mapping[str, int]) -> list[str]:
    """The same, a phrase for each kind: "1 event", "2 messages"."""
    return [
        f"{number} {_ONE[words] if number == 1 else words}"
        for words, number in sorted(counts.items())
    ]


def _counted(counts: Mapping[str, int]) -> dict[str, int]:
    return {words.replace(" ", "_"): number for words, number in counts.items()}
