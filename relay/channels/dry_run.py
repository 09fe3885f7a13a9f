"""The channels that send nothing: what would have gone out is kept, or has gone out already."""

from __future__ import annotations

from datetime import datetime

from relay.channels.base import Found, Outcome
from relay.messages.templates import Message


class DryRun:
    """Accepts everything."""

    def send(self, message: Message, attempt_id: str) -> Outcome:
        """Accept a message without sending it."""
        return Outcome("accepted", provider_id=f"dry-run-{attempt_id}", is_kept=True)

    def find(self, message: Message, since: datetime, taken: frozenset[str]) -> Found:
        """Nothing was sent, so nothing can be found."""
        return Found()

    def erase(self, addresses: frozenset[str], provider_ids: frozenset[str]) -> list[str]:
        """Nobody else has anything."""
        return []


class AsSent(DryRun):
    """Of a ledger that was restored: what is due went out before that."""

    def send(self, message: Message, attempt_id: str) -> Outcome:
        """Count a message as sent."""
        return Outcome("accepted", "It counts as sent: it was due before the ledger was restored.")
