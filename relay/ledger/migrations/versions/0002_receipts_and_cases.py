"""Receipts, looks at unknown outcomes, pauses and the worklist.

Only adds: code of 0001 works with it too, since both run side by side during a deploy.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _time(name: str, nullable: bool = True) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _partial(name: str, table: str, columns: list[str], where: str) -> None:
    text = sa.text(where)
    op.create_index(name, table, columns, postgresql_where=text, sqlite_where=text)


def upgrade() -> None:
    for name in ("delivered_at", "receipt_by", "follow_up_at"):
        op.add_column("notifications", _time(name))
    op.add_column("attempts", _time("look_at"))
    op.add_column("attempts", sa.Column("looks", sa.Integer(), server_default="0", nullable=False))
    _partial("ix_notifications_receipt", "notifications", ["receipt_by"], "receipt_by IS NOT NULL")
    _partial(
        "ix_notifications_follow_up", "notifications", ["follow_up_at"], "follow_up_at IS NOT NULL"
    )
    op.create_index("ix_notifications_address", "notifications", ["channel", "address"])
    _partial("ix_attempts_look", "attempts", ["look_at"], "look_at IS NOT NULL")
    _partial("ix_attempts_provider", "attempts", ["provider_id"], "provider_id IS NOT NULL")
    op.create_table(
        "receipts",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("attempt_id", sa.String(40), nullable=False),
        sa.Column("word", sa.String(40), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("code", sa.String(40), server_default="", nullable=False),
        sa.Column("reason", sa.String(500), server_default="", nullable=False),
        _time("received_at", nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name="fk_receipts_attempt_id"),
        sa.PrimaryKeyConstraint("id", name="pk_receipts"),
        sa.UniqueConstraint("digest", name="uq_receipts_digest"),
    )
    op.create_index("ix_receipts_attempt", "receipts", ["attempt_id"])
    op.create_table(
        "pauses",
        sa.Column("channel", sa.String(20), nullable=False),
        sa.Column("cause", sa.String(20), nullable=False),
        sa.Column("reason", sa.String(500), nullable=False),
        sa.Column("probes", sa.Integer(), server_default="0", nullable=False),
        _time("since", nullable=False),
        _time("until", nullable=False),
        sa.PrimaryKeyConstraint("channel", name="pk_pauses"),
    )
    op.create_table(
        "cases",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("event_id", sa.String(40), nullable=False),
        sa.Column("notification_id", sa.String(40), nullable=True),
        sa.Column("reason", sa.String(500), nullable=False),
        _time("opened_at", nullable=False),
        _time("closed_at"),
        sa.Column("closed_by", sa.String(100), nullable=True),
        sa.Column("note", sa.String(500), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name="fk_cases_event_id"),
        sa.PrimaryKeyConstraint("id", name="pk_cases"),
        sa.UniqueConstraint("digest", name="uq_cases_digest"),
    )
    _partial("ix_cases_open", "cases", ["opened_at"], "closed_at IS NULL")
    op.create_index("ix_cases_event", "cases", ["event_id"])


def downgrade() -> None:
    for table in ("cases", "pauses", "receipts"):
        op.drop_table(table)
    for name in ("ix_attempts_provider", "ix_attempts_look"):
        op.drop_index(name, "attempts")
    for name in (
        *("ix_notifications_address", "ix_notifications_follow_up", "ix_notifications_receipt"),
    ):
        op.drop_index(name, "notifications")
    op.drop_column("attempts", "looks")
    op.drop_column("attempts", "look_at")
    for name in ("follow_up_at", "receipt_by", "delivered_at"):
        op.drop_column("notifications", name)
