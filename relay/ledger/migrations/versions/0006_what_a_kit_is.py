"""What a post that comes again needs: when an event was tried last and posted again, and what the lab
called its kit; what a message waits for; names that two registrations share. What was told of a retest before it was linked to
its original becomes the original's, in its round.

Only adds: code of 0005 works with it too, since both run side by side during a deploy.
"""

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
    op.add_column(
        "aliases",
        sa.Column("is_shared", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.add_column("notifications", sa.Column("waits_for", sa.String(20), nullable=True))
    op.add_column(
        "cases", sa.Column("count", sa.Integer(), nullable=False, server_default="1")
    )
    # The rows that are there by then are moved by relay.ledger.carry_over.
    op.execute(
        "CREATE TABLE IF NOT EXISTS to_carry_over (revision VARCHAR(10) NOT NULL PRIMARY KEY)"
    )
    op.execute("INSERT INTO to_carry_over (revision) VALUES ('0006')")


def downgrade() -> None:
    op.drop_column("cases", "count")
    op.execute("DROP INDEX IF EXISTS ix_notifications_waits")
    op.drop_column("notifications", "waits_for")
    op.drop_column("aliases", "is_shared")
    op.execute("DROP INDEX IF EXISTS ix_events_named")
    for name in ("named", "posted_again_at", "tried_at"):
        op.drop_column("events", name)
