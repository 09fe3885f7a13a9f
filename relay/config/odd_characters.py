"""Names and locates characters of other programs in config.toml that TOML does not take. Pure.

tomllib gives the place of a mistake and calls it an invalid statement; on the screen the line
often looks right.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_QUOTES = (  # “ ” and similar quotes, double and single
    "\u201c\u201d\u201e\u201f\u00ab\u00bb\u2018\u2019\u201a\u201b\u2032\u2033\u00b4`"
)
_STRAIGHT = 'Text needs straight quotes: "text".'
_DELETE = "Delete it, and what looks like a space beside it."
# The beginning of a line, or of its mistake → its name, and what to write.
_MARKS = {
    **dict.fromkeys(
        ("<<<<<<<", "|||||||", "=======", ">>>>>>>"),
        ("the mark of a merge that is not finished", "Keep one version and delete the marks."),
    ),
    **dict.fromkeys(
        ("//", "/*", "--"),
        ("a comment as other languages write it", "Begin a comment with #."),
    ),
    ";": ("a semicolon", "Delete it: a line ends by itself, and a comment begins with #."),
}
# Character → its name, the program it comes from if we know, and what to write instead.
_KNOWN = {
    "\u00a0": ("a no-break space", ", as Word writes it", "Write a plain space, or none."),
    "\ufeff": ("a byte-order mark", ", as Notepad writes it", _DELETE),
    **dict.fromkeys(_QUOTES, ("a curly quote", ", as Word writes it", _STRAIGHT)),
    "`": ("a backtick", "", _STRAIGHT),
}


def said_of(text: str, line: int, column: int) -> tuple[str, str] | None:
    """What is odd at a place in a text, and what to write; None if nothing here explains it."""
    row = text.split("\n")[line - 1]
    for at in (0, column - 1):
        rest = row[at:].lstrip()
        if mark := next((mark for mark in _MARKS if rest.startswith(mark)), ""):
            what, remedy = _MARKS[mark]
            place = f"line {line}, column {len(row) - len(rest) + 1}"
            return f"{place} has {what} ({mark}).", remedy
    for at in places(row, column):
        what, whose, remedy = described(row[at])
        code = f"U+{ord(row[at]):04X}"
        return f"line {line}, column {at + 1} has {what} ({code}){whose}.", remedy
    return None


def places(row: str, column: int) -> Iterator[int]:
    """Where the odd character may be: at the mistake, or at any quote if a text has no end."""
    if column > len(row):
        yield from (found.start() for found in re.finditer(f"[{_QUOTES}]", row))
    elif row[column - 1] == "`" or not row[column - 1].isascii():
        yield column - 1


def described(char: str) -> tuple[str, str, str]:
    """A character's name, the program it comes from, and what to write instead."""
    if char in _KNOWN:
        return _KNOWN[char]
    name = unicodedata.name(char, "character without a name").lower()
    name = f"a{'n' * (name[0] in 'aeiou')} {name}"
    plain = unicodedata.normalize("NFKC", char)
    if char.isspace() or unicodedata.category(char) == "Cf":
        return name, "", "Write a plain space, or none."
    if len(plain) == 1 and plain.isascii():
        return name, "", f"Write the plain {plain} for it."
    return name, "", f"A name without quotes has letters from a to z only. {_STRAIGHT}"


def plain(row: str) -> str:
    """A row with other programs' characters replaced by those that TOML takes."""
    row = unicodedata.normalize("NFKC", re.sub(f"[{_QUOTES}]", '"', row))
    kept = (char for char in row if unicodedata.category(char) != "Cf")
    return "".join(" " if char.isspace() else char for char in kept)


def why_not_utf8(raw: bytes) -> tuple[int, str] | None:
    """The line in a file that is not UTF-8, and what is wrong with it; None if all is UTF-8."""
    if b"\0" in raw or raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return 1, "this file is UTF-16, which Notepad calls Unicode."
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode()
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        byte = raw[error.start : error.start + 1]
        meant = f' ("{byte.decode("cp1252")}" in Windows-1252)' if byte[0] >= 0xA0 else ""
        what = f"column {column} has the byte {byte.hex().upper()}{meant}"
        return line, f"this is not UTF-8 text: line {line}, {what}."
    return None
