"""Places where a test may kill this process (RELAY_CRASH_AT, in development only).

Also divides the ledger's waits, so that in chaos runs hours pass in seconds (RELAY_HASTE).
"""

from __future__ import annotations

import os
import signal

# In the order in which an event and then its message pass them.
CRASH_POINTS = (
    "intake.before-commit",
    "intake.after-commit",
    "intake.before-wake",
    "queue.dequeued",
    "event.leased",
    "event.fetched",
    "event.before-commit",
    "event.after-commit",
    "message.claimed",
    "message.before-send",
    "message.after-send",
    "message.after-commit",
    "lookup.before-commit",
    "followup.before-commit",
)
_armed = ""


def arm_crash_point(name: str) -> None:
    """Make this process die at a point; none if empty. Raises ValueError for an unknown one."""
    global _armed  # noqa: PLW0603 - one for the process, set once at its start
    if name and name not in CRASH_POINTS:
        raise ValueError(f'there is no failpoint "{name}"')
    _armed = name


def crash_point(name: str) -> None:
    """Die here, as in a power cut, if this point is armed."""
    if name == _armed:
        os.kill(os.getpid(), signal.SIGKILL)


_haste = 1.0


def set_haste(factor: float) -> None:
    """Divide every wait by `factor` from now on."""
    global _haste  # noqa: PLW0603 - one for the process, set once at its start
    _haste = factor


def hastened(value: float) -> float:
    """The seconds that a wait of `value` seconds takes in this process."""
    return value / _haste
