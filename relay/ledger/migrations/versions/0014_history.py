"""Kits that are finished leave the tables that are worked in, each as one row of `history`.

Two indexes that no statement uses go. Code of 0011 works with it too, since both run side by side
during a deploy: nothing moves in a worker's first hour.
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "history",
        sa.Column("id", number, nullable=False),
        sa.Column("first", sa.BigInteger, nullable=False),
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("moved_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kit", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_history"),
    )
    op.create_index("ix_history_ids", "history", ["last", "first"])
    op.create_index("ix_history_ended", "history", ["ended_at"])
    op.create_table(
        "history_names",
        sa.Column("name", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("history_id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("name", "history_id", name="pk_history_names"),
    )
    op.drop_index("ix_notifications_item", "notifications")
    op.drop_index("ix_notifications_subject", "notifications")


def downgrade() -> None:
    op.create_index("ix_notifications_subject", "notifications", ["subject"])
    where = sa.text("digest_id IS NOT NULL")
    op.create_index(
        "ix_notifications_item",
        "notifications",
        ["digest_id"],
        postgresql_where=where,
        sqlite_where=where,
    )
    op.drop_table("history_names")
    op.drop_table("history")
