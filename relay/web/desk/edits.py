"""An edited config.toml: the rules that it changes, and how it compares with what was sent lately,
so much of it as fits a page's time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from relay.config.loader import Config
from relay.config.plain_english import rule_sentences
from relay.errors import LedgerUnavailable
from relay.ledger.database import Database
from relay.ledger.views import kit_history
from relay.messages.templates import Templates
from relay.rules.model import Rule
from relay.staff.what_if import EITHER_WAY, SENT, WOULD, Line, WhatIf, renamed
from relay.web.desk.previews import Shown, examples

DAYS, SECONDS = 7, 3.0
SHOWN = 20
WHAT = {
    "added": "added",
    "dropped": "dropped",
    "changed": "changed",
    "cannot-be-told": "cannot be told",
}


@dataclass(frozen=True)
class Tried:
    """What came of it. `looked` of `events` were played: the latest."""

    events: int
    looked: int
    counts: Mapping[str, Mapping[str, int]]  # rule → what → how many
    lines: Sequence[Line]  # the latest of the differences
    more: int
    renamed: Sequence[tuple[str, str]]
    failed: bool = False  # the ledger did not answer in time
    is_edit: bool = True  # some rule decides otherwise than by the config in use

    @property
    def differs(self) -> bool:
        """Whether the edit would have changed anything of what was looked at."""
        return bool(self.lines)


@dataclass(frozen=True)
class Change:
    """A rule that an edit brings, changes or takes out, in words, and its messages."""

    what: str
    rule: Rule
    rule_sentences: Sequence[str]
    shown: Sequence[Shown] = ()


def changes(edited: Config, current: Config) -> Iterator[Change]:
    """What an edit makes of the rules: of one that is the same in words and keys, nothing."""
    loaded = Templates(edited.settings.templates)
    before = {rule.name: (rule, rule_sentences(rule, current.policy)) for rule in current.rules}
    for rule in edited.rules:
        now = (rule, rule_sentences(rule, edited.policy))
        if before.get(rule.name) != now:
            what = "changed" if rule.name in before else "new"
            yield Change(what, *now, [*examples(edited, loaded, rule)])
    kept = {rule.name for rule in edited.rules}
    yield from (Change("gone", *one) for name, one in before.items() if name not in kept)


def compare(db: Database, edited: Config, current: Config, now: datetime) -> Tried:
    """Play an edit to the last days, the latest kits first, until the time is up."""
    since, ends = now - timedelta(days=DAYS), time.monotonic() + SECONDS
    compared, looked = WhatIf(edited, current, since), 0
    again = [*renamed(edited, current)]
    if not compared.is_edit:
        return Tried(0, 0, {}, (), 0, again, is_edit=False)
    try:
        kits = kit_history.kits(db, since)
        for batch in kit_history.batches(kits[::-1]):
            if time.monotonic() > ends:
                break
            for history in kit_history.histories(db, batch, compared.events):
                compared.take(history)
            looked += sum(kit.events for kit in batch)
    except LedgerUnavailable:
        return Tried(0, 0, {}, (), 0, again, failed=True)
    lines = [line for line in compared.lines if line.what != EITHER_WAY]
    lines.sort(key=lambda line: (line.at, line.event_id, line.rule, line.channel), reverse=True)
    counts = {
        rule.name: {what: compared.counts[rule.name][what] for what in (SENT, WOULD, *WHAT)}
        for rule in {one.name: one for one in (*current.rules, *edited.rules)}.values()
        if any(compared.counts[rule.name][what] for what in WHAT)
    }
    events = sum(kit.events for kit in kits)
    return Tried(events, looked, counts, lines[:SHOWN], max(0, len(lines) - SHOWN), again)
