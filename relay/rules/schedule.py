"""Durations, send windows, bank holidays and digest times, correct when clocks change."""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import combinations, count, islice
from zoneinfo import ZoneInfo

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DIGEST = re.compile(r"(?:daily|weekly (\S.*?)) (\d\d:\d\d)|every (\d{1,4})([hm])")
_HOURS = re.compile(r"(?:(\S.*?)\s+)?(\d\d:\d\d)\s*-\s*(\d\d:\d\d)")
_REGION = re.compile(r"([A-Z]{2})(?:-([A-Z0-9]{1,3}))?")
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
EVERY_DAY = frozenset(range(7))
_CLOCK = re.compile(r"\d\d:\d\d")
_SEVERAL = '["Mon-Fri 08:00-20:00", "Sat 09:00-12:00"]'
_DAY, _MINUTE, _MINUTES = timedelta(days=1), timedelta(minutes=1), 24 * 60


def utc_now() -> datetime:
    """Now, by the process's clock. Leases and due times use the database's instead."""
    return datetime.now(UTC)


def duration(text: str) -> timedelta:
    """'30d' → 30 days: a whole number and s, m, h or d. Raises ValueError for anything else."""
    found = re.fullmatch(r"(\d{1,6})([smhd])", text.strip())
    if not found:
        raise ValueError('write a whole number and s, m, h or d, as in "90m" or "30d"')
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def midnight(moment: datetime, zone: ZoneInfo) -> datetime:
    """The start of the day of `moment` in `zone`."""
    return moment.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)


@dataclass(frozen=True)
class Hours:
    """From one time to another on certain days of the week, in local time.

    Hours that run past midnight belong to the day on which they open.
    """

    opens: int  # minutes from midnight
    closes: int  # from the same midnight: more than a day's if it is on the next day
    days: frozenset[int] = EVERY_DAY  # 0 is Monday

    @classmethod
    def parse(cls, text: str) -> Hours:
        """'08:00-20:00', 'Mon-Fri 08:00-20:00' or 'Mon,Sat 09:00-12:00'. Raises ValueError."""
        if len(_CLOCK.findall(text)) > 2:
            raise ValueError(f"hours that differ by day are a list: {_SEVERAL}")
        found = _HOURS.fullmatch(text.strip())
        plain = re.sub(r"\s*[\u2013\u2014]\s*", "-", text.strip())
        if not found and _HOURS.fullmatch(plain):
            raise ValueError(f'it has a long dash; write "{plain}"')
        if not found:
            raise ValueError(
                'write two times as in "08:00-20:00", or "always". '
                'Days go before them: "Mon-Fri 08:00-20:00"'
            )
        opens, closes = parse_clock(found[2]), parse_clock(found[3])
        if opens == _MINUTES:
            raise ValueError('a window cannot open at 24:00; write "00:00" and the next day')
        if opens == closes:
            raise ValueError('it opens and closes at the same time; for all day, write "always"')
        if not found[1] and (opens, closes) == (0, _MINUTES):
            raise ValueError('it never closes; write "always" instead')
        days = parse_days(found[1]) if found[1] else EVERY_DAY
        return cls(opens, closes if closes > opens else closes + _MINUTES, days)

    def __str__(self) -> str:
        """As `parse` reads it."""
        days = ",".join(DAYS[day] for day in sorted(self.days))
        hours = (f"{minute // 60 % 24:02}:{minute % 60:02}" for minute in (self.opens, self.closes))
        return f"{days} {'-'.join(hours)}" if self.days != EVERY_DAY else "-".join(hours)

    def minutes(self) -> frozenset[int]:
        """Its minutes of a week, counted from Monday's midnight."""
        starts = [day * _MINUTES + self.opens for day in self.days]
        return frozenset(
            (start + n) % (7 * _MINUTES)
            for start in starts
            for n in range(self.closes - self.opens)
        )

    def is_open(self, moment: datetime, zone: ZoneInfo, holidays: Container[date]) -> bool:
        """Whether `moment` (aware) is within these hours."""
        here = moment.astimezone(zone)
        today, minute = here.date(), here.hour * 60 + here.minute
        return (self.opens <= minute < self.closes and self._is_on(today, holidays)) or (
            minute + _MINUTES < self.closes and self._is_on(today - _DAY, holidays)
        )

    def next_open(self, moment: datetime, zone: ZoneInfo, holidays: Container[date]) -> datetime:
        """`moment` itself if it is within these hours, else the first later one that is."""
        if self.is_open(moment, zone, holidays):
            return moment
        today = moment.astimezone(zone).date()
        for n in count(-1):  # this ends: no weekday is always a holiday
            day = today + n * _DAY
            if self._is_on(day, holidays):
                opening = self._opening(day, moment.astimezone(UTC), zone, holidays)
                if opening:
                    return opening
        raise AssertionError("a count has no end")

    def _is_on(self, day: date, holidays: Container[date]) -> bool:
        """Whether these hours open on a day."""
        return day.weekday() in self.days and day not in holidays

    def _opening(
        self, day: date, after: datetime, zone: ZoneInfo, holidays: Container[date]
    ) -> datetime | None:
        """When the hours of a day begin, or begin again, after `after`; None if they do not."""
        midnight = datetime.combine(day, time(), zone)
        starts = moments(midnight + self.opens * _MINUTE)
        ends = moments(midnight + self.closes * _MINUTE)
        first, last = min(starts), max(ends)
        length = (self.closes - self.opens) * _MINUTE
        if last - first == min(ends) - max(starts) == length:
            return first if first > after else None
        # The clocks change in them, so part is left out or comes twice: check every minute.
        opening = max(first, after.replace(second=0, microsecond=0) + _MINUTE)
        while opening < last:
            if self.is_open(opening, zone, holidays):
                return opening
            opening += _MINUTE
        return None


