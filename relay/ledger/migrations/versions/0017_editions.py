"""config.toml and the templates as numbered editions, and by which of them each message was made.

Only adds. The release before goes by its own files and names no edition.
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "editions",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("author", sa.String(100), nullable=False),
        sa.Column("note", sa.String(500), nullable=False),
        sa.Column("source", sa.String(20), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_editions"),
    )
    for table in ("events", "notifications"):
        op.add_column(table, sa.Column("edition", sa.Integer(), nullable=True))


def downgrade() -> None:
    for table in ("events", "notifications"):
        op.drop_column(table, "edition")
    op.drop_table("editions")
