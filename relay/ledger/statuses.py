"""What becomes of events and notifications: the words of the contract."""

from __future__ import annotations

RECEIVED, PROCESSED, UNROUTED, HELD = "received", "processed", "unrouted", "held"
# What is on its way or has reached somebody; the rest are ends that reached nobody.
WAITING = ("created", "scheduled")
ALIVE = (*WAITING, "sending", "sent", "delivered", "unknown")
FAILED = ("permanent-failure", "temporary-failure", "technical-failure", "validation-failed")
STATUSES = (*ALIVE, *FAILED, "cancelled")
