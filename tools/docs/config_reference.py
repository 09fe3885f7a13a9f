"""The tables of config.toml: a JSON Schema for editors, and docs/config.md for people."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from marshmallow import Schema, fields, missing, validate

from relay.config.fields import OneOf, Parsed, Several, lasting, zone
from relay.config.schema import (
    ClinicSchema,
    CostsSchema,
    DeliverySchema,
    DeskSchema,
    ExpectSchema,
    NeverSchema,
    RuleSchema,
    StaffSchema,
    arriving,
    grace,
)
from relay.lab.events import EVENTS
from relay.lab.facts import PERSONS
from relay.rules.addresses import countries
from relay.rules.model import ALERT_PREFIX, Rule
from relay.rules.schedule import DAYS, Digest, Holidays, Window, duration

_DAY = f"(?:{'|'.join(DAYS)})"
_DAYS = rf"{_DAY}\s*(?:-\s*{_DAY}\s*)?"
_SOME_DAYS = rf"{_DAYS}(?:,\s*{_DAYS})*"
_CLOCK = r"\d\d:\d\d"
DIALECT = "http://json-schema.org/draft-07/schema#"  # the one that TOML editors know best
_PATTERNS: dict[Any, str] = {
    duration: r"^\d{1,6}[smhd]$",
    lasting: r"^\d{1,6}[smhd]$",
    Digest.parse: rf"^(daily {_CLOCK}|weekly {_SOME_DAYS} {_CLOCK}|every \d{{1,4}}[hm])$",
    arriving: r"^\d{1,6}[smhd]$",
    grace: r"^\d{1,6}[smhd]$",
    Window.parse: rf"^(always|(?:{_SOME_DAYS}\s)?\s*{_CLOCK}\s*-\s*{_CLOCK})$",
    countries: "^[A-Z]{2}$",
    Holidays.parse: r"^(\d{4}-\d\d-\d\d|[A-Z]{2}(-[A-Z0-9]{1,3})?)$",
}


def config_schema() -> dict[str, Any]:
    """The JSON Schema of config.toml."""
    rule, staff = table_schema(RuleSchema()), table_schema(StaffSchema())
    return {
        "$schema": DIALECT,
        "title": "Relay's config.toml",
        "type": "object",
        "additionalProperties": False,
        "required": ["clinic"],
        "properties": {
            "clinic": table_schema(ClinicSchema()),
            "delivery": table_schema(DeliverySchema()),
            "desk": table_schema(DeskSchema()),
            "costs": table_schema(CostsSchema()),
            "staff": {
                "type": "object",
                "description": "Groups that rules can name.",
                "propertyNames": {"not": {"enum": list(PERSONS)}},
                "additionalProperties": staff,
            },
            "rules": {
                "type": "object",
                "description": "Who gets which message when an event comes.",
                "propertyNames": {"not": {"pattern": f"^{ALERT_PREFIX}"}},
                "additionalProperties": rule,
            },
            "never": {
                "type": "object",
                "description": "What no message may say, whatever a rule wants.",
                "additionalProperties": table_schema(NeverSchema()),
            },
            "expect": {
                "type": "object",
                "description": "Steps of a kit, and the staff to alert when one is late.",
                "additionalProperties": table_schema(ExpectSchema()),
            },
        },
    }


def table_schema(schema: Schema) -> dict[str, Any]:
    """Return the JSON Schema of a TOML table: its keys, and which are required."""
    required = [key for key, field in schema.fields.items() if field.required]
    return {
        "type": "object",
        "description": (schema.__doc__ or "").strip().partition("\n")[0],
        "additionalProperties": False,
        "properties": {key: key_schema(field) for key, field in schema.fields.items()},
        **({"required": required} if required else {}),
    }


def key_schema(field: fields.Field[Any]) -> dict[str, Any]:
    """A key: what may be written, and what it is for."""
    described = {key: value for key, value in field.metadata.items() if value}
    return {**described, **value_schema(field)}


def value_schema(field: fields.Field[Any]) -> dict[str, Any]:
    """The JSON Schema of the values that a key may have."""
    return next(make(field) for kind, make in _VALUES if isinstance(field, kind))


def parsed_schema(field: Any) -> dict[str, Any]:
    """Return the JSON Schema of a text that Relay parses, with its pattern if known."""
    pattern = _PATTERNS.get(field.parse)
    return {"type": "string", **({"pattern": pattern} if pattern else {})}


def several_schema(field: Any) -> dict[str, Any]:
    """Return the JSON Schema of a text or a list of such texts."""
    one = parsed_schema(field)
    return {"anyOf": [one, {"type": "array", "items": one}]}


def list_schema(field: Any) -> dict[str, Any]:
    """Return the JSON Schema of a list: its items, and whether it may be empty."""
    is_filled = any(isinstance(rule, validate.Length) and rule.min for rule in field.validators)
    least = {"minItems": 1} if is_filled else {}
    return {"type": "array", "items": value_schema(field.inner), **least}


def range_limits(field: fields.Field[Any]) -> dict[str, Any]:
    """Return a number's limits as JSON Schema keywords."""
    found: dict[str, Any] = {}
    for rule in field.validators:
        if isinstance(rule, validate.Range):
            lowest = "minimum" if rule.min_inclusive else "exclusiveMinimum"
            found |= {
                key: v for key, v in ((lowest, rule.min), ("maximum", rule.max)) if v is not None
            }
    return found


