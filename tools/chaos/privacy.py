"""Whether anything about a person stands where it must not: in output, or in Redis."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tools.chaos.kits import FIRST_NAME, LAST_NAME, STREET

_WORDS = re.compile(rf"{FIRST_NAME}|{LAST_NAME}|{STREET}|[\w.]+(?:@|%40)chaos\.example", re.I)
_NUMBERS = re.compile(r"(?:44|0)(74\d{8})")


class Privacy:
    """Knows every person of a run."""

    def __init__(self, numbers: Iterable[str]):
        self._numbers = {number.removeprefix("+44") for number in numbers}

    def found(self, text: str) -> list[str]:
        """The lines that say something about a person."""
        return [line[:300] for line in text.splitlines() if self._tells(line)]

    def _tells(self, line: str) -> bool:
        if _WORDS.search(line):
            return True
        return any(number in self._numbers for number in _NUMBERS.findall(line))