@dataclass(frozen=True)
class Window:
    """When messages may go out, in the recipient's local time: in any of its hours. One without
    hours is always open, on bank holidays too.
    """

    hours: tuple[Hours, ...] = ()

    @classmethod
    def parse(cls, *texts: str) -> Window:
        """'always', or one or more hours that do not overlap. Raises ValueError."""
        if [text.strip() for text in texts] == ["always"]:
            return ALWAYS
        if not texts:
            raise ValueError('write "always", or hours as in "08:00-20:00"')
        made = cls(tuple(map(Hours.parse, texts)))
        for one, other in combinations(made.hours, 2):
            if both := one.minutes() & other.minutes():
                day = DAYS[min(both) // _MINUTES]
                raise ValueError(f'"{one}" and "{other}" overlap on {day}; write as in {_SEVERAL}')
        return made

    def __str__(self) -> str:
        """Hours as an admin may write them."""
        return ", ".join(map(str, self.hours)) or "always"

    def is_open(
        self, moment: datetime, zone: ZoneInfo, holidays: Container[date] = frozenset()
    ) -> bool:
        """Whether a message may go out at `moment` (aware). Not on `holidays`, unless always."""
        return not self.hours or any(one.is_open(moment, zone, holidays) for one in self.hours)

    def next_open(
        self, moment: datetime, zone: ZoneInfo, holidays: Container[date] = frozenset()
    ) -> datetime:
        """`moment` itself if the window is open, else the first later time when it is."""
        return min((one.next_open(moment, zone, holidays) for one in self.hours), default=moment)


ALWAYS = Window()


@dataclass(frozen=True)
class Holidays:
    """Days on which no window opens: dates, and the bank holidays of regions."""

    days: frozenset[date] = frozenset()
    regions: tuple[str, ...] = ()

    @classmethod
    def parse(cls, *texts: str) -> Holidays:
        """Dates as in '2026-12-25' and regions as in 'GB-ENG'. Raises ValueError."""
        regions = tuple(dict.fromkeys(text for text in texts if _REGION.fullmatch(text)))
        for region in regions:
            holidays_of(region, datetime.min.year)
        return cls(frozenset(bank_holiday(text) for text in texts if text not in regions), regions)

    def __contains__(self, day: object) -> bool:
        """Whether a day is one of them."""
        return isinstance(day, date) and (
            day in self.days or any(day in holidays_of(one, day.year) for one in self.regions)
        )

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.days or self.regions)


