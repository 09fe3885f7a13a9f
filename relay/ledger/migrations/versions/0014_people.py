"""People with names: accounts of the desk, their sessions, and where an act came from.

Code of 0013 works with it too, since both run side by side during a deploy: it knows one account,
and writes to the trail without a session. On PostgreSQL the trail can be added to, and changed by
nothing but an erasure, which says so (see relay.ledger.audit).
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

KEPT = """
CREATE FUNCTION relay_trail_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF current_setting('relay.erases', true) = 'yes' THEN
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
  END IF;
  RAISE EXCEPTION 'the audit trail is added to, never changed';
END $$;
CREATE TRIGGER trail_is_kept BEFORE UPDATE OR DELETE ON audit
  FOR EACH ROW EXECUTE FUNCTION relay_trail_is_kept();
"""


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "users",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("login", sa.String(100), nullable=False),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("password_hash", sa.String(255), server_default="", nullable=False),
        sa.Column("totp_secret", sa.String(64), server_default="", nullable=False),
        sa.Column("totp_step", sa.Integer(), server_default="0", nullable=False),
        sa.Column("recovery", sa.JSON(), nullable=True),
        sa.Column("oidc_subject", sa.String(255), server_default="", nullable=False),
        sa.Column("invite", sa.String(64), server_default="", nullable=False),
        sa.Column("invited_at", moment, nullable=True),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("disabled_at", moment, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("login", name="uq_users_login"),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("person", sa.String(100), nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("browser", sa.String(60), nullable=False),
        sa.Column("began_at", moment, nullable=False),
        sa.Column("seen_at", moment, nullable=False),
        sa.Column("ended_at", moment, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
    )
    for name in ("session", "source"):
        op.add_column("audit", sa.Column(name, sa.String(64), server_default="", nullable=False))
    if op.get_context().dialect.name == "postgresql":
        op.execute(KEPT)


def downgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        op.execute("DROP TRIGGER trail_is_kept ON audit; DROP FUNCTION relay_trail_is_kept();")
    for name in ("source", "session"):
        op.drop_column("audit", name)
    op.drop_table("sessions")
    op.drop_table("users")
