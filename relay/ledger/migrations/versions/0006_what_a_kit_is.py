"""What a post that comes again needs: when an event was tried last and posted again, and what the lab
called its kit; what a message waits for; names that two registrations share. What was told of a retest before it was linked to
its original becomes the original's, in its round.

Only adds: code of 0005 works with it too, since both run side by side during a deploy.
"""

import hashlib
import json

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("tried_at", "posted_again_at"):
        op.add_column("events", sa.Column(name, sa.DateTime(timezone=True), nullable=True))
    op.add_column("events", sa.Column("named", sa.String(200), nullable=True))
    where = sa.text("named IS NOT NULL")
    op.create_index(
        "ix_events_named", "events", ["named"], postgresql_where=where, sqlite_where=where
    )
    op.add_column(
        "aliases",
        sa.Column("is_shared", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.add_column("notifications", sa.Column("waits_for", sa.String(20), nullable=True))
    where = sa.text("waits_for IS NOT NULL")
    op.create_index(
        "ix_notifications_waits",
        "notifications",
        ["waits_for"],
        postgresql_where=where,
        sqlite_where=where,
    )
    op.add_column(
        "cases", sa.Column("count", sa.Integer(), nullable=False, server_default="1")
    )
    _name_what_waits()
    op.execute(
        "UPDATE notifications SET stopped_by = 'a person' "
        "WHERE status = 'cancelled' AND reason LIKE 'Stopped by %'"
    )
    _move_retests()


def _name_what_waits() -> None:
    """Events that wait or are held are found by what the lab called their kit."""
    connection = op.get_bind()
    rows = connection.execute(
        sa.text("SELECT id, data FROM events WHERE status IN ('received', 'held')")
    ).all()
    for row in rows:
        data = json.loads(row.data) if isinstance(row.data, str) else row.data or {}
        named = str(data.get("testregistration_id") or data.get("order_id") or "")[:200]
        connection.execute(
            sa.text("UPDATE events SET named = :named WHERE id = :id"),
            {"named": named or None, "id": row.id},
        )


def _move_retests() -> None:
    connection = op.get_bind()
    linked = connection.execute(
        sa.text(
            "SELECT subject, original_subject, round FROM journeys "
            "WHERE original_subject IS NOT NULL AND original_subject <> subject ORDER BY subject"
        )
    ).all()
    for kit in linked:
        given = {"former": kit.subject}
        mine = "subject = :former AND name NOT LIKE 'order.%'"
        messages = connection.execute(
            sa.text(
                "SELECT id, rule, round, role, channel, address, status, template "
                "FROM notifications WHERE subject = :former AND event_id IN "
                f"(SELECT id FROM events WHERE {mine}) ORDER BY id"
            ),
            given,
        ).all()
        for row in messages:
            _move(connection, row, kit)
        connection.execute(
            sa.text(f"UPDATE events SET subject = :subject, round = round + :rounds WHERE {mine}"),
            {**given, "subject": kit.original_subject, "rounds": kit.round},
        )


def _move(connection: sa.Connection, row: sa.Row, kit: sa.Row) -> None:
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
        sa.text(f"UPDATE notifications SET {changes} WHERE id = :id"), {**values, "id": row.id}
    )


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def downgrade() -> None:
    op.drop_column("cases", "count")
    op.drop_index("ix_notifications_waits", "notifications")
    op.drop_column("notifications", "waits_for")
    op.drop_column("aliases", "is_shared")
    op.drop_index("ix_events_named", "events")
    for name in ("named", "posted_again_at", "tried_at"):
        op.drop_column("events", name)
