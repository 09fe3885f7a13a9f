"""Texts that a provider has still, and nobody may need any more: it is asked to delete each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay import fault_injection
from relay.ledger.database import Database, now
from relay.ledger.leasing import due
from relay.ledger.schema import attempts
from relay.rules.model import DRY_RUN

AGAIN_SECONDS = 3600.0  # after which one that was not deleted is asked for again
_table = attempts.c
# An attempt that a provider has, or may have.
IS_GIVEN = sa.and_(
    _table.outcome != "rejected",
    sa.func.coalesce(_table.provider_id, "").not_like(f"{DRY_RUN}%"),
)
# Emails have no such request: SendGrid keeps them for days, and then nothing.
_MAY_BE_THERE = sa.and_(_table.channel == "sms", IS_GIVEN)


@dataclass(frozen=True)
class Text:
    """A text that this worker has leased: the attempt's id, and the provider's."""

    id: str
    provider_id: str


def mark(connection: Connection, messages: Sequence[str], after: float = 0.0) -> list[str]:
    """Have the texts of messages deleted, `after` so many seconds, and looked for no more; the
    provider's ids of them.
    """
    mine = _table.notification_id.in_(messages)
    connection.execute(attempts.update().where(mine).values(look_at=None))
    there = (
        attempts.update()
        .where(mine, _MAY_BE_THERE)
        .values(erase_at=now(fault_injection.hastened(after)))
    )
    # Of one that is in flight the id comes later, and then it is deleted.
    known = connection.execute(there.returning(_table.provider_id)).scalars()
    return [str(id_) for id_ in known if id_]


def lease(db: Database, limit: int) -> list[Text]:
    """Up to `limit` that are due; they come again in an hour unless they are `gone`."""
    is_due = (_table.erase_at <= now(), _table.provider_id.is_not(None))
    with db.write() as connection:
        leased = connection.execute(
            attempts.update()
            .where(_table.id.in_(due(_table.id, is_due, [_table.erase_at], limit)), *is_due)
            .values(erase_at=now(fault_injection.hastened(AGAIN_SECONDS)))
            .returning(_table.id, _table.provider_id)
        )
        return [Text(*row) for row in leased]


def gone(db: Database, provider_id: str) -> None:
    """The provider has it no more."""
    mine = attempts.update().where(_table.provider_id == provider_id)
    with db.write() as connection:
        connection.execute(mine.values(erase_at=None))
