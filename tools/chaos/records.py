"""What the lab's API says at this moment: records by path, registrations by any of their names."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any
from urllib.parse import unquote

RESULTS = "lab_results"
_NAMES = ("id", "trf_code", "short_code", "foreign_id")
_RESULT = [{"id": "1", "name": "Example analyte", "value": "70"}]


class Records:
    """The lab's own list. Whoever runs the lab changes it."""

    def __init__(self) -> None:
        self._records: dict[str, dict[str, Any]] = {}
        self._named: dict[str, list[str]] = defaultdict(list)  # a name → paths, the first one first

    def change(self, path: str, fields: dict[str, Any]) -> None:
        """Give a record other fields; make it where there is none."""
        record = self._records.setdefault(path, {})
        record |= fields
        for name in map(fields.get, _NAMES):
            if name and path not in self._named[name]:
                self._named[name].append(path)

    def find(self, path: str) -> tuple[str, Any]:
        """The kind of what is asked for, and what there is: None for nothing, empty for not yet."""
        _, kind, name, *more = path.strip("/").split("/")
        known = f"{kind}/{unquote(name)}"
        if kind == "test_registration":
            known = self._by_name(unquote(name)) or known
        if more == [RESULTS]:
            record = self._records.get(known)
            results = self._records.get(f"{RESULTS}/{record['id']}", {}) if record else {}
            return RESULTS, (_RESULT if results.get("ready") else []) if record else None
        return kind, self._records.get(known)

    def another(self, kind: str, draw: random.Random) -> dict[str, Any]:
        """Some record of a kind."""
        return self._records[draw.choice([p for p in self._records if p.startswith(f"{kind}/")])]

    def _by_name(self, name: str) -> str:
        """The first registration that is called so now."""
        for path in self._named[name]:
            if name in map(self._records[path].get, _NAMES):
                return path
        return ""
