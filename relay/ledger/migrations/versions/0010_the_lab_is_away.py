"""The lab's pause, and which events were put back because the lab failed.

Only adds: code of 0009 works with it too, since both run side by side during a deploy.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "lab_pauses",
        sa.Column("channel", sa.String(20), nullable=False),
        sa.Column("cause", sa.String(20), nullable=False),
        sa.Column("reason", sa.String(500), nullable=False),
        sa.Column("probes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("channel", name="pk_lab_pauses"),
    )
    op.add_column("events", sa.Column("waits_for", sa.String(20), nullable=True))


def downgrade() -> None:
    op.drop_column("events", "waits_for")
    op.drop_table("lab_pauses")
