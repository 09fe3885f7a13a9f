"""The circuit breaker: pauses a channel whose provider refuses us, is busy, or is away."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

from relay.channels.base import Outcome
from relay.rules import alerts
from relay.rules.channels import CHANNELS
from relay.rules.model import Pause, Policy
from relay.rules.statuses import AWAY, BUSY, REFUSED

IN_A_ROW = 5  # sends without a readable answer before a provider counts as away
ALIKE = (
    5  # recipients refused in a row, by one code in no table, before that is our account's fault
)


def by_account(cause: str, channel: str, reason: str, policy: Policy) -> Pause:
    """The pause that a fault of our account calls for: staff have to put it right."""
    now = datetime.now(UTC)
    case = alerts.case("paused", channel, channel, reason, policy=policy, now=now)
    return Pause(cause, reason, case=case)


class CircuitBreaker:
    """Judges each outcome, and counts those in a row without an answer. A process has one."""

    def __init__(self, policy: Policy):
        self._policy = policy
        self._lock = threading.Lock()
        self._silent = dict.fromkeys(CHANNELS, 0)
        self._alike: dict[str, tuple[str, set[str]]] = {}  # by channel: a code, and who had it

    def after(
        self, channel: str, outcome: Outcome, address: str = "", *, is_still: bool = False
    ) -> Pause | None:
        """The pause that an outcome calls for; None where sending may go on.

        `is_still` says that the channel is paused for a refusal already, and this was its probe.
        """
        away, is_ours = self._is_away(channel, outcome), self._is_ours(channel, outcome, address)
        if outcome.operator or is_ours or (is_still and outcome.is_unlisted):
            return by_account(REFUSED, channel, outcome.reason, self._policy)
        if outcome.result == "rejected" and outcome.retry_after:
            return Pause(BUSY, outcome.reason, outcome.retry_after)
        return Pause(AWAY, outcome.reason) if away else None

    def _is_ours(self, channel: str, outcome: Outcome, address: str) -> bool:
        with self._lock:
            code, who = self._alike.get(channel, ("", set()))
            who = who if outcome.is_unlisted and outcome.code == code else set()
            self._alike[channel] = outcome.code, who | ({address} if outcome.is_unlisted else set())
            return len(self._alike[channel][1]) >= ALIKE

    def _is_away(self, channel: str, outcome: Outcome) -> bool:
        # A refusal with a code is an answer; one without is a connection that never came about.
        answered = outcome.result == "accepted" or (outcome.result == "rejected" and outcome.code)
        with self._lock:
            self._silent[channel] = 0 if answered else self._silent[channel] + 1
            return self._silent[channel] >= IN_A_ROW
