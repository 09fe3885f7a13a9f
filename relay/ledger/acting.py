"""What a person does, and the line that the audit trail has of it: one transaction, or neither."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy.engine import Connection

from relay.ledger.upkeep import write_audit_in


class NotDone(Exception):
    """It cannot be done, and why: nothing of it is kept."""


@dataclass(frozen=True)
class Act:
    """What the audit trail keeps. Addresses and names do not belong here: ids only."""

    actor: str
    action: str
    target: str = ""
    detail: str = ""


def keep(connection: Connection, act: Act | None, detail: str = "") -> None:
    """Keep an act in the transaction of what was done; none where the caller keeps its own."""
    if act:
        told = replace(act, detail=detail) if detail else act
        write_audit_in(connection, told.actor, told.action, told.target, told.detail)
