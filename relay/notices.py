"""What rules decide: planned notices, and the decisions that told nobody."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Notice:
    """One planned notification: a message to one address, or the reason why there is none."""

    rule: str
    template: str
    subject: str
    round: int
    role: str
    channel: str
    address: str
    status: str
    reason: str
    due_at: datetime
    urgency: int
    is_fallback: bool = False

    @property
    def family(self) -> str:
        """What one rule owes one role about one kit, whatever the channel."""
        return _digest(self.rule, self.subject, self.round, self.role)

    @property
    def identity(self) -> str:
        """Unique in the ledger, so that nobody is told the same thing twice."""
        return _digest(self.rule, self.subject, self.round, self.role, self.channel, self.address)


@dataclass(frozen=True)
class Decision:
    """Why a rule told nobody."""

    rule: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """What an event leads to."""

    notices: tuple[Notice, ...] = ()
    decisions: tuple[Decision, ...] = ()


# (rule, role, channel) of what is on its way or has reached the person about this kit and round.
Told = frozenset[tuple[str, str, str]]


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
