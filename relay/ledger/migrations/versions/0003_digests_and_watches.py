"""Digests, events that Relay made up for the lab, and how far each watch has looked.

Only adds: code of 0002 works with it too, since both run side by side during a deploy.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("notifications", sa.Column("digest", sa.String(64), nullable=True))
    where = sa.text("digest IS NOT NULL")
    op.create_index(
        "ix_notifications_digest",
        "notifications",
        ["digest"],
        postgresql_where=where,
        sqlite_where=where,
    )
    op.add_column(
        "events", sa.Column("source", sa.String(20), server_default="lab", nullable=False)
    )
    op.create_table(
        "watches",
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("looked_to", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_watches"),
    )


def downgrade() -> None:
    op.drop_table("watches")
    op.drop_column("events", "source")
    op.drop_index("ix_notifications_digest", "notifications")
    op.drop_column("notifications", "digest")
