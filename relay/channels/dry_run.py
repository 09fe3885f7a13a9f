"""Providers that send nothing: for dry runs, and for a ledger restored from a backup."""

from __future__ import annotations

from datetime import datetime

from relay.channels.base import Found, Outcome, Standing
from relay.messages.templates import Message


class DryRun:
    """Accepts every message and keeps it here."""

    def send(self, message: Message, attempt_id: str) -> Outcome:
        """Accept a message without sending it."""
        return Outcome("accepted", provider_id=f"dry-run-{attempt_id}", is_kept=True)

    def find(self, message: Message, since: datetime, taken: frozenset[str]) -> Found:
        """Find nothing, since nothing was sent."""
        return Found()

    def look(self, provider_id: str) -> Found:
        """Know nothing of a message, since none was sent."""
        return Found()

    def standing(self) -> list[Standing]:
        """Find nothing wrong: there is no account."""
        return []

    def erase(self, addresses: frozenset[str], provider_ids: frozenset[str]) -> list[str]:
        """Refuse nothing: no provider has anything."""
        return []


class AsSent(DryRun):
    """Counts every message as sent: it went out before the ledger was restored from a backup."""

    def send(self, message: Message, attempt_id: str) -> Outcome:
        """Count a message as sent."""
        return Outcome("accepted", "It counts as sent: it was due before the ledger was restored.")
