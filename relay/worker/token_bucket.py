"""A token bucket: a provider's limit of sends a second, shared by all workers."""

from __future__ import annotations

import time
from collections.abc import Callable


class TokenBucket:
    """At most `per_second` sends over all workers; None for no limit. Not thread-safe."""

    def __init__(self, per_second: float | None, clock: Callable[[], float] = time.monotonic):
        self.limit = per_second
        self._clock = clock
        self._share = per_second or 0.0
        self._tokens = 1.0
        self._at = clock()

    def share(self, workers: int) -> None:
        """Set the number of workers that share the limit."""
        self.refill()
        self._share = (self.limit or 0.0) / max(1, workers)

    def allowed(self, wanted: int) -> int:
        """How many of `wanted` may start now."""
        if self.limit is None:
            return wanted
        self.refill()
        return min(wanted, int(self._tokens))

    def take(self, started: int) -> None:
        """Count sends that were started."""
        self._tokens -= started

    def wait(self) -> float:
        """Seconds until another may start."""
        if self.limit is None:
            return 0.0
        self.refill()
        return max(0.0, (1.0 - self._tokens) / self._share)

    def refill(self) -> None:
        """Add the tokens that have come since the last time.

        It holds a tenth of a second's worth at most, so that no burst breaks the limit.
        """
        now = self._clock()
        most = max(1.0, self._share / 10)
        self._tokens = min(most, self._tokens + (now - self._at) * self._share)
        self._at = now
