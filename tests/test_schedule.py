"""Durations, send windows and digest times, over midnight and over both clock changes."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from relay.rules.schedule import ALWAYS, DAYS, Digest, Holidays, Hours, Window, duration

LONDON = ZoneInfo("Europe/London")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")  # its clocks change by half an hour
BEIRUT = ZoneInfo("Asia/Beirut")  # its clocks go from 24:00 to 01:00, and from 24:00 to 23:00
CHRISTMAS = frozenset({date(2026, 12, 25), date(2026, 12, 28)})
MINUTE, HOURS = timedelta(minutes=1), timedelta(hours=1)
HOUR = st.integers(0, 23)
NIGHT = st.integers(0, 2)  # the hours in which the clocks change


@st.composite
def windows(draw: st.DrawFn) -> str:
    """Hours as an admin writes them, many of them near the hours in which the clocks change."""
    hours = [draw(st.sampled_from([HOUR, NIGHT]).flatmap(lambda hour: hour)) for _ in "oc"]
    opens, closes = (f"{hour:02}:{draw(st.integers(0, 59)):02}" for hour in hours)
    assume(opens != closes)
    days = draw(st.lists(st.sampled_from(DAYS), unique=True))
    return f"{','.join(days)} {opens}-{closes}"


def apart(texts: list[str]) -> bool:
    """Whether hours may stand in one list."""
    try:
        return bool(Window.parse(*texts))
    except ValueError:
        return False


WINDOWS = st.lists(windows(), min_size=1, max_size=3).filter(apart)
# When clocks change in 2026: London and Lord Howe, Beirut, London and Beirut back, Lord Howe.
CHANGES = ["2026-03-29", "2026-04-04", "2026-10-24", "2026-10-03"]
MOMENTS = st.one_of(
    st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31)),
    *(
        st.datetimes(day - 6 * HOURS, day + 30 * HOURS)
        for day in map(datetime.fromisoformat, CHANGES)
    ),
).map(lambda moment: moment.replace(tzinfo=UTC))
ZONES = st.sampled_from([LONDON, LONDON, LORD_HOWE, BEIRUT])
HOLIDAYS = st.frozensets(
    st.dates(date(2026, 3, 27), date(2026, 4, 6)) | st.dates(date(2026, 10, 2), date(2026, 10, 27)),
    max_size=6,
)


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
    with pytest.raises(ValueError, match=r'"08:00-20:00", or "always".*"Mon-Fri 08'):
        Window.parse(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("08:60-20:00", "there is no time 08:60"),
        ("25:00-20:00", "there is no time 25:00"),
        ("08:00-24:01", "there is no time 24:01"),
        ("24:00-06:00", "cannot open at 24:00"),
        ("Mo-Fr 08:00-20:00", 'no day "Mo"'),
        ("Monday 08:00-20:00", 'no day "Monday"'),
        ("mon 08:00-20:00", 'no day "mon"'),
        ("Mon-Wed-Fri 08:00-20:00", 'no day "Wed-Fri"'),
        ("Mon,,Fri 08:00-20:00", 'no day ""'),
        ("Mon-Fri 08:00-20:00, Sat 09:00-12:00", r'a list: \["Mon-Fri 08:00-20:00", "Sat 09'),
        ("Mon-Fri 08:00-08:00", '"always"'),
    ],
)
def test_a_time_or_day_that_there_is_not_is_refused(text: str, said: str) -> None:
    """A window is made of times that a clock can show and days of the week, or says why not."""
    with pytest.raises(ValueError, match=said):
        Window.parse(text)


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("08:00-20:00", "Mon Tue Wed Thu Fri Sat Sun"),
        ("Mon-Fri 08:00-20:00", "Mon Tue Wed Thu Fri"),
        ("Mon,Wed,Sat 08:00-20:00", "Mon Wed Sat"),
        (" Sat - Mon , Thu  08:00 - 20:00 ", "Mon Thu Sat Sun"),
        ("Sun 08:00-20:00", "Sun"),
        ("Mon-Sun 00:00-24:00", "Mon Tue Wed Thu Fri Sat Sun"),
    ],
)
def test_days_are_named_or_left_out(text: str, days: str) -> None:
    """A window is for the days that it names, over Sunday too, or for every day."""
    assert Hours.parse(text).days == {DAYS.index(day) for day in days.split()}


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([], 'write "always", or hours'),
        (["always", "Sat 09:00-12:00"], "write two times"),
        (["08:00-20:00", "Sat 09:00-12:00"], 'and "Sat 09:00-12:00" overlap on Sat; write as in'),
        (["Fri 22:00-06:00", "Sat 05:59-12:00"], "overlap on Sat"),
        (["Mon 09:00-12:00", "Sun 22:00-10:00"], "overlap on Mon"),
    ],
)
def test_hours_that_could_be_read_in_two_ways_are_refused(texts: list[str], said: str) -> None:
    """A minute of the week stands once: shorter hours on Saturday are not lost in longer ones."""
    with pytest.raises(ValueError, match=said):
        Window.parse(*texts)


@pytest.mark.parametrize("text", ["2026-13-01", "2026-06-31", "25.12.2026", "20261225", "", "Xmas"])
def test_what_is_no_date_is_refused(text: str) -> None:
    """A bank holiday is a date as in 2026-12-25."""
    assert date(2026, 12, 25) in Holidays.parse("2026-12-25")
    with pytest.raises(
        ValueError, match=f'"{text}" is not a date; write one as in "2026-12-25", or'
    ):
        Holidays.parse(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("GB", "write one of GB-ENG, GB-NIR, GB-SCT, GB-WLS"),  # which have few in common
        ("GB-LON", "write one of GB-ENG"),
        ("XX", 'no country "XX"'),
    ],
)
def test_a_region_that_there_is_not_is_refused(text: str, said: str) -> None:
    """A region is one whose bank holidays are known, or the mistake names those that are."""
    with pytest.raises(ValueError, match=said):
        Holidays.parse(text)


@pytest.mark.parametrize(
    ("texts", "days"),
    [
        # Boxing Day is on a Saturday, so Monday is free too; St Andrew's Day is Scotland's.
        (["GB-ENG"], "2026-12-25 2026-12-26 2026-12-28 2030-01-01"),
        (["GB-SCT"], "2026-11-30 2026-12-25 2026-12-26 2026-12-28 2027-01-04 2030-01-01"),
        (["GB-ENG", "2026-12-24"], "2026-12-24 2026-12-25 2026-12-26 2026-12-28 2030-01-01"),
        (["IE", "2026-12-24"], "2026-12-24 2026-12-25 2026-12-26 2030-01-01"),
    ],
)
def test_the_bank_holidays_of_a_region_are_known(texts: list[str], days: str) -> None:
    """A region's holidays are those of any year, beside the dates that a clinic adds."""
    asked = ["2026-11-30", *(f"2026-12-{day}" for day in range(24, 32)), "2027-01-04", "2030-01-01"]
    found = Holidays.parse(*texts)
    assert found
    assert [day for day in asked if date.fromisoformat(day) in found] == days.split()


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