@lru_cache(maxsize=64)
def holidays_of(region: str, year: int) -> frozenset[date]:
    """A region's bank holidays in a year, with the days that replace those at a weekend.

    Raises ValueError for a region that the library does not know.
    """
    import holidays  # importing it takes half a second

    country, part = _REGION.fullmatch(region).groups()  # type: ignore[union-attr]
    parts = holidays.list_supported_countries().get(country)
    if parts is None:
        raise ValueError(f'there is no country "{country}"; write a region as in "GB-ENG"')
    if (part or country == "GB") and part not in parts:  # the parts have few days in common
        known = ", ".join(f"{country}-{one}" for one in parts) or country
        raise ValueError(f'"{region}" has no bank holidays of its own; write one of {known}')
    return frozenset(holidays.country_holidays(country, part, years=year))


@dataclass(frozen=True)
class Digest:
    """The local times at which a digest goes out, on certain days of the week."""

    times: tuple[time, ...]  # in order
    days: frozenset[int] = EVERY_DAY

    @classmethod
    def parse(cls, text: str) -> Digest:
        """'daily 08:00', 'weekly Mon 08:00', or 'every 4h': at midnight and every four hours on.

        Raises ValueError.
        """
        found = _DIGEST.fullmatch(text.strip())
        if not found:
            raise ValueError('write it as in "daily 08:00", "weekly Mon 08:00" or "every 4h"')
        if found[2]:
            over, minute = divmod(parse_clock(found[2]), _MINUTES)  # 24:00 is the next day's
            days = parse_days(found[1]) if found[1] else EVERY_DAY
            return cls((time(*divmod(minute, 60)),), frozenset((day + over) % 7 for day in days))
        step = duration(found[3] + found[4])
        if not timedelta() < step <= _DAY:
            raise ValueError('must be longer than zero and at most a day, as in "every 4h"')
        midnight = datetime.min
        return cls(tuple((midnight + n * step).time() for n in range(-(-_DAY // step))))

    def next_at(self, moment: datetime, zone: ZoneInfo) -> datetime:
        """The first digest time after `moment`, in UTC.

        A time that comes twice counts the first time. A time that is left out is as long after
        midnight as on other days; if it then coincides with another, one digest serves both.
        """
        today = moment.astimezone(zone).date()
        days = (day for n in count() if (day := today + n * _DAY).weekday() in self.days)
        return min(
            at
            for day in islice(days, 3)  # the third: clocks may go back over midnight
            for clock in self.times
            if (at := datetime.combine(day, clock, zone).astimezone(UTC)) > moment
        )


def moments(here: datetime) -> tuple[datetime, datetime]:
    """A local time in UTC: both times when the clock shows it, or those on either side of a gap."""
    return here.replace(fold=0).astimezone(UTC), here.replace(fold=1).astimezone(UTC)


def parse_clock(text: str) -> int:
    """'08:30' → minutes from midnight; '24:00' is the end of the day."""
    hours, minutes = map(int, text.split(":"))
    if minutes > 59 or hours * 60 + minutes > _MINUTES:
        raise ValueError(f"there is no time {text}; write one from 00:00 to 24:00")
    return hours * 60 + minutes


def parse_days(text: str) -> frozenset[int]:
    """'Mon-Fri' or 'Mon,Wed,Sat' → days of the week. 'Sat-Mon' includes Sunday."""
    found: set[int] = set()
    for part in text.split(","):
        ends = [parse_day(name.strip()) for name in part.split("-", 1)]
        found |= {(ends[0] + n) % 7 for n in range((ends[-1] - ends[0]) % 7 + 1)}
    return frozenset(found)


def parse_day(name: str) -> int:
    """Turn 'Mon' into 0 and 'Sun' into 6; raise ValueError for an unknown day."""
    if name not in DAYS:
        known = ", ".join(DAYS)
        raise ValueError(
            f'there is no day "{name}"; write days as in "Mon-Fri" or "Mon,Wed,Sat", of {known}'
        )
    return DAYS.index(name)


def bank_holiday(text: str) -> date:
    """'2026-12-25' → that day. Raises ValueError."""
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return date.fromisoformat(text)
    except ValueError:
        pass  # the 31st of June, say
    raise ValueError(
        f'"{text}" is not a date; write one as in "2026-12-25", or a region as in "GB-ENG"'
    )
