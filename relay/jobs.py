"""What the worker does: process an event, deliver a notification, sweep. No Flask here.

Each takes a row that is claimed already, and leaves the ledger saying what came of it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from relay import rules
from relay.channels import Exits, Outcome
from relay.config import Config
from relay.errors import LabError, LedgerUnavailable, RenderError
from relay.events import EVENTS, RETEST
from relay.expressions import names, recipient
from relay.facts import PERSONS, Facts
from relay.lab import Lab
from relay.ledger import delivery, journeys, processing, upkeep
from relay.ledger.database import Database
from relay.ledger.delivery import Claim, Ending
from relay.ledger.processing import Event
from relay.ledger.schema import ALIVE
from relay.logs import get_logger
from relay.messages import Message, Templates
from relay.rules import Occasion, Rule
from relay.wire import Wire

log = get_logger("relay.jobs")

# Seconds to wait after an event's first, second, … failure; some three days in all, then it is held.
EVENT_DELAYS = (5, 15, 60, 300, 900, 1800, 3600, 7200, 14400, 28800, *[43200] * 5)
# Likewise for a message that the provider did not take: about a day, then temporary-failure.
SEND_DELAYS = (5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, *[3600] * 22)
FRESH = timedelta(minutes=15)  # facts older than this are fetched again before a message goes out
FINISH_DELAYS = (0.2, 0.5, 1, 2, 5, 10, 20)


class Jobs:
    """The work, with all it needs: config, ledger, lab, templates, channels."""

    def __init__(self, config: Config, db: Database, connections: int = 32):
        settings = config.settings
        self.config = config
        self.db = db
        self.templates = Templates(settings.templates)
        self.lab = Lab(Wire(connections=connections), settings.lab_api_url, settings.lab_api_token)
        self.exits = Exits(settings, config.delivery.senders, config.delivery.allow)
        self._clinic = config.clinic.record()
        self._wanted = {name: self._named(name) for name in EVENTS}

    def _named(self, event: str) -> frozenset[str]:
        """What the enabled rules for an event speak of: it has to be fetched."""
        named: set[str] = set()
        for rule in self.config.rules:
            if rule.event == event and rule.enabled:
                named |= {rule.to} | (rule.when.roots if rule.when else frozenset())
                channels = (*rule.channels, *rule.fallback)
                named |= self.templates.roots(rule.template, channels)
        return frozenset(named)

    def process(self, event: Event) -> None:
        """Fetch an event's facts and commit what the rules make of them."""
        try:
            occasion = self._occasion(event)
        except LabError as error:
            self._later(event, error)
            return
        told = processing.told(self.db, occasion.subject, occasion.round)
        plan = rules.plan(occasion, self.config.rules, self.config.policy, told, _now())
        made = processing.save_plan(
            self.db, event, occasion.subject, occasion.round, occasion.facts, plan
        )
        log.info("event processed", id=event.id, event_name=event.name, messages=len(made))

    def _occasion(self, event: Event) -> Occasion:
        facts = self._facts(event.name, event.data)
        kind = EVENTS[event.name]
        written = str(event.data[kind.id_field])
        place = journeys.learn(self.db, written, facts.order, facts.registration, kind.resource)
        if event.name == RETEST:
            retest = str(event.data["retest_testregistration_id"])
            place = journeys.learn_retest(self.db, place.subject, retest)
        seen = names(event.name, event.data, event.received_at, facts, self._clinic)
        return Occasion(kind, place.subject, place.round, facts, seen)

    def _facts(self, name: str, data: object) -> Facts:
        kind, wanted = EVENTS[name], self._wanted[name]
        assert isinstance(data, dict)  # noqa: S101
        order_id = None
        if kind.resource == "registration" and wanted & {"order", "customer"}:
            known = journeys.resolve(self.db, kind.resource, str(data[kind.id_field]))
            order_id = journeys.order_of(self.db, known) if known else None
        return self.lab.gather(kind, data, wanted, order_id)

    def _later(self, event: Event, error: LabError) -> None:
        """Try again after a growing delay; after the last one a person has to look."""
        if event.tries > len(EVENT_DELAYS):
            processing.hold(self.db, event.id, f"{error} It was tried for three days.")
            log.error("event held", id=event.id, reason=str(error))
            return
        delay = error.retry_after or _jittered(EVENT_DELAYS[event.tries - 1])
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
        if ending.status not in ALIVE:
            self._fall_back(claim)

    def _attempt(self, claim: Claim) -> Ending:
        rule = self.config.rule(claim.rule)
        if claim.suppressed:
            return _cancelled(f"The person has opted out of {claim.channel}.")
        if rule is None:
            return _cancelled("Its rule is no longer in config.toml.")
        try:
            claim, objection = self._refreshed(claim, rule)
            if objection:
                return _cancelled(objection)
            message = self.message(claim)
        except RenderError as error:
            return Ending("rejected", "technical-failure", str(error))
        except LabError as error:
            reason = f"{error} The facts have to be fetched again before this goes out."
            return _retried(claim, Outcome("rejected", reason, retry_after=error.retry_after))
        return _ending(claim, message, self._send(message, claim))

    def _refreshed(self, claim: Claim, rule: Rule) -> tuple[Claim, str]:
        """The claim with facts as they are now, and why it must not be sent any more, if so."""
        if _now() - claim.facts_at < FRESH:
            return claim, ""
        facts = self._facts(claim.event_name, claim.event_data)
        fresh = replace(claim, facts=facts)
        occasion = self._occasion_of(fresh)
        objection = rules.objection(rule, occasion)
        if objection:
            return fresh, objection
        notices = rules.notices(rule, (claim.channel,), occasion, self.config.policy, _now())
        if claim.role in PERSONS and claim.address not in {n.address for n in notices}:
            processing.add_notices(self.db, claim.event_id, notices)
            return fresh, "The lab has another address for this person now."
        return fresh, ""

    def _occasion_of(self, claim: Claim) -> Occasion:
        seen = names(
            claim.event_name, claim.event_data, claim.event_received_at, claim.facts, self._clinic
        )
        return Occasion(EVENTS[claim.event_name], claim.subject, claim.round, claim.facts, seen)

    def message(self, claim: Claim) -> Message:
        """A claim's words. Raises RenderError."""
        seen = {**self._occasion_of(claim).names, "recipient": recipient(claim.role, claim.facts)}
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
        notices = rules.fallback(rule, self._occasion_of(claim), self.config.policy, _now())
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

    def sweep(self) -> dict[str, int]:
        """The clock's work: what a lost worker had claimed, and retention. Counts of each."""
        lapsed = delivery.lapse(self.db)
        if lapsed:
            log.warning("claims lapsed", messages=lapsed)
        return {"lapsed": lapsed, "purged": upkeep.purge(self.db, self.config.delivery.retention)}


