"""Addresses and names as they are shown until somebody asks to see them. Pure."""

from __future__ import annotations

HIDDEN = "•"
_COUNTRY, _LAST = 3, 3  # of a phone number: what stays to be seen at its two ends


def address(written: str) -> str:
    """An address to be recognised by who knows it: +44•••••••001, j•••@example.org."""
    if "@" in written:
        local, _, domain = written.rpartition("@")
        return f"{local[:1]}{HIDDEN * 3}@{domain}"
    if len(written) < _COUNTRY + _LAST + 4:  # too short to show any of it
        return HIDDEN * 7 if written else ""
    return f"{written[:_COUNTRY]}{HIDDEN * 7}{written[-_LAST:]}"


def name(written: str) -> str:
    """A name's initials: J••• S•••."""
    return " ".join(f"{word[0]}{HIDDEN * 3}" for word in written.split())
