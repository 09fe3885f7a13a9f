"""Addresses are compared in small letters, and kept as they are written: two indexes find them so,
which `migrate` builds.
"""

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing: code of 0007 goes without."""


def downgrade() -> None:
    """Nothing: code of 0007 goes with them."""
