"""A comparison over many kits, with a bar; over very many, on all of the machine's cores."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import click

from relay.config.loader import Config
from relay.ledger.database import Database
from relay.ledger.views import kit_history
from relay.ledger.views.kit_history import Kit
from relay.staff.what_if import Line, WhatIf

WORTH_IT = 10_000  # events: below it more processes would take longer to start than they save
MOST_PROCESSES = 4
Part = tuple[list[Line], Mapping[str, Counter[str]]]


@dataclass(frozen=True)
class _Question:
    edited: Config
    current: Config
    since: datetime

    def asked(self) -> WhatIf:
        return WhatIf(self.edited, self.current, self.since)


def compare(db: Database, edited: Config, current: Config, since: datetime) -> tuple[WhatIf, int]:
    """What an edit does to the events since then, and how many events there were."""
    question = _Question(edited, current, since)
    compared = question.asked()
    with db.read() as connection:
        kits = kit_history.kits(connection, since)
    events = sum(kit.events for kit in kits)
    batches = list(kit_history.batches(kits))
    bar = click.progressbar(
        length=events, label="Past events", file=sys.stderr, hidden=not sys.stderr.isatty()
    )
    with bar, uncollected():
        parts = _parts(db, question, batches, events)
        for batch, (lines, counts) in zip(batches, parts, strict=True):
            compared.add(lines, counts)
            bar.update(sum(kit.events for kit in batch))
    return compared, events


def _parts(
    db: Database, question: _Question, batches: Sequence[list[Kit]], events: int
) -> Iterator[Part]:
    if events < WORTH_IT or "fork" not in multiprocessing.get_all_start_methods():
        yield from map(partial(_part, db, question), batches)
        return
    db.close()  # a connection must not be shared with a forked process
    url = db.url.render_as_string(hide_password=False)
    cores = min(os.cpu_count() or 1, MOST_PROCESSES)
    context = multiprocessing.get_context("fork")  # configs cannot be pickled, only inherited
    with ProcessPoolExecutor(cores, context, _begin, (url, question)) as pool:
        yield from pool.map(_in_a_process, batches)


def _part(db: Database, question: _Question, batch: Sequence[Kit]) -> Part:
    part = question.asked()
    with db.read() as connection:
        histories = kit_history.histories(connection, batch, part.events)
    for history in histories:
        part.take(history)
    return part.lines, part.counts


_own: list[tuple[Database, _Question]] = []  # of a process that does parts


def _begin(url: str, question: _Question) -> None:
    _own[:] = [(Database(url, patience=10), question)]


def _in_a_process(batch: Sequence[Kit]) -> Part:
    ((db, question),) = _own
    return _part(db, question, batch)


@contextmanager
def uncollected() -> Iterator[None]:
    """The garbage collector would take a tenth of the time, and find next to nothing."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
