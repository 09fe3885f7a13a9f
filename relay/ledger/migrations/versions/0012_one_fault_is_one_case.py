"""Events whose lease ended without an end.

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


def downgrade() -> None:
    op.drop_index("ix_events_lapsed", "events")
    op.drop_column("events", "leases")
