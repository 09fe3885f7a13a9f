"""Durations, send windows, digest times. Right across clock changes: asked in local wall time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DIGEST = re.compile(r"daily (\d\d):(\d\d)|every (\d{1,4})([hm])")
_DAY = timedelta(days=1)
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
        """`moment` itself when the window is open, else the first later one at which it is."""
        if self.is_open(moment, zone):
            return moment
        here = moment.astimezone(zone)
        wait = (datetime.combine(here, self.opens) - here.replace(tzinfo=None)) % timedelta(days=1)
        opening = moment.astimezone(UTC) + wait
        if opening.astimezone(zone).utcoffset() == here.utcoffset():
            return opening
        # The clocks change on the way, an hour is left out or comes twice: ask every minute.
        opening = moment.astimezone(UTC).replace(second=0, microsecond=0)
        while not self.is_open(opening, zone):
            opening += timedelta(minutes=1)
        return opening


@dataclass(frozen=True)
class Digest:
    """The times of day, by the local clock, at which what has gathered is told together."""

    times: tuple[time, ...]  # in order

    @classmethod
    def parse(cls, text: str) -> Digest:
        """'daily 08:00', or 'every 4h': at midnight and every four hours on. Raises ValueError."""
        found = _DIGEST.fullmatch(text.strip())
        if not found:
            raise ValueError('write it as in "daily 08:00", "every 4h" or "every 90m"')
        if found[1]:
            return cls((_clock(found[1], found[2]),))
        step = duration(found[3] + found[4])
        if not timedelta() < step <= _DAY:
            raise ValueError('it must be more than nothing and at most a day, as in "every 4h"')
        midnight = datetime.min
        return cls(tuple((midnight + n * step).time() for n in range(-(-_DAY // step))))

    def next_at(self, moment: datetime, zone: ZoneInfo) -> datetime:
        """The first digest time after `moment`, in UTC.

        A time that comes twice counts the first time. One that is left out is as long after
        midnight as on other days, where it may meet another: then there is one digest for both.
        """
        today = moment.astimezone(zone).date()
        return min(
            at
            for days in range(3)  # the third: clocks may go back over midnight
            for clock in self.times
            if (at := datetime.combine(today + days * _DAY, clock, zone).astimezone(UTC)) > moment
        )


def _clock(hours: str, minutes: str) -> time:
    if (hours, minutes) == ("24", "00"):
        return time(0)
    return time(int(hours), int(minutes))


ALWAYS = Window(time(0), time(0))
