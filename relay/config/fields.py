"""The kinds of value that config.toml may hold. Their errors are what an admin reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from email.utils import parseaddr
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from marshmallow import ValidationError, fields

from relay.errors import did_you_mean
from relay.rules import addresses, channels
from relay.rules.schedule import duration

_RIGHT = {
    "email": 'Write one as in "desk@example.org".',
    "sms": 'Write a UK mobile, as in "+447700900100".',
}


def told(description: str, *examples: Any) -> dict[str, Any]:
    """A key's meaning and examples, which relay/config/reference.py hands to editors and docs."""
    return {"description": description, "examples": list(examples)}


class OneOf(fields.String):
    """A text that must be one of `known`; the error offers the nearest."""

    def __init__(self, known: Iterable[str], **kwargs: Any):
        super().__init__(**kwargs)
        self.known = tuple(known)

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        text = str(super()._deserialize(value, *args, **kwargs))
        if text not in self.known:
            raise ValidationError(f'unknown value "{text}". {did_you_mean(text, self.known)}')
        return text


class Parsed(fields.String):
    """A text that `parse` turns into a value; its ValueError is what the admin reads."""

    def __init__(self, parse: Callable[[str], Any], **kwargs: Any):
        super().__init__(**kwargs)
        self.parse = parse

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return self.parse(super()._deserialize(value, *args, **kwargs))
        except ValueError as error:
            raise ValidationError(f"{str(error).rstrip('.')}.") from error


class Dated(Parsed):
    """A date: text that `parse` reads, or a TOML date."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(value, date) and not isinstance(value, datetime):
            return value
        return super()._deserialize(str(value), *args, **kwargs)


def zone(text: str) -> ZoneInfo:
    """A time zone by its name."""
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError('unknown time zone; write one as in "Europe/London"') from error


def sms_sender(text: str) -> str:
    """A Twilio sender: https://www.twilio.com/docs/glossary/what-alphanumeric-sender-id"""
    named = re.fullmatch(r"(?=.*[A-Za-z])[A-Za-z0-9 &+_-]{1,11}", text)
    if named or re.fullmatch(r"\+\d{7,15}|\d{3,8}", text):
        return text
    raise ValueError("write up to 11 letters and digits, at least one a letter, or a +44 number")


def email_sender(text: str) -> str:
    """An address with or without a display name."""
    if "\n" in text or "\r" in text or addresses.email(parseaddr(text)[1]).reason:
        raise ValueError('write it as "Example Clinic <results@example.org>"')
    return text


def judged(channel: str) -> Parsed:
    """A staff address on a channel."""

    def judge(text: str) -> str:
        found = channels.CHECKS[channel](text)
        if found.reason:
            raise ValueError(f'"{text}": {found.reason} {_RIGHT[channel]}')
        return found.address

    return Parsed(judge)


def any_address(text: str) -> str:
    """An address on whichever channel it belongs to."""
    found = channels.CHECKS[channels.channel_of(text)](text)
    if found.reason:
        raise ValueError(f'"{text}": {found.reason} {_RIGHT[channels.channel_of(text)]}')
    return found.address


def lasting(text: str) -> timedelta:
    """A duration longer than zero."""
    found = duration(text)
    if not found:
        raise ValueError('must be longer than zero, as in "30d"')
    return found
