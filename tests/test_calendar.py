"""Durations and send windows, over midnight and over both clock changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.calendar import ALWAYS, Window, duration

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
