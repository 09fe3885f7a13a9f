"""Haste: how long the ledger's waits are in a chaos run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from relay import fault_injection
from relay.jobs import backoff


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    fault_injection.set_haste(1.0)


def test_without_haste_a_wait_is_as_long_as_it_is() -> None:
    """Time goes by as it does anywhere."""
    assert fault_injection.hastened(90) == 90


def test_haste_divides_every_wait() -> None:
    """An hour passes in two minutes."""
    fault_injection.set_haste(30)
    assert fault_injection.hastened(3600) == 120


@pytest.mark.parametrize(("asked", "least"), [(None, 5.0), (60.0, 60.0)])
def test_the_delays_of_retries_are_hurried_too(asked: float | None, least: float) -> None:
    """Our own delays, and those that the other side asks for."""
    fault_injection.set_haste(10)
    assert least / 10 <= backoff.delay(backoff.SEND_DELAYS, 1, asked) <= least * 1.2 / 10
