"""Digests, events that Relay made up for the lab, how far each watch has looked, and what the desk
asks for: names to search by, who suppressed an address, when a worker swept, who did what, what
texts cost, what the messages of each day came to, what waits in quarantine or was put aside, which
events nobody knows, and who is to be erased; indexes of what retention still has to blank.

Only adds: code of 0002 works with it too, since both run side by side during a deploy.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _partial(name: str, table: str, columns: list, where: str, unique: bool = False) -> None:
    text = sa.text(where)
    op.create_index(
        name, table, columns, unique=unique, postgresql_where=text, sqlite_where=text
    )


def upgrade() -> None:
    op.add_column("notifications", sa.Column("digest", sa.String(64), nullable=True))
    _partial("ix_notifications_digest", "notifications", ["digest"], "digest IS NOT NULL")
    op.add_column(
        "events", sa.Column("source", sa.String(20), server_default="lab", nullable=False)
    )
    op.create_table(
        "watches",
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("looked_to", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_watches"),
    )
    _for_the_desk()


def _for_the_desk() -> None:
    person = sa.String(200).with_variant(sa.String(200, collation="C"), "postgresql")
    op.add_column("events", sa.Column("person", person, nullable=True))
    newest = sa.literal_column("received_at DESC")
    _partial("ix_events_person", "events", ["person", newest], "person IS NOT NULL")
    for name, length in (("actor", 100), ("note", 500)):
        column = sa.Column(name, sa.String(length), server_default="", nullable=False)
        op.add_column("suppressions", column)
    op.create_index("ix_suppressions_created", "suppressions", ["created_at"])
    op.add_column("heartbeats", sa.Column("swept_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_audit_action", "audit", ["action", "at"])
    op.create_index("ix_audit_target", "audit", ["target", "at"])
    _for_its_first_page()
    _for_its_erasures()
    _for_the_purge()
    _for_its_worklist()


def _for_its_first_page() -> None:
    segments = sa.Column("segments", sa.Integer(), server_default="0", nullable=False)
    op.add_column("notifications", segments)
    op.create_table(
        "days",
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("counted_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("day", name="pk_days"),
    )


def _for_its_worklist() -> None:
    """Refused posts can be put aside; events whose name nobody knows are found by it."""
    closed_at = sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True)
    op.add_column("quarantine", closed_at)
    op.add_column("quarantine", sa.Column("closed_by", sa.String(100), nullable=True))
    note = sa.Column("note", sa.String(500), server_default="", nullable=False)
    op.add_column("quarantine", note)
    refused = "event_id IS NULL AND closed_at IS NULL"
    _partial("ix_quarantine_open", "quarantine", ["last_at"], refused)
    _partial("ix_quarantine_aside", "quarantine", ["closed_at"], "closed_at IS NOT NULL")
    _partial("ix_events_unrouted", "events", ["name", "received_at"], "status = 'unrouted'")


def _for_its_erasures() -> None:
    op.create_table(
        "erasures",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("channel", sa.String(20), nullable=False),
        sa.Column("address", sa.String(255), nullable=False),
        sa.Column("target", sa.String(255), nullable=False),
        sa.Column("actor", sa.String(100), nullable=False),
        sa.Column("note", sa.String(500), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("known", sa.JSON(), nullable=True),
        sa.Column("outcome", sa.JSON(), nullable=True),
        sa.Column("searched", sa.String(40), server_default="", nullable=False),
        sa.Column("rows_read", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_erasures"),
    )
    _partial("ix_erasures_open", "erasures", ["address"], "address != ''", unique=True)


def _for_the_purge() -> None:
    """Indexes of what retention still has to blank."""
    for table, column, condition in (
        ("events", "received_at", "facts IS NOT NULL OR status IN ('unrouted', 'held')"),
        ("notifications", "created_at", "address != '' OR content IS NOT NULL"),
    ):
        _partial(f"ix_{table}_purge", table, [column], condition)


def downgrade() -> None:
    op.drop_index("ix_notifications_purge", "notifications")
    op.drop_index("ix_events_purge", "events")
    op.drop_table("erasures")
    op.drop_index("ix_events_unrouted", "events")
    op.drop_index("ix_quarantine_aside", "quarantine")
    op.drop_index("ix_quarantine_open", "quarantine")
    op.drop_column("quarantine", "note")
    op.drop_column("quarantine", "closed_by")
    op.drop_column("quarantine", "closed_at")
    op.drop_table("days")
    op.drop_column("notifications", "segments")
    op.drop_index("ix_audit_target", "audit")
    op.drop_index("ix_audit_action", "audit")
    op.drop_column("heartbeats", "swept_at")
    op.drop_index("ix_suppressions_created", "suppressions")
    op.drop_column("suppressions", "note")
    op.drop_column("suppressions", "actor")
    op.drop_index("ix_events_person", "events")
    op.drop_column("events", "person")
    op.drop_table("watches")
    op.drop_column("events", "source")
    op.drop_index("ix_notifications_digest", "notifications")
    op.drop_column("notifications", "digest")
