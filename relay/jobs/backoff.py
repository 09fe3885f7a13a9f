"""Backoff: how long an event or a message waits before its next try, and when to give up. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import timedelta

from relay import fault_injection

# Seconds to wait after an event's first, second, … failure; then the last again and again.
EVENT_DELAYS = (5, 15, 60, 300, 900, 1800, 3600, 7200, 14400, 28800, *[43200] * 5)
# Likewise for a message that the provider did not accept: about a day, then temporary-failure.
SEND_DELAYS = (5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, *[3600] * 22)
LONGEST_ASKED = 12 * 3600  # seconds: nobody else may decide that a message is never sent


def delay(delays: Sequence[float], tries: int, asked: float | None) -> float:
    """Seconds until the next try, after `tries`: from a growing list, or `asked` if the other side
    asks for longer.

    Up to a fifth is added at random, so that many that failed together do not try again together.
    """
    usual = delays[min(tries, len(delays)) - 1]
    seconds = max(usual, min(asked or 0.0, LONGEST_ASKED))
    return fault_injection.hastened(seconds * random.uniform(1.0, 1.2))  # noqa: S311 - not a secret


def is_hopeless(tries: int, patience: timedelta) -> bool:
    """Whether an event that has failed `tries` times has been tried for the whole of `patience`."""
    last = EVENT_DELAYS[-1]
    waited = sum(EVENT_DELAYS[:tries]) + last * max(0, tries - len(EVENT_DELAYS))
    return waited > patience.total_seconds()
