"""Reconciles what did not simply go out: unknown attempts are looked for, failed ones fall back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from relay import fault_injection
from relay.channels import Channels
from relay.config.loader import Config
from relay.jobs.context import ContextBuilder
from relay.ledger import followups, journeys, receipts
from relay.ledger.attempts import LOOKS
from relay.ledger.database import Database
from relay.ledger.followups import FollowUp, UnknownAttempt
from relay.logs import get_logger
from relay.messages.templates import Message
from relay.rules import alerts, planner
from relay.rules.model import ALERT, DIGEST, Case, Notice, Rule
from relay.rules.schedule import utc_now
from relay.rules.staleness import Step, overtaken

log = get_logger("relay.follow_up")

# A phone that was off, an error nobody knows: worth one more try, later (Twilio 30003, 30008).
ONCE_MORE = {"30003", "30008"}
ONCE_MORE_SECONDS = 1800.0
ASK_AGAIN_SECONDS = 120.0  # where the provider could not be asked


class FollowUps:
    """Looks for unknown attempts, and follows up on messages that reached nobody."""

    def __init__(self, config: Config, db: Database, channels: Channels, contexts: ContextBuilder):
        self._config = config
        self._db = db
        self._channels = channels
        self._contexts = contexts

    def due_looks(self, limit: int) -> list[UnknownAttempt]:
        """Attempts of which it has to be found out whether they went out."""
        return followups.lease_unknown(self._db, limit)

    def due_follow_ups(self, limit: int) -> list[FollowUp]:
        """Messages that failed and have to be seen to."""
        return followups.lease_follow_ups(self._db, limit)

    def look(self, look: UnknownAttempt) -> None:
        """Find out whether an attempt went out; when that cannot be, do as the rule says."""
        message = Message(look.channel, look.address, **(look.content or {"text": ""}))
        with self._db.read() as connection:
            taken = followups.taken_ids(connection, look)
        found = self._channels.find(message, look.started_at, taken)
        fault_injection.crash_point("lookup.before-commit")
        if found.failed:
            with self._db.write() as connection:
                followups.look_later(connection, look, ASK_AGAIN_SECONDS, counts=False)
            log.warning("message not looked for", id=look.id, reason=found.failed)
        elif found.provider_id:
            awaits = self._channels.awaits_receipt(message)
            with self._db.write() as connection:
                is_ours = followups.adopt(
                    connection, look, found.provider_id, awaits_receipt=awaits
                )
                if not is_ours:
                    followups.look_later(connection, look, 0.0, counts=False)
            if is_ours and found.receipt:
                told = replace(found.receipt, attempt_id=look.attempt_id)
                receipts.record(self._db, look.channel, [told])
            log.info("message found", id=look.id, attempt=look.attempt_id)
        else:
            self._not_found(look)

    def _not_found(self, look: UnknownAttempt) -> None:
        delays = LOOKS[look.channel]
        if look.looks < len(delays):
            wait = delays[look.looks] - delays[look.looks - 1]
            with self._db.write() as connection:
                followups.look_later(connection, look, wait)
            return
        rule = self._config.rule(look.rule)
        if rule is None or rule.on_unknown == "resend":
            reason = "The provider has no record of it, so Relay is sending it again."
            with self._db.write() as connection:
                followups.give_up_unknown(connection, look, reason, None)
            log.warning("message not found, sent again", id=look.id, attempt=look.attempt_id)
            return
        reason = "The provider has no record of it. It waits for a person, as its rule says."
        case = self._case("unknown", look.id, look, reason)
        with self._db.write() as connection:
            followups.give_up_unknown(connection, look, reason, case)
        log.warning("message not found, held", id=look.id, attempt=look.attempt_id)

    def follow_up(self, item: FollowUp) -> None:
        """See to a message that failed."""
        fault_injection.crash_point("followup.before-commit")
        if item.status == "temporary-failure" and item.code in ONCE_MORE and item.taken == 1:
            with self._db.write() as connection:
                followups.try_again(connection, item, ONCE_MORE_SECONDS)
            done = "again"
        else:
            done = self._make_up_for(item)
        log.info("message followed up", id=item.id, status=item.status, done=done or "nothing")

    def _make_up_for(self, item: FollowUp) -> str:
        """Try the rule's other ways, or tell a person; neither where it is no news any more."""
        rule = self._config.rule(item.rule)
        if rule and (why := self._why_old(rule, item)):
            with self._db.write() as connection:
                return followups.let_be(connection, item, why)
        fallback, (unreached, broken) = self._fallback(rule, item), self._cases(item)
        with self._db.write() as connection:
            return followups.finish_follow_up(connection, item, fallback, unreached, broken)

    def _why_old(self, rule: Rule, item: FollowUp) -> str:
        step = Step(item.event_name, item.round, item.event_received_at)
        with self._db.read() as connection:
            known = journeys.steps_of_kit(connection, item.event_name, item.subject)
        return overtaken(rule, step, known, utc_now(), utc_now())

    def _fallback(self, rule: Rule | None, item: FollowUp) -> tuple[Notice, ...]:
        """The rule's other ways. None where the message may have arrived and nobody told."""
        if rule is None or rule.to != item.role or item.is_fallback or item.unconfirmed:
            return ()
        if item.kind == DIGEST:
            return ()  # it was planned when the rule had none
        context = self._contexts.of_message(item)
        return planner.fallback(rule, context, self._config.policy, utc_now())

    def _cases(self, item: FollowUp) -> tuple[Case | None, Case | None]:
        """What staff are told when nobody was reached, and when somebody still may be."""
        if item.kind == ALERT:
            return None, None  # staff who cannot be written to cannot be told so
        broken = None
        if item.status == "technical-failure":
            broken = self._case("broken", item.id, item, item.reason)
        return self._case("unreached", item.obligation, item, item.reason), broken

    def _case(self, kind: str, key: str, about: Any, reason: str) -> Case:
        return alerts.case(
            kind,
            key,
            about.subject,
            reason,
            policy=self._config.policy,
            now=utc_now(),
            event_id=about.event_id,
            notification_id=about.id,
        )
