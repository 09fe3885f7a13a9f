"""Where each table and key of a TOML file stands. tomllib tells values but not lines."""

from __future__ import annotations

import re
from collections.abc import Mapping

_HEADER = re.compile(r"\s*\[\[?\s*(.+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")
_STRINGS = re.compile(r'"""|\'\'\'|"(?:\\.|[^"\\])*"|\'[^\']*\'|#.*')

Path = tuple[str, ...]


def index(text: str) -> Mapping[Path, int]:
    """Path of each table and key → its line, counted from 1. Meant for text that tomllib takes."""
    lines: dict[Path, int] = {}
    table: Path = ()
    inside, depth = "", 0  # a multi-line string's quotes; open brackets of a multi-line array
    for number, line in enumerate(text.splitlines(), 1):
        if not inside and not depth:
            if header := _HEADER.match(line):
                table = _parts(header[1])
                lines.setdefault(table, number)
                continue
            if key := _KEY.match(line):
                lines.setdefault(table + _parts(key[1]), number)
        inside, depth = _after(line, inside, depth)
    return lines


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
    rest = line
    if inside:
        _, closed, rest = line.partition(inside)
        if not closed:
            return inside, depth
    while found := _STRINGS.search(rest):
        depth += _brackets(rest[: found.start()])
        rest = rest[found.end() :]
        if found[0] in ('"""', "'''"):
            _, closed, rest = rest.partition(found[0])
            if not closed:
                return found[0], depth
    return "", depth + _brackets(rest)


def _brackets(code: str) -> int:
    return code.count("[") + code.count("{") - code.count("]") - code.count("}")
