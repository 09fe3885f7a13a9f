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
from relay.facts import PERSONS
from relay.lab import Lab
from relay.ledger import delivery, processing, upkeep
from relay.ledger.database import Database
from relay.ledger.delivery import Claim, Ending
from relay.ledger.processing import Event
from relay.ledger.schema import FAILED
from relay.logs import get_logger
from relay.messages import Message, Templates
from relay.occasions import Occasions
from relay.rules import Rule
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
            occasion = self._occasions.of_event(event)
        except LabError as error:
            self._later(event, error)
            return
        except Exception:  # a fault of ours: it must not come back every lease for ever
            log.exception("event broke", id=event.id)
            self._later(event, LabError("Relay failed while it was processed."))
            return
        told = processing.told(self.db, occasion.subject, occasion.round)
        plan = rules.plan(occasion, self.config.rules, self.config.policy, told, _now())
        made = processing.save_plan(
            self.db, event, occasion.subject, occasion.round, occasion.facts, plan
        )
        log.info("event processed", id=event.id, event_name=event.name, messages=len(made))

    def _later(self, event: Event, error: LabError) -> None:
        """Try again after a growing delay; after the last one a person has to look."""
        if event.tries > len(endings.EVENT_DELAYS):
            processing.hold(self.db, event.id, f"{error} It was tried for three days.")
            log.error("event held", id=event.id, reason=str(error))
            return
        delay = endings.delay(endings.EVENT_DELAYS, event.tries, error.retry_after)
        processing.put_back(self.db, event.id, delay, str(error))
        log.warning("event put back", id=event.id, reason=str(error), seconds=round(delay))

    def deliver(self, claim: Claim) -> None:
        """Render a claimed message, hand it to its channel, and commit what came of it."""
        ending = self._attempt(claim)
        _patiently(lambda: delivery.finish(self.db, claim, ending))
        log.info(
            "message " + ending.status,
            id=claim.id,
            attempt=claim.attempt_id,
            channel=claim.channel,
            reason=ending.reason,
        )
        if ending.status in FAILED or claim.suppressed:
            self._fall_back(claim)

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
        self._require_still_true(claim, rule)
        return claim, self.message(claim)

    def _require_still_true(self, claim: Claim, rule: Rule) -> None:
        """Ask the rule again: it may have changed since the plan, and so may the facts."""
        occasion = self._occasions.of_claim(claim)
        if objection := rules.objection(rule, occasion):
            raise _NotSent(endings.cancelled(objection))
        notices = rules.notices(rule, (claim.channel,), occasion, self.config.policy, _now())
        if claim.role in PERSONS and claim.address not in {n.address for n in notices}:
            if lost := notices[0].reason:
                raise _NotSent(Ending("rejected", "validation-failed", lost))
            processing.add_notices(self.db, claim.event_id, notices)
            raise _NotSent(endings.cancelled("The lab has another address for this person now."))

    def message(self, claim: Claim) -> Message:
        """A claim's words. Raises RenderError."""
        seen = {
            **self._occasions.of_claim(claim).names,
            "recipient": recipient(claim.role, claim.facts),
        }
        return self.templates.render(claim.template, claim.channel, claim.address, seen)

    def _send(self, message: Message, claim: Claim) -> Outcome:
        try:
            return self.exits.send(message, claim.attempt_id)
        except Exception:  # whatever it was, the provider may have the message
            log.exception("send broke", id=claim.id, attempt=claim.attempt_id)
            return Outcome("unknown", "Relay failed while this was being sent.")

    def _fall_back(self, claim: Claim) -> None:
        """Plan the rule's fallback once nothing else of it can reach the person."""
        rule = self.config.rule(claim.rule)
        if rule is None or not rule.fallback or claim.is_fallback:
            return
        if delivery.family_is_alive(self.db, claim.family):
            return
        notices = rules.fallback(rule, self._occasions.of_claim(claim), self.config.policy, _now())
        made = processing.add_notices(self.db, claim.event_id, notices)
        log.info("fallback planned", id=claim.id, messages=len(made))

    def lease_events(self, limit: int) -> list[Event]:
        """Events that are due."""
        return processing.lease_events(self.db, limit)

    def claim(self, channel: str, limit: int) -> list[Claim]:
        """Notifications of a channel that are due, within the day's limit."""
        if channel == "sms":
            midnight = (
                _now()
                .astimezone(self.config.clinic.timezone)
                .replace(hour=0, minute=0, second=0, microsecond=0)
            )
            left = self.config.delivery.daily_sms_limit - delivery.sent_since(
                self.db, channel, midnight
            )
            limit = min(limit, left)
        return delivery.claim(self.db, channel, limit) if limit > 0 else []

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