@pytest.mark.parametrize(
    ("window", "moment", "opening"),
    [
        # 1 June 2026 is a Monday.
        ("Mon-Fri 08:00-20:00", "2026-06-05T19:30Z", "2026-06-08T07:00Z"),
        ("Mon-Fri 08:00-20:00", "2026-06-06T10:00Z", "2026-06-08T07:00Z"),
        ("Mon-Fri 08:00-20:00", "2026-06-05T18:59Z", "2026-06-05T18:59Z"),
        ("Wed 09:00-12:00", "2026-06-03T11:00Z", "2026-06-10T08:00Z"),
        ("Sat-Sun 00:00-24:00", "2026-06-04T12:00Z", "2026-06-05T23:00Z"),
        # Over midnight it is the day on which it opens.
        ("Fri 22:00-06:00", "2026-06-05T02:00Z", "2026-06-05T21:00Z"),
        ("Fri 22:00-06:00", "2026-06-06T04:59Z", "2026-06-06T04:59Z"),
        ("Fri 22:00-06:00", "2026-06-06T05:00Z", "2026-06-12T21:00Z"),
        # Both clock changes are on a Sunday, when this is shut: on Monday the local hour counts.
        ("Mon-Fri 08:00-20:00", "2026-03-27T21:00Z", "2026-03-30T07:00Z"),
        ("Mon-Fri 08:00-20:00", "2026-10-23T21:00Z", "2026-10-26T08:00Z"),
        # An hour that does not exist this Sunday is waited for until the next.
        ("Sun 01:10-01:50", "2026-03-28T12:00Z", "2026-04-05T00:10Z"),
        ("Sun 01:10-01:50", "2026-10-25T00:55Z", "2026-10-25T01:10Z"),  # it comes twice
        ("Sun 01:10-01:50", "2026-10-25T01:55Z", "2026-11-01T01:10Z"),
        ("Sat 22:00-01:30", "2026-10-25T00:45Z", "2026-10-25T01:00Z"),  # opened on Saturday
        # Several hours: whichever comes first.
        ("Mon-Fri 08:00-20:00 + Sat 09:00-12:00", "2026-06-05T19:30Z", "2026-06-06T08:00Z"),
        ("Mon-Fri 08:00-20:00 + Sat 09:00-12:00", "2026-06-06T11:00Z", "2026-06-08T07:00Z"),
        ("Mon-Sat 09:00-12:00 + Sun 01:10-01:50", "2026-03-28T12:00Z", "2026-03-30T08:00Z"),
        ("Mon-Sat 09:00-12:00 + Sun 01:10-01:50", "2026-10-25T00:55Z", "2026-10-25T01:10Z"),
        ("13:00-14:00 + 09:00-12:00", "2026-06-06T11:30Z", "2026-06-06T12:00Z"),
    ],
)
def test_days_of_the_week_are_waited_for(window: str, moment: str, opening: str) -> None:
    """A message outside the days waits for the next of them, over clock changes too."""
    found = Window.parse(*window.split(" + ")).next_open(datetime.fromisoformat(moment), LONDON)
    assert found == datetime.fromisoformat(opening)