# The first that a field is an instance of: the narrower kinds come first.
_VALUES: tuple[tuple[type[Any], Callable[[Any], dict[str, Any]]], ...] = (
    (OneOf, lambda field: {"type": "string", "enum": list(field.known)}),
    (Several, several_schema),
    (Parsed, parsed_schema),
    (fields.List, list_schema),
    (fields.Dict, lambda field: {"type": "object"}),
    (fields.Boolean, lambda field: {"type": "boolean"}),
    (fields.Integer, lambda field: {"type": "integer", **range_limits(field)}),
    (fields.Float, lambda field: {"type": "number", **range_limits(field)}),
    (fields.URL, lambda field: {"type": "string", "pattern": "^https://"}),
    (fields.String, lambda field: {"type": "string"}),
)


TABLES: tuple[tuple[str, Schema, str], ...] = (
    ("clinic", ClinicSchema(), "What templates may say about you: `{{ clinic.name }}`."),
    ("delivery", DeliverySchema(), "How messages go out, and for how long they are kept."),
    ("desk", DeskSchema(), "What the admin desk asks of those who use it."),
    (
        "costs",
        CostsSchema(),
        "What messages cost, so that [what-if](rules.md#what-an-edit-would-have-done) can tell.",
    ),
    ("staff.NAME", StaffSchema(), "A group that rules can name. As many as you like."),
    (
        "rules.NAME",
        RuleSchema(),
        "Who gets which message when an event comes. Relay uses the name to remember whom the rule "
        "has written to: keep it when you change the rule.",
    ),
    (
        "never.NAME",
        NeverSchema(),
        "What no message of a template or a rule may say. It is the last question before a message "
        "is handed over.",
    ),
    (
        "expect.NAME",
        ExpectSchema(),
        "A step of a kit, and the staff to alert when it is late.",
    ),
)
_HEAD = """# config.toml

Every table and key. [Rules](rules.md) explains durations, windows, conditions and what else takes
more than a line. Secrets and addresses are [in the environment](environment.md).

This page is made from the schemas that load the file: do not edit it; run
`RELAY_UPDATE_EXPECTED=1 .venv/bin/pytest tests/test_config_reference.py`.
"""
_PARSED: dict[Any, str] = {
    duration: "a duration",
    lasting: "a duration",
    arriving: "a duration of less than 72h",
    grace: "a duration of an hour or more",
    Digest.parse: '"daily HH:MM", "weekly Mon HH:MM", "every Nh" or "every Nm"',
    Window.parse: '"HH:MM-HH:MM", days before it as in "Mon-Fri", a list of such, or "always"',
    countries: "countries' codes: one or a list",
    Holidays.parse: 'dates and regions, as in "GB-ENG": one or a list',
    zone: "a time zone",
}
_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
# What a rule's key is when it is not written: that of the value the rule becomes.
_RULE = {one.name: one.default for one in dataclasses.fields(Rule)}


def reference() -> str:
    """The page."""
    return "\n".join([_HEAD, *(table_markdown(*table) for table in TABLES)])


