"""Tries a draft on the events of the last 30 days, in a process of its own: it may take minutes.

The progress and the result are kept with the draft, for anybody who looks at it.
"""

from __future__ import annotations

import os
import pickle
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from relay.config import edition_files, loader, reload
from relay.config.edition_files import TEMPLATES
from relay.config.loader import Config
from relay.config.settings import Settings
from relay.errors import ConfigError, LedgerUnavailable
from relay.lab.facts import PERSONS
from relay.ledger import drafts
from relay.ledger.database import Database
from relay.ledger.drafts import Draft
from relay.ledger.editions import Shelf
from relay.ledger.views import kit_history
from relay.logs import get_logger
from relay.rules.edition import Content, digest
from relay.staff import costs, waiting
from relay.staff.judging import limit_memory, run_apart
from relay.staff.what_if import EITHER_WAY, SENT, WOULD, WhatIf, forbidden, renamed

DAYS = 30
SHOWN = 20
WHAT = ("added", "dropped", "changed", "cannot-be-told")
_LONGEST_SECONDS = 900
_MEMORY = 384 * 2**20
Tell = Callable[[int, int], None]  # gets the number of events looked at, and of all
log = get_logger("relay.trial")


@dataclass(frozen=True)
class Trial:
    """A draft's files, for a trial: an edit of an edition."""

    draft_id: str
    of: str
    files: Content
    touched: Collection[str]  # templates whose words the draft edits
    settings: Settings


def begin(db: Database, draft: Draft, files: Content, edition: int | None, now: Settings) -> str:
    """Have a draft tried against an edition, unless it is or was; return the trial's name."""
    of = f"{edition} {digest(files)[:32]} {datetime.now(UTC):%F}"  # another day has another past
    with db.write() as connection:
        is_mine = drafts.begin_trial(connection, draft, of)
    if is_mine:
        _in_background(db, Trial(draft.id, of, files, reworded(draft), now))
    return of


def _in_background(db: Database, trial: Trial) -> None:
    threading.Thread(target=apart, args=(db, trial), daemon=True).start()


def reworded(draft: Draft) -> frozenset[str]:
    """The templates in which a draft changes a file."""
    paths = (name.split("/") for name in draft.files)
    return frozenset(path[1] for path in paths if path[0] == TEMPLATES)


def apart(db: Database, trial: Trial) -> None:
    """Try a draft in a process of its own; record it if that fails."""
    try:
        run_apart(__name__, trial, _LONGEST_SECONDS)
    except (subprocess.SubprocessError, OSError) as error:
        log.error("trial failed", draft=trial.draft_id, reason=type(error).__name__)
        with suppress(LedgerUnavailable):
            tell(db, trial, {"failed": True}, is_over=True)


def main() -> None:
    """Try the draft on standard input. Urgent work goes first."""
    trial: Trial = pickle.load(sys.stdin.buffer)  # noqa: S301
    os.nice(10)
    resource.setrlimit(resource.RLIMIT_CPU, (_LONGEST_SECONDS, _LONGEST_SECONDS))
    limit_memory(_MEMORY)
    db = Database(trial.settings.database_url, patience=10)
    work(db, trial)
    db.close()


def work(db: Database, trial: Trial) -> None:
    """Compare a draft with the messages that were sent, and keep the result."""
    _held, used = edition_files.laid_out(trial.files, trial.settings)  # held as long as this runs
    try:
        edited = loader.load(used)
        current = reload.in_use(trial.settings, loader.load, Shelf(db))
    except ConfigError:
        return tell(db, trial, {"failed": True}, is_over=True)
    said = time.monotonic()

    def tell_progress(looked: int, events: int) -> None:
        nonlocal said
        if time.monotonic() - said > 1:
            said = time.monotonic()
            tell(db, trial, {"looked": looked, "events": events})

    found = compare(db, edited, current, trial.touched, tell_progress)
    tell(db, trial, found, is_over=True)


def tell(db: Database, trial: Trial, state: dict[str, Any], *, is_over: bool = False) -> None:
    """Keep a trial's progress or result."""
    with db.write() as connection:
        drafts.tell_trial(connection, trial.draft_id, trial.of, state, is_over=is_over)


def compare(
    db: Database, edited: Config, current: Config, touched: Collection[str], progress: Tell
) -> dict[str, Any]:
    """The effect that an edit would have had in the last days, as JSON: counts by rule, the latest
    differences, the number of people concerned, and the cost.
    """
    now = datetime.now(UTC)
    since = now - timedelta(days=DAYS)
    compared = WhatIf(edited, current, since, is_of_words=bool(touched))
    again = [*renamed(edited, current)]
    if not (compared.is_edit or touched):
        return {"is_edit": False, "renamed": again}
    with db.read() as connection:
        kits = kit_history.kits(connection, since)
    events, looked = sum(kit.events for kit in kits), 0
    for batch in kit_history.batches(kits):
        compared.take_batch(db, batch)
        looked += sum(kit.events for kit in batch)
        progress(looked, events)
    found = compared.found
    lines = [line for line in found.lines if line.what != EITHER_WAY]
    lines.sort(key=lambda line: (line.at, line.event_id, line.rule, line.channel), reverse=True)
    in_new_words = {rule.name for rule in edited.rules if rule.template in touched}
    rules = dict.fromkeys(rule.name for rule in (*current.rules, *edited.rules))
    return {
        "is_edit": compared.is_edit,
        "events": events,
        "counts": {
            name: {what: found.counts[name][what] for what in (SENT, WOULD, *WHAT)}
            for name in rules
            if any(found.counts[name][what] for what in WHAT)
        },
        "lines": [{**line._asdict(), "at": line.at.isoformat()} for line in lines[:SHOWN]],
        "more": max(0, len(lines) - SHOWN),
        "people": len({(line.subject, line.role) for line in lines if line.role in PERSONS}),
        "reworded": sum(
            many
            for (rule, _, what), many in found.volumes.items()
            if what == SENT and rule in in_new_words
        ),
        "never": dict(forbidden(compared)),
        "cost": costs.of_edit(compared, now),
        "renamed": again,
        "waits": waiting.compare(db, edited, current, touched, lambda: progress(looked, events)),
    }


if __name__ == "__main__":
    main()
