"""Writes a rule's keys into config.toml, and leaves every other line and comment as it is."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Array

from relay.config.toml_reader import line_index

NO_TOML = "config.toml has a mistake that no form can get past: put it right in the text."
ENTANGLED = "This rule is not a part of its own in config.toml: take it out in the text."


def rules_in(text: str) -> Mapping[str, Mapping[str, Any]]:
    """Each rule's keys as they are written, by rule name. Raises ValueError if it is not TOML."""
    try:
        rules = tomllib.loads(text).get("rules", {})
    except (ValueError, RecursionError) as error:
        raise ValueError(NO_TOML) from error
    if not isinstance(rules, dict) or not all(isinstance(one, dict) for one in rules.values()):
        raise ValueError(NO_TOML)
    return rules


def with_rule(text: str, name: str, changes: Mapping[str, Any]) -> str:
    """The text with a rule's keys set, or removed by None; a new one is last. Raises ValueError."""
    if name not in rules_in(text):
        text = f"{text.rstrip()}\n\n[rules.{name}]\n"
    try:
        document = tomlkit.parse(text)
        rule: Any = document["rules"][name]
        for key, value in changes.items():
            if value is None:
                rule.pop(key, None)
            elif isinstance(value, list) and isinstance(rule.get(key), Array):
                _change(rule[key], value)
            else:
                rule[key] = value
        return tomlkit.dumps(document)
    except (TOMLKitError, RecursionError) as error:
        raise ValueError(NO_TOML) from error


def without_rule(text: str, name: str) -> str:
    """The text without a rule and the comment just above it. Raises ValueError if that would change
    anything else.

    It works on lines: tomlkit takes a comment above a table as part of the table before it, and
    loses it with that one.
    """
    wanted, lines, places = tomllib.loads(text), text.split("\n"), line_index(text)
    del wanted["rules"][name]
    own = ("rules", name)
    start = places.get(own, 1) - 1
    others = (line - 1 for at, line in places.items() if at[:2] != own and line - 1 > start)
    end = min(others, default=len(lines))
    while end > start and (not lines[end - 1].strip() or _comments(lines[end - 1 : end])):
        end -= 1
    below = end + _comments(lines[end:])  # its own, unless something follows at once
    if not "".join(lines[below : below + 1]).strip():
        end = below
    start -= _comments(lines[:start][::-1])
    while end < len(lines) and not lines[end].strip():
        end += 1
    made = "\n".join((*lines[:start], *lines[end:])).rstrip("\n") + "\n"
    if {"rules": {}, **tomllib.loads(made)} != wanted:
        raise ValueError(ENTANGLED)
    return made


def _comments(lines: Sequence[str]) -> int:
    """How many of the first lines are comments."""
    return len([*takewhile(lambda line: line.lstrip().startswith("#"), lines)])


def _change(array: Array, wanted: list[Any]) -> None:
    """Give a list the wanted items; those that stay keep their places and comments."""
    for one in [one for one in array if one not in wanted]:
        array.remove(one)
    for one in wanted:
        if one not in array:
            array.append(one)
