"""How much of a channel's daily limit is used, in a row: a claim counted the whole day.

Only adds: code of before knows nothing of the table and counts the day itself, since both run side
by side during a deploy. The row of a day begins with what was counted then.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "allowances",
        sa.Column("channel", sa.String(20), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used", sa.Integer, nullable=False, server_default="0"),
        sa.Column("counted", sa.Integer, nullable=False, server_default="0"),
        sa.Column("counted_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("channel", name="pk_allowances"),
    )


def downgrade() -> None:
    op.drop_table("allowances")