@pytest.mark.parametrize(
    ("zone", "window", "moment", "opening"),
    [
        # 02:00 to 02:30 does not exist on 4 October; 01:30 to 02:00 comes twice on 5 April.
        (LORD_HOWE, "Sun 02:10-05:00", "2026-10-03T15:00Z", "2026-10-03T15:30Z"),
        (LORD_HOWE, "Sun 01:45-01:50", "2026-04-04T14:55Z", "2026-04-04T15:15Z"),
        # There is no midnight on 29 March, and the last hour of 24 October comes twice.
        (BEIRUT, "Sun 00:00-24:00", "2026-03-28T12:00Z", "2026-03-28T22:00Z"),
        (BEIRUT, "Sun 00:30-09:00", "2026-03-28T12:00Z", "2026-03-28T22:00Z"),
        (BEIRUT, "Sat 23:10-23:30", "2026-10-24T20:45Z", "2026-10-24T21:10Z"),
    ],
)
def test_other_clocks_are_gone_by_too(
    zone: ZoneInfo, window: str, moment: str, opening: str
) -> None:
    """Half hours left out, a day without its midnight: the clock that people see decides."""
    found = Window.parse(window).next_open(datetime.fromisoformat(moment), zone)
    assert found == datetime.fromisoformat(opening)


@pytest.mark.parametrize(
    ("window", "moment", "opening"),
    [
        ("Mon-Fri 08:00-20:00", "2026-12-24T20:00Z", "2026-12-29T08:00Z"),
        ("08:00-20:00", "2026-12-25T09:00Z", "2026-12-26T08:00Z"),
        ("Fri 08:00-20:00", "2026-12-24T20:00Z", "2027-01-01T08:00Z"),
        ("22:00-06:00", "2026-12-25T05:00Z", "2026-12-25T05:00Z"),  # opened on the 24th
        ("22:00-06:00", "2026-12-25T23:00Z", "2026-12-26T22:00Z"),
        ("always", "2026-12-25T09:00Z", "2026-12-25T09:00Z"),
    ],
)
def test_bank_holidays_are_waited_out(window: str, moment: str, opening: str) -> None:
    """No window opens on a bank holiday, and what is always open does not care."""
    for shut in (CHRISTMAS, Holidays(CHRISTMAS)):
        found = Window.parse(window).next_open(datetime.fromisoformat(moment), LONDON, shut)
        assert found == datetime.fromisoformat(opening)


def test_a_year_of_bank_holidays_ends() -> None:
    """However many days are shut, the search ends on the first weekday after them."""
    first = datetime(2026, 6, 1, 12, tzinfo=UTC)
    shut = frozenset((first + timedelta(days=n)).date() for n in range(366))
    found = Window.parse("Mon 01:00-02:00").next_open(first, LONDON, shut)
    assert found == datetime(2027, 6, 7, 0, tzinfo=UTC)