def table_markdown(name: str, schema: Schema, about: str) -> str:
    """Return the reference section of a TOML table as Markdown, a row for each key."""
    head = "| Key | Meaning | Write | Default | Example |\n|---|---|---|---|---|"
    lines = [key_row(name, key, field) for key, field in schema.fields.items()]
    return "\n".join(
        [f"## {name.partition('.')[0]}", "", f"`[{name}]`. {about}", "", head, *lines, ""]
    )


def key_row(table: str, key: str, field: fields.Field[Any]) -> str:
    """Return a key's row in the Markdown reference: meaning, values, default, example."""
    default = "required" if field.required else code(key_default(table, key, field)) or "none"
    cells = (f"`{key}`", str(field.metadata["description"]), values_in_words(field), default)
    return "| " + " | ".join([*cells, code(example(field))]) + " |"


def key_default(table: str, key: str, field: fields.Field[Any]) -> Any:
    """Return a key's default as TOML; a rule's keys take theirs from the rule defaults."""
    made = field.load_default() if callable(field.load_default) else field.load_default
    if made is missing and table == "rules.NAME":
        made = _RULE.get(key)
    return toml(made)


def toml(value: Any) -> Any:
    """A value as one writes it; None where nothing is there to write."""
    if isinstance(value, timedelta) and value:
        return next(
            f"{value // timedelta(seconds=unit)}{letter}"
            for letter, unit in _UNITS
            if not value % timedelta(seconds=unit)
        )
    value = sorted(value) if isinstance(value, frozenset) else value
    plain = isinstance(value, bool | int | float | str | list | tuple | Mapping)
    if isinstance(value, bool) or (plain and value):
        return value
    return None if plain or not value or value is missing else str(value)


def example(field: fields.Field[Any]) -> Any:
    """The schema's first example, or else the first value that may be written."""
    examples = field.metadata.get("examples")
    if examples:
        return examples[0]
    return next((make(field) for kind, make in _EXAMPLES if isinstance(field, kind)), None)


def code(value: Any) -> str:
    """As TOML writes it."""
    if isinstance(value, Mapping):
        return f"`{{ {', '.join(f'{key} = {json.dumps(one)}' for key, one in value.items())} }}`"
    return "" if value is None else f"`{json.dumps(value, ensure_ascii=False)}`"


def values_in_words(field: fields.Field[Any]) -> str:
    """What may be written, in words."""
    return next(make(field) for kind, make in _WRITES if isinstance(field, kind))


def choices_in_words(field: Any) -> str:
    """Say which words a key accepts; for events, link to their list."""
    if set(field.known) == set(EVENTS):
        return "[one of the lab's events](http.md#events)"
    return " or ".join(f'"{word}"' for word in field.known)


def number_wording(kind: str) -> Callable[[Any], str]:
    """Return a function that says which numbers a key accepts, limits included."""

    def write(field: Any) -> str:
        limits = value_schema(field)
        above, least, most = map(limits.get, ("exclusiveMinimum", "minimum", "maximum"))
        low = f" above {above:g}" if above is not None else f" from {least:g}" if least else ""
        return f"a {kind}{low}" + (f" to {most:g}" if most else "")

    return write


# The first that a field is an instance of: the narrower kinds come first.
_WRITES: tuple[tuple[type[Any], Callable[[Any], str]], ...] = (
    (OneOf, choices_in_words),
    (Parsed, lambda field: _PARSED.get(field.parse, "text")),
    (fields.List, lambda field: f"a list; each item is {values_in_words(field.inner)}"),
    (fields.Dict, lambda field: "a table"),
    (fields.Boolean, lambda field: "true or false"),
    (fields.Integer, number_wording("whole number")),
    (fields.Float, number_wording("number")),
    (fields.URL, lambda field: "an https:// address"),
    (fields.String, lambda field: "text"),
)
_EXAMPLES: tuple[tuple[type[Any], Callable[[Any], Any]], ...] = (
    (OneOf, lambda field: field.known[0]),
    (fields.List, lambda field: None if (one := example(field.inner)) is None else [one]),
    (fields.Boolean, lambda field: True),
    (fields.Integer, lambda field: field.load_default),
)
