"""Brings rows of older code into today's form, after the migrations, while others read and write.

A migration that changes rows leaves its number in `to_carry_over`, since it may hold the tables for
a moment only. What is here runs in short transactions, may be cut short, and begins again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

# Changes some rows after the one with the key `after`; gives the last key, or None at the end.
Work = Callable[[Connection, str], str | None]
AT_ONCE = 500  # rows of a transaction


def outstanding(connection: Connection) -> list[str]:
    """The migrations whose rows are still to be carried over, the oldest first."""
    if not sa.inspect(connection).has_table("to_carry_over"):
        return []
    found = connection.execute(sa.text("SELECT revision FROM to_carry_over ORDER BY revision"))
    return list(found.scalars())


def run(revision: str, transact: Callable[..., str | None]) -> None:
    """Carry over a migration's rows; `transact` calls what it is given in a transaction each."""
    for work in _OF[revision]:
        after: str | None = ""
        while after is not None:
            after = transact(work, after)


def finish(connection: Connection) -> None:
    """Forget what was outstanding: all of it is done."""
    connection.execute(sa.text("DROP TABLE to_carry_over"))


def _rows(
    connection: Connection, table: str, columns: str, where: str, after: str
) -> list[Row[Any]]:
    """The next rows by their key, the first of `columns`."""
    key = columns.split(",", 1)[0]
    query = (
        f"SELECT {columns} FROM {table} WHERE {key} > :after AND {where}"
        f" ORDER BY {key} LIMIT {AT_ONCE}"
    )
    return list(connection.execute(sa.text(query), {"after": after}))


def _last(rows: Sequence[Row[Any]]) -> str | None:
    return str(rows[-1][0]) if len(rows) == AT_ONCE else None


def _set(table: str, change: str, where: str) -> Work:
    """Change the rows that `where` finds."""
    update = sa.text(f"UPDATE {table} SET {change} WHERE id = :id")

    def work(connection: Connection, after: str) -> str | None:
        rows = _rows(connection, table, "id", where, after)
        if rows:
            connection.execute(update, [{"id": row.id} for row in rows])
        return _last(rows)

    return work


def _copy(statement: str) -> Work:
    """Copy what the audit trail kept into a table of its own, but for what is there by now."""

    def work(connection: Connection, _after: str) -> None:
        connection.execute(sa.text(f"{statement} ON CONFLICT DO NOTHING"))

    return work


def _name_what_waits(connection: Connection, after: str) -> str | None:
    """Events that wait or are held are found by what the lab called their kit."""
    where = "status IN ('received', 'held') AND named IS NULL"
    rows = _rows(connection, "events", "id, data", where, after)
    for row in rows:
        data = json.loads(row.data) if isinstance(row.data, str) else row.data or {}
        named = str(data.get("testregistration_id") or data.get("order_id") or "")[:200]
        connection.execute(
            sa.text("UPDATE events SET named = :named WHERE id = :id"),
            {"named": named or None, "id": row.id},
        )
    return _last(rows)


def _move_retests(connection: Connection, after: str) -> str | None:
    """What was told of a retest before it was linked to its original becomes the original's."""
    where = "original_subject IS NOT NULL AND original_subject <> subject"
    kits = _rows(connection, "journeys", "subject, original_subject, round", where, after)
    for kit in kits:
        given = {"former": kit.subject}
        messages = connection.execute(
            sa.text(
                "SELECT id, rule, round, role, channel, address, status, template "
                "FROM notifications WHERE subject = :former AND event_id IN "
                f"(SELECT id FROM events WHERE {_RETESTS_OWN}) ORDER BY id"
            ),
            given,
        ).all()
        for row in messages:
            _move(connection, row, kit)
        connection.execute(
            sa.text(
                "UPDATE events SET subject = :subject, round = round + :rounds"
                f" WHERE {_RETESTS_OWN}"
            ),
            {**given, "subject": kit.original_subject, "rounds": kit.round},
        )
    return _last(kits)


_RETESTS_OWN = "subject = :former AND name NOT LIKE 'order.%'"


def _move(connection: Connection, row: Row[Any], kit: Row[Any]) -> None:
    values = {"subject": kit.original_subject, "round": row.round + kit.round}
    if row.template:
        owed = (row.rule, values["subject"], values["round"], row.role)
        values["family"] = _digest(*owed)
        if row.address or row.status == "validation-failed":
            name = _digest(*owed, row.channel, row.address)
            taken = connection.execute(
                sa.text("SELECT id FROM notifications WHERE identity = :name"), {"name": name}
            ).first()
            values["identity"] = _digest(name, row.id, 0, "") if taken else name
            if taken and row.status in ("created", "scheduled"):
                values["status"] = "cancelled"
    changes = ", ".join(f"{name} = :{name}" for name in values)
    connection.execute(
        sa.text(f"UPDATE notifications SET {changes} WHERE id = :id"),
        {**values, "id": row.id},
    )


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


_OF: dict[str, tuple[Work, ...]] = {
    "0005": (
        _set("notifications", "kind = 'digest'", "digest = identity AND kind <> 'digest'"),
        _set(
            "notifications",
            "kind = 'item', digest_id = (SELECT told.id FROM notifications AS told"
            " WHERE told.identity = notifications.digest)",
            "digest <> identity AND kind <> 'item'",
        ),
        _set(
            "notifications",
            "kind = 'alert'",
            "rule LIKE 'relay:%' AND digest IS NULL AND kind = 'message'",
        ),
        _set("notifications", "is_kept = TRUE", "provider_id LIKE 'dry-run-%' AND NOT is_kept"),
        _set("cases", "about = digest", "closed_at IS NULL AND about IS NULL"),
        _copy(
            "INSERT INTO ended_sessions (id, ended_at) "
            "SELECT target, max(at) FROM audit WHERE action = 'logout' GROUP BY target"
        ),
        _copy(
            "INSERT INTO inbound_texts (id, channel, word, received_at) "
            "SELECT id, target, action, at FROM audit WHERE id LIKE 'txt\\_%' ESCAPE '\\'"
        ),
        _copy(
            "INSERT INTO acknowledged_events (name, actor, note, acknowledged_at) "
            "SELECT target, max(actor), max(detail), max(at) FROM audit "
            "WHERE action = 'acknowledge event' GROUP BY target"
        ),
    ),
    "0006": (
        _name_what_waits,
        _set(
            "notifications",
            "stopped_by = 'a person'",
            "status = 'cancelled' AND reason LIKE 'Stopped by %' AND stopped_by IS NULL",
        ),
        _move_retests,
    ),
}
