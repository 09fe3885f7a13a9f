"""Durations, send windows and digest times, over midnight and over both clock changes."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.calendar import ALWAYS, Digest, Window, duration

LONDON = ZoneInfo("Europe/London")
MINUTE = timedelta(minutes=1)
HOUR = st.integers(0, 23)
NIGHT = st.integers(0, 2)  # the hours in which the clocks change


def _windows(opens: st.SearchStrategy[int], closes: st.SearchStrategy[int]) -> st.SearchStrategy:
    """Windows as an admin writes them."""
    clocks = [st.builds("{:02}:{:02}".format, hour, st.integers(0, 59)) for hour in (opens, closes)]
    return st.tuples(*clocks).filter(lambda pair: pair[0] != pair[1]).map("-".join)


WINDOWS = st.one_of(_windows(HOUR, HOUR), _windows(NIGHT, HOUR), _windows(HOUR, NIGHT))
# In 2026 the clocks go forward on 29 March and back on 25 October, both at 01:00 UTC.
MOMENTS = st.one_of(
    st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31)),
    st.datetimes(datetime(2026, 3, 28, 22), datetime(2026, 3, 29, 4)),
    st.datetimes(datetime(2026, 10, 24, 22), datetime(2026, 10, 25, 4)),
).map(lambda moment: moment.replace(tzinfo=UTC))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("45s", timedelta(seconds=45)),
        ("90m", timedelta(minutes=90)),
        ("12h", timedelta(hours=12)),
        ("30d", timedelta(days=30)),
        (" 1d ", timedelta(days=1)),
    ],
)
def test_duration_is_a_number_and_a_unit(text: str, expected: timedelta) -> None:
    """A duration is a whole number and s, m, h or d."""
    assert duration(text) == expected


@pytest.mark.parametrize(
    "text", ["", "d", "10", "10 d", "1.5h", "-1d", "10w", "1d12h", "10D", "1" * 7 + "d"]
)
def test_other_durations_are_refused_with_an_example(text: str) -> None:
    """What is not a duration is refused, and the error shows one that is right."""
    with pytest.raises(ValueError, match=r'"30d"'):
        duration(text)


@pytest.mark.parametrize("text", ["", "8-20", "08:00", "08:00 to 20:00", "never", "8:00-20:00"])
def test_other_windows_are_refused_with_an_example(text: str) -> None:
    """What is not a window is refused, and the error shows one that is right."""
    with pytest.raises(ValueError, match=r'"08:00-20:00", or "always"'):
        Window.parse(text)


@pytest.mark.parametrize("text", ["08:60-20:00", "25:00-20:00", "08:00-24:01"])
def test_a_time_that_no_clock_shows_is_refused(text: str) -> None:
    """A window is made of times that a clock can show."""
    with pytest.raises(ValueError, match="must be in"):
        Window.parse(text)


@pytest.mark.parametrize("text", ["08:00-08:00", "00:00-24:00"])
def test_a_window_without_an_end_is_refused(text: str) -> None:
    """A window that opens when it closes could mean never or always, so it is refused."""
    with pytest.raises(ValueError, match="always"):
        Window.parse(text)


@pytest.mark.parametrize(
    ("window", "clock", "is_open"),
    [
        ("08:00-20:00", "07:59:59", False),
        ("08:00-20:00", "08:00:00", True),
        ("08:00-20:00", "19:59:59", True),
        ("08:00-20:00", "20:00:00", False),
        ("08:00 - 24:00", "23:59:59", True),
        ("08:00 - 24:00", "00:00:00", False),
        ("22:00-06:00", "22:00:00", True),
        ("22:00-06:00", "00:00:00", True),
        ("22:00-06:00", "05:59:59", True),
        ("22:00-06:00", "06:00:00", False),
        ("always", "03:00:00", True),
    ],
)
def test_window_opens_and_closes_by_the_local_clock(window: str, clock: str, is_open: bool) -> None:
    """A window takes in its first second and not its last, over midnight too."""
    moment = datetime.fromisoformat(f"2026-07-01T{clock}").replace(tzinfo=LONDON)
    assert Window.parse(window).is_open(moment.astimezone(UTC), LONDON) is is_open


@pytest.mark.parametrize(
    ("window", "moment", "opening"),
    [
        # Summer is an hour ahead of UTC, winter is not.
        ("08:00-20:00", "2026-07-01T19:30Z", "2026-07-02T07:00Z"),
        ("08:00-20:00", "2026-01-01T20:30Z", "2026-01-02T08:00Z"),
        ("08:00-20:00", "2026-01-01T05:00Z", "2026-01-01T08:00Z"),
        ("22:00-06:00", "2026-01-01T12:00Z", "2026-01-01T22:00Z"),
        # Over each change the local hour stays.
        ("08:00-20:00", "2026-03-28T21:00Z", "2026-03-29T07:00Z"),
        ("08:00-20:00", "2026-10-24T21:00Z", "2026-10-25T08:00Z"),
        # 01:30 does not exist on 29 March: the clock goes from 01:00 to 02:00, and it is open.
        ("01:30-20:00", "2026-03-29T00:30Z", "2026-03-29T01:00Z"),
        # Nor does any of this window: it is left out on that day.
        ("01:10-01:50", "2026-03-28T23:00Z", "2026-03-30T00:10Z"),
        # 01:30 comes twice on 25 October: the first is the opening.
        ("01:30-20:00", "2026-10-24T23:00Z", "2026-10-25T00:30Z"),
        # Shut again when the clock goes back; it opens at the second 01:30, not a day later.
        ("01:30-20:00", "2026-10-25T01:00Z", "2026-10-25T01:30Z"),
        # And a window that the clock goes back into is open again.
        ("22:00-01:30", "2026-10-25T00:45Z", "2026-10-25T01:00Z"),
    ],
)
def test_next_opening_is_right_across_clock_changes(window: str, moment: str, opening: str) -> None:
    """A message that has to wait goes out when the local clock next shows an open time."""
    found = Window.parse(window).next_open(datetime.fromisoformat(moment), LONDON)
    assert found == datetime.fromisoformat(opening)


@given(window=WINDOWS, moment=MOMENTS)
def test_next_opening_is_open_and_the_first(window: str, moment: datetime) -> None:
    """The next opening is never in the past, is open, and nothing between is."""
    parsed = Window.parse(window)
    found = parsed.next_open(moment, LONDON)
    assert found >= moment
    assert parsed.is_open(found, LONDON)
    whole = moment.replace(second=0, microsecond=0) + MINUTE
    between = range(int((found - whole) / MINUTE))
    assert not any(parsed.is_open(whole + n * MINUTE, LONDON) for n in between)


@given(window=WINDOWS, moment=MOMENTS)
def test_an_open_window_makes_nothing_wait(window: str, moment: datetime) -> None:
    """A message waits exactly when the window is shut."""
    parsed = Window.parse(window)
    waits = parsed.next_open(moment, LONDON) != moment
    assert waits is not parsed.is_open(moment, LONDON)


@given(moment=MOMENTS)
def test_always_is_always(moment: datetime) -> None:
    """A rule with "always" never makes a message wait."""
    assert Window.parse("always") == ALWAYS
    assert ALWAYS.next_open(moment, LONDON) == moment


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("daily 08:00", "08:00"),
        ("every 6h", "00:00 06:00 12:00 18:00"),
        (" every 7h ", "00:00 07:00 14:00 21:00"),
        ("every 480m", "00:00 08:00 16:00"),
        ("every 24h", "00:00"),
    ],
)
def test_digest_times_are_counted_from_midnight(text: str, times: str) -> None:
    """A digest comes at one time of the day, or every so many hours or minutes of it."""
    assert Digest.parse(text).times == tuple(map(time.fromisoformat, times.split()))


@pytest.mark.parametrize("text", ["", "daily", "08:00", "daily 8:00", "every 4", "every 1d", "4h"])
def test_other_digests_are_refused_with_an_example(text: str) -> None:
    """What is not a digest's time is refused, and the error shows some that are right."""
    with pytest.raises(ValueError, match='as in "daily 08:00", "every 4h"'):
        Digest.parse(text)


