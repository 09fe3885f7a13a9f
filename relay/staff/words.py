"""Statuses and steps as a receptionist would say them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from relay.lab.events import EVENTS
from relay.rules.channels import CHANNELS, begun

# Of an event and of a message, by status. A channel's row says the rest: its provider, its address.
_STANDS = {
    "received": "Not processed yet",
    "processed": "Processed",
    "unrouted": "Unknown to Relay",
    "held": "Held",
    "created": "Due now",
    "scheduled": "Waiting",
    "sending": "Being sent",
    "sent": "Sent, no receipt yet",
    "delivered": "Delivered",
    "unknown": "Checking with {row.provider.name}",
    "permanent-failure": "{row.address.dead}",
    "temporary-failure": "{row.address.away}",
    "technical-failure": "Our fault",
    "validation-failed": "{row.address.absent}",
    "cancelled": "Not needed any more",
    "kept": "Kept here, not sent",
}
_UNITS = (
    (timedelta(days=1), "day"),
    (timedelta(hours=1), "hour"),
    (timedelta(minutes=1), "minute"),
)


def stands(status: str, channel: str = "") -> str:
    """How an event or a message stands. A status of a newer version is said as it is."""
    said, row = _STANDS.get(status, status), CHANNELS.get(channel)
    return said.format(row=row) if row else status if "{" in said else said


def step(event: str) -> str:
    """An event's name in words."""
    kind, last = EVENTS.get(event), event.rpartition(".")[2].replace("_", " ")
    return begun((kind.stage or kind.happens) if kind else last)


def age(since: datetime, now: datetime) -> str:
    """How long ago: 3 days, 1 hour, just now."""
    for unit, name in _UNITS:
        if many := (now - since) // unit:
            return f"{many} {name}{'s' * (many > 1)}"
    return "just now"


def missing(case: Mapping[str, Any]) -> str:
    """What a kit's people have not been told, and how: Results, text."""
    row = CHANNELS.get(case["channel"] or "")
    return step(case["event"]) + (f", {row.word}" if row else "")
