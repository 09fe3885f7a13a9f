"""config.schema.json: in step with the schemas that load config.toml, and no stricter than they."""

from __future__ import annotations

import json
import os
import tomllib
from typing import Any

import jsonschema
import pytest

from relay.config.schema import DeliverySchema, RuleSchema
from tests.conftest import ROOT
from tools.docs.config_reference import config_schema

FILE = ROOT / "config.schema.json"
CONFIG = tomllib.loads((ROOT / "config.toml").read_text("utf-8"))


def test_the_file_is_in_step() -> None:
    """The file that editors read is what the schemas give. RELAY_UPDATE_EXPECTED=1 writes it."""
    text = json.dumps(config_schema(), indent=2, ensure_ascii=False) + "\n"
    if os.environ.get("RELAY_UPDATE_EXPECTED") == "1":
        FILE.write_text(text, "utf-8")
    assert FILE.read_text("utf-8") == text


def test_the_first_line_of_config_toml_names_it() -> None:
    """TOML editors find the schema by the file's first line."""
    assert (ROOT / "config.toml").read_text("utf-8").startswith("#:schema ./config.schema.json\n")


def test_our_own_config_fits() -> None:
    """No editor marks the config.toml that Relay comes with."""
    jsonschema.validate(CONFIG, config_schema())


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("clinic", "nmae", "x"),
        ("clinic", "portal", "http://example.org"),
        ("delivery", "retention", "90 days"),
        ("delivery", "send_window", "8-20"),
        ("delivery", "send_window", "Mo-Fr 08:00-20:00"),
        ("delivery", "bank_holidays", ["25.12.2026"]),
        ("delivery", "max_sms_segments", 11),
        ("delivery", "sms_per_second", 0),
        ("rule", "event", "order.shiped"),
        ("rule", "channels", []),
        ("rule", "channels", ["sms", "fax"]),
        ("rule", "digest", "hourly"),
        ("rule", "enabled", "yes"),
        ("rule", "enable", True),
        ("staff", "email", "a@example.org"),
    ],
)
def test_an_editor_marks_a_mistake(table: str, key: str, value: Any) -> None:
    """What Relay would refuse at start is marked while it is written."""
    config = json.loads(json.dumps(CONFIG))
    place = {
        "rule": lambda: config["rules"]["kit-shipped"],
        "staff": lambda: config["staff"]["lab-desk"],
    }.get(table, lambda: config[table])()
    place[key] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(config, config_schema())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("send_window", "Mon-Fri 08:00-20:00"),
        ("send_window", "Sat - Mon, Wed  08:00 - 20:00"),
        ("send_window", ["Mon-Fri 08:00-20:00", "Sat 09:00-12:00"]),
        ("bank_holidays", ["2026-12-25", "GB-ENG"]),
        ("bank_holidays", "IE"),
    ],
)
def test_an_editor_takes_one_or_a_list(key: str, value: Any) -> None:
    """What Relay takes as hours and holidays, an editor takes too."""
    config = json.loads(json.dumps(CONFIG))
    config["delivery"][key] = value
    DeliverySchema().load({key: value})
    jsonschema.validate(config, config_schema())


def test_every_key_says_what_it_is_for() -> None:
    """An editor that completes a key tells what it does."""
    tables = config_schema()["properties"]
    for table in (
        tables["clinic"],
        tables["delivery"],
        *(tables[name]["additionalProperties"] for name in ("staff", "rules", "expect")),
    ):
        assert [key for key, one in table["properties"].items() if "description" not in one] == []
    assert set(RuleSchema().fields) == set(tables["rules"]["additionalProperties"]["properties"])
