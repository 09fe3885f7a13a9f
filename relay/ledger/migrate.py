"""Alembic, called from `flask relay upgrade`."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from relay.ledger.columns import metadata
from relay.ledger.database import Database
from relay.ledger.upkeep import is_newer

_LOCK = 7_236_841  # one release at a time: an advisory lock's number, ours alone


def upgrade(db: Database, revision: str = "head") -> str:
    """Bring the ledger to this code's schema, or to an older one; which revision it has then.

    Safe to run twice, and from two places at once. A ledger that a later version has migrated is
    left as it is: a platform runs the release command on a rollback too.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.migration import MigrationContext

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    with db.write() as connection:
        if not db.is_sqlite:
            connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
            connection.execute(sa.text("SET LOCAL lock_timeout = '30s'"))
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:n)"), {"n": _LOCK})
        context = MigrationContext.configure(connection)
        if not is_newer(context.get_current_revision()):
            config.attributes["connection"] = connection
            config.attributes["metadata"] = metadata
            command.upgrade(config, revision)
        return str(context.get_current_revision())
