"""What libraries say of a wrong config.toml, in the words of an admin who knows none of them."""

from __future__ import annotations

import re

WORDS = {  # marshmallow's → an admin's, and what would be right
    "Not a valid string.": ("it must be a text.", 'Write a text in quotes, as in "text".'),
    "Not a valid list.": ("it must be a list.", 'Write a list of texts, as in ["text"].'),
    "Not a valid integer.": ("it must be a whole number.", "Write it without quotes, as in 2."),
    "Not a valid number.": ("it must be a number.", "Write it without quotes, as in 10."),
    "Not a valid boolean.": ("it must be true or false.", "Write it without quotes."),
    "Not a valid mapping type.": ("it must be a table.", "Write [clinic.extra] above its keys."),
}
_SYNTAX = {  # how tomllib's message begins → what it means, and what would be right
    "Cannot declare": ("this table is there already", "Put all its keys under one heading."),
    "Cannot overwrite": ("this name stands twice", "Keep one of the two lines."),
    "Unclosed array": ("a list has no end", 'It ends with a bracket: channels = ["sms"].'),
    "Expected ']'": ("a heading has no end", "It stands in brackets: [clinic]."),
    "Expected '='": ("there is no = after the name", 'Write it as in name = "text".'),
    "Expected newline": ("there is more after the value", 'Texts need quotes: "020 7946".'),
    "Illegal character": ("a text has no end", "Texts need quotes on both sides, on one line."),
    "Unterminated string": ("a text has no end", 'Close it with the """ that it began with.'),
    "Invalid value": (
        "what is after = cannot be read",
        'Texts need quotes, straight ones: "text".',
    ),
}


def syntax(text: str, error: str) -> tuple[int, str, str]:
    """An error of tomllib → the line, what is wrong, and what would be right."""
    found = re.search(r"\(at line (\d+)", error)
    message = re.sub(r" ?\(at .*\)", "", error)
    message = re.sub(r"\('.*'.*?\)", lambda path: ".".join(re.findall("'(.*?)'", path[0])), message)
    line = int(found[1]) if found else len(text.splitlines())  # "at end of document"
    meant, remedy = next(
        (words for start, words in _SYNTAX.items() if message.startswith(start)),
        ("it cannot be read", "Texts need quotes, lists need brackets."),
    )
    return line, f"this is not TOML: {meant} ({message}).", remedy
