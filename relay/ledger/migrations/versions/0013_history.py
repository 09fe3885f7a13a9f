"""Kits that are finished leave the tables that are worked in, each as one row of `history`.

Code of 0012 works with it too, since both run side by side during a deploy: nothing moves in a
worker's first hour.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "history",
        sa.Column("id", number, nullable=False),
        sa.Column("first", sa.BigInteger, nullable=False),
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("moved_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kit", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_history"),
    )
    op.create_table(
        "history_names",
        sa.Column("name", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("history_id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("name", "history_id", name="pk_history_names"),
    )


def downgrade() -> None:
    op.drop_table("history_names")
    op.drop_table("history")
