"""The five steps of a kit in every order in which they can arrive: what its people are told."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from datetime import timedelta
from itertools import permutations

import pytest

from relay.dev import lab_simulator
from relay.lab.events import EVENTS, STAGES
from tests.conftest import DATABASES, ROOT
from tests.jobs.conftest import Clinic

TABLE = ROOT / "tests" / "expected" / "orders.md"
HOUR = timedelta(hours=1)
ORDERS = list(permutations(STAGES))
NAMES = {kind.stage: kind.name for kind in EVENTS.values() if kind.stage}
RULES = "".join(
    f"""
[rules.{stage}]
event = "{NAMES[stage]}"
to = "{"customer" if EVENTS[NAMES[stage]].resource == "order" else "patient"}"
channels = ["sms"]
template = "results"
"""
    for stage in STAGES
)
HEAD = """# What is told, in every order of arrival

The five steps of a kit can arrive in 120 orders. Here each arrives an hour after the one before,
and a message goes out at once. A step is told unless a later one has come before it, however often
it is posted. Made by a test, from the real thing:
`RELAY_UPDATE_EXPECTED=1 .venv/bin/pytest tests/jobs/test_orders.py`.

| Arrives | Told |
|---|---|
"""


def right(order: Sequence[str]) -> list[str]:
    """The oracle: a step is told where nothing later has come before it."""
    highest, told = -1, []
    for stage in order:
        if STAGES.index(stage) > highest:
            highest = STAGES.index(stage)
            told.append(stage)
    return told


class Kits:
    """120 kits, each on its way in an order of its own."""

    def __init__(self, clinic: Clinic) -> None:
        self.clinic = clinic
        clinic.configure(RULES)
        self.orders = {str(uuid.UUID(int=number)): order for number, order in enumerate(ORDERS, 1)}

    def post(self, order_id: str, stage: str) -> None:
        """A step of a kit comes in."""
        kit = lab_simulator.order(order_id)["test_registrations"][0]["id"]
        name = NAMES[stage]
        data = {"order_id": order_id} if name.startswith("order") else {"testregistration_id": kit}
        if stage == "received":
            data["sample_received_at"] = "2026-06-01T14:52:32+01:00"
        self.clinic.post(name, **data)

    def told(self) -> dict[str, list[str]]:
        """What went out about each kit, by its order's id, in the order of its steps' arrival."""
        kits = {id_: lab_simulator.order(id_)["test_registrations"][0]["id"] for id_ in self.orders}
        sent = [(row["subject"], row["rule"]) for row in self.clinic.messages(status="sent")]
        return {
            id_: [rule for subject, rule in sent if subject in (id_, kit)]
            for id_, kit in kits.items()
        }


TWICE = [pytest.param(database, True, marks=pytest.mark.long) for database in DATABASES]


@pytest.mark.parametrize(
    ("ledger_url", "twice"), [(DATABASES[-1], False), *TWICE], indirect=["ledger_url"]
)
def test_every_order_tells_what_is_news(clinic: Clinic, twice: bool) -> None:
    """In each of the 120 orders a person is told of a step unless a later one is known already,
    and nothing twice, though any step may be posted again.
    """
    kits = Kits(clinic)
    for turn in range(len(STAGES)):
        for id_, order in kits.orders.items():
            kits.post(id_, order[turn])
            if twice:
                kits.post(id_, order[turn])
                kits.post(id_, order[0])
        clinic.work(HOUR)
    found = kits.told()
    assert {id_: sorted(told) for id_, told in found.items()} == {
        id_: sorted(right(order)) for id_, order in kits.orders.items()
    }
    rows = (
        f"| {', '.join(order)} | {', '.join(sorted(found[id_], key=STAGES.index))} |\n"
        for id_, order in kits.orders.items()
    )
    table = HEAD + "".join(rows)
    if os.environ.get("RELAY_UPDATE_EXPECTED") == "1":
        TABLE.write_text(table, "utf-8")
    assert TABLE.read_text("utf-8") == table
