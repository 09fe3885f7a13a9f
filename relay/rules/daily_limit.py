"""The day's limit on texts: a cap on cost, with a share that only urgent messages may use. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from relay.lab.events import EVENTS, RETEST
from relay.rules.model import ALERT_URGENCY

# The last fifth of the limit. By the shipped rules one text in four or five about a kit is urgent:
# on a day of ordinary news about as many of them are still to come when the rest is used up. It is
# rounded down, so a limit below five is too small to share.
KEPT = 5
URGENT = EVENTS[RETEST].urgency  # and what is above it: results, and alerts to staff
URGENT_WORDS = "results, retests and alerts"


@dataclass(frozen=True)
class DailyLimit:
    """A day's limit on a channel, and how many messages count against it so far."""

    most: int
    spent: int = 0

    @property
    def kept(self) -> int:
        """How many of them only urgent messages may use."""
        return self.most // KEPT

    def reach(self, urgency: int) -> float:
        """How far the count may go with messages of an urgency.

        An alert counts, but is never held up: it may be the one that tells of the limit.
        """
        if urgency >= ALERT_URGENCY:
            return math.inf
        return self.most if urgency >= URGENT else self.most - self.kept

    def lets_through(self, urgency: int, ahead: int = 0) -> bool:
        """Whether a message of an urgency may go now, with so many others ahead of it."""
        return self.spent + ahead < self.reach(urgency)

    def reason(self, urgency: int) -> str:
        """What a case says about messages of an urgency that wait for the limit."""
        if self.kept and urgency < URGENT:
            return f"daily_sms_limit is {self.most}, with {self.kept} kept for {URGENT_WORDS}."
        return f"daily_sms_limit is {self.most}. Results and retests wait too."
