"""Edits of config.toml while it is in use: each of them is taken back after some seconds."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from tools.chaos.words import RENAMED, template

RENAMED_RULE, MOVED_RULE = "sample-received", "kit-delivered"  # whose name, whose channels change


class Edits:
    """Writes another configuration, and the first one again."""

    def __init__(self, file: Path, draw: random.Random, pause: Callable[[float, float], None]):
        self._file = file
        self._text = file.read_text("utf-8")
        self._random = draw
        self._pause = pause

    def deck(self) -> dict[str, Callable[[], None]]:
        """All that may be done to the file, by what it is called."""
        return {
            "a rule renamed": self._rename,
            "a rule's channels changed": self._move,
            "a file half written": self._write_half,
        }

    def _rename(self) -> None:
        """A rule has another name: what waits for the first one waits until it is back."""
        other = RENAMED_RULE + RENAMED
        renamed = self._text.replace(f"[rules.{RENAMED_RULE}]", f"[rules.{other}]")
        self._for_a_while(renamed.replace(f'"{template(RENAMED_RULE)}"', f'"{template(other)}"'))

    def _move(self) -> None:
        """A rule writes by its other channel."""
        where = self._text.index(f"[rules.{MOVED_RULE}]")
        before, after = self._text[:where], self._text[where:]
        usual = 'channels = ["sms"]\nfallback = ["email"]'
        self._for_a_while(before + after.replace(usual, 'channels = ["email"]', 1))

    def _write_half(self) -> None:
        """An editor that takes its time: half of it is no configuration, though it can be read."""
        rules = self._text.split("\n\n")
        cut = self._random.randrange(len(rules) - 4, len(rules))
        half = "\n\n".join(rules[:cut]) + self._random.choice(("\n", "\n\n[rules.resul"))
        self._file.write_text(half, "utf-8")
        self._pause(0.2, 1.2)
        self._file.write_text(self._text, "utf-8")
        self._pause(3.0, 4.0)

    def _for_a_while(self, text: str) -> None:
        self._file.write_text(text, "utf-8")
        self._pause(4.0, 8.0)
        self._file.write_text(self._text, "utf-8")
        self._pause(4.0, 6.0)
