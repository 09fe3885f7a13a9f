"""Addresses are compared in small letters, and kept as they are written: two indexes find them so.

Only adds: code of 0007 works with it too, since both run side by side during a deploy.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_suppressions_same", "suppressions", [sa.text("lower(address)")])
    where = sa.text("address != lower(address)")
    op.create_index(
        "ix_notifications_capitals",
        "notifications",
        [sa.text("lower(address)")],
        postgresql_where=where,
        sqlite_where=where,
    )
