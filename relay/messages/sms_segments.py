"""How many segments an SMS takes (3GPP TS 23.038; https://www.twilio.com/docs/glossary/what-is-gsm-7)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from relay.lab import plain_text

BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENDED = frozenset("\f^{}\\[~]|€")
# A word processor's variants of a plain character, by that character. None is a letter.
_TYPED = {
    "'": "‘’‚‛′`´",
    '"': "“”„‟″«»",
    "<": "‹",
    ">": "›",
    "-": "\u2010\u2011\u2012\u2013\u2014\u2015\u2212•",
    "...": "…",
    "/": "⁄∕",
}
TWINS = {ord(char): twin for twin, chars in _TYPED.items() for char in chars}
_BLANKS = re.compile(r"[^\S\n]")  # any white space within a line: each becomes one space


def plain(text: str) -> str:
    """A text as it is sent by SMS: with typographic characters made plain and invisible ones
    removed. Letters stay as they are.
    """
    lines = (plain_text.seen(line).translate(TWINS) for line in text.splitlines())
    return _BLANKS.sub(" ", "\n".join(map(plain_text.seen, lines))).strip()


def hidden(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield (line, column, name) of each character that is invisible or looks like a space."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.isascii() and line.replace("\t", "").isprintable():
            continue  # plain ASCII, as most lines are
        places = {at for at, char in enumerate(line) if char.isspace() and char not in " \t\f\r"}
        for at in sorted(places | plain_text.unseen(line)):
            yield number, at + 1, spelt(line[at])


def spelt(char: str) -> str:
    """A character's name and number, for somebody who cannot see it."""
    return f"{unicodedata.name(char, 'control character').lower()} (U+{ord(char):04X})"


@dataclass(frozen=True)
class Size:
    """An SMS's size for billing: `units` are septets (GSM-7) or UTF-16 code units (UCS-2)."""

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
    for unit in units:  # a character of two units is never split
        if unit > room:
            segments, room = segments + 1, part
        room -= unit
    return Size(alphabet, total, segments, segments * part, culprits)
