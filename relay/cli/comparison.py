"""Compares many kits with a progress bar; very many, on several of the machine's cores."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from functools import partial

import click

from relay.config.loader import Config
from relay.ledger.database import Database
from relay.ledger.views import kit_history
from relay.ledger.views.kit_history import Kit
from relay.staff.what_if import Found, WhatIf

WORTH_IT = 10_000  # events: with fewer, more processes cost more time to start than they save
MOST_PROCESSES = 4


Asked = Callable[[], WhatIf]  # returns a comparison that has not begun


def compare(db: Database, edited: Config, current: Config, since: datetime) -> tuple[WhatIf, int]:
    """The effect of an edit on the events since a time, and the number of those events."""
    asked = partial(WhatIf, edited, current, since)
    compared = asked()
    with db.read() as connection:
        kits = kit_history.kits(connection, since)
    events = sum(kit.events for kit in kits)
    batches = list(kit_history.batches(kits))
    bar = click.progressbar(
        length=events, label="Past events", file=sys.stderr, hidden=not sys.stderr.isatty()
    )
    with bar, uncollected():
        parts = compare_batches(db, asked, batches, events)
        for batch, found in zip(batches, parts, strict=True):
            compared.found.add(found)
            bar.update(sum(kit.events for kit in batch))
    return compared, events


def compare_batches(
    db: Database, asked: Asked, batches: Sequence[list[Kit]], events: int
) -> Iterator[Found]:
    """Yield each batch's comparison, in parallel processes if there are many events."""
    if events < WORTH_IT or "fork" not in multiprocessing.get_all_start_methods():
        yield from map(partial(compare_batch, db, asked), batches)
        return
    db.close()  # a connection must not be shared with a forked process
    url = db.url.render_as_string(hide_password=False)
    cores = min(os.cpu_count() or 1, MOST_PROCESSES)
    context = multiprocessing.get_context("fork")  # configs cannot be pickled, so are inherited
    with ProcessPoolExecutor(cores, context, start_process, (url, asked)) as pool:
        yield from pool.map(compare_in_process, batches)


def compare_batch(db: Database, asked: Asked, batch: Sequence[Kit]) -> Found:
    """Replay a batch of kits under both configurations."""
    part = asked()
    part.take_batch(db, batch)
    return part.found


_own: list[tuple[Database, Asked]] = []  # in a child process: its database and comparison


def start_process(url: str, asked: Asked) -> None:
    """Open a database connection in a child process, and keep the comparison with it."""
    _own[:] = [(Database(url, patience=10), asked)]


def compare_in_process(batch: Sequence[Kit]) -> Found:
    """Compare a batch with the child process's own database connection."""
    ((db, asked),) = _own
    return compare_batch(db, asked, batch)


@contextmanager
def uncollected() -> Iterator[None]:
    """Turn the garbage collector off: it would take a tenth of the time and find almost nothing."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
