"""TOML as an admin writes it: the line of each table and key, and every mistake in plain words.

tomllib gives values but no lines, its errors are for programmers, and it stops at the first
mistake: here we take out the line that stops it, and read the rest.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from relay.config import odd_characters

_HEADER = re.compile(r"\s*\[\[?\s*(.+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_KEY_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")
_STRINGS = re.compile(r'"""|\'\'\'|"(?:\\.|[^"\\])*"|\'[^\']*\'|#.*')
_ENDS = {  # match to the end of a multi-line string, which may itself end with quotes
    '"""': re.compile(r'(?:\\.|[^"\\]|"(?!""))*"{3,5}'),
    "'''": re.compile(r"(?:[^']|'(?!''))*'{3,5}"),
}

KeyPath = tuple[str, ...]


def line_index(text: str) -> Mapping[KeyPath, int]:
    """Path of each table and key → its line, counted from 1. The text must be valid TOML."""
    lines: dict[KeyPath, int] = {}
    table: KeyPath = ()
    inside, depth = "", 0  # a multi-line string's quotes; open brackets of a multi-line array
    for number, line in enumerate(text.split("\n"), 1):
        if not inside and not depth:
            if header := _HEADER.match(line):
                table = split_key(header[1])
                lines.setdefault(table, number)
            elif key := _KEY.match(line):
                lines.setdefault(table + split_key(key[1]), number)
        inside, depth = after(line, inside, depth)
    # [rules.a-name] implies [rules], which may have no line itself.
    around: dict[KeyPath, int] = {}
    for path, number in lines.items():
        for length in range(1, len(path)):
            around.setdefault(path[:length], number)
    return around | lines


def nearest(lines: Mapping[KeyPath, int], path: KeyPath) -> int | None:
    """The line of `path`, or of the closest table or key around it."""
    shorter = (path[:length] for length in range(len(path), 0, -1))
    return next((lines[one] for one in shorter if one in lines), None)


def split_key(dotted: str) -> KeyPath:
    """Split a dotted TOML key into its parts, without their quotes."""
    return tuple(part.strip("\"'") for part in _KEY_PART.findall(dotted))


def after(line: str, inside: str, depth: int) -> tuple[str, int]:
    """The multi-line string and the brackets that are still open at the end of a line."""
    while True:
        if inside:
            end = _ENDS[inside].match(line)
            if not end:
                return inside, depth
            line = line[end.end() :]
        found = _STRINGS.search(line)
        depth += count_open_brackets(line[: found.start()] if found else line)
        if not found:
            return "", depth
        line = line[found.end() :]
        inside = found[0] if found[0] in _ENDS else ""


def count_open_brackets(code: str) -> int:
    """Return how many more brackets and braces a piece of TOML opens than it closes."""
    return code.count("[") + code.count("{") - code.count("]") - code.count("}")


_SYNTAX = {  # the beginning of tomllib's message → its meaning, and the remedy
    "Cannot declare": ("this table appears twice", "Put all its keys under one heading."),
    "Cannot overwrite": ("this key is set twice", "Remove one of the two lines."),
    "Unclosed array": ("this list is not closed", 'End it with a bracket: channels = ["sms"].'),
    "Expected ']'": ("this heading is not closed", "Put it in brackets: [clinic]."),
    "Expected '='": ("there is no = after the key", 'Write it as in name = "text".'),
    "Expected newline": ("unexpected text after the value", 'Text needs quotes: "020 7946".'),
    "Illegal character": ("this text is not closed", "Put a quote at each end, on the same line."),
    "Unterminated string": ("this text is not closed", 'Close it with the """ that it began with.'),
    "Invalid value": ("unreadable value after =", 'Text needs straight quotes: "text".'),
}

# As written → as TOML wants it, and the mistake. Used only if the row is then valid TOML.
_MENDS = (
    (r"(=\s*)(true|false)\b", lambda m: m[1] + m[2].lower(), "true and false are written small"),
    (r"(=\s*)(?:yes|on)\b", r"\1true", "this is true or false"),
    (r"(=\s*)(?:no|off)\b", r"\1false", "this is true or false"),
    (r"(?<=\d),(?=\d{3}\b)", "", "a number has no comma"),
    (r"([\"'])[ \t]+(?=[\"'])", r"\1, ", "there is no comma between the values of this list"),
    (r"(?<=\w)[ \t]+(?=\w[^=]*\])", "-", "a name in a heading has no blank"),
    (r"(=\s*)([^\s\"'\[\]{}#][^\"\[\]{}#]*?)(?=\s*(?:#|$))", r'\1"\2"', "text needs quotes"),
)


def mended(row: str) -> tuple[str, str] | None:
    """A row corrected to valid TOML, and what was wrong with it; None if that is not plain."""
    for wrong, right, said in _MENDS:
        better = re.sub(wrong, right, row, flags=re.IGNORECASE)
        if better != row and stands_alone(better):
            return better, said
    return None


class Reading(NamedTuple):
    """A text's values, their lines, and its mistakes."""

    document: dict[str, Any]
    lines: Mapping[KeyPath, int]
    mistakes: Mapping[int, tuple[str, str]]  # by line: the mistake, and its remedy
    lost: frozenset[KeyPath]  # tables and keys that it made unreadable; () is all


