"""Colours, and which of them are readable on which, as WCAG measures it. Pure."""

from __future__ import annotations

import re

WHITE, BLACK = "#ffffff", "#000000"
READABLE = 4.5  # the least contrast for letters


def accent(text: str) -> str:
    """A colour in lower case. Raises ValueError if white letters cannot be read on it."""
    if not re.fullmatch(r"#[0-9A-Fa-f]{6}", text):
        raise ValueError('write a colour as # and six hex digits, as in "#0a6259"')
    if (found := contrast(text, WHITE)) < READABLE:
        raise ValueError(
            f"white letters on {text} cannot be read: their contrast is {found:.1f}, and must be "
            f'{READABLE}. Write a darker colour, as in "{readable(text, BLACK, WHITE)}"'
        )
    return text.lower()


def readable(colour: str, toward: str, *grounds: str) -> str:
    """The colour, mixed with just enough of `toward` to be readable on each of the grounds."""
    steps = (mixed(colour, toward, step / 20) for step in range(21))
    return next(
        (one for one in steps if all(contrast(one, ground) >= READABLE for ground in grounds)),
        toward,
    )


def mixed(colour: str, other: str, share: float) -> str:
    """A mix of two colours; `share` is the other one's, from 0 to 1."""
    pairs = zip(_parts(colour), _parts(other), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def contrast(one: str, other: str) -> float:
    """From 1, equal, to 21, black on white: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    linear = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (value / 255 for value in _parts(colour))
    )
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _parts(colour: str) -> list[int]:
    return [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
