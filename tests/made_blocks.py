"""Blocks in the docs that tests make, so that what a page shows is what Relay does.

A block stands between `<!-- made: NAME, by TEST -->` and `<!-- end -->`. The test compares it, or
writes it with RELAY_UPDATE_EXPECTED=1.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence

from tests.conftest import ROOT

UPDATED = os.environ.get("RELAY_UPDATE_EXPECTED") == "1"
BLOCK = re.compile(r"(<!-- made: ([\w ./-]+), by (test_\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_ID = re.compile(r"\b(?:(evt|msg|qrt|cas)_[0-9a-f]{28}|[0-9a-f]{32})\b")
_TIMES = (
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"), "2026-11-24 09:30:00"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?"), "2026-11-24T09:30:00"),
    (re.compile(r"\b\d\d? [A-Z][a-z]{2} \d{4}( at)? \d\d:\d\d(:\d\d)?\b"), "24 Nov 2026\\1 09:30"),
)


def check_block(page: str, name: str, made: str) -> None:
    """Hold the block `name` of a page, a path from the project's root, to what a test has made."""
    file = ROOT / page
    text = file.read_text("utf-8")
    found = [block for block in BLOCK.finditer(text) if block[2] == name]
    assert len(found) == 1, f"{page} has {len(found)} blocks called {name}"
    [block] = found
    if UPDATED:
        file.write_text(text[: block.start(4)] + made + text[block.end(4) :], "utf-8")
    else:
        assert block[4] == made, f"RELAY_UPDATE_EXPECTED=1 pytest -k {block[3]} writes it"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    shown = ("| " + " | ".join(line) + " |\n" for line in lines)
    return "".join(shown).replace("| --- ", "|---").replace("--- |\n", "---|\n")


def sample(text: str) -> str:
    """A block of output, with ids and times that are the same in every run."""
    return f"```\n{steady(text).rstrip()}\n```\n"


def steady(text: str) -> str:
    """Each id becomes one that only depends on when it is first named, each time becomes one."""
    seen: dict[str, str] = {}
    for match in _ID.finditer(text):
        number = hashlib.sha256(f"{match[1]} {len(seen)}".encode()).hexdigest()
        made = f"{match[1]}_01a20faf{number[:20]}" if match[1] else number[:32]
        seen.setdefault(match[0], made)
    text = _ID.sub(lambda match: seen[match[0]], text)
    for pattern, shown in _TIMES:
        text = pattern.sub(shown, text)
    return re.sub(r"http://127\.0\.0\.1:\d+", "http://127.0.0.1:8000", text)
