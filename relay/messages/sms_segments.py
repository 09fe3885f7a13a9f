"""How many segments an SMS takes (3GPP TS 23.038; https://www.twilio.com/docs/glossary/what-is-gsm-7)."""

from __future__ import annotations

from dataclasses import dataclass

BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENDED = frozenset("\f^{}\\[~]|€")


@dataclass(frozen=True)
class Size:
    """An SMS as it is billed: `units` are septets (GSM-7) or UTF-16 code units (UCS-2)."""

    alphabet: str
    units: int
    segments: int
    room: int  # units that fit the segments used
    culprits: str = ""  # the characters that made it UCS-2


def size(text: str) -> Size:
    """The alphabet, units and segments of `text`."""
    culprits = "".join(sorted(set(text) - BASIC - EXTENDED))
    if culprits:
        units = [1 + (ord(char) > 0xFFFF) for char in text]
        return count_segments("UCS-2", units, 70, 67, culprits)
    return count_segments("GSM-7", [1 + (char in EXTENDED) for char in text], 160, 153)


def count_segments(
    alphabet: str, units: list[int], single: int, part: int, culprits: str = ""
) -> Size:
    """Return the size of an SMS in segments, given the units that each character takes."""
    total = sum(units)
    if total <= single:
        return Size(alphabet, total, 1 if total else 0, single, culprits)
    segments, room = 1, part
    for unit in units:  # a character of two units is never cut in half
        if unit > room:
            segments, room = segments + 1, part
        room -= unit
    return Size(alphabet, total, segments, segments * part, culprits)
