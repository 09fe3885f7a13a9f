"""Packs all rows of a finished kit into one blob, and back, for `relay.ledger.history`. Pure.

A blob keeps who (a role), what, when, the outcome and its reason, and each message's identity, so
that no message is sent twice. It keeps no address, word, fact or note.
"""

from __future__ import annotations

import json
import re
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa

from relay.ledger.database import UtcDateTime, new_id
from relay.ledger.notifications import KEPT_ID
from relay.ledger.schema import aliases, attempts, cases, events, journeys, notifications, receipts
from relay.rules.model import obligation
from relay.rules.statuses import FAILED, GONE, PROCESSED

Row = dict[str, Any]
Rows = Mapping[sa.Table, list[Row]]
# In the order in which they can be put back.
TABLES = (journeys, aliases, events, notifications, attempts, receipts, cases)
# Personal data, columns for waiting, and those that only providers and the lab used.
_LEFT_OUT: Mapping[sa.Table, Iterable[str]] = {
    events: (
        *("identity", "data", "facts", "person", "next_at", "tried_at"),
        *("posted_again_at", "waits_for"),
    ),
    notifications: (
        *("address", "content", "lease_until", "receipt_by", "follow_up_at"),
        *("waits_for", "tries"),
    ),
    attempts: ("id", "begun_at", "finished_at", "look_at", "looks", "erase_at"),
    receipts: ("id", "digest"),
    cases: ("note",),
}
_OVER = (*GONE, *FAILED, "cancelled")
_NOTED = re.compile(r"^((?:Stopped|Cancelled) by .+?\.) .*", re.DOTALL)  # then comes a note
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def is_over(kit: Rows, old: datetime) -> bool:
    """Whether a kit is finished, blanked, and every moment in its rows is `old` or earlier.

    Nothing waits, is followed up, is searched for or deleted at a provider, or has an open case.
    """
    return (
        all(moment <= old for moment in moments(kit))
        and all(row["status"] == PROCESSED and not _says(row) for row in kit[events])
        and all(row["status"] in _OVER and not _is_in_use(row) for row in kit[notifications])
        and all(_is_settled(row) for row in kit[attempts])
        and all(row["closed_at"] for row in kit[cases])
    )


def moments(kit: Rows) -> Iterator[datetime]:
    """Yield every moment in a kit's rows."""
    for table in TABLES:
        for column in table.c:
            if isinstance(column.type, UtcDateTime):
                yield from filter(None, (row[column.name] for row in kit[table]))


def _says(event: Row) -> bool:
    return bool(event["facts"] is not None or event["data"] or event["person"])


def _is_in_use(message: Row) -> bool:
    marks = (message["receipt_by"], message["follow_up_at"])
    return bool(message["address"] or message["content"] is not None or any(marks))


def _is_settled(attempt: Row) -> bool:
    return attempt["outcome"] != "started" and not (attempt["look_at"] or attempt["erase_at"])


def pack(kit: Rows) -> bytes:
    """Pack a kit's rows into one blob, by columns, so that similar values stand together."""
    places = {row["id"]: n for table in TABLES for n, row in enumerate(kit[table]) if "id" in row}
    thinned = {table.name: _columns(table, [*_thinned(table, kit, places)]) for table in TABLES}
    return zlib.compress(json.dumps(thinned, separators=(",", ":"), ensure_ascii=False).encode(), 9)


def text(blob: bytes) -> str:
    """The whole text of a blob, to be searched."""
    return zlib.decompress(blob).decode()


def unpack(blob: bytes) -> Rows:
    """Unpack a kit's rows as they were, but for the columns that were left out."""
    thinned, kit = json.loads(text(blob)), dict[sa.Table, list[Row]]()
    for table in TABLES:
        kit[table] = [*_filled(table, thinned.get(table.name, {}), kit)]
    return kit


def _thinned(table: sa.Table, kit: Rows, places: Mapping[str, int]) -> Iterator[Row]:
    """Yield rows reduced to what is kept: other rows as their places, moments as differences in
    milliseconds.
    """
    first = 0
    for row in kit[table]:
        thin, last = {column.name: row[column.name] for column in _kept(table)}, None
        for column in _kept(table):
            value = thin[column.name]
            if column.foreign_keys:
                thin[column.name] = places[value]
            elif isinstance(column.type, UtcDateTime) and value:
                moment = (value - _EPOCH) // _MILLISECOND
                thin[column.name] = moment - (first if last is None else last)
                first, last = moment if last is None else first, moment
        if not str(thin.get("provider_id") or "").startswith(KEPT_ID):
            thin.pop("provider_id", None)
        if table is notifications:
            if row["family"] == _owed(row):
                thin.pop("family")
            thin["reason"] = _NOTED.sub(r"\1", row["reason"])
        yield thin


def _columns(table: sa.Table, rows: list[Row]) -> dict[str, list[Any]]:
    made: dict[str, list[Any]] = {}
    for column in _kept(table):
        values = [row.get(column.name, _blank(column)) for row in rows]
        if any(value != _blank(column) for value in values):
            made[column.name] = values
    return made


def _filled(table: sa.Table, columns: Mapping[str, list[Any]], kit: Rows) -> Iterator[Row]:
    first = 0
    for number in range(max(map(len, columns.values()), default=0)):
        row, last = {}, None
        for column in table.c:
            kept = columns.get(column.name)
            value = kept[number] if kept else _blank(column)
            if column.foreign_keys:
                value = kit[_target(column)][value]["id"]
            elif isinstance(column.type, UtcDateTime) and kept and value is not None:
                moment = value + (first if last is None else last)
                first, last = moment if last is None else first, moment
                value = _EPOCH + moment * _MILLISECOND
            row[column.name] = value
        yield row | _made_anew(table, row)


def _made_anew(table: sa.Table, row: Row) -> Row:
    """The values that a row needs but that were left out."""
    if table is events:  # its `dedupe_window` is over: a repeat counts as another event
        return {"data": {}, "identity": f"history:{row['id']}"}
    if table is notifications:
        return {"address": "", "family": row["family"] or _owed(row)}
    if table is attempts:
        return {"id": uuid.uuid4().hex}
    if table is receipts:
        id_ = new_id("rcp")
        return {"id": id_, "digest": id_}
    return {}


def _owed(message: Row) -> str:
    return obligation(message["rule"], message["subject"], message["round"], message["role"])


@cache
def _kept(table: sa.Table) -> tuple[sa.Column[Any], ...]:
    return tuple(c for c in table.c if c.name not in _LEFT_OUT.get(table, ()))


def _target(column: sa.Column[Any]) -> sa.Table:
    (key,) = column.foreign_keys
    return key.column.table


@cache
def _blank(column: sa.Column[Any]) -> Any:
    """The value of a column where none is given."""
    default: Any = column.server_default
    if column.nullable or default is None:
        return None
    if isinstance(column.type, sa.Boolean):
        return False
    return int(default.arg) if isinstance(column.type, sa.Integer) else str(default.arg)
