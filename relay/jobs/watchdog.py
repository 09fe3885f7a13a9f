"""Watches for steps that do not come: asks the lab, makes up for what was lost, tells staff."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from relay.config.loader import Config
from relay.errors import LabError, LedgerUnavailable, NotReady, Refused
from relay.lab import events
from relay.lab.client import LabClient
from relay.lab.events import EVENTS, RETEST, Kind
from relay.lab.facts import Facts
from relay.ledger import expectations
from relay.ledger.database import Database
from relay.ledger.expectations import Kit
from relay.logs import get_logger
from relay.rules import alerts
from relay.rules.model import Case, Expectation
from relay.rules.schedule import utc_now

log = get_logger("relay.watchdog")

BACK = timedelta(days=30)  # a new expectation looks no further back than this before its time
LOOK_SECONDS = 60.0  # for one look; the rest comes with the next
SILENT = 3  # so many kits in a row without an answer, and the lab is left alone until the next look
Data = Mapping[str, Any]


@dataclass(frozen=True)
class Look:
    """One expectation whose turn it is."""

    expected: Expectation
    since: datetime

    @property
    def id(self) -> str:
        """What logs call it."""
        return self.expected.name


class Watch:
    """Looks for kits that have not come on, a watch for each [expect.…] of config.toml."""

    def __init__(self, config: Config, db: Database, lab: LabClient):
        self._config = config
        self._db = db
        self._lab = lab

    def due(self, limit: int) -> list[Look]:
        """Up to `limit` watches whose turn it is."""
        expected = self._config.expect
        if not expected:
            return []
        begins = {one.name: utc_now() - one.within - BACK for one in expected}
        leased = expectations.lease(self._db, begins, limit)
        return [
            Look(one, max(leased[one.name], begins[one.name]))
            for one in expected
            if one.name in leased
        ]

    def look(self, look: Look) -> None:
        """See to the kits whose time has run out since the last look."""
        expected = look.expected
        expectations.close_fulfilled(self._db, expected)
        until = reached = utc_now() - expected.within
        ends, silent = time.monotonic() + LOOK_SECONDS, 0
        missing: list[Case] = []
        for kit in expectations.behind(self._db, expected, look.since, until):
            if silent >= SILENT or time.monotonic() > ends:
                reached = min(reached, kit.at)
                break
            try:
                why = self._why_missing(expected, kit)
                silent = 0
            except LabError as error:
                silent += 1
                why = str(error) if until - kit.at > self._config.delivery.lab_patience else None
            if why is None:
                reached = min(reached, kit.at)  # it is looked at again the next time
            elif why:
                missing.append(self._case(expected, kit, why))
        self._tell(expected, missing)
        with self._db.write() as connection:
            expectations.looked(connection, expected.name, reached)

    def _why_missing(self, expected: Expectation, kit: Kit) -> str | None:
        """Why a kit has not come on; empty where it has, None where it is not known yet.

        Raises LabError.
        """
        if not kit.is_processed:
            return None
        try:
            found = [self._is_settled(expected.event, data) for data in self._named(expected, kit)]
        except (LabError, LedgerUnavailable):
            raise
        except Exception as error:  # a fault of ours: it must not stop the watch for all others
            log.exception("watch broke", id=kit.event_id)
            raise LabError("Relay failed while looking for it.") from error
        if found and all(found):
            return ""
        if not EVENTS[expected.event].proof:
            return "The lab's API cannot tell whether it has happened."
        return "The lab's API does not show it either."

    def _named(self, expected: Expectation, kit: Kit) -> Iterator[Data]:
        """The `data` that the lab would post: its ids as it wrote them before, where it did."""
        first, then = EVENTS[expected.after], EVENTS[expected.event]
        written = {key: kit.data[key] for key in (first.id_field, "url") if kit.data.get(key)}
        if first.id_field not in written and not kit.round:  # blanked since
            written = {first.id_field: kit.subject}
        if kit.registration:
            yield {then.id_field: kit.registration}
        elif expected.after == RETEST:
            if retest := kit.data.get("retest_testregistration_id"):
                yield {then.id_field: retest}
        elif first.id_field not in written:
            return  # its own id is not known, and the kit's is the original's
        elif first.resource == then.resource:
            yield written
        else:
            order = self._lab.gather(first, written, frozenset()).order or {}
            for one in order.get("test_registrations") or ():
                if one.get("id"):
                    yield {then.id_field: one["id"]}

    def _is_settled(self, event: str, data: Data) -> bool:
        """Whether it has come, is not to come, or is made up for. Raises LabError."""
        kind = EVENTS[event]
        if self._is_recorded(kind, data):
            return True
        facts = self._facts(kind, data)
        if facts is None:
            return False
        if (facts.registration or {}).get("status") == "cancelled":
            return True
        shown = events.proof(event, facts)
        return shown is not None and self._make_up(event, {**data, **shown})

    def _is_recorded(self, kind: Kind, data: Data) -> bool:
        """Whether the lab has posted it, though it is not processed: it waits, or is held."""
        if not set(kind.identity) <= data.keys():
            return False
        with self._db.read() as connection:
            return expectations.is_recorded(connection, events.identity(kind.name, kind, data))

    def _facts(self, kind: Kind, data: Data) -> Facts | None:
        """What the lab says now; None where it has nothing. Raises LabError."""
        try:
            return self._lab.gather(kind, data, frozenset())
        except NotReady:
            return None
        except LabError as error:
            if error.missing:
                return None
            raise

    def _make_up(self, event: str, data: Data) -> bool:
        """Record what the lab has not posted; it is then processed as if it had."""
        body = json.dumps({"event": event, "data": data})
        try:
            incoming = events.parse(body.encode())
        except Refused:  # an id that no webhook may have
            return False
        with self._db.write() as connection:
            id_ = expectations.make_up(connection, incoming, self._config.delivery.dedupe_window)
        log.warning("event made up for", id=id_, event_name=event)
        return True

    def _case(self, expected: Expectation, kit: Kit, why: str) -> Case:
        day = kit.at.astimezone(self._config.clinic.timezone).strftime("%d %B %Y")
        reason = f"{expected.after} came on {day}, and no {expected.event} since. {why}"
        key = kit.key(expected)
        return Case(expectations.KIND, key, kit.subject, reason, kit.event_id)

    def _tell(self, expected: Expectation, missing: list[Case]) -> None:
        """A case for each kit, and one alert for all of a look."""
        if not missing:
            return
        first = missing[0]
        told = alerts.case(
            first.kind,
            first.key,
            first.subject,
            first.reason,
            policy=self._config.policy,
            now=utc_now(),
            to=expected.to,
        )
        with self._db.write() as connection:
            expectations.tell(connection, missing, told.alerts)
        log.warning("steps missing", watch=expected.name, kits=len(missing))
