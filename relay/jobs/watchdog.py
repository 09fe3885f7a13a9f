"""The watchdog: finds kits that are overdue, and alerts staff. `backfill` asks the lab."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from relay.config.loader import Config
from relay.errors import LabAway, LabError, LedgerUnavailable
from relay.jobs.backfill import Backfill
from relay.lab.events import EVENTS
from relay.ledger import expectations
from relay.ledger.database import Database
from relay.ledger.expectations import Kit
from relay.logs import get_logger
from relay.rules import alerts
from relay.rules.model import Case, Expectation
from relay.rules.schedule import utc_now

if TYPE_CHECKING:
    from relay.jobs.circuit_breaker import LabBreaker

log = get_logger("relay.watchdog")

BACK = timedelta(days=30)  # a new expectation looks no further back than this beyond its own time
LOOK_SECONDS = 60.0  # for one look; the next one does the rest
SILENT = 3  # kits in a row without an answer, after which this look leaves the lab alone


@dataclass(frozen=True)
class Look:
    """A watch that is due, and the time up to which it has already looked."""

    expected: Expectation
    since: datetime

    @property
    def id(self) -> str:
        """The watch's name, for the log."""
        return self.expected.name


class Watch:
    """Looks for kits that are overdue, by each [expect.…] of config.toml."""

    def __init__(self, config: Config, db: Database, lab: LabBreaker):
        self._config = config
        self._db = db
        self._backfill = Backfill(db, lab, config.delivery.dedupe_window)

    def due(self, limit: int) -> list[Look]:
        """Lease up to `limit` watches that are due."""
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
        """Look at the kits that have become overdue since the last look."""
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
                why = self.why_missing(expected, kit)
                silent = 0
            except LabAway:  # the lab is asked about none, and that counts against none
                silent, why = SILENT, None
            except LabError as error:
                silent += 1
                why = str(error) if until - kit.at > self._config.delivery.lab_patience else None
            if why is None:
                reached = min(reached, kit.at)  # the next look includes it again
            elif why:
                missing.append(self.case_about(expected, kit, why))
        self.alert_staff(expected, missing)
        with self._db.write() as connection:
            expectations.looked(connection, expected.name, reached)

    def why_missing(self, expected: Expectation, kit: Kit) -> str | None:
        """Why a kit is overdue; empty if it is not, None if that is not known yet.

        Raises LabError.
        """
        if not kit.is_processed:
            return None
        try:
            has_come = self._backfill.has_come(expected, kit)
        except (LabError, LedgerUnavailable):
            raise
        except Exception as error:  # a fault of ours: it must not stop the watch for all other kits
            log.exception("watch broke", id=kit.event_id)
            raise LabError("Relay failed while looking for it.") from error
        if has_come:
            return ""
        if not EVENTS[expected.event].proof:
            return "The lab's API cannot tell whether it has happened."
        return "The lab's API does not show it either."

    def case_about(self, expected: Expectation, kit: Kit, why: str) -> Case:
        """The case about an overdue kit, and `why` Relay thinks so."""
        day = kit.at.astimezone(self._config.clinic.timezone).strftime("%d %B %Y")
        reason = f"{expected.after} came on {day}, and no {expected.event} since. {why}"
        key = kit.key(expected)
        return Case(expectations.KIND, key, kit.subject, reason, kit.event_id)

    def alert_staff(self, expected: Expectation, missing: list[Case]) -> None:
        """Open a case for each kit, and send one alert for all of a look."""
        if not missing:
            return
        first = missing[0]
        alert = alerts.case(
            first.kind,
            first.key,
            first.subject,
            first.reason,
            policy=self._config.policy,
            now=utc_now(),
            to=expected.to,
        )
        with self._db.write() as connection:
            expectations.tell(connection, missing, alert.alerts)
        log.warning("steps missing", watch=expected.name, kits=len(missing))
