"""The last days' messages as bars, in the chart's own units. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from relay.ledger.views.daily_counts import KEPT, Count
from relay.rules.channels import CHANNELS
from relay.rules.statuses import FAILED

# Messages' outcomes, from the bottom of a bar up. Cancelled messages are left out.
OUTCOMES: dict[str, tuple[str, ...]] = {
    "delivered": ("delivered",),
    "sent": ("sent",),
    "kept": (KEPT,),
    "waiting": ("created", "scheduled", "sending", "unknown"),
    "failed": FAILED,
}
WORDS = {
    "delivered": "Delivered",
    "sent": "Sent, no receipt yet",
    "kept": "Kept here, not sent",
    "waiting": "Waiting",
    "failed": "Failed",
}
TALL = 100.0
_LEAST = 2.0  # so that one failure among thousands can be seen
_STEPS = (1, 2, 5, 10)


@dataclass(frozen=True)
class Totals:
    """A day's messages by outcome, on one channel or on all."""

    outcomes: Mapping[str, int]
    out: int
    segments: int

    @property
    def messages(self) -> int:
        """How many there are, without the cancelled ones."""
        return sum(self.outcomes.values())


@dataclass(frozen=True)
class Column:
    """A day of a panel: its totals, and a bar (y, height) for each outcome that it has."""

    day: date
    totals: Totals
    bars: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """One channel's days, on the same scale as every other panel."""

    channel: str
    name: str
    in_segments: bool
    top: int
    columns: Sequence[Column]

    @property
    def said(self) -> str:
        """The panel in a sentence."""
        whole = {name: sum(c.totals.outcomes[name] for c in self.columns) for name in OUTCOMES}
        parts = ", ".join(f"{many:,} {WORDS[name].lower()}" for name, many in whole.items() if many)
        return f"{self.name} of the last {len(self.columns)} days: {parts or 'none'}."


def shown(panels: Iterable[Panel]) -> list[str]:
    """The outcomes to draw: `kept` only if a message was, which means that delivery was dry-run."""
    kept = sum(column.totals.outcomes["kept"] for panel in panels for column in panel.columns)
    return [name for name in OUTCOMES if kept or name != "kept"]


def totals(counts: Iterable[Count]) -> Totals:
    """Add counts up."""
    found = [*counts]
    return Totals(
        {
            name: sum(one.messages for one in found if one.status in statuses)
            for name, statuses in OUTCOMES.items()
        },
        sum(one.out for one in found),
        sum(one.segments for one in found),
    )


def panels(days: Mapping[date, Sequence[Count]]) -> list[Panel]:
    """A panel for each channel, its days in order."""
    by_channel = {
        channel: {
            day: totals(one for one in of if one.channel == channel) for day, of in days.items()
        }
        for channel in CHANNELS
    }
    most = max((t.messages for of in by_channel.values() for t in of.values()), default=0)
    top = _round(most)
    return [
        Panel(
            channel,
            row.title,
            row.in_segments,
            top,
            [_column(day, of, top) for day, of in by_channel[channel].items()],
        )
        for channel, row in CHANNELS.items()
    ]


def _column(day: date, of: Totals, top: int) -> Column:
    bars, base = {}, TALL
    for name, many in of.outcomes.items():
        if many:
            height = max(_LEAST, TALL * many / top)
            base -= height
            bars[name] = (round(base, 2), round(height, 2))
    return Column(day, of, bars)


def _round(most: int) -> int:
    """Round up to the next of 1, 2, 5, 10, 20, 50 …"""
    step: int = 10 ** (len(str(most)) - 1)
    return next(step * one for one in _STEPS if step * one >= most)
