"""All that a ledger has, as one text: what a person who reads every row would see."""

from __future__ import annotations

import json
import re
from typing import Any

from relay.ledger.database import Database
from relay.ledger.schema import metadata
from tests.rows import rows


def dump(db: Database, but: frozenset[str] = frozenset()) -> str:
    """Every row of every table, a line each, but for the tables that are named."""
    return "\n".join(
        f"{table.name}: { ({name: _plain(value) for name, value in row.items()}) }"
        for table in metadata.sorted_tables
        if table.name not in but
        for row in rows(db, table)
    )


def found(text: str, *canaries: str) -> list[str]:
    """The lines of a text in which one of the canaries stands, however a number is written."""
    return [line for line in text.splitlines() if any(_has(line, one) for one in canaries)]


def _has(line: str, canary: str) -> bool:
    return canary.casefold() in line.casefold() or canary in re.sub(r"[ ().-]", "", line)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | memoryview):
        return bytes(value).decode("utf-8", "replace")
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
