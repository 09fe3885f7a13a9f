"""Durations and send windows. Right across clock changes: a window is asked in local wall time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_WINDOW = re.compile(r"(\d\d):(\d\d)\s*-\s*(\d\d):(\d\d)")


def duration(text: str) -> timedelta:
    """'30d' → 30 days. A whole number and s, m, h or d; raises ValueError for anything else."""
    found = re.fullmatch(r"(\d{1,6})([smhd])", text.strip())
    if not found:
        raise ValueError('write a whole number and s, m, h or d, as in "90m" or "30d"')
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


@dataclass(frozen=True)
class Window:
    """When messages may go out, in the recipient's local time. It may go over midnight."""

    opens: time
    closes: time

    @classmethod
    def parse(cls, text: str) -> Window:
        """'08:00-20:00' or 'always'. Raises ValueError."""
        if text.strip() == "always":
            return ALWAYS
        found = _WINDOW.fullmatch(text.strip())
        if not found:
            raise ValueError('write two times as in "08:00-20:00", or "always"')
        opens, closes = _clock(found[1], found[2]), _clock(found[3], found[4])
        if opens == closes:
            raise ValueError(
                'it opens and closes at the same time; write "always" if you mean that'
            )
        return cls(opens, closes)

    def is_open(self, moment: datetime, zone: ZoneInfo) -> bool:
        """Whether a message may go out at `moment` (aware)."""
        clock = moment.astimezone(zone).time()
        if self.opens == self.closes:
            return True
        if self.opens < self.closes:
            return self.opens <= clock < self.closes
        return clock >= self.opens or clock < self.closes

    def next_open(self, moment: datetime, zone: ZoneInfo) -> datetime:
        """`moment` itself when the window is open, else its next opening, in UTC."""
        if self.is_open(moment, zone):
            return moment
        day = moment.astimezone(zone).date()
        for ahead in range(3):
            # fold=0: of an hour that comes twice the first is meant. Through UTC and back, since an
            # hour that does not exist moves forward to the first minute that does.
            local = datetime.combine(day + timedelta(days=ahead), self.opens, zone)
            opening = local.astimezone(UTC)
            if opening >= moment:
                return opening
        raise AssertionError("a window opens every day")


def _clock(hours: str, minutes: str) -> time:
    if (hours, minutes) == ("24", "00"):
        return time(0)
    return time(int(hours), int(minutes))


ALWAYS = Window(time(0), time(0))