def _now() -> datetime:
    return datetime.now(UTC)


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.8, 1.2)  # noqa: S311 - not a secret


def _patiently(commit: Callable[[], object]) -> None:
    """Commit, though the ledger may be away for some seconds: what it would lose cannot be redone."""
    for delay in FINISH_DELAYS:
        try:
            commit()
            return
        except LedgerUnavailable:
            time.sleep(delay)
    commit()


def _cancelled(reason: str) -> Ending:
    return Ending("rejected", "cancelled", reason)


def _ending(claim: Claim, message: Message, outcome: Outcome) -> Ending:
    """What a notification becomes by what its channel said."""
    if outcome.result == "rejected":
        return _retried(claim, outcome)
    status = "sent" if outcome.result == "accepted" else "unknown"
    return Ending(
        outcome.result,
        status,
        outcome.reason,
        provider_id=outcome.provider_id,
        code=outcome.code,
        content=message.content,
    )


def _retried(claim: Claim, outcome: Outcome) -> Ending:
    """A message that surely did not go out: its end, or another try later."""
    if outcome.permanent:
        return Ending("rejected", "permanent-failure", outcome.reason, code=outcome.code)
    if claim.attempts > len(SEND_DELAYS):
        reason = f"{outcome.reason} It was tried {claim.attempts} times."
        return Ending("rejected", "temporary-failure", reason, code=outcome.code)
    delay = outcome.retry_after or _jittered(SEND_DELAYS[claim.attempts - 1])
    return Ending("rejected", "created", outcome.reason, code=outcome.code, retry_in=delay)
