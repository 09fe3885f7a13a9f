"""What has to ask the lab before it goes out is found by an index of its own, and what need not by
another: a claim of one read past all of the other.

The index over both goes: code of 0011 claims by the second as well, since it looks for no more.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

WAITING = "status IN ('created', 'scheduled')"
COLUMNS = ["channel", sa.text("urgency DESC"), "due_at"]


def create(name: str, where: str) -> None:
    condition = sa.text(where)
    op.create_index(
        name, "notifications", COLUMNS, postgresql_where=condition, sqlite_where=condition
    )


def upgrade() -> None:
    create("ix_notifications_ready", f"{WAITING} AND waits_for IS NULL")
    create("ix_notifications_asking", f"{WAITING} AND waits_for = 'lab'")
    op.drop_index("ix_notifications_due", "notifications")


def downgrade() -> None:
    create("ix_notifications_due", WAITING)
    op.drop_index("ix_notifications_asking", "notifications")
    op.drop_index("ix_notifications_ready", "notifications")