@pytest.mark.parametrize(
    ("text", "said"), [("every 0h", "nothing"), ("every 25h", "a day"), ("daily 25:00", "must be")]
)
def test_a_digest_that_no_day_has_is_refused(text: str, said: str) -> None:
    """A digest comes at least once a day, at a time that a clock can show."""
    with pytest.raises(ValueError, match=said):
        Digest.parse(text)


@pytest.mark.parametrize(
    ("text", "moment", "found"),
    [
        ("daily 08:00", "2026-07-01T06:59Z", "2026-07-01T07:00Z"),
        ("daily 08:00", "2026-07-01T07:00Z", "2026-07-02T07:00Z"),  # this one has just gone
        # By the local clock, over each change.
        ("daily 08:00", "2026-03-28T08:00Z", "2026-03-29T07:00Z"),
        ("daily 08:00", "2026-10-24T07:00Z", "2026-10-25T08:00Z"),
        # 01:30 is left out on 29 March: as long after midnight as on other days.
        ("daily 01:30", "2026-03-29T00:00Z", "2026-03-29T01:30Z"),
        # 01:30 comes twice on 25 October: once is enough.
        ("daily 01:30", "2026-10-25T00:00Z", "2026-10-25T00:30Z"),
        ("daily 01:30", "2026-10-25T00:30Z", "2026-10-26T01:30Z"),
        # The hour from 01:00 and the one from 02:00 are the same on 29 March.
        ("every 1h", "2026-03-29T00:00Z", "2026-03-29T01:00Z"),
        ("every 1h", "2026-03-29T01:00Z", "2026-03-29T02:00Z"),
    ],
)
def test_the_next_digest_is_right_across_clock_changes(text: str, moment: str, found: str) -> None:
    """A digest goes by the local clock; what comes at its very time is in the next one."""
    after = Digest.parse(text).next_at(datetime.fromisoformat(moment), LONDON)
    assert after == datetime.fromisoformat(found)


