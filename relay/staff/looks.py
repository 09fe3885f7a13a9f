"""Looks at people's data: each is recorded, and very many by one person alert staff."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from relay.config.loader import Config
from relay.ledger import audit
from relay.ledger.database import Connection
from relay.ledger.worklist import cases
from relay.logs import get_logger
from relay.rules import alerts
from relay.rules.schedule import utc_now

log = get_logger("relay.looks")

SEARCH, FOUND, OPENED, LOOKED_UP = "search", "found", "open kit", "look up"
REVEAL, WHAT_IF, ACCESS = "reveal", "what-if", "access"
LOOKS = (SEARCH, OPENED, LOOKED_UP, REVEAL, WHAT_IF, ACCESS)  # FOUND is part of a search


@dataclass(frozen=True)
class Look:
    """The object of a look: ids and marks only. `found` are the kits that a search shows."""

    action: str
    target: str
    detail: str = ""
    found: tuple[str, ...] = ()


def note(connection: Connection, config: Config, by: str, look: Look) -> None:
    """Record a look in the audit trail and the log; open a case past [desk] looks_per_hour."""
    audit.write_audit(connection, by, look.action, look.target, look.detail)
    for kit in look.found:
        audit.write_audit(connection, by, FOUND, kit, look.detail)
    person = hashlib.sha256(by.encode()).hexdigest()[:12]  # no address may appear in a log
    log.info("look", action=look.action, person=person, found=len(look.found))
    most = config.desk.looks_per_hour
    if audit.count_by(connection, by, LOOKS) <= most:
        return
    now = utc_now()
    said = f"{by} has looked at people's data more than {most} times within an hour."
    case = alerts.case(
        "looks", f"{by} {now:%F %H}", "the desk", said, policy=config.policy, now=now
    )
    cases.open_for_all(connection, case, at_first=True)