MOST = 60  # lines to take out
LONGEST_LINE, LONGEST_TEXT = 2_000, 256 * 1024
_LOST = "relay-cannot-read"  # replaces a heading, so that its keys do not join another table
# More parts than any key of ours has; they cost tomllib quadratic time.
_LONG_NAME = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"]*"|'[^']*')\s*+\.\s*+){16}""")
_FIRST = re.compile(r"\W*([\w-]+(?:\s*\.\s*[\w-]+)*)")


def read(text: str) -> Reading:
    """As much of a text as can be read, and every mistake in it."""
    if too_much := dict(oversized(text)):
        return Reading({}, {}, too_much, frozenset({()}))
    rows, last = text.split("\n"), 0
    mistakes: dict[int, tuple[str, str]] = {}
    lost: set[KeyPath] = set()
    for _ in range(MOST):
        try:
            document = tomllib.loads("\n".join(rows))
        except RecursionError:
            deepest = max(range(len(rows)), key=lambda at: count_open_brackets(rows[at]))
            mistakes[deepest + 1] = ("not valid TOML: too many brackets.", "Take some out.")
            break
        except ValueError as error:
            line, *said = syntax_error("\n".join(rows), str(error))
            if line < last:  # the line taken out held others together
                break
            mistakes.setdefault(line, (said[0], said[1]))
            at, last = culprit(rows, line - 1, str(error)), line
            if at is None:
                break
            lost |= take_out(rows, at)
        else:
            document.pop(_LOST, None)
            return Reading(document, line_index("\n".join(rows)), mistakes, frozenset(lost))
    return Reading({}, {}, mistakes, frozenset({()}))


def oversized(text: str) -> Iterator[tuple[int, tuple[str, str]]]:
    """Yield what would take too long to read: a line too long, a name of too many parts."""
    if len(text) > LONGEST_TEXT:
        yield 1, (f"the file is longer than {LONGEST_TEXT // 1024} KiB.", "Shorten it.")
        return
    for number, row in enumerate(text.split("\n"), 1):
        if len(row) > LONGEST_LINE:
            yield number, (f"this line has more than {LONGEST_LINE:,} characters.", "Break it.")
        elif _LONG_NAME.search(row):
            yield number, ("this name has too many dots.", "Write it as in [rules.a-name].")


def culprit(rows: Sequence[str], at: int, error: str) -> int | None:
    """The row to take out for an error: that row, or the last before it that is not TOML alone."""
    if error.startswith("Cannot ") or not stands_alone(rows[at]):
        return at
    return next((row for row in range(at - 1, -1, -1) if not stands_alone(rows[row])), None)


def stands_alone(row: str) -> bool:
    """Whether a row is TOML by itself."""
    try:
        tomllib.loads(row)
    except (ValueError, RecursionError):
        return False
    return True


def take_out(rows: list[str], at: int) -> set[KeyPath]:
    """Correct a row if its mistake is plain, else blank it; return the paths that this loses."""
    row, plain = rows[at], odd_characters.plain(rows[at])
    if plain != row and stands_alone(plain):
        rows[at] = plain
        return set()
    if row.lstrip().startswith("["):
        written = re.split(r"[\]#]", row.strip().lstrip("["))[0]
        name = tuple(part.strip(" \t\"'") for part in written.split("."))
        whole = ".".join(f'"{part}"' for part in name)
        is_mended = not stands_alone(row) and stands_alone(f"[{whole}]")
        rows[at] = f"[{whole}]" if is_mended else f"[{_LOST}.{at}]"
        return set() if is_mended else {name, ("staff",)}  # rules and alerts may then lack these
    if found := mended(row):
        rows[at] = found[0]
        return set()
    above = filter(None, map(_HEADER.match, rows[:at][::-1]))
    table = next((split_key(header[1]) for header in above), ())
    rows[at] = ""
    return {table + split_key(key[1])} if (key := _FIRST.match(row)) else set()


_OF_A_ROW = ("Invalid value", "Expected newline", "Unclosed array", "Expected ']'")


def syntax_error(text: str, error: str) -> tuple[int, str, str]:
    """An error of tomllib → the line, the mistake, and its remedy."""
    found = re.search(r"\(at line (\d+), column (\d+)", error)
    message = re.sub(r" ?\(at .*\)", "", error)
    message = re.sub(r"\('.*'.*?\)", lambda path: ".".join(re.findall("'(.*?)'", path[0])), message)
    line = int(found[1]) if found else len(text.splitlines())  # "at end of document"
    if found and (odd := odd_characters.said_of(text, line, int(found[2]))):
        return line, f"not valid TOML: {odd[0]}", odd[1]
    rows = text.split("\n")
    if message.startswith(_OF_A_ROW) and (better := mended(rows[line - 1])):
        row = re.sub(r"\s+#.*", "", better[0]).strip()  # without anything after its value
        return line, f"not valid TOML: {better[1]}.", f"Write {row}."
    meant, remedy = next(
        (words for start, words in _SYNTAX.items() if message.startswith(start)),
        ("Relay cannot read this line", "Put text in quotes and lists in brackets."),
    )
    return line, f"not valid TOML: {meant} ({message}).", remedy
