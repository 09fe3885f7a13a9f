"""Deletes texts at their providers after retention or an erasure has blanked them in the ledger."""

from __future__ import annotations

from relay.channels import Channels
from relay.ledger.database import Database
from relay.ledger.removal import retention
from relay.ledger.removal.retention import KeptText
from relay.logs import get_logger
from relay.rules.channels import DELETED_BY_ID

log = get_logger("relay.erase")

NOBODY = frozenset[str]()


def lease_expired(db: Database, channels: Channels, limit: int) -> list[KeptText]:
    """Lease up to `limit` texts that are due for deletion, at providers that Relay can reach."""
    reached = [channel for channel in DELETED_BY_ID if channels.reaches(channel)]
    return retention.lease_texts(db, reached, limit) if reached else []


def delete_expired(db: Database, channels: Channels, text: KeptText) -> None:
    """Have the provider delete a leased text; a failure is tried again."""
    if refused := delete_text(db, channels, text):
        log.warning("text not deleted", attempt=text.id, reason=" ".join(refused))


def delete_text(db: Database, channels: Channels, text: KeptText) -> list[str]:
    """Have the provider delete a text; return the reasons (sentences) if it does not."""
    refused = channels.erase(text.channel, NOBODY, frozenset((text.provider_id,)))
    if not refused:
        with db.write() as connection:
            retention.mark_deleted(connection, text.provider_id)
    return refused
