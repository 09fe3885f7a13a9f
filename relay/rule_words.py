"""A rule, or a step that is expected, in plain English. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from relay.condition_words import in_words
from relay.lab.events import EVENTS
from relay.lab.facts import PERSONS
from relay.rules.model import Policy, Rule
from relay.rules.schedule import ALWAYS, DAYS, Digest, Window

_VERBS = {"sms": "text", "email": "email"}
_FULL = {"Tue": "Tuesday", "Wed": "Wednesday", "Thu": "Thursday", "Sat": "Saturday"}
_WEEK = tuple(_FULL.get(day, f"{day}day") for day in DAYS)
_MIDNIGHT, _DAY = 24 * 60, timedelta(days=1)


def sentences(rule: Rule, policy: Policy) -> list[str]:
    """What a rule does. The first says who is told what and when, the others what is special."""
    first = _digest(rule, rule.digest, policy) if rule.digest else _message(rule, policy)
    return [first, *_conditions(rule)]


def happens(event: str) -> str:
    """An event as a clause: the kit is shipped."""
    return EVENTS[event].happens or f"{event} comes"


def duration(length: timedelta) -> str:
    """A time in its largest whole unit: 10 days, 36 hours, 90 minutes."""
    seconds = int(length.total_seconds())
    units = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))
    unit, many = next((name, seconds // size) for name, size in units if seconds % size == 0)
    return f"{many:,} {unit}{'s' * (many != 1)}"


def window(open_: Window, policy: Policy) -> str:
    """When messages may go out: between 08:00 and 20:00."""
    if open_ == ALWAYS:
        return "at any hour"
    over = " the next morning" if open_.closes > _MIDNIGHT else ""
    hours = f"between {_clock(open_.opens)} and {_clock(open_.closes)}{over}"
    days = "" if len(open_.days) == len(DAYS) else f"on {_days(open_.days)}, "
    free = ", but not on bank holidays" if policy.bank_holidays else ""
    return f"{days}{hours}{free}"


def expected(after: str, event: str, within: timedelta, to: str) -> str:
    """A step that is expected of a kit."""
    return (
        f"When {happens(after)}, and it is not true {duration(within)} later that "
        f"{happens(event)}, {_who(to)} hear of it."
    )


def _message(rule: Rule, policy: Policy) -> str:
    when = window(rule.send_window or policy.send_window, policy)
    told = f"{_tell(rule.channels)} {_who(rule.to)}"
    return f"When {happens(rule.event)}, {told} {_delay(rule)}, {when}."


def _delay(rule: Rule) -> str:
    if rule.hold:
        return f"once staff have released it, or {duration(rule.hold)} later if nobody stops it"
    return f"{duration(rule.after)} later" if rule.after else "at once"


def _digest(rule: Rule, digest: Digest, policy: Policy) -> str:
    later = f" {duration(rule.after)} later" if rule.after else ""
    hours = f", {window(rule.send_window, policy)}" if rule.send_window else ""
    return (
        f"When {happens(rule.event)}, note it{later} for {_who(rule.to)}; {_times(digest)}, "
        f"{_tell(rule.channels)} them one message about all that has gathered{hours}."
    )


def _times(digest: Digest) -> str:
    if len(digest.times) == 1:
        return f"every day at {digest.times[0]:%H:%M}"
    step = duration(timedelta(hours=digest.times[1].hour, minutes=digest.times[1].minute))
    return f"every {step.removeprefix('1 ')} from midnight on"


def _conditions(rule: Rule) -> Iterator[str]:
    if rule.when:
        # As code, between backticks, where words would say it worse.
        yield f"Only if {in_words(rule.when.source) or f'`{rule.when.source}`'}."
    if rule.unless:
        yield f"Not if, by then, {_listed([happens(event) for event in rule.unless], 'or')}."
    if rule.fallback:
        yield f"If that cannot reach them, {_tell(rule.fallback)} them instead."
    if rule.even_if_late:
        yield "They are told even if a later step of the kit is known already."
    if rule.on_unknown == "hold":
        yield "If nobody can tell whether it went out, it is not sent again: a person decides."
    if not rule.discreet:
        yield "A text or a subject line may show a test, a date of birth or a full name."


def _who(to: str) -> str:
    return f"the {to}" if to in PERSONS else f"the staff of {to}"


def _tell(channels: Sequence[str]) -> str:
    return _listed([_VERBS.get(channel, f"send by {channel} to") for channel in channels], "and")


def _clock(minutes: int) -> str:
    hours, rest = divmod(minutes % _MIDNIGHT, 60)
    return f"{hours:02}:{rest:02}" if hours or rest else "midnight"


def _days(days: frozenset[int]) -> str:
    """Monday to Friday; Monday, Wednesday and Saturday."""
    starts = [day for day in sorted(days) if (day - 1) % 7 not in days]
    if len(starts) == 1 and len(days) > 2:
        return f"{_WEEK[starts[0]]} to {_WEEK[(starts[0] + len(days) - 1) % 7]}"
    return _listed([_WEEK[day] for day in sorted(days)], "and")


def _listed(words: Sequence[str], last: str) -> str:
    """One, two and three."""
    *others, final = words
    return f"{', '.join(others)} {last} {final}" if others else final
