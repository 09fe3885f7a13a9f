"""Places where a test may kill this process (RELAY_CRASH_AT, in development only)."""

from __future__ import annotations

import os
import signal

# In the order in which an event and its message pass them.
POINTS = (
    *("intake.before-commit", "intake.after-commit", "intake.before-wake", "queue.dequeued"),
    *("event.leased", "event.fetched", "event.before-commit", "event.after-commit"),
    *("message.claimed", "message.before-send", "message.after-send", "message.after-commit"),
    *("lookup.before-commit", "followup.before-commit"),
)
_armed = ""


def arm(name: str) -> None:
    """Die at a point; nowhere when it is empty. Raises ValueError for an unknown one."""
    global _armed  # noqa: PLW0603 - one for the process, set once at its start
    if name and name not in POINTS:
        raise ValueError(f'there is no failpoint "{name}"')
    _armed = name


def reach(name: str) -> None:
    """Die here, as by a power cut, if this point is armed."""
    if name == _armed:
        os.kill(os.getpid(), signal.SIGKILL)
