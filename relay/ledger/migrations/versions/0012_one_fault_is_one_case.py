"""The messages of a case, the alerts of a kind, and events whose lease ended without an end.

Only adds: code of 0011 works with it too, since both run side by side during a deploy. It puts a
message into no case, and counts no lease.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    leases = sa.Column("leases", sa.Integer(), server_default="0", nullable=False)
    op.add_column("events", leases)
    _partial_index("ix_events_lapsed", "events", ["next_at"], "status = 'received' AND leases > 0")
    _partial_index("ix_notifications_case", "notifications", ["case_id"], "case_id IS NOT NULL")
    _partial_index("ix_notifications_alert", "notifications", ["rule", "id"], "kind = 'alert'")


def _partial_index(name: str, table: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(
        name, table, columns, postgresql_where=condition, sqlite_where=condition
    )


def downgrade() -> None:
    op.drop_index("ix_notifications_alert", "notifications")
    op.drop_index("ix_notifications_case", "notifications")
    op.drop_index("ix_events_lapsed", "events")
    op.drop_column("events", "leases")
