"""An index of when messages went out, for the day's figures on the desk.

Only adds: code of 0003 works with it too, since both run side by side during a deploy.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    is_out = sa.text("sent_at IS NOT NULL")
    op.create_index(
        "ix_notifications_sent",
        "notifications",
        ["sent_at"],
        postgresql_where=is_out,
        sqlite_where=is_out,
    )


def downgrade() -> None:
    op.drop_index("ix_notifications_sent", "notifications")
