"""docs/config.md: in step with the schemas that load config.toml; what it shows can be written."""

from __future__ import annotations

import os
import re
import tomllib

import pytest

from tests.conftest import ROOT
from tools.docs.config_reference import TABLES, config_schema, reference

FILE = ROOT / "docs" / "config.md"
LINE = re.compile(r"^\| `(\w+)` \| (.+) \| (.+) \| (.+) \| `(.+)` \|$", re.MULTILINE)
KEYS = [(table, key, field) for table, schema, _ in TABLES for key, field in schema.fields.items()]


def test_the_page_is_in_step() -> None:
    """The page is what the schemas give. RELAY_UPDATE_EXPECTED=1 writes it."""
    if os.environ.get("RELAY_UPDATE_EXPECTED") == "1":
        FILE.write_text(reference(), "utf-8")
    assert FILE.read_text("utf-8") == reference()


def test_every_table_and_key_is_on_it() -> None:
    """Each table that config.toml may have, and each of its keys, with a meaning and an example."""
    assert {table.partition(".")[0] for table, _, _ in TABLES} == set(config_schema()["properties"])
    assert [key for key, *_ in LINE.findall(reference())] == [key for _, key, _ in KEYS]


@pytest.mark.parametrize(("table", "key", "field"), KEYS, ids=lambda value: str(value)[:40])
def test_what_it_shows_can_be_written(table: str, key: str, field: object) -> None:
    """Each example and each default is TOML, and the key's own schema takes it."""
    part = reference().partition(f"`[{table}]`")[2].partition("\n## ")[0]
    default, example = next((d, e) for k, _, _, d, e in LINE.findall(part) if k == key)
    shown = [example, *re.findall(r"^`(.+)`$", default)]
    for value in shown:
        field.deserialize(tomllib.loads(f"x = {value}")["x"])  # type: ignore[attr-defined]
