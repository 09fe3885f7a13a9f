"""The channel that sends nothing: what would have gone out is kept in the ledger."""

from __future__ import annotations

from datetime import datetime

from relay.channels.outcome import Found, Outcome
from relay.messages import Message


class DryRun:
    """Accepts everything. Its ids begin with `dry-run`."""

    def send(self, message: Message, attempt_id: str) -> Outcome:
        """Accept a message without sending it."""
        return Outcome("accepted", provider_id=f"dry-run-{attempt_id}")

    def find(self, message: Message, since: datetime, taken: frozenset[str]) -> Found:
        """Nothing was sent, so nothing can be found."""
        return Found()
