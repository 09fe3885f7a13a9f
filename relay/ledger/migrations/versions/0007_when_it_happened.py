"""When something happened to a message, by the provider's clock: whether an email bounced after it
was delivered is told by that, and not by which of the two reports came first.

Only adds: code of 0006 works with it too, since both run side by side during a deploy.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("receipts", sa.Column("happened_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("receipts", "happened_at")
