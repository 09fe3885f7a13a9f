"""The clock's work: a part that breaks stops no other, however much there is to do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from relay.errors import LedgerUnavailable
from relay.jobs.isolation import Broken
from relay.ledger import attempts, database
from relay.ledger.holds import waits
from relay.ledger.schema import events, notifications
from tests.jobs.conftest import Clinic
from tests.rows import change, rows, time_passes

THREE_DAYS = timedelta(hours=72, seconds=1)


def broken(*_: Any) -> int:
    """What stands in for a part with a fault."""
    raise ZeroDivisionError


def away(*_: Any) -> int:
    """What stands in for a part whose rows are locked."""
    raise LedgerUnavailable("the ledger is locked")


@pytest.mark.parametrize("fault", [broken, away])
def test_a_part_that_breaks_stops_no_other(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, fault: Any, capsys: Any
) -> None:
    """The first part fails each time; what no receipt came for is given up all the same, and the
    log names the part.
    """
    clinic.orders(1)
    clinic.work()
    change(clinic.db, notifications, {}, status="sent")
    time_passes(clinic.db, THREE_DAYS + timedelta(days=2))
    change(clinic.db, notifications, {}, receipt_by=rows(clinic.db, events)[0]["received_at"])
    monkeypatch.setattr(attempts, "lapse", fault)
    with pytest.raises(Broken, match="claims"):
        clinic.jobs.sweep()
    assert [row["status"] for row in rows(clinic.db, notifications)] == ["temporary-failure"]
    assert "claims" in capsys.readouterr().out


def test_all_that_waits_for_the_lab_goes_on(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More events than one transaction changes go on when the lab answers."""
    monkeypatch.setattr(database, "ROWS", 2)
    clinic.orders(5)
    clinic.work()
    change(clinic.db, events, {}, waits_for="lab", status="received")
    waits.lab_answers(clinic.db)
    assert [row["waits_for"] for row in rows(clinic.db, events)] == [None] * 5