@given(window=WINDOWS, moment=MOMENTS, zone=ZONES, holidays=HOLIDAYS)
def test_next_opening_is_open_and_the_first(
    window: list[str], moment: datetime, zone: ZoneInfo, holidays: frozenset[date]
) -> None:
    """The next opening is never in the past, is open, and nothing between is."""
    parsed = Window.parse(*window)
    found = parsed.next_open(moment, zone, holidays)
    assert found >= moment
    assert parsed.is_open(found, zone, holidays)
    assert (found == moment) is parsed.is_open(moment, zone, holidays)
    # Each minute of the last two days of waiting, and before them a few of each hour.
    minutes = int((found - moment.replace(second=0, microsecond=0)) / MINUTE)
    asked = {*range(max(1, minutes - 2880), minutes), *range(1, minutes, 7)}
    whole = moment.replace(second=0, microsecond=0)
    assert not any(parsed.is_open(whole + n * MINUTE, zone, holidays) for n in asked)


@given(window=WINDOWS, moment=MOMENTS, zone=ZONES, holidays=HOLIDAYS)
def test_a_window_is_open_by_the_clock_that_people_see(
    window: list[str], moment: datetime, zone: ZoneInfo, holidays: frozenset[date]
) -> None:
    """Open exactly when the local date and time lie in the window of a day that has one."""
    here = moment.astimezone(zone)
    clock, expected = f"{here:%H:%M}", False
    for hours in window:
        days, _, clocks = hours.rpartition(" ")
        opens, closes = clocks.split("-")
        opened_on = here.date()
        if opens < closes:
            is_in = opens <= clock < closes
        else:
            is_in = clock >= opens or clock < closes
            if clock < closes:
                opened_on -= timedelta(days=1)
        is_on = not days.strip() or f"{opened_on:%a}" in days
        expected |= is_in and is_on and opened_on not in holidays
    assert Window.parse(*window).is_open(moment, zone, holidays) is expected


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
        ("weekly Fri-Sun 08:30", "08:30"),
        ("daily 24:00", "00:00"),
    ],
)
def test_digest_times_are_counted_from_midnight(text: str, times: str) -> None:
    """A digest comes at one time of the day, or every so many hours or minutes of it."""
    assert Digest.parse(text).times == tuple(map(time.fromisoformat, times.split()))


@pytest.mark.parametrize(
    "text", ["", "daily", "08:00", "weekly 08:00", "daily 8:00", "every 4", "every 1d", "4h"]
)
def test_other_digests_are_refused_with_an_example(text: str) -> None:
    """What is not a digest's time is refused, and the error shows some that are right."""
    with pytest.raises(ValueError, match='as in "daily 08:00", "weekly Mon 08:00"'):
        Digest.parse(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("every 0h", "longer than zero"),
        ("every 25h", "a day"),
        ("weekly Mo 25:00", "no time 25:00"),
        ("weekly Mo 08:00", 'no day "Mo"'),
    ],
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
        # 30 March and 26 October are the Mondays after the changes.
        ("weekly Mon 08:00", "2026-03-23T08:00Z", "2026-03-30T07:00Z"),
        ("weekly Mon 08:00", "2026-10-19T06:59Z", "2026-10-19T07:00Z"),
        ("weekly Mon 08:00", "2026-10-19T07:00Z", "2026-10-26T08:00Z"),
        ("weekly Sun 24:00", "2026-10-19T07:00Z", "2026-10-26T00:00Z"),
        ("weekly Mon,Thu 08:00", "2026-10-19T07:00Z", "2026-10-22T07:00Z"),
        ("weekly Sun 01:30", "2026-03-29T00:00Z", "2026-03-29T01:30Z"),
        ("weekly Sun 01:30", "2026-10-25T00:30Z", "2026-11-01T01:30Z"),
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
    st.builds("weekly {} {:02}:30".format, st.sampled_from(DAYS), st.one_of(HOUR, NIGHT)),
).map(Digest.parse)


@given(digest=DIGESTS, moment=MOMENTS, percent=st.integers(0, 99))
def test_each_moment_belongs_to_one_digest(digest: Digest, moment: datetime, percent: int) -> None:
    """Digests follow one another without a gap: all between two of them is in the later one."""
    first = digest.next_at(moment, LONDON)
    second = digest.next_at(first, LONDON)
    assert (
        moment
        < first
        < second
        <= first + timedelta(days=7 if len(digest.days) == 1 else 1, hours=2)
    )
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
