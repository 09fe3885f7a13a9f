"""Queries that stream their rows."""

from __future__ import annotations

from datetime import UTC, datetime

from relay.ledger import audit, history
from relay.ledger.database import Database
from relay.ledger.views import queries
from tests.rows import notice, planned


def test_a_query_that_streams_lets_no_later_one_stream(db: Database) -> None:
    """What it asks for stays with its own rows: on PostgreSQL each later query of the connection
    would open a cursor, which nobody closes.
    """
    (id_,) = planned(db, notice())
    with db.read() as connection:
        before = connection.get_execution_options()
        assert len([*queries.notifications_where(connection, queries.Filter())]) == 1
        assert [*audit.all_lines(connection, datetime(2026, 1, 1, tzinfo=UTC))] == []
        assert history.ids_with(connection, id_) == []
        assert connection.get_execution_options() == before
