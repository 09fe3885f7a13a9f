"""Texts from people that are no keyword: who wrote them, what, and the case about each; and cases
that come first, or that their kit's messages wait for.

Code of the release before works with it too, since both run side by side during a deploy: it leaves
the new columns as they are by default.
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_TEXT = (("address", 255), ("words", 4000))
_FLAGS = ("is_urgent", "holds")


def upgrade() -> None:
    for name, length in _TEXT:
        column = sa.Column(name, sa.String(length), nullable=False, server_default="")
        op.add_column("inbound_texts", column)
    for column in (
        sa.Column("case_id", sa.String(40), nullable=True),
        sa.Column("provider_id", sa.String(100), nullable=True),
        sa.Column("erase_at", sa.DateTime(timezone=True), nullable=True),
    ):
        op.add_column("inbound_texts", column)
    for name in _FLAGS:
        column = sa.Column(name, sa.Boolean, nullable=False, server_default=sa.false())
        op.add_column("cases", column)


def downgrade() -> None:
    for name in _FLAGS:
        op.drop_column("cases", name)
    for name in ("erase_at", "provider_id", "case_id", "words", "address"):
        op.drop_column("inbound_texts", name)
