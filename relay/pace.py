"""How long the ledger waits. In chaos runs hours pass in seconds (RELAY_HASTE)."""

from __future__ import annotations

_haste = 1.0


def set_haste(factor: float) -> None:
    """Divide every wait by `factor` from now on."""
    global _haste  # noqa: PLW0603 - one for the process, set once at its start
    _haste = factor


def seconds(value: float) -> float:
    """A wait of `value` seconds, as long as it is in this process."""
    return value / _haste
