"""Relay under all that a lab, providers and people may do, against promises in plain words.

RELAY_STATEFUL_MINUTES is how long the long test looks for a counter-example on each database.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from relay.config.settings import Settings
from relay.ledger.database import Database
from tests.conftest import SECRET
from tests.stateful.clinic import Relay
from tests.stateful.faults import FAULTS
from tests.stateful.machine import RelayMachine

MINUTES = float(os.environ.get("RELAY_STATEFUL_MINUTES", "2"))
PROFILE = settings(
    max_examples=6,
    stateful_step_count=25,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
ENOUGH = 1000  # examples within which each planted fault is found


@pytest.fixture
def relay(ledger_url: str, db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Relay:
    """The product on an empty ledger, without chance; what only reads is left out, for speed."""
    monkeypatch.setattr("relay.jobs.backoff.random.uniform", lambda least, _most: least)
    monkeypatch.setattr("relay.ledger.views.daily_counts.keep", lambda *_: None)
    monkeypatch.setattr("relay.ledger.audit.carry_over", lambda *_: None)
    by = Settings(
        database_url=ledger_url,
        webhook_secrets=(SECRET,),
        development=True,
        config=tmp_path / "config.toml",
        admin_password="letmein",
        secret_key="tests",
    )
    return Relay(by, db, tmp_path / "words")


def test_whatever_happens_promises_are_kept(relay: Relay) -> None:
    """The right words to the right person, once, or a person of the clinic knows why not."""
    quick = settings(PROFILE, phases=[Phase.generate])  # the long test makes an example small
    run_state_machine_as_test(lambda: RelayMachine(relay), settings=quick)


@pytest.mark.long
def test_whatever_happens_for_minutes_promises_are_kept(relay: Relay) -> None:
    """The same, with other examples for as long as RELAY_STATEFUL_MINUTES says."""
    ends, played = time.monotonic() + MINUTES * 60, 0

    def machine() -> RelayMachine:
        nonlocal played
        played += 1
        return RelayMachine(relay)

    while time.monotonic() < ends:
        run_state_machine_as_test(
            machine,
            settings=settings(PROFILE, max_examples=50, stateful_step_count=40, derandomize=False),
        )
    print(f"{played} examples in {MINUTES:g} min")


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(FAULTS))
def test_each_planted_fault_is_found(
    name: str, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one mend taken out the machine finds a broken promise within ENOUGH examples; else its
    world is too poor."""
    fault = FAULTS[name]
    if relay.db.engine.dialect.name != fault.database:
        pytest.skip(f"It is looked for on {fault.database}.")
    fault.plant(monkeypatch)
    with pytest.raises(AssertionError) as found:
        run_state_machine_as_test(
            lambda: RelayMachine(relay),
            settings=settings(
                PROFILE, max_examples=ENOUGH, stateful_step_count=40, phases=[Phase.generate]
            ),
        )
    assert "broke" not in str(found.value), "the oracle itself broke"