DIGESTS = st.one_of(
    st.builds("daily {:02}:{:02}".format, st.one_of(HOUR, NIGHT), st.integers(0, 59)),
    st.builds("every {}h".format, st.integers(1, 24)),
    st.builds("every {}m".format, st.integers(20, 1440)),
).map(Digest.parse)


@given(digest=DIGESTS, moment=MOMENTS, percent=st.integers(0, 99))
def test_each_moment_belongs_to_one_digest(digest: Digest, moment: datetime, percent: int) -> None:
    """Digests follow one another without a gap: all between two of them is in the later one."""
    first = digest.next_at(moment, LONDON)
    second = digest.next_at(first, LONDON)
    assert moment < first < second <= first + timedelta(hours=26)
    assert digest.next_at(moment + percent * (first - moment) / 100, LONDON) == first
    assert digest.next_at(first + percent * (second - first) / 100, LONDON) == second


@given(clock=st.builds("daily {:02}:{:02}".format, NIGHT, st.integers(0, 59)), moment=MOMENTS)
def test_a_daily_digest_comes_once_on_each_day(clock: str, moment: datetime) -> None:
    """No local day is left out or has two, whatever the clocks do."""
    digest, days = Digest.parse(clock), []
    for _ in range(4):
        moment = digest.next_at(moment, LONDON)
        days.append(moment.astimezone(LONDON).date())
    assert days == [days[0] + timedelta(days=n) for n in range(4)]
