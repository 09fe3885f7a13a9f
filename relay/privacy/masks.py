"""Masked addresses and names, shown until somebody asks for the real ones, and marks that replace
them where they must not be stored. Pure.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Any

from relay.lab.facts import EMAIL, MOBILE, NAMES, PERSONS, PHONE, SENSITIVE, SHAPES
from relay.lab.plain_text import why_no_name

HIDDEN = "•"
# An email address, or ten or more digits however separated; a date is not a number.
_WRITTEN = re.compile(
    r"[\w.!#$%&'*+/=?^`{|}~-]{1,320}+@[\w.-]+|(?!\d{4}-\d\d-\d\d\b)\+?\(?\d(?:[ ().-]{0,3}\d){9,}"
)
_COUNTRY, _LAST = 3, 3  # of a phone number: the characters at each end that stay visible


def address(written: str) -> str:
    """An address that only somebody who knows it can recognise: +44•••••••001, j•••@example.org."""
    if "@" in written:
        local, _, domain = written.rpartition("@")
        return f"{local[:1]}{HIDDEN * 3}@{domain}"
    if len(written) < _COUNTRY + _LAST + 4:  # too short to show any of it
        return HIDDEN * 7 if written else ""
    return f"{written[:_COUNTRY]}{HIDDEN * 7}{written[-_LAST:]}"


def mark(secret: str, *parts: str) -> str:
    """A mark for a text: anybody with the text and the secret can find it, but not the reverse."""
    said = "\0".join(parts).encode("utf-8", "surrogateescape")
    return hmac.new(secret.encode(), said, hashlib.sha256).hexdigest()[:32]


def target(secret: str, channel: str, address: str) -> str:
    """An address in the audit trail, in any spelling; without a secret, only its channel."""
    return f"{channel} {mark(secret, channel, address.lower())}" if secret else channel


def name(written: str) -> str:
    """A name's initials: J••• S•••."""
    return " ".join(f"{word[0]}{HIDDEN * 3}" for word in written.split())


# The fields of a kit that are not personal: a template may print them, or depend on them.
_OPEN = frozenset(
    (
        "status",
        "carrier",
        "shipping_status",
        "shipping_date",
        "results_ready",
        "quantity",
        "created_at",
        "completed_at",
        "sample_received_at",
        "role",
    )
)
# Fields that say who somebody is, or how to reach them: a condition on one reveals some of it.
WHO = frozenset(key for one in PERSONS for key in SHAPES[one]).union(*SENSITIVE.values()) - _OPEN
_ADDRESSES = frozenset((EMAIL, PHONE, MOBILE))


def fields(value: Any, key: str = "") -> Any:
    """The lab's facts about a kit, in their own shape, without personal data."""
    if isinstance(value, Mapping):
        return {name: fields(inner, name) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [fields(inner, key) for inner in value]
    if value is None or isinstance(value, bool) or key in _OPEN:
        return value
    written = str(value)
    if key in NAMES:
        return None if why_no_name(written) else name(written)  # no greeting uses it
    if key in _ADDRESSES:
        return address(written)
    # Enough of an id stays to tell two apart.
    return HIDDEN * 3 + (written[-_LAST:] if key.endswith("id") and len(written) > 7 else "")


def inside(text: str) -> str:
    """A text with its email addresses and numbers masked."""
    return _WRITTEN.sub(lambda found: address(found[0]), text)
