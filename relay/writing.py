"""A claimed message's words, if it is right to send it now: the rule is asked again first."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from relay import endings
from relay.config.loader import Config
from relay.digests import Digests
from relay.endings import NotSent
from relay.ledger import journeys, notifications
from relay.ledger.attempts import Claim, Ending
from relay.ledger.database import Database
from relay.messages.templates import Message, Templates
from relay.occasions import Occasions
from relay.rules import alerts, planner
from relay.rules.expressions import recipient
from relay.rules.model import Rule
from relay.rules.planner import RuleContext
from relay.rules.staleness import Step


class Writer:
    """Writes a rule's messages, its digests and our alerts."""

    def __init__(self, config: Config, db: Database, templates: Templates, occasions: Occasions):
        self._config = config
        self._db = db
        self._templates = templates
        self._occasions = occasions
        self._digests = Digests(config, db, templates, occasions)

    def message(self, claim: Claim) -> Message:
        """The message. Raises NotSent, RenderError and LabError."""
        try:
            return self._message(claim)
        except NotSent as error:
            if claim.is_digest and error.ending.status == "cancelled":
                self._digests.let_go(claim, error.ending.reason)
            raise

    def _message(self, claim: Claim) -> Message:
        if claim.suppressed:
            raise NotSent(endings.opted_out(claim.channel))
        if alerts.is_alert(claim.rule):
            return Message(claim.channel, claim.address, **(claim.content or {}))
        rule = self._config.rule(claim.rule)
        if rule is None:
            raise NotSent(endings.cancelled("Its rule is no longer in config.toml."))
        opening = planner.opening(rule, self._config.policy, _now())
        if opening > _now():
            wait = (opening - _now()).total_seconds()
            raise NotSent(endings.postponed(wait))
        if claim.is_digest:
            return self._digests.message(claim, rule)
        return self._single(claim, rule)

    def _single(self, claim: Claim, rule: Rule) -> Message:
        known: tuple[Step, ...] = ()
        if self._occasions.are_old(claim.event_name, claim.facts, claim.facts_at):
            claim = replace(claim, facts=self._occasions.facts(claim.event_name, claim.event_data))
            known = journeys.steps_of_kit(self._db, claim.event_name, claim.subject)
        occasion = self._occasions.of_message(claim, known)
        self._require_still_true(claim, rule, occasion)
        seen = {**occasion.names, "recipient": recipient(claim.role, claim.facts)}
        return self._templates.render(claim.template, claim.channel, claim.address, seen)

    def _require_still_true(self, claim: Claim, rule: Rule, occasion: RuleContext) -> None:
        """Ask the rule again: it may have changed since the plan, and so may the facts."""
        if claim.role != rule.to or claim.channel not in (*rule.channels, *rule.fallback):
            raise NotSent(endings.cancelled("The rule writes to others, or another way, by now."))
        if objection := planner.objection(rule, occasion, now := _now(), now):
            raise NotSent(endings.cancelled(objection))
        if rule.digest:
            raise self._digests.join(claim, rule, occasion)
        notices = planner.notices(rule, (claim.channel,), occasion, self._config.policy, _now())
        if claim.address not in {notice.address for notice in notices}:
            if lost := " ".join(notice.reason for notice in notices):
                raise NotSent(Ending("rejected", "validation-failed", lost))
            notifications.add_notices(self._db, claim.event_id, notices)
            raise NotSent(endings.cancelled("The recipient has another address now."))


def _now() -> datetime:
    return datetime.now(UTC)
