"""Alembic, called from `flask relay upgrade`."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from relay.ledger.columns import metadata
from relay.ledger.database import Database

_LOCK = 7_236_841  # one release at a time: an advisory lock's number, ours alone


def upgrade(db: Database, revision: str = "head") -> None:
    """Bring the ledger to this code's schema, or to an older one.

    Safe to run twice, and from two places at once.
    """
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    with db.write() as connection:
        if not db.is_sqlite:
            connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
            connection.execute(sa.text("SET LOCAL lock_timeout = '30s'"))
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:n)"), {"n": _LOCK})
        config.attributes["connection"] = connection
        config.attributes["metadata"] = metadata
        command.upgrade(config, revision)
