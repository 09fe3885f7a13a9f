"""Where each table and key of a TOML file stands. tomllib tells values but not lines."""

from __future__ import annotations

import re
from collections.abc import Mapping

_HEADER = re.compile(r"\s*\[\[?\s*(.+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")
_STRINGS = re.compile(r'"""|\'\'\'|"(?:\\.|[^"\\])*"|\'[^\']*\'|#.*')
_ENDS = {  # up to the end of a multi-line string, whose last quotes may be the string's own
    '"""': re.compile(r'(?:\\.|[^"\\]|"(?!""))*"{3,5}'),
    "'''": re.compile(r"(?:[^']|'(?!''))*'{3,5}"),
}

Path = tuple[str, ...]


def index(text: str) -> Mapping[Path, int]:
    """Path of each table and key → its line, counted from 1. Meant for text that tomllib takes."""
    lines: dict[Path, int] = {}
    table: Path = ()
    inside, depth = "", 0  # a multi-line string's quotes; open brackets of a multi-line array
    for number, line in enumerate(text.split("\n"), 1):
        if not inside and not depth:
            if header := _HEADER.match(line):
                table = _parts(header[1])
                lines.setdefault(table, number)
            elif key := _KEY.match(line):
                lines.setdefault(table + _parts(key[1]), number)
        inside, depth = _after(line, inside, depth)
    around: dict[Path, int] = {}  # [rules.a-name] has [rules] in it, which may have no line itself
    for path, number in lines.items():
        for length in range(1, len(path)):
            around.setdefault(path[:length], number)
    return around | lines


def nearest(lines: Mapping[Path, int], path: Path) -> int | None:
    """The line of `path`, or of the closest table or key around it."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


def _parts(dotted: str) -> Path:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))


def _after(line: str, inside: str, depth: int) -> tuple[str, int]:
    """What is still open at the end of a line."""
    while True:
        if inside:
            end = _ENDS[inside].match(line)
            if not end:
                return inside, depth
            line = line[end.end() :]
        found = _STRINGS.search(line)
        depth += _brackets(line[: found.start()] if found else line)
        if not found:
            return "", depth
        line = line[found.end() :]
        inside = found[0] if found[0] in _ENDS else ""


def _brackets(code: str) -> int:
    return code.count("[") + code.count("{") - code.count("]") - code.count("}")
