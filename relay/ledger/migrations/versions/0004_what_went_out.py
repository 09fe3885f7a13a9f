"""When a provider is asked to delete a text, since its person was erased or `retention` is over;
and indexes of when messages went out and cases were closed, for the desk.

Only adds: code of 0003 works with it too, since both run side by side during a deploy.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attempts", sa.Column("erase_at", sa.DateTime(timezone=True), nullable=True))
    for name, table, column in (
        ("ix_attempts_erase", "attempts", "erase_at"),
        ("ix_notifications_sent", "notifications", "sent_at"),
        ("ix_cases_closed", "cases", "closed_at"),
    ):
        where = sa.text(f"{column} IS NOT NULL")
        op.create_index(name, table, [column], postgresql_where=where, sqlite_where=where)


def downgrade() -> None:
    op.drop_index("ix_cases_closed", "cases")
    op.drop_index("ix_notifications_sent", "notifications")
    op.drop_index("ix_attempts_erase", "attempts")
    op.drop_column("attempts", "erase_at")
