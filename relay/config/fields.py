"""The kinds of value that config.toml may hold. Their errors are written for admins."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from marshmallow import ValidationError, fields

from relay.errors import did_you_mean
from relay.rules.addresses import ANYWHERE, PHONE, AddressKind
from relay.rules.channels import kind_of
from relay.rules.schedule import duration


def described(description: str, *examples: Any) -> dict[str, Any]:
    """A key's meaning and examples, which tools/docs/ passes to editors and docs."""
    return {"description": description, "examples": list(examples)}


class Text(fields.String):
    """A text, with its meaning and examples."""

    def __init__(self, description: str = "", *examples: Any, **kwargs: Any):
        super().__init__(metadata=described(description, *examples), **kwargs)


class OneOf(Text):
    """A text that must be one of `known`; the error offers the nearest."""

    def __init__(self, known: Iterable[str], *meaning: Any, **kwargs: Any):
        super().__init__(*meaning, **kwargs)
        self.known = tuple(known)

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        text = str(super()._deserialize(value, *args, **kwargs))
        if text not in self.known:
            raise ValidationError(f'unknown value "{text}". {did_you_mean(text, self.known)}')
        return text


class Parsed(Text):
    """A text that `parse` turns into a value; the admin reads its ValueError."""

    def __init__(self, parse: Callable[..., Any], *meaning: Any, **kwargs: Any):
        super().__init__(*meaning, **kwargs)
        self.parse = parse

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        written = [
            super(Parsed, self)._deserialize(one, *args, **kwargs) for one in self.each(value)
        ]
        try:
            return self.parse(*written)
        except ValueError as error:
            raise ValidationError(f"{str(error).rstrip('.')}.") from error

    def each(self, value: Any) -> list[Any]:
        """The texts that are written."""
        return [value]


class Several(Parsed):
    """A text or a TOML date, or a list of them, which `parse` turns into one value."""

    def each(self, value: Any) -> list[Any]:
        """The texts that are written."""
        written = value if isinstance(value, list) else [value]
        return [str(one) if isinstance(one, date) else one for one in written]


def zone(text: str) -> ZoneInfo:
    """The time zone with a name. Raises ValueError if there is none."""
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError('unknown time zone; write one as in "Europe/London"') from error


def picture(text: str) -> str:
    """The address of a picture that mail programs show. Raises ValueError for any other."""
    parts = urlsplit(text)
    is_plain = text.isascii() and text.isprintable() and not set(text) & set(" \"';,<>")
    if parts.scheme != "https" or not parts.hostname or not is_plain:
        raise ValueError('write an https:// address, as in "https://www.example.org/logo.png"')
    if parts.path.lower().endswith((".svg", ".webp")):
        raise ValueError("many mail programs cannot show this kind of picture: use a PNG or JPEG")
    return text


def judged(kind: AddressKind, *meaning: Any, **how: Any) -> Parsed:
    """A field for an address of one kind."""
    return Parsed(partial(usable_address, kind), *meaning, **how)


def any_address(text: str) -> str:
    """An address in normal form, of the kind that it looks like."""
    return usable_address(kind_of(text) or PHONE, text)


def usable_address(kind: AddressKind, text: str) -> str:
    """Return the address in its normal form, or raise ValueError with the remedy."""
    found = kind.judge_in(ANYWHERE, text)
    if found.reason:
        raise ValueError(f'"{text}": {found.reason} {kind.remedy}')
    return found.address


def lasting(text: str) -> timedelta:
    """A duration longer than zero. Raises ValueError for any other."""
    found = duration(text)
    if not found:
        raise ValueError('must be longer than zero, as in "30d"')
    return found
