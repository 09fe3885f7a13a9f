"""What a draft would have done lately, as far as it is worked out. Only adds."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("drafts", sa.Column("trial_of", sa.String(64), nullable=True))
    op.add_column("drafts", sa.Column("trial_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("drafts", sa.Column("trial", sa.JSON(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("drafts") as table:
        for name in ("trial", "trial_at", "trial_of"):
            table.drop_column(name)
