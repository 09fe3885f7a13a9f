"""Statuses and steps as a receptionist would say them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from relay.lab.events import EVENTS
from relay.rules.channels import CHANNELS, begun

# The state of an event or a message, by its status: on a list, where a channel's row says the rest,
# and of a message in a sentence, where a failure also has the docs' word.
STANDS = {
    "received": ("Not processed yet", ""),
    "processed": ("Processed", ""),
    "unrouted": ("Unknown to Relay", ""),
    "held": ("Held", ""),
    "created": ("Due now", "has not gone out yet"),
    "scheduled": ("Waiting", "has not gone out yet"),
    "sending": ("Being sent", "is being sent"),
    "sent": ("Sent, no receipt yet", "was sent; there is no receipt yet"),
    "delivered": ("Delivered", "has arrived"),
    "unknown": ("Checking with {row.provider.name}", "may or may not have gone out"),
    "permanent-failure": ("{row.address.dead}", "cannot arrive (permanent-failure)"),
    "temporary-failure": ("{row.address.away}", "was given up (temporary-failure)"),
    "technical-failure": ("Our fault", "failed through a fault on our side (technical-failure)"),
    "validation-failed": (
        "{row.address.absent}",
        "could not be sent: there is no usable address (validation-failed)",
    ),
    "cancelled": ("Not needed any more", "was cancelled"),
    "kept": ("Kept here, not sent", "was made and kept here, not sent"),
}
_UNITS = (
    (timedelta(days=1), "day"),
    (timedelta(hours=1), "hour"),
    (timedelta(minutes=1), "minute"),
)


def stands(status: str, channel: str = "") -> str:
    """The state of an event or a message. A status of a newer version is shown as it is."""
    said, row = STANDS.get(status, (status, ""))[0], CHANNELS.get(channel)
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
    """The news that a kit's people have not had, and by which channel: Results, text."""
    row = CHANNELS.get(case["channel"] or "")
    return step(case["event"]) + (f", {row.word}" if row else "")
