"""Processes an event: fetches its facts, and commits the plan that the rules make of them."""

from __future__ import annotations

from collections.abc import Set

from relay import fault_injection
from relay.config.loader import Config
from relay.errors import LabAway, LabError, LedgerUnavailable
from relay.jobs import backoff
from relay.jobs.rule_context import ContextBuilder
from relay.lab.events import EVENTS
from relay.ledger import events
from relay.ledger.database import Database
from relay.ledger.events import LEASES, Event, Kit
from relay.logs import get_logger
from relay.rules import alerts, planner
from relay.rules.model import Case, Plan
from relay.rules.schedule import utc_now
from relay.rules.statuses import WAITS_FOR_LAB

log = get_logger("relay.jobs")

NEVER_ENDED = (
    f"{LEASES} workers have taken this, and none has finished: each was stopped or killed before"
    " the end."
)


class EventProcessor:
    """Turns a leased event into planned messages, or into a reason why it must wait."""

    def __init__(self, config: Config, db: Database, contexts: ContextBuilder):
        self._config = config
        self._db = db
        self._contexts = contexts

    def process(self, event: Event) -> Set[str]:
        """Fetch an event's facts and commit the rules' plan; or put it back, or hold it. Return the
        channels by which messages may be due now.
        """
        channels: Set[str] = set()
        if event.leases > LEASES:
            self._hold(event, NEVER_ENDED)
            return channels
        fault_injection.crash_point("event.leased")
        if event.name not in EVENTS:
            self._set_aside(event)
            return channels
        if bad := EVENTS[event.name].schema.validate(dict(event.data)):
            # Kept before its name was known, and replayed since: another try cannot help.
            self._hold(event, f"Its data is not valid: {', '.join(bad)}.")
            return channels
        try:
            made, channels = self._plan(event)
        except LedgerUnavailable:
            raise  # its lease will lapse, and then it comes back
        except LabAway as error:  # the lab's pause sets the time of its next try
            self._put_back(event, error, 0.0, is_a_try=False)
        except LabError as error:
            self._later(event, error)
        except Exception:  # a fault of ours: the event must not come back at every lapse for ever
            log.exception("event broke", id=event.id)
            self._later(event, LabError("Relay failed while processing it."))
        else:
            log.info("event processed", id=event.id, event_name=event.name, messages=made)
        return channels

    def _plan(self, event: Event) -> tuple[int, Set[str]]:
        """Plan an event's messages; return (new ones, their channels). Raises LabError."""
        facts = self._contexts.facts(event.name, event.data, event.facts, has_turn=True)
        fault_injection.crash_point("event.fetched")
        channels: set[str] = set()

        def decide(kit: Kit) -> Plan:
            context = self._contexts.of_event(event, facts, kit)
            plan = planner.plan(
                context,
                self._config.rules,
                self._config.policy,
                kit.notified,
                utc_now(),
                waiting=kit.waiting,
                closed_digests=kit.closed_digests,
                stopped=kit.stopped,
            )
            channels.update(notice.channel for notice in plan.notices)
            return plan

        kept = self._contexts.to_keep(event.name, facts)
        given = (event, kept, decide, self._config.edition, self._config.policy)
        made = self._db.transact(events.plan_and_mark_processed, *given)
        if made is None:  # its kit is back from history
            return self._plan(event)
        fault_injection.crash_point("event.after-commit")
        return len(made), channels

    def _later(self, event: Event, error: LabError) -> None:
        """Try again after a growing delay; after the last try, hold it for a person."""
        if backoff.is_hopeless(event.tries, self._config.delivery.lab_patience):
            self._hold(event, f"{error} Relay tried {event.tries} times.")
            return
        self._put_back(event, error, backoff.delay(backoff.EVENT_DELAYS, event.tries, None))

    def _put_back(
        self, event: Event, error: LabError, delay: float, *, is_a_try: bool = True
    ) -> None:
        waits_for = WAITS_FOR_LAB if error.failed else None
        given = (event.id, delay, str(error))
        self._db.transact(events.put_back, *given, waits_for=waits_for, is_a_try=is_a_try)
        log.warning("event put back", id=event.id, reason=str(error), seconds=round(delay))

    def _set_aside(self, event: Event) -> None:
        """Leave to a person an event that a newer version accepted, before a rollback."""
        reason = f"This version of Relay does not know {event.name}. A newer one has taken it."
        case = self._case(event, event.name, event.subject or event.name, reason)
        self._db.transact(events.set_aside, event, reason, case)
        log.error("event held", id=event.id, reason=reason)

    def _hold(self, event: Event, reason: str) -> None:
        """Hold an event for a person."""
        kind = EVENTS.get(event.name)
        subject = event.subject or str(event.data.get(kind.id_field if kind else "", ""))
        self._db.transact(
            events.hold, event.id, reason, self._case(event, event.id, subject, reason)
        )
        log.error("event held", id=event.id, reason=reason)

    def _case(self, event: Event, key: str, subject: str, reason: str) -> Case:
        policy, id_ = self._config.policy, event.id
        return alerts.case("held", key, subject, reason, policy=policy, now=utc_now(), event_id=id_)
