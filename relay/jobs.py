"""What the worker does: process an event, deliver a notification, sweep. No Flask here.

Each takes a row that is claimed already, and leaves the ledger saying what came of it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime

from relay import endings, fault_injection
from relay.aftercare import Aftercare
from relay.brakes import Brakes
from relay.channels import Channels, Outcome
from relay.config.loader import Config
from relay.endings import NotSent
from relay.errors import LabError, LedgerUnavailable, RenderError
from relay.http_client import HttpClient
from relay.lab.client import LabClient
from relay.lab.events import EVENTS
from relay.ledger import attempts, events, holds, receipts, retention
from relay.ledger.attempts import Claim, Ending
from relay.ledger.database import Database
from relay.ledger.events import Event, Kit
from relay.ledger.views import daily_counts
from relay.logs import get_logger
from relay.messages.templates import Message, Templates
from relay.occasions import Occasions
from relay.rules import alerts, planner
from relay.rules.model import Plan
from relay.rules.schedule import midnight
from relay.writing import Writer

log = get_logger("relay.jobs")

FINISH_DELAYS = (0.2, 0.5, 1, 2, 5, 10, 20)


class Jobs:
    """The work, with all it needs: config, ledger, lab, templates, channels."""

    def __init__(self, config: Config, db: Database, connections: int = 32):
        settings = config.settings
        self.config = config
        self.db = db
        self.templates = Templates(settings.templates)
        self.lab = LabClient(
            HttpClient(connections=connections), settings.lab_api_url, settings.lab_api_token
        )
        self.exits = Channels(settings, config.delivery.senders, config.delivery.allow)
        self._occasions = Occasions(config, db, self.lab, self.templates)
        self._writer = Writer(config, db, self.templates, self._occasions)
        self._brakes = Brakes(config.policy)
        self.aftercare = Aftercare(config, db, self.exits, self._occasions)

    def process(self, event: Event) -> None:
        """Fetch an event's facts and commit what the rules make of them."""
        fault_injection.crash_point("event.leased")
        if bad := EVENTS[event.name].schema.validate(dict(event.data)):
            # Kept before its name was known, and replayed since: no trying again mends it.
            self._hold(event, f"Its data cannot be taken: {', '.join(bad)}.")
            return
        try:
            made = self._plan(event)
        except LedgerUnavailable:
            raise  # it is leased, and comes back when the lease ends
        except LabError as error:
            self._later(event, error)
        except Exception:  # a fault of ours: it must not come back every lease for ever
            log.exception("event broke", id=event.id)
            self._later(event, LabError("Relay failed while it was processed."))
        else:
            log.info("event processed", id=event.id, event_name=event.name, messages=made)

    def _plan(self, event: Event) -> int:
        """Plan an event's messages; how many are new. Raises LabError."""
        facts = self._occasions.facts(event.name, event.data)
        fault_injection.crash_point("event.fetched")

        def decide(kit: Kit) -> Plan:
            occasion = self._occasions.of_event(event, facts, kit)
            known, policy = self.config.rules, self.config.policy
            plan = planner.plan(occasion, known, policy, kit.told, _now(), kit.waiting, kit.gone)
            return alerts.ask_to_release(plan, known, policy, event.id, _now())

        kept = self._occasions.to_keep(event.name, facts)
        made = events.mark_processed(self.db, event, kept, decide)
        fault_injection.crash_point("event.after-commit")
        return len(made)

    def _later(self, event: Event, error: LabError) -> None:
        """Try again after a growing delay; after the last one a person has to look."""
        if endings.is_hopeless(event.tries, self.config.delivery.lab_patience):
            self._hold(event, f"{error} It was tried {event.tries} times.")
            return
        delay = endings.delay(endings.EVENT_DELAYS, event.tries, error.retry_after)
        events.put_back(self.db, event.id, delay, str(error))
        log.warning("event put back", id=event.id, reason=str(error), seconds=round(delay))

    def _hold(self, event: Event, reason: str) -> None:
        """Leave an event to a person."""
        subject = event.subject or str(event.data.get(EVENTS[event.name].id_field, ""))
        policy, id_ = self.config.policy, event.id
        case = alerts.case("held", id_, subject, reason, policy=policy, now=_now(), event_id=id_)
        events.hold(self.db, event.id, reason, case)
        log.error("event held", id=event.id, reason=reason)

    def deliver(self, claim: Claim) -> None:
        """Render a claimed message, hand it to its channel, and commit what came of it."""
        fault_injection.crash_point("message.claimed")
        ending = self._attempt(claim)
        fault_injection.crash_point("message.after-send")
        _patiently(lambda: attempts.finish(self.db, claim, ending))
        fault_injection.crash_point("message.after-commit")
        log.info(
            "message " + ending.status,
            id=claim.id,
            attempt=claim.attempt_id,
            channel=claim.channel,
            reason=ending.reason,
        )

    def _attempt(self, claim: Claim) -> Ending:
        try:
            message = self._prepared(claim)
        except NotSent as error:
            return error.ending
        except RenderError as error:
            return Ending("rejected", "technical-failure", str(error))
        except LabError as error:
            reason = f"{error} The facts have to be fetched again before this goes out."
            return endings.refused(
                claim, Outcome("rejected", reason, retry_after=error.retry_after)
            )
        except LedgerUnavailable as error:
            return endings.refused(claim, Outcome("rejected", f"Before it was sent, {error}."))
        except Exception:
            log.exception("message broke", id=claim.id)
            return Ending("rejected", "technical-failure", "Relay failed before it was sent.")
        outcome = self._send(message, claim)
        awaits = self.exits.awaits_receipt(message)
        pause = self._brakes.after(claim.channel, outcome)
        return endings.sent(claim, outcome, awaits_receipt=awaits, pause=pause)

    def _prepared(self, claim: Claim) -> Message:
        """A claim's words, kept in the ledger, if it is right to send them now. Raises NotSent."""
        message = self._writer.message(claim)
        if not attempts.begin(self.db, claim, message.content):
            raise NotSent(endings.lapsed())
        fault_injection.crash_point("message.before-send")
        return message

    def _send(self, message: Message, claim: Claim) -> Outcome:
        try:
            return self.exits.send(message, claim.attempt_id)
        except Exception:  # whatever it was, the provider may have the message
            log.exception("send broke", id=claim.id, attempt=claim.attempt_id)
            return Outcome("unknown", "Relay failed while this was being sent.")

    def lease_events(self, limit: int) -> list[Event]:
        """Events that are due."""
        return events.lease_events(self.db, limit)

    def claim(self, channel: str, limit: int) -> list[Claim]:
        """Notifications of a channel that are due, within the day's limit."""
        cap = self._today() if channel == "sms" else None
        return attempts.claim(self.db, channel, limit, cap)

    def _today(self) -> attempts.Cap:
        """The day's limit on texts. A day begins at midnight where the clinic is."""
        began = midnight(_now(), self.config.clinic.timezone)
        most, policy = self.config.delivery.daily_sms_limit, self.config.policy
        day, reason = began.date().isoformat(), f"daily_sms_limit is {most}."
        case = alerts.case("limit", day, "sms", reason, policy=policy, now=_now())
        return attempts.Cap(most, began, case)

    def sweep(self) -> int:
        """Settle what a lost worker had claimed; how much that was."""
        lapsed, given_up = attempts.lapse(self.db), receipts.give_up(self.db)
        holds.close_released(self.db)
        daily_counts.keep(self.db, self.config.clinic.timezone, _now())
        if lapsed or given_up:
            log.warning("sweep", lapsed=lapsed, without_receipt=given_up)
        return lapsed + given_up

    def purge(self, seconds: float = math.inf) -> int:
        """Blank what is older than `retention`, for so long; how many rows that was."""
        return retention.purge(self.db, self.config.delivery.retention, seconds)


def _now() -> datetime:
    return datetime.now(UTC)


def _patiently(commit: Callable[[], object]) -> None:
    """Commit, though the ledger may be away for a while: what it would lose cannot be redone."""
    for delay in FINISH_DELAYS:
        try:
            commit()
            return
        except LedgerUnavailable:
            time.sleep(delay)
    commit()
