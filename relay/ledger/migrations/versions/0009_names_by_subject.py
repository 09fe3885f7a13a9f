"""A kit's names, by its subject and in small letters: an event that waits or is held has only the
name that the lab used, and its kit's record looks for it under all of them.

Only adds: code of 0008 works with it too, since both run side by side during a deploy.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_aliases_subject", "aliases", ["subject"])
    op.create_index("ix_aliases_letters", "aliases", [sa.text("lower(alias)")])


def downgrade() -> None:
    op.drop_index("ix_aliases_letters", "aliases")
    op.drop_index("ix_aliases_subject", "aliases")
