"""Races that `make chaos` has found."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from relay.ledger import attempts as ledger_attempts
from relay.ledger.database import Database
from relay.ledger.group_commit import GroupCommit
from relay.ledger.schema import attempts, notifications
from tests.rows import claimed, only, time_passes


def test_what_is_begun_while_the_sweep_looks_is_not_sent_again(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the sweep's look and its write the worker takes the lease anew: nothing lapses."""
    claim, write, begun = claimed(db), db.write, []

    @contextmanager
    def slowly() -> Iterator[Any]:
        monkeypatch.setattr(db, "write", write)  # on SQLite `begin` opens a transaction too
        begun.append(ledger_attempts.begin(db, claim, {"text": "Your kit …"}))
        with write() as connection:
            yield connection

    time_passes(db, timedelta(minutes=5))
    monkeypatch.setattr(db, "write", slowly)
    assert ledger_attempts.lapse(db) == 0
    assert begun == [True]
    assert only(db, notifications)["status"] == "sending"
    assert only(db, attempts)["outcome"] == "started"


def test_whose_turn_comes_as_its_patience_ends_leads_like_any_other() -> None:
    """Woken a moment after it has stopped waiting, it writes its part, and wakes itself once."""
    leading, written = threading.Event(), threading.Event()
    told: list[Any] = []

    def work(given: Sequence[str]) -> Sequence[str]:
        if given == ["first"]:
            leading.set()
            written.wait(10)
        return given

    together = GroupCommit(work, key=str, most=8, patience=0.2)
    give_up = together._give_up

    def late(job: Any) -> None:
        written.set()  # the first ends now, and hands over to us
        while not job.leads:
            pass
        give_up(job)

    together._give_up = late  # type: ignore[method-assign]
    first = threading.Thread(target=lambda: told.append(together.run("first")))
    first.start()
    assert leading.wait(10)
    told.append(together.run("second"))
    first.join(10)
    assert sorted(told) == ["first", "second"]
