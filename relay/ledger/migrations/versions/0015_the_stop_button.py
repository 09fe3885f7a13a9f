"""What people have stopped as a whole: all messages, a channel's or a rule's.

Only adds. Code of the release before hands on what is stopped: press the button once a deploy is
over, or stop its workers.
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "halts",
        sa.Column("what", sa.String(120), nullable=False),
        sa.Column("actor", sa.String(100), nullable=False),
        sa.Column("reason", sa.String(500), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("what", name="pk_halts"),
    )


def downgrade() -> None:
    op.drop_table("halts")
