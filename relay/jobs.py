"""What the worker does: process an event, deliver a notification, sweep. No Flask here.

Each takes a row that is claimed already, and leaves the ledger saying what came of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from relay import endings, rules
from relay.channels import Exits, Outcome
from relay.config import Config
from relay.errors import LabError, LedgerUnavailable, RenderError
from relay.events import EVENTS
from relay.expressions import recipient
from relay.lab import Lab
from relay.ledger import claiming, delivery, processing, upkeep
from relay.ledger.claiming import Claim
from relay.ledger.database import Database
from relay.ledger.delivery import Ending
from relay.ledger.journeys import Place
from relay.ledger.processing import Event
from relay.ledger.schema import FAILED
from relay.logs import get_logger
from relay.messages import Message, Templates
from relay.notices import Notice, Plan, Told
from relay.occasions import Occasions
from relay.rules import Occasion, Rule
from relay.wire import Wire

log = get_logger("relay.jobs")

FRESH = timedelta(minutes=15)  # facts older than this are fetched again before a message goes out
FINISH_DELAYS = (0.2, 0.5, 1, 2, 5, 10, 20)


class _NotSent(Exception):
    """A message that must not go out, or not now; with what it becomes."""

    def __init__(self, ending: Ending):
        super().__init__(ending.reason)
        self.ending = ending


class Jobs:
    """The work, with all it needs: config, ledger, lab, templates, channels."""

    def __init__(self, config: Config, db: Database, connections: int = 32):
        settings = config.settings
        self.config = config
        self.db = db
        self.templates = Templates(settings.templates)
        self.lab = Lab(Wire(connections=connections), settings.lab_api_url, settings.lab_api_token)
        self.exits = Exits(settings, config.delivery.senders, config.delivery.allow)
        self._occasions = Occasions(config, db, self.lab, self.templates)

    def process(self, event: Event) -> None:
        """Fetch an event's facts and commit what the rules make of them."""
        if bad := EVENTS[event.name].schema.validate(dict(event.data)):
            # Kept before its name was known, and replayed since: no trying again mends it.
            processing.hold(self.db, event.id, f"Its data cannot be taken: {', '.join(bad)}.")
            return
        try:
            made = self._plan(event)
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

        def decide(place: Place, told: Told) -> Plan:
            occasion = self._occasions.of_event(event, facts, place)
            return rules.plan(occasion, self.config.rules, self.config.policy, told, _now())

        return len(processing.settle(self.db, event, facts, decide))

    def _later(self, event: Event, error: LabError) -> None:
        """Try again after a growing delay; after the last one a person has to look."""
        if event.tries > len(endings.EVENT_DELAYS):
            processing.hold(self.db, event.id, f"{error} It was tried {event.tries} times.")
            log.error("event held", id=event.id, reason=str(error))
            return
        delay = endings.delay(endings.EVENT_DELAYS, event.tries, error.retry_after)
        processing.put_back(self.db, event.id, delay, str(error))
        log.warning("event put back", id=event.id, reason=str(error), seconds=round(delay))

    def deliver(self, claim: Claim) -> None:
        """Render a claimed message, hand it to its channel, and commit what came of it."""
        ending = self._attempt(claim)
        fallback = self._fallback(claim, ending)
        _patiently(lambda: delivery.finish(self.db, claim, ending, fallback))
        log.info(
            "message " + ending.status,
            id=claim.id,
            attempt=claim.attempt_id,
            channel=claim.channel,
            reason=ending.reason,
        )

    def _attempt(self, claim: Claim) -> Ending:
        try:
            claim, message = self._prepared(claim)
        except _NotSent as error:
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
        return endings.sent(claim, message, self._send(message, claim))

    def _prepared(self, claim: Claim) -> tuple[Claim, Message]:
        """A claim and its words, if it is right to send it now. Raises _NotSent."""
        rule = self.config.rule(claim.rule)
        if claim.suppressed:
            raise _NotSent(endings.cancelled(f"The person has opted out of {claim.channel}."))
        if rule is None:
            raise _NotSent(endings.cancelled("Its rule is no longer in config.toml."))
        opening = rules.opening(rule, self.config.policy, _now())
        if opening > _now():
            wait = (opening - _now()).total_seconds()
            raise _NotSent(endings.postponed(wait))
        if _now() - claim.facts_at > FRESH:
            claim = replace(claim, facts=self._occasions.facts(claim.event_name, claim.event_data))
            if not delivery.renew(self.db, claim):
                raise _NotSent(endings.lapsed())
        occasion = self._occasions.of_claim(claim)
        self._require_still_true(claim, rule, occasion)
        seen = {**occasion.names, "recipient": recipient(claim.role, claim.facts)}
        message = self.templates.render(claim.template, claim.channel, claim.address, seen)
        return claim, message

    def _require_still_true(self, claim: Claim, rule: Rule, occasion: Occasion) -> None:
        """Ask the rule again: it may have changed since the plan, and so may the facts."""
        if claim.role != rule.to or claim.channel not in (*rule.channels, *rule.fallback):
            raise _NotSent(endings.cancelled("The rule writes to others, or another way, by now."))
        if objection := rules.objection(rule, occasion):
            raise _NotSent(endings.cancelled(objection))
        notices = rules.notices(rule, (claim.channel,), occasion, self.config.policy, _now())
        if claim.address not in {notice.address for notice in notices}:
            if lost := " ".join(notice.reason for notice in notices):
                raise _NotSent(Ending("rejected", "validation-failed", lost))
            processing.add_notices(self.db, claim.event_id, notices)
            raise _NotSent(endings.cancelled("The recipient has another address now."))

    def _send(self, message: Message, claim: Claim) -> Outcome:
        try:
            return self.exits.send(message, claim.attempt_id)
        except Exception:  # whatever it was, the provider may have the message
            log.exception("send broke", id=claim.id, attempt=claim.attempt_id)
            return Outcome("unknown", "Relay failed while this was being sent.")

    def _fallback(self, claim: Claim, ending: Ending) -> tuple[Notice, ...]:
        """What the rule falls back on when this message could not reach the person."""
        rule = self.config.rule(claim.rule)
        could_not = ending.status in FAILED or claim.suppressed
        if rule is None or claim.is_fallback or not could_not:
            return ()
        return rules.fallback(rule, self._occasions.of_claim(claim), self.config.policy, _now())

    def lease_events(self, limit: int) -> list[Event]:
        """Events that are due."""
        return processing.lease_events(self.db, limit)

    def claim(self, channel: str, limit: int) -> list[Claim]:
        """Notifications of a channel that are due, within the day's limit."""
        cap = self._today() if channel == "sms" else None
        return claiming.claim(self.db, channel, limit, cap)

    def _today(self) -> claiming.Cap:
        """The day's limit on texts. A day begins at midnight where the clinic is."""
        local = _now().astimezone(self.config.clinic.timezone)
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
        return claiming.Cap(self.config.delivery.daily_sms_limit, midnight)

    def sweep(self) -> int:
        """Settle what a lost worker had claimed; how much that was."""
        lapsed = delivery.lapse(self.db)
        if lapsed:
            log.warning("claims lapsed", messages=lapsed)
        return lapsed

    def purge(self) -> int:
        """Blank what is older than `retention`; how many rows that was."""
        return upkeep.purge(self.db, self.config.delivery.retention)


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
