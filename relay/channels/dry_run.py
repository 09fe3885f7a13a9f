"""The channel that sends nothing: what would have gone out is kept in the ledger."""

from __future__ import annotations

from relay.channels.outcome import Outcome
from relay.messages import Message


class DryRun:
    """Accepts everything. Its ids begin with `dry-run`."""

    def send(self, message: Message, attempt_id: str) -> Outcome:
        """Accept a message without sending it."""
        return Outcome("accepted", provider_id=f"dry-run-{attempt_id}")
