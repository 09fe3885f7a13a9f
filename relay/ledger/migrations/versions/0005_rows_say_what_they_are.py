"""A notification says what it is, whose digest it is told in, whether it was only kept, who stopped it
and which case it is about; an attempt says when it was begun; an open case is unique by an index; and
what was kept in the audit trail for the code to read has tables of its own.

Only adds: code of 0004 works with it too, since both run side by side during a deploy. It leaves the
new columns as they are by default, so code of 0005 reads them together with the old ones.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def _time(name: str, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _text(name: str, length: int, nullable: bool = False, default: str | None = None) -> sa.Column:
    return sa.Column(name, sa.String(length), nullable=nullable, server_default=default)


def upgrade() -> None:
    op.add_column("notifications", _text("kind", 20, default="message"))
    op.add_column("notifications", _text("digest_id", 40, nullable=True))
    op.add_column(
        "notifications",
        sa.Column("is_kept", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.add_column("notifications", _text("stopped_by", 100, nullable=True))
    op.add_column("notifications", _text("case_id", 40, nullable=True))
    op.add_column("attempts", _time("begun_at", nullable=True))
    op.add_column("cases", _text("about", 64, nullable=True))
    _tables()
    # The rows that are there by then are brought into this form by relay.ledger.carry_over.
    op.execute(
        "CREATE TABLE IF NOT EXISTS to_carry_over (revision VARCHAR(10) NOT NULL PRIMARY KEY)"
    )
    op.execute("INSERT INTO to_carry_over (revision) VALUES ('0005')")


def _tables() -> None:
    op.create_table(
        "ended_sessions",
        _text("id", 64),
        _time("ended_at"),
        sa.PrimaryKeyConstraint("id", name="pk_ended_sessions"),
    )
    op.create_table(
        "login_failures",
        _text("id", 40),
        _text("visitor", 64),
        _time("failed_at"),
        sa.PrimaryKeyConstraint("id", name="pk_login_failures"),
    )
    op.create_index("ix_login_failures_visitor", "login_failures", ["visitor", "failed_at"])
    op.create_table(
        "inbound_texts",
        _text("id", 64),
        _text("channel", 20),
        _text("word", 20),
        _time("received_at"),
        sa.PrimaryKeyConstraint("id", name="pk_inbound_texts"),
    )
    op.create_table(
        "acknowledged_events",
        _text("name", 100),
        _text("actor", 100),
        _text("note", 500, default=""),
        _time("acknowledged_at"),
        sa.PrimaryKeyConstraint("name", name="pk_acknowledged_events"),
    )
    op.create_index("ix_acknowledged_events_at", "acknowledged_events", ["acknowledged_at"])


def downgrade() -> None:
    op.execute("DROP TABLE IF EXISTS to_carry_over")
    for table in ("acknowledged_events", "inbound_texts", "login_failures", "ended_sessions"):
        op.drop_table(table)
    op.execute("DROP INDEX IF EXISTS ix_cases_about")
    op.drop_column("cases", "about")
    op.drop_column("attempts", "begun_at")
    for column in ("case_id", "stopped_by", "is_kept", "digest_id", "kind"):
        op.drop_column("notifications", column)
