"""What a worker that has gone had claimed."""

from __future__ import annotations

import sqlalchemy as sa

from relay.ledger.database import Database, now
from relay.ledger.delivery import Ending, settle
from relay.ledger.schema import attempts, notifications

LAPSED = Ending(
    "unknown",
    "unknown",
    "The worker stopped while this was being sent; it is not known whether it went out.",
)
NOT_BEGUN = Ending(
    "rejected",
    "created",
    "The worker stopped before this was sent.",
    retry_in=0.0,
)


def lapse(db: Database) -> int:
    """Settle what a worker that has gone had claimed: it may have been sent. How many there were.

    A claim without content never came as far as `begin`, so it was surely not sent.
    """
    query = (
        sa.select(
            notifications.c.id,
            attempts.c.id.label("attempt_id"),
            notifications.c.content.is_not(None).label("begun"),
        )
        .join(attempts, attempts.c.notification_id == notifications.c.id)
        .where(
            notifications.c.status == "sending",
            notifications.c.lease_until < now(),
            attempts.c.outcome == "started",
        )
        .order_by(notifications.c.id)  # two sweeps at once lock rows in the same order
    )
    with db.read() as connection:
        if connection.execute(query).first() is None:
            return 0
    with db.write() as connection:
        # Asked again, locked: a slow worker may have begun to send one of them this very moment.
        return sum(
            settle(
                connection,
                row.id,
                row.attempt_id,
                LAPSED if row.begun else NOT_BEGUN,
                ("started",),
            )
            for row in list(connection.execute(query.with_for_update(of=notifications)))
        )
