"""What a draft would have done lately, and what is written once to many. Only adds."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("drafts", sa.Column("trial_of", sa.String(64), nullable=True))
    op.add_column("drafts", sa.Column("trial_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("drafts", sa.Column("trial", sa.JSON(), nullable=True))
    op.create_table(
        "letters",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("rule", sa.String(100), nullable=False),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("edition", sa.Integer(), nullable=True),
        sa.Column("subject", sa.String(200), server_default="", nullable=False),
        sa.Column("words", sa.String(1600), nullable=False),
        sa.Column("author", sa.String(100), nullable=False),
        sa.Column("written_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_letters"),
    )


def downgrade() -> None:
    op.drop_table("letters")
    with op.batch_alter_table("drafts") as table:
        for name in ("trial", "trial_at", "trial_of"):
            table.drop_column(name)
