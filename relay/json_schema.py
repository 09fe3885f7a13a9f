"""config.schema.json: what editors complete config.toml with, from the schemas that load it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from marshmallow import Schema, fields, validate

from relay.fields import OneOf, Parsed, lasting
from relay.lab.facts import PERSONS
from relay.rules.model import ALERT_PREFIX
from relay.rules.schedule import DAYS, Digest, Window, bank_holiday, duration
from relay.tables import ClinicSchema, DeliverySchema, ExpectSchema, RuleSchema, StaffSchema, grace

_DAY = f"(?:{'|'.join(DAYS)})"
_DAYS = rf"{_DAY}\s*(?:-\s*{_DAY}\s*)?"
_CLOCK = r"\d\d:\d\d"
DIALECT = "http://json-schema.org/draft-07/schema#"  # the one that TOML editors know best
_PATTERNS: dict[Any, str] = {
    duration: r"^\d{1,6}[smhd]$",
    lasting: r"^\d{1,6}[smhd]$",
    Digest.parse: r"^(daily \d\d:\d\d|every \d{1,4}[hm])$",
    grace: r"^\d{1,6}[smhd]$",
    Window.parse: rf"^(always|(?:{_DAYS}(?:,\s*{_DAYS})*\s)?\s*{_CLOCK}\s*-\s*{_CLOCK})$",
    bank_holiday: r"^\d{4}-\d\d-\d\d$",
}


def config_schema() -> dict[str, Any]:
    """The JSON Schema of config.toml."""
    rule, staff = _table(RuleSchema()), _table(StaffSchema())
    return {
        "$schema": DIALECT,
        "title": "Relay's config.toml",
        "type": "object",
        "additionalProperties": False,
        "required": ["clinic"],
        "properties": {
            "clinic": _table(ClinicSchema()),
            "delivery": _table(DeliverySchema()),
            "staff": {
                "type": "object",
                "description": "Groups that rules can name.",
                "propertyNames": {"not": {"enum": list(PERSONS)}},
                "additionalProperties": staff,
            },
            "rules": {
                "type": "object",
                "description": "Who is told what when an event comes.",
                "propertyNames": {"not": {"pattern": f"^{ALERT_PREFIX}"}},
                "additionalProperties": rule,
            },
            "expect": {
                "type": "object",
                "description": "Steps of a kit that staff hear of when they do not come.",
                "additionalProperties": _table(ExpectSchema()),
            },
        },
    }


def _table(schema: Schema) -> dict[str, Any]:
    required = [key for key, field in schema.fields.items() if field.required]
    return {
        "type": "object",
        "description": (schema.__doc__ or "").strip().partition("\n")[0],
        "additionalProperties": False,
        "properties": {key: _key(field) for key, field in schema.fields.items()},
        **({"required": required} if required else {}),
    }


def _key(field: fields.Field[Any]) -> dict[str, Any]:
    """A key: what may be written, and what it is for."""
    described = {key: value for key, value in field.metadata.items() if value}
    return {**described, **value_schema(field)}


def value_schema(field: fields.Field[Any]) -> dict[str, Any]:
    """What may be written for a key."""
    return next(make(field) for kind, make in _VALUES if isinstance(field, kind))


def _parsed(field: Any) -> dict[str, Any]:
    pattern = _PATTERNS.get(field.parse)
    return {"type": "string", **({"pattern": pattern} if pattern else {})}


def _list(field: Any) -> dict[str, Any]:
    is_filled = any(isinstance(rule, validate.Length) and rule.min for rule in field.validators)
    least = {"minItems": 1} if is_filled else {}
    return {"type": "array", "items": value_schema(field.inner), **least}


def _range(field: fields.Field[Any]) -> dict[str, Any]:
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
    (Parsed, _parsed),
    (fields.List, _list),
    (fields.Dict, lambda field: {"type": "object"}),
    (fields.Boolean, lambda field: {"type": "boolean"}),
    (fields.Integer, lambda field: {"type": "integer", **_range(field)}),
    (fields.Float, lambda field: {"type": "number", **_range(field)}),
    (fields.URL, lambda field: {"type": "string", "pattern": "^https://"}),
    (fields.String, lambda field: {"type": "string"}),
)
