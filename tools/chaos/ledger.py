"""The ledger as it is, by SQL of our own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.rows import dict_row

Row = Mapping[str, Any]
COME_BACK = 'the order is "returned"'  # as a message says that waits for the lab to deny it no more
_UNSETTLED = {
    "events received": "events WHERE status = 'received'",
    "messages waiting": "notifications WHERE status IN ('created', 'scheduled', 'sending')"
    " AND waits_for IS DISTINCT FROM 'rule'"  # that is a person's to end
    f" AND reason NOT LIKE '%{COME_BACK}%'",  # asked about for a day, and never sent
    "looks due": "attempts WHERE look_at IS NOT NULL",
    "follow-ups due": "notifications WHERE follow_up_at IS NOT NULL",
}
_TABLES = ("events", "notifications", "attempts", "cases")


def unsettled(url: str) -> dict[str, int]:
    """What is still to be done, by kind."""
    counts = {}
    with psycopg.connect(url, connect_timeout=5) as connection:
        for name, which in _UNSETTLED.items():
            row = connection.execute(f"SELECT count(*) FROM {which}").fetchone()
            counts[name] = int(row[0]) if row else 0
    return {name: count for name, count in counts.items() if count}


def held(url: str) -> list[str]:
    """The events that wait for a person."""
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT id FROM events WHERE status = 'held'").fetchall()
    return [str(row[0]) for row in rows]


def read(url: str) -> dict[str, list[Row]]:
    """The ledger, whole."""
    with psycopg.connect(url, row_factory=dict_row) as connection:
        return {
            table: list[Row](connection.execute(f"SELECT * FROM {table}").fetchall())
            for table in _TABLES
        }
