"""A slow worker begins to send just as a sweep settles its lapsed claim: found by `make chaos`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from relay.ledger import delivery
from relay.ledger.database import Database
from relay.ledger.schema import attempts, notifications
from tests.rows import claimed, only, time_passes


def test_what_is_begun_while_the_sweep_looks_is_not_sent_again(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the sweep's look and its write the worker takes the lease anew: nothing lapses."""
    claim, write, begun = claimed(db), db.write, []

    @contextmanager
    def slowly() -> Iterator[Any]:
        begun.append(delivery.begin(db, claim, {"text": "Your kit …"}))
        with write() as connection:
            yield connection

    time_passes(db, timedelta(minutes=5))
    monkeypatch.setattr(db, "write", slowly)
    assert delivery.lapse(db) == 0
    assert begun == [True]
    assert only(db, notifications)["status"] == "sending"
    assert only(db, attempts)["outcome"] == "started"
