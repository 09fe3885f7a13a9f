"""The circuit breakers: for a channel whose provider refuses us, is busy or away, and for the lab.

Three failures of the lab in a row, a 401, or a Retry-After pause it for all workers, by a row in
the ledger: only a probe asks. Meanwhile no events are leased, and messages that need the lab wait.
Any answer ends the pause, even one that contradicts its event: that concerns the event alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from relay.channels.base import Outcome
from relay.errors import LabAway, LabError
from relay.fault_injection import hastened
from relay.jobs.backoff import LONGEST_ASKED
from relay.lab.client import LabClient
from relay.lab.events import Kind
from relay.lab.facts import Facts
from relay.ledger import events
from relay.ledger.database import Connection, Database
from relay.ledger.events import Event
from relay.ledger.holds import pauses, waits
from relay.ledger.holds.pauses import LAB
from relay.ledger.worklist import cases
from relay.logs import get_logger
from relay.rules import alerts
from relay.rules.channels import CHANNELS
from relay.rules.model import Pause, Policy
from relay.rules.schedule import utc_now
from relay.rules.statuses import AWAY, BUSY, REFUSED

log = get_logger("relay.jobs")

SILENT = 5  # sends in a row without a readable answer before a provider counts as away
ALIKE = 5  # recipients refused in a row with one code that no table lists: our account's fault
LAB_FAILURES = 3  # in a row before the lab counts as away
REFUSES = 401  # the lab's refusal of our token. A 403 may be about one record only
ALERT_SECONDS = 900.0  # the lab is away so long before staff hear of it, and between two alerts
REMEDY = "Ask the lab for a token that works, set LAB_API_TOKEN to it and restart Relay."


def account_pause(cause: str, channel: str, reason: str, policy: Policy) -> Pause:
    """The pause for a fault of our account, with the case for staff, who must put it right."""
    now = datetime.now(UTC)
    case = alerts.case("paused", channel, channel, reason, policy=policy, now=now)
    return Pause(cause, reason, case=case)


class CircuitBreaker:
    """Judges each outcome, and counts those in a row without an answer. A process has one."""

    def __init__(self, policy: Policy):
        self._policy = policy
        self._lock = threading.Lock()
        self._silent = dict.fromkeys(CHANNELS, 0)
        self._alike: dict[str, tuple[str, set[str]]] = {}  # by channel: a code, and its addresses

    def after(
        self, channel: str, outcome: Outcome, address: str = "", *, already_refused: bool = False
    ) -> Pause | None:
        """The pause that an outcome calls for; None if sending may go on.

        `already_refused`: the channel is paused for a refusal, and this was its probe.
        """
        away, is_ours = self._is_away(channel, outcome), self._is_ours(channel, outcome, address)
        if outcome.operator or is_ours or (already_refused and outcome.is_unlisted):
            return account_pause(REFUSED, channel, outcome.reason, self._policy)
        if outcome.result == "rejected" and outcome.retry_after:
            return Pause(BUSY, outcome.reason, outcome.retry_after)
        return Pause(AWAY, outcome.reason) if away else None

    def _is_ours(self, channel: str, outcome: Outcome, address: str) -> bool:
        with self._lock:
            code, who = self._alike.get(channel, ("", set()))
            who = who if outcome.is_unlisted and outcome.code == code else set()
            self._alike[channel] = outcome.code, who | ({address} if outcome.is_unlisted else set())
            return len(self._alike[channel][1]) >= ALIKE

    def _is_away(self, channel: str, outcome: Outcome) -> bool:
        # A refusal with a code is an answer; one without is a connection that was never made.
        answered = outcome.result == "accepted" or (outcome.result == "rejected" and outcome.code)
        with self._lock:
            self._silent[channel] = 0 if answered else self._silent[channel] + 1
            return self._silent[channel] >= SILENT


class LabBreaker:
    """The lab's API as the jobs use it. A process has one, and counts its own failures in a row."""

    def __init__(self, lab: LabClient, db: Database, policy: Policy):
        self._lab = lab
        self._db = db
        self._policy = policy
        self._lock = threading.Lock()
        self._failures = 0
        self._is_probing = False  # or has paused the lab: an answer may end the pause

    def gather(
        self,
        kind: Kind,
        data: Mapping[str, Any],
        wanted: frozenset[str],
        order_of: Callable[[str], str | None] | None = None,
        *,
        has_turn: bool = False,
    ) -> Facts:
        """An event's facts: see LabClient. Raises LabError; LabAway while the lab is paused and the
        caller may not ask it, or if this call paused it. A caller that `has_turn` may.
        """
        if not has_turn:
            self._take_turn()
        try:
            found = self._lab.gather(kind, data, wanted, order_of)
        except LabError as error:
            if error.failed:
                raise self._after_failure(error) from error
            self._after_answer()
            raise
        self._after_answer()
        return found

    def lease_probe(self) -> list[Event]:
        """The event that may ask the lab while it is paused, if it is time for that; else none."""
        probe = events.lease_probe(self._db)
        self._is_probing = self._is_probing or probe is not None
        return [probe] if probe else []

    def look(self) -> None:
        """Alert staff that the lab is away, and since when, if it is time for that."""
        with self._db.read() as connection:
            pause = pauses.of_lab(connection)
        if pause:
            self._db.transact(self._tell, pause)

    def _take_turn(self) -> None:
        """Take the turn to ask the lab. Raises LabAway if another has it, or it is too early."""
        with self._db.read() as connection:  # usually it is not paused, and this writes nothing
            pause = pauses.of_lab(connection)
        if pause is None:
            return
        with self._db.write() as connection:
            turn = pauses.turn(connection, LAB)
        if turn == 0:
            raise LabAway(pause["reason"], failed=True)
        self._is_probing = self._is_probing or turn is not None

    def _after_answer(self) -> None:
        with self._lock:
            is_news = self._is_probing or self._failures > 0
            self._failures, self._is_probing = 0, False
        if not is_news:
            return
        with self._db.read() as connection:
            if pauses.of_lab(connection) is None:
                return
        # Before the pause ends: if this worker dies meanwhile, the next probe goes on with it.
        waits.lab_answers(self._db)
        with self._db.write() as connection:
            if not pauses.resume(connection, LAB):
                return
        waits.lab_answers(self._db)  # messages put back meanwhile
        log.warning("lab answers again")

    def _after_failure(self, error: LabError) -> LabError:
        """The error for the caller: that of the whole lab if this failure has paused it."""
        with self._lock:
            self._failures += 1
            failures = self._failures
        with self._db.write() as connection:
            pause = pauses.of_lab(connection)
            asked, is_first = error.retry_after, failures < LAB_FAILURES
            if not pause and is_first and not asked and error.status != REFUSES:
                return error
            cause, seconds = REFUSED if error.refused else AWAY, min(asked or 0.0, LONGEST_ASKED)
            pauses.pause(connection, LAB, "", Pause(cause, str(error), seconds or None))
            if pause := pauses.of_lab(connection):
                self._tell(connection, pause)
        self._is_probing = True
        log.warning("lab paused", cause=cause, reason=str(error))
        return LabAway(str(error), failed=True)

    def _tell(self, connection: Connection, pause: Mapping[str, Any]) -> None:
        """Open the case about the lab: at once if it refuses the token, else after a while."""
        since, now, wait = pause["since"], utc_now(), timedelta(seconds=hastened(ALERT_SECONDS))
        if pause["cause"] == REFUSED:
            more = REMEDY
        elif since < now - wait:
            began = since.astimezone(self._policy.zone).strftime("%d %B at %H:%M")
            more = f"It has been so since {began}. Relay asks again every few minutes."
        else:
            return
        reason = f"{pause['reason']} {more}"
        case = alerts.case(LAB, LAB, "the lab", reason, policy=self._policy, now=now)
        if not cases.was_opened_since(connection, case, min(since, now - wait)):
            cases.open_for_all(connection, case)
