"""Providers that send nothing: for dry runs, and for a ledger restored from a backup."""

from __future__ import annotations

from relay.channels.base import Outcome, Provider
from relay.messages.templates import Message


class DryRun(Provider):
    """Accepts every message and keeps it here: there is nothing to ask anybody."""

    def send(self, message: Message, attempt_id: str) -> Outcome:
        """Accept a message without sending it."""
        return Outcome("accepted", provider_id=f"dry-run-{attempt_id}", is_kept=True)


class AsSent(DryRun):
    """Counts every message as sent: it went out before the ledger was restored from a backup."""

    def send(self, message: Message, attempt_id: str) -> Outcome:
        """Count a message as sent."""
        return Outcome("accepted", "It counts as sent: it was due before the ledger was restored.")
