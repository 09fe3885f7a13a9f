"""Backfills events: records steps that the lab's API shows and no webhook has reported."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from relay.errors import LabError, NotReady, Refused
from relay.lab import events
from relay.lab.events import EVENTS, RETEST, Kind
from relay.lab.facts import Facts
from relay.ledger import expectations
from relay.ledger.database import Database
from relay.ledger.expectations import Kit
from relay.logs import get_logger
from relay.rules.model import Expectation

if TYPE_CHECKING:
    from relay.jobs.circuit_breaker import LabBreaker

log = get_logger("relay.backfill")

Data = Mapping[str, Any]


class Backfill:
    """Asks the lab about steps that no webhook has reported, and records those that have happened.

    A repeat of such an event within `window` counts as a duplicate, even when the lab itself posts
    it.
    """

    def __init__(self, db: Database, lab: LabBreaker, window: timedelta):
        self._db = db
        self._lab = lab
        self._window = window

    def has_come(self, expected: Expectation, kit: Kit) -> bool:
        """Whether the expected step of a kit has come, or was backfilled. Raises LabError."""
        settled = [self.is_settled(expected.event, data) for data in self.data_of(expected, kit)]
        return bool(settled) and all(settled)

    def data_of(self, expected: Expectation, kit: Kit) -> Iterator[Data]:
        """Yield the `data` of each event that the lab would post, with the ids as the lab wrote
        them.
        """
        first, then = EVENTS[expected.after], EVENTS[expected.event]
        written = {key: kit.data[key] for key in (first.id_field, "url") if kit.data.get(key)}
        if first.id_field not in written and not kit.round:  # blanked meanwhile
            written = {first.id_field: kit.subject}
        if kit.registration:
            yield {then.id_field: kit.registration}
        elif expected.after == RETEST:
            if retest := kit.data.get("retest_testregistration_id"):
                yield {then.id_field: retest}
        elif first.id_field not in written:
            return  # its own id is unknown, and the kit's is the original's
        elif first.resource == then.resource:
            yield written
        else:
            order = self._lab.gather(first, written, frozenset()).order or {}
            for one in order.get("test_registrations") or ():
                if one.get("id"):
                    yield {then.id_field: one["id"]}

    def is_settled(self, event: str, data: Data) -> bool:
        """Whether an event has come, will not come, or was backfilled now. Raises LabError."""
        kind = EVENTS[event]
        if self.is_recorded(kind, data):
            return True
        facts = self.facts(kind, data)
        if facts is None:
            return False
        if (facts.registration or {}).get("status") == "cancelled":
            return True
        shown = events.proof(event, facts)
        return shown is not None and self.record(event, {**data, **shown})

    def is_recorded(self, kind: Kind, data: Data) -> bool:
        """Whether the lab has posted it, even if it is not processed yet, or is held."""
        if not set(kind.identity) <= data.keys():
            return False
        with self._db.read() as connection:
            return expectations.is_recorded(connection, events.identity(kind.name, kind, data))

    def facts(self, kind: Kind, data: Data) -> Facts | None:
        """The lab's facts as they are now; None if it has nothing. Raises LabError."""
        try:
            return self._lab.gather(kind, data, frozenset())
        except NotReady:
            return None
        except LabError as error:
            if error.missing:
                return None
            raise

    def record(self, event: str, data: Data) -> bool:
        """Record an event that the lab has not posted; False if no webhook could have its ids.

        It is then processed as if the lab had posted it.
        """
        body = json.dumps({"event": event, "data": data})
        try:
            incoming = events.parse(body.encode())
        except Refused:
            return False
        with self._db.write() as connection:
            id_ = expectations.backfill(connection, incoming, self._window)
        log.warning("event made up for", id=id_, event_name=event)
        return True
