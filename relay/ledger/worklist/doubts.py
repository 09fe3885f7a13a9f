"""Doubts about who would get a patient's message: the ledger's evidence, and the cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from relay.lab.facts import Facts, search_key
from relay.ledger.schema import cases, events, notifications
from relay.ledger.worklist.cases import open_case
from relay.rules import doubts
from relay.rules.channels import sharing
from relay.rules.doubts import Known
from relay.rules.model import PATIENT, Notice, Policy
from relay.rules.statuses import GONE, MISMATCH

MOST = 200  # messages to an address whose people are counted
_table = notifications.c
_of_event = events.join(notifications, _table.event_id == events.c.id)
_to_patient = sa.and_(
    _table.role == PATIENT, _table.channel.in_(sa.bindparam("ways", expanding=True))
)


def ask(
    connection: Connection,
    policy: Policy,
    event_id: str,
    facts: Facts,
    notices: Sequence[Notice],
) -> None:
    """Ask a person about each doubt about these messages to a patient, unless somebody was asked
    before: that decision stands.
    """
    known = Known(
        {one.address: _people(connection, facts, one) for one in notices},
        {one.channel: _last(connection, facts, one) for one in notices},
    )
    for case in doubts.cases(facts, known, notices, policy, datetime.now(UTC)):
        if connection.execute(_ASKED, {"about": case.digest}).first() is None:
            open_case(connection, replace(case, event_id=event_id))


def _people(connection: Connection, facts: Facts, notice: Notice) -> int:
    given = {"address": notice.address, "ways": sharing(notice.channel)}
    return len({search_key(facts), *connection.execute(_PEOPLE, given).scalars()} - {None})


def _last(connection: Connection, facts: Facts, notice: Notice) -> str:
    """The address of the last message to a patient of this name, with this id or kit, or ""."""
    own = (facts.patient or {}).get("id")
    given = {"person": search_key(facts), "ways": sharing(notice.channel)}
    for row in connection.execute(_LAST, given) if given["person"] else ():
        patient = Facts.from_json(row.facts).patient or {}
        if row.subject == notice.subject or (own and patient.get("id") == own):
            return str(row.address)
    return ""


# Built once: every event with a message to its patient uses it.
_ASKED = sa.select(cases.c.id).where(
    cases.c.kind == sa.literal_column(f"'{MISMATCH}'"),
    cases.c.about == sa.bindparam("about"),
)
# Each by its own index, of addresses or names: neither has an ORDER BY that fits another index.
_PEOPLE = (
    sa.select(events.c.person)
    .select_from(_of_event)
    .where(_table.address == sa.bindparam("address"), _to_patient, events.c.person.is_not(None))
    .limit(MOST)
)
_LAST = (
    sa.select(_table.address, events.c.facts, events.c.subject)
    .select_from(_of_event)
    # A failed message proves nothing: its number has been corrected.
    .where(events.c.person == sa.bindparam("person"), _to_patient, _table.status.in_(GONE))
    .where(_table.address != "")
    .order_by(events.c.received_at.desc())
    .limit(10)
)
