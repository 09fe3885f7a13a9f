"""tests/stateful/simulate.py: a seed can be had again, and promises are kept in it."""

from __future__ import annotations

from tests.stateful.simulate import play, product


def test_a_seed_repeats_to_the_letter() -> None:
    """What a seed leads to is the same each time, whatever was played before it."""
    with product() as stage:
        first, second = play(*stage, 1), play(*stage, 2)
        assert play(*stage, 1) == first != second
