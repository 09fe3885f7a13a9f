"""Addresses and names as they are shown until somebody asks to see them, and marks that stand for
them where they must not be. Pure.
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
# An email address, or ten digits and more however they are parted; a date is no number.
_WRITTEN = re.compile(
    r"[\w.!#$%&'*+/=?^`{|}~-]{1,320}+@[\w.-]+|(?!\d{4}-\d\d-\d\d\b)\+?\(?\d(?:[ ().-]{0,3}\d){9,}"
)
_COUNTRY, _LAST = 3, 3  # of a phone number: what stays to be seen at its two ends


def address(written: str) -> str:
    """An address to be recognised by who knows it: +44•••••••001, j•••@example.org."""
    if "@" in written:
        local, _, domain = written.rpartition("@")
        return f"{local[:1]}{HIDDEN * 3}@{domain}"
    if len(written) < _COUNTRY + _LAST + 4:  # too short to show any of it
        return HIDDEN * 7 if written else ""
    return f"{written[:_COUNTRY]}{HIDDEN * 7}{written[-_LAST:]}"


def mark(secret: str, *parts: str) -> str:
    """Stands for something: who has it and the secret finds the mark, and nobody the other way."""
    said = "\0".join(parts).encode("utf-8", "surrogateescape")
    return hmac.new(secret.encode(), said, hashlib.sha256).hexdigest()[:32]


def target(secret: str, channel: str, address: str) -> str:
    """An address in the audit trail, however it is written; without a secret, only its channel."""
    return f"{channel} {mark(secret, channel, address.lower())}" if secret else channel


def name(written: str) -> str:
    """A name's initials: J••• S•••."""
    return " ".join(f"{word[0]}{HIDDEN * 3}" for word in written.split())


# What of a kit is nobody's own: a template may say it, or go by it.
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
# Says who somebody is, or how to reach them: of a condition that reads it each answer tells some.
WHO = frozenset(key for one in PERSONS for key in SHAPES[one]).union(*SENSITIVE.values()) - _OPEN
_ADDRESSES = frozenset((EMAIL, PHONE, MOBILE))


def fields(value: Any, key: str = "") -> Any:
    """What the lab said about a kit, in its own shape, without personal data."""
    if isinstance(value, Mapping):
        return {name: fields(inner, name) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [fields(inner, key) for inner in value]
    if value is None or isinstance(value, bool) or key in _OPEN:
        return value
    written = str(value)
    if key in NAMES:
        return None if why_no_name(written) else name(written)  # nobody is greeted by it
    if key in _ADDRESSES:
        return address(written)
    # Of an id enough stays to tell two apart.
    return HIDDEN * 3 + (written[-_LAST:] if key.endswith("id") and len(written) > 7 else "")


def inside(text: str) -> str:
    """A text whose email addresses and numbers are masked."""
    return _WRITTEN.sub(lambda found: address(found[0]), text)
