"""Follows up messages that failed, or did not arrive in their rule's time: by sending again, by the
rule's fallback, or with a case on the worklist.
"""

from __future__ import annotations

from dataclasses import replace

from relay import fault_injection
from relay.config.loader import Config
from relay.config.plain_english import duration
from relay.jobs.circuit_breaker import account_pause
from relay.jobs.rule_context import ContextBuilder
from relay.ledger import followups, journeys
from relay.ledger.audit import NotDone
from relay.ledger.database import Database
from relay.ledger.followups import FollowUp
from relay.ledger.holds import pauses
from relay.logs import get_logger
from relay.rules import alerts, planner
from relay.rules.model import Case, Notice, Rule, Step
from relay.rules.schedule import utc_now
from relay.rules.staleness import why_stale
from relay.rules.statuses import ALERT, DIGEST, DROPPED, GOES_AGAIN, GONE, OURS

log = get_logger("relay.follow_up")

# A phone that was off, or an unknown error: worth one more try, later (Twilio 30003, 30008).
ONCE_MORE = {"30003", "30008"}
ONCE_MORE_SECONDS = 1800.0


class FollowUps:
    """Follows up messages that reached nobody."""

    def __init__(self, config: Config, db: Database, contexts: ContextBuilder):
        self._config = config
        self._db = db
        self._contexts = contexts

    def due(self, limit: int) -> list[FollowUp]:
        """Lease up to `limit` messages: nobody else gets them for a while."""
        return followups.lease_follow_ups(self._db, limit)

    def follow_up(self, item: FollowUp) -> None:
        """Follow up one message: send it again, or reach the person another way."""
        fault_injection.crash_point("followup.before-commit")
        if item.waits_for == GOES_AGAIN:
            done = self.go_as_wanted(item)
        else:
            done = "again" if self.goes_once_more(item) else self.reach_otherwise(item)
        log.info("message followed up", id=item.id, status=item.status, done=done or "nothing")

    def go_as_wanted(self, item: FollowUp) -> str:
        """Send it again because a person asked for that; if it can no longer go, do as for any
        failed message.
        """
        rule = self._config.by_name.get(item.rule)
        old = self.why_overtaken(rule, item) if rule else ""
        try:
            return self._db.transact(followups.go_again, item, old)
        except NotDone:
            return self.reach_otherwise(item)

    def goes_once_more(self, item: FollowUp) -> bool:
        """Send it again if the phone, or our account, may be on by then, and nothing has replaced
        it; return whether it goes.
        """
        if item.status != "temporary-failure":
            return False
        if item.code == OURS:
            pause = account_pause(DROPPED, item.channel, item.reason, self._config.policy)
            with self._db.write() as connection:
                pauses.pause(connection, item.channel, item.event_id, pause)
                return followups.try_again(connection, item, 0.0)
        was_off = item.code in ONCE_MORE and item.taken == 1
        return was_off and self._db.transact(followups.try_again, item, ONCE_MORE_SECONDS)

    def reach_otherwise(self, item: FollowUp) -> str:
        """Plan the rule's fallback, or open a case; neither if a later step has overtaken it.

        Return a word for the log: `waiting`, `fallback`, `case`, or empty.
        """
        rule = self._config.by_name.get(item.rule)
        if rule and (why := self.why_overtaken(rule, item)):
            return self._db.transact(followups.end_without_action, item, why)
        late = self.why_late(rule, item)
        fallback = () if item.status in GONE and not late else self.plan_fallback(rule, item)
        given = (item, fallback, *self.cases_of(item))
        return self._db.transact(followups.finish_follow_up, *given, late=late)

    @staticmethod
    def why_late(rule: Rule | None, item: FollowUp) -> str:
        """Why a message counts as late by its rule; empty if the rule has no such limit."""
        if rule is None or not rule.fallback_after or item.is_fallback:
            return ""
        within = duration(rule.fallback_after)
        return f"Nobody reported within {within} that it had arrived: the fallback goes out too."

    def why_overtaken(self, rule: Rule, item: FollowUp) -> str:
        """Why a message is out of date; empty if it is not."""
        step = Step(item.event_name, item.round, item.event_received_at)
        with self._db.read() as connection:
            known = journeys.steps_of_kit(connection, item.event_name, item.subject)
        return why_stale(rule, step, known, utc_now(), utc_now())

    def plan_fallback(self, rule: Rule | None, item: FollowUp) -> tuple[Notice, ...]:
        """The notices of the rule's fallback; none for a message that may have arrived."""
        if rule is None or rule.to != item.role or item.is_fallback or item.unconfirmed:
            return ()
        if item.kind == DIGEST:
            return ()  # when this was planned, the rule had none
        context = self._contexts.of_message(item)
        return planner.fallback(rule, context, self._config.policy, utc_now())

    def cases_of(self, item: FollowUp) -> tuple[Case | None, Case | None]:
        """The case to open if nobody was reached, and the one if somebody still may be."""
        if item.kind == ALERT or item.status in GONE:
            return None, None  # nobody can alert staff who cannot be reached; or it may yet arrive
        if item.status == "technical-failure":
            key = f"{item.rule} {item.channel} {item.reason}"
            broken = self._case("broken", key, item, is_fault=True)
            return broken, broken
        if item.unconfirmed:
            return self._case("unconfirmed", item.channel, item, is_fault=True), None
        return self._case("unreached", item.obligation, item), None

    def _case(self, kind: str, key: str, item: FollowUp, *, is_fault: bool = False) -> Case:
        made = alerts.case(
            kind,
            key,
            item.subject,
            item.reason,
            policy=self._config.policy,
            now=utc_now(),
            event_id=item.event_id,
            notification_id=item.id,
        )
        return replace(made, is_fault=is_fault)
