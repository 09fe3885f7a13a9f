"""A provider's limit of sends a second."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.worker.token_bucket import TokenBucket


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


@given(
    per_second=st.floats(0.1, 200),
    steps=st.lists(st.tuples(st.floats(0, 2), st.integers(0, 50)), min_size=1, max_size=60),
)
def test_a_limit_is_kept(per_second: float, steps: list[tuple[float, int]]) -> None:
    """However the asking falls, no more starts than the limit and a tenth of a second's burst."""
    clock = Clock()
    rate = TokenBucket(per_second, clock)
    started = 0
    for seconds, wanted in steps:
        clock.now += seconds
        allowed = rate.allowed(wanted)
        rate.take(allowed)
        started += allowed
    assert started <= clock.now * per_second + max(1.0, per_second / 10) + 1e-6


def test_no_limit_lets_all_through() -> None:
    """A provider without a limit is not held back."""
    rate = TokenBucket(None)
    rate.take(1000)
    assert (rate.allowed(50), rate.wait()) == (50, 0.0)


def test_the_limit_is_shared_among_workers() -> None:
    """Four workers get a quarter each."""
    clock = Clock()
    rate = TokenBucket(8, clock)
    rate.take(1)
    rate.share(4)
    assert rate.wait() == pytest.approx(0.5)
    clock.now += 0.5
    assert rate.allowed(10) == 1
