"""A kit's names, by its subject and in small letters: an event that waits or is held has only the
name that the lab used, and its kit's record looks for it under all of them. `migrate` builds these
two indexes.
"""

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing: code of 0008 goes without."""


def downgrade() -> None:
    """Nothing: code of 0008 goes with them."""
