"""Writes a rule's keys into a config.toml, and leaves every other line and comment as it is."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Array

NO_TOML = "config.toml has a mistake that no form can get past: put it right in the text."


def rules_in(text: str) -> Mapping[str, Mapping[str, Any]]:
    """Each rule's keys as they are written, by its name. Raises ValueError where it is no TOML."""
    try:
        rules = tomllib.loads(text).get("rules", {})
    except (ValueError, RecursionError) as error:
        raise ValueError(NO_TOML) from error
    if not isinstance(rules, dict) or not all(isinstance(one, dict) for one in rules.values()):
        raise ValueError(NO_TOML)
    return rules


def with_rule(text: str, name: str, changes: Mapping[str, Any]) -> str:
    """The text with a rule's keys changed, None for none; a new rule is last. Raises ValueError."""
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


def _change(array: Array, wanted: list[Any]) -> None:
    """Make a list have what is wanted: what stays keeps its place, with its comment."""
    for one in [one for one in array if one not in wanted]:
        array.remove(one)
    for one in wanted:
        if one not in array:
            array.append(one)
