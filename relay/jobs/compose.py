"""Composes a claimed message or digest, after checking that its rule still wants it sent."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from relay.config.loader import Config
from relay.errors import LabError, NotReady, RenderError
from relay.jobs.rule_context import ContextBuilder
from relay.lab.facts import PERSONS, Facts
from relay.ledger import attempts, digests, journeys, notifications
from relay.ledger.database import Connection, Database
from relay.ledger.digests import Item, Replan
from relay.ledger.removal.personal_data import REASON as ERASED
from relay.ledger.worklist import cases, doubts, replies
from relay.logs import get_logger
from relay.messages.alerts import AlertTemplates, CaseNames
from relay.messages.templates import Message, Templates, digest_names
from relay.rules import alerts, planner, stops
from relay.rules.addresses import normalised
from relay.rules.expressions import RuleContext, recipient
from relay.rules.model import ALERT_URGENCY, Case, Ending, Notice, Rule, Step
from relay.rules.schedule import utc_now
from relay.rules.staleness import is_news
from relay.rules.statuses import (
    ALERT,
    ANSWER,
    DIGEST,
    MESSAGE,
    RESENT,
    WAITS_FOR_LAB,
    WAITS_FOR_ORDER,
    WAITS_FOR_PERSON,
    WAITS_FOR_RULE,
)

if TYPE_CHECKING:
    from relay.ledger.attempts import Claim
    from relay.ledger.worklist.releases import Held

log = get_logger("relay.digests")

ASK_SECONDS = 20.0  # for asking the lab about all items: the claim must not lapse meanwhile


class Digests:
    """Composes digests, and moves single messages into them if their rule now has a digest."""

    def __init__(
        self, config: Config, db: Database, templates: Templates, contexts: ContextBuilder
    ):
        self._config = config
        self._db = db
        self._templates = templates
        self._contexts = contexts

    def message(self, claim: Claim, rule: Rule) -> Message:
        """Compose a claimed digest. Raises NotSent and RenderError."""
        if not rule.enabled:
            raise NotSent(cancelled_ending("The rule is switched off (enabled = false)."))
        if claim.role != rule.to or claim.channel not in rule.channels:
            raise NotSent(cancelled_ending("The rule now writes to others or uses other channels."))
        with self._db.read() as connection:
            items = digests.items(connection, claim.id)
        if not rule.digest:
            self._tell_otherwise(claim, rule, items, "Its rule no longer sends digests.")
        group = map(normalised, self._config.policy.staff[rule.to].on(claim.channel))
        if normalised(claim.address) not in group:
            self._tell_otherwise(claim, rule, items, "The address is no longer in the group.")
        if not (left := self._still_true(claim, rule, items)):
            raise NotSent(cancelled_ending("The digest has no items left."))
        seen = digest_names(self._config.clinic.record(), recipient(rule.to, claim.facts), left)
        return self._templates.message(rule, claim.channel, claim.address, seen)

    def let_go(self, claim: Claim, reason: str) -> None:
        """Record on each item of a cancelled digest why it was not sent."""
        said = f"Its digest was cancelled: {reason}"
        with self._db.write() as connection:
            ids = [item.id for item in digests.items(connection, claim.id)]
            digests.take_out(connection, claim.id, dict.fromkeys(ids, said))

    def join(self, claim: Claim, rule: Rule, context: RuleContext) -> NotSent:
        """Turn a message that was planned singly into an item, since its rule now has digests."""
        policy, now = self._config.policy, utc_now()
        found = planner.notices(rule, (claim.channel,), context, policy, now)[0]
        item = replace(found, address=claim.address)
        pair = lambda closed: planner.in_digest(rule, item, policy, closed)  # noqa: E731
        with self._db.write() as connection:
            item = digests.plan_and_make_room(connection, claim.event_id, pair)
            ending = cancelled_ending(item.reason)
            given = (claim.id, claim.attempt_id, ending, ("started",))
            if attempts.record_outcome(connection, *given):
                digests.put_in(connection, claim.id, item)
        return NotSent(ending)

    def _still_true(
        self, claim: Claim, rule: Rule, items: Sequence[Item]
    ) -> list[Mapping[str, Any]]:
        """The names of each item that is still true. The others are removed, with the reason."""
        left: list[Mapping[str, Any]] = []
        out, broken = {}, {}
        ends = time.monotonic() + ASK_SECONDS
        for item in items:
            context = self._context(item, ends)
            try:
                if reason := _objection(rule, item, context):
                    out[item.id] = f"It was left out of its digest. {reason}"
                else:
                    left.append(context.names)
            except RenderError as error:
                broken[item.id] = str(error)
        if out or broken:
            log.info("digest shortened", id=claim.id, out=len(out), broken=len(broken))
            with self._db.write() as connection:
                digests.take_out(connection, claim.id, out)
                digests.take_out(connection, claim.id, broken, status="technical-failure")
        return left

    def _context(self, item: Item, ends: float) -> RuleContext:
        """An item's context by the lab's current facts; by older ones if it cannot answer in time.

        A kit about which the lab does not answer must not hold up the others.
        """
        is_old = self._contexts.are_old(item.event_name, item.facts, item.facts_at)
        if is_old and time.monotonic() < ends:
            try:
                facts = self._contexts.facts(item.event_name, item.event_data, item.facts)
                item = replace(item, facts=facts)
            except NotReady as error:
                if isinstance(error.facts, Facts):
                    item = replace(item, facts=error.facts)
                log.warning("digest item contradicted", id=item.id, reason=str(error))
            except LabError as error:
                log.warning("digest item not asked again", id=item.id, reason=str(error))
        with self._db.read() as connection:
            known = journeys.steps_of_kit(connection, item.event_name, item.subject)
        return self._contexts.of_message(item, known)

    def _tell_otherwise(self, claim: Claim, rule: Rule, items: Sequence[Item], reason: str) -> None:
        """Plan a digest's items again by the rule as it is now, and cancel it. Raises NotSent."""
        instead = {
            item.event_id: self._replan(claim.channel, rule, item)
            for item in items
            if item.event_name == rule.event
        }
        reasons = dict.fromkeys((item.id for item in items), reason)
        with self._db.write() as connection:
            if digests.take_out(connection, claim.id, reasons):
                for event_id, replan in sorted(instead.items()):
                    digests.plan_and_add(connection, event_id, replan)
        raise NotSent(cancelled_ending(reason))

    def _replan(self, channel: str, rule: Rule, item: Item) -> Replan:
        policy, now = self._config.policy, utc_now()
        made = planner.notices(rule, (channel,), self._contexts.of_message(item), policy, now)

        def replan(closed: frozenset[str]) -> Sequence[Notice]:
            if not rule.digest:
                return made
            return [one for each in made for one in planner.in_digest(rule, each, policy, closed)]

        return replan


def rule_now(config: Config, name: str, role: str) -> tuple[Rule | None, str]:
    """The current rule of a message to a role; or None, and why that message has none."""
    rule = config.by_name.get(name)
    if rule is None:
        return None, f"Its rule, {name}, is no longer in config.toml."
    if rule.to != role:
        return None, f"Its rule, {name}, now writes to {rule.to}, not to {role}."
    return rule, ""


def rule_case(config: Config, name: str, reason: str) -> Case:
    """The case about messages that wait for their rule."""
    return alerts.case("rule", name, name, reason, policy=config.policy, now=utc_now())


def render(
    templates: Templates, rule: Rule, message: Claim | Held, context: RuleContext
) -> Message:
    """The words of a single message, by its rule's template. Raises RenderError."""
    seen = context.names_to(message.role)
    return templates.message(rule, message.channel, message.address, seen)


def _objection(rule: Rule, item: Item, context: RuleContext) -> str:
    """Why an item no longer belongs in its digest; empty if it does. Raises RenderError."""
    if item.event_name != rule.event:
        return "Its rule is now for another event."
    return planner.last_objection(rule, context, utc_now())


class Composer:
    """Composes a rule's messages, its digests and Relay's own alerts."""

    def __init__(
        self, config: Config, db: Database, templates: Templates, contexts: ContextBuilder
    ):
        self._config = config
        self._db = db
        self._templates = templates
        self._contexts = contexts
        self._digests = Digests(config, db, templates, contexts)
        self._alerts = AlertTemplates(templates, config.clinic.record())

    def message(self, claim: Claim) -> Message:
        """Compose a claimed message. Raises NotSent, RenderError and LabError."""
        try:
            return self._message(claim)
        except NotSent as error:
            if claim.kind == DIGEST and error.ending.status == "cancelled":
                self._digests.let_go(claim, error.ending.reason)
            raise

    def _message(self, claim: Claim) -> Message:
        if claim.stopped_by and claim.kind in (ALERT, ANSWER, DIGEST):
            raise NotSent(stopped_ending(claim.channel, claim.stopped_by))
        if claim.kind == ALERT:
            return self._alert(claim)
        if claim.kind == ANSWER:
            return self._answer(claim)
        if claim.may_be_held and claim.kind == MESSAGE and claim.role in PERSONS:
            self._require_unheld(claim)
        rule = self._rule(claim)
        opening = planner.opening(rule, self._config.policy, utc_now())
        if opening > utc_now():
            wait = (opening - utc_now()).total_seconds()
            raise NotSent(postponed_ending(wait))
        if claim.kind == DIGEST:
            return self._digests.message(claim, rule)
        return self._single(claim, rule)

    def _answer(self, claim: Claim) -> Message:
        """A person's own answer to somebody who texted us. Raises NotSent outside the window."""
        policy, moment = self._config.policy, utc_now()
        opening = policy.send_window.next_open(moment, policy.zone, policy.bank_holidays)
        if opening > moment and claim.urgency < ALERT_URGENCY:
            raise NotSent(postponed_ending((opening - moment).total_seconds()))
        if not claim.content:
            raise NotSent(cancelled_ending(ERASED))
        return Message(claim.channel, claim.address, **claim.content)

    def _require_unheld(self, claim: Claim) -> None:
        """Make a message wait while a case holds those of its kit. Raises NotSent."""
        with self._db.read() as connection:
            case_id = replies.held_by(connection, claim.subject)
        if case_id:
            raise NotSent(held_ending(case_id))

    def _rule(self, claim: Claim) -> Rule:
        """A message's rule as it is now. Raises NotSent if it is gone or writes to others."""
        rule, reason = rule_now(self._config, claim.rule, claim.role)
        if rule:
            return rule
        case = rule_case(self._config, claim.rule, reason)
        raise NotSent(waiting_ending(reason, WAITS_FOR_RULE, case))

    def _alert(self, claim: Claim) -> Message:
        """An alert by its template, or in plain words if that is broken: it must go out."""
        with self._db.read() as connection:
            found = cases.get_case(connection, claim.case_id) if claim.case_id else None
            open_kinds = cases.open_kinds(connection) if found else {}
            if found and found["closed_at"] and cases.had_to_wait(connection, claim.id):
                found = self._opened_since(connection, found)
        if found is None:  # planned by the previous release, which wrote the words when it planned
            return Message(claim.channel, claim.address, **(claim.content or {}))
        kind, subject, reason = found["kind"], found["subject"], found["reason"]
        link = alerts.link(self._config.policy, found["id"])
        is_open = found["closed_at"] is None
        others = open_kinds.get(kind, 0) - is_open
        about = CaseNames(
            *(found["id"], kind, subject, reason, others, link, found["count"]),
            is_digest=found["is_digest"],
            is_urgent=found["is_urgent"],
        )
        try:
            return self._alerts.message(about, claim.channel, claim.address, claim.role)
        except RenderError as error:
            log.error("alert template broken", id=claim.id, kind=kind, reason=str(error))
            plain = alerts.plain_content(kind, subject, reason, link, claim.channel)
            return Message(claim.channel, claim.address, **plain)

    @staticmethod
    def _opened_since(connection: Connection, closed: Mapping[str, Any]) -> dict[str, Any]:
        """The oldest open case of a kind that opened after `closed`. Raises NotSent."""
        for case in cases.open_cases(connection, closed["kind"], None):
            if case["opened_at"] >= closed["opened_at"]:
                return dict(case)
        raise NotSent(cancelled_ending("Its case was closed before this could go out."))

    def _single(self, claim: Claim, rule: Rule) -> Message:
        if claim.kind == RESENT and getattr(claim.facts, claim.role, None) == {}:
            raise NotSent(cancelled_ending(ERASED))
        known: tuple[Step, ...] = ()
        is_old = self._contexts.are_old(claim.event_name, claim.facts, claim.facts_at)
        is_unknown = rule.to in PERSONS and getattr(claim.facts, rule.to) is None
        must_ask = is_unknown or claim.kind == RESENT
        is_unsure = is_old or must_ask
        if is_unsure or not is_news(claim.event_received_at, utc_now()):
            with self._db.read() as connection:
                known = journeys.steps_of_kit(connection, claim.event_name, claim.subject)
        if is_unsure:
            try:
                facts = self._contexts.recent_facts(claim, may_ask=claim.may_ask, anew=must_ask)
            except NotReady as error:
                # By the lab's facts the rule may no longer want it; else the lab may catch up.
                if isinstance(error.facts, Facts):
                    context = self._contexts.of_message(replace(claim, facts=error.facts), known)
                    self._require_wanted(rule, context)
                raise
            if facts is None:
                raise NotSent(ask_lab_ending())
            claim = replace(claim, facts=facts)
        context = self._contexts.of_message(claim, known)
        claim = self._require_still_true(claim, rule, context)
        return render(self._templates, rule, claim, context)

    def _require_still_true(self, claim: Claim, rule: Rule, context: RuleContext) -> Claim:
        """Check it with the rule again: the rule and the facts may have changed since the plan."""
        self._require_wanted(rule, context)
        if claim.channel not in rule.ways:
            raise self._other_way(claim, rule, context)
        if rule.digest:
            raise self._digests.join(claim, rule, context)
        notices = [
            replace(notice, is_fallback=claim.is_fallback)
            for notice in planner.notices(
                rule, (claim.channel,), context, self._config.policy, utc_now()
            )
        ]
        current = [notice.address for notice in notices if notice.address]
        if claim.kind == RESENT and current:
            return self._redirected(claim, current)
        if claim.address and normalised(claim.address) in map(normalised, current):
            if claim.stopped_by:  # asked only here: their address may have changed since a stop
                raise NotSent(stopped_ending(claim.channel, claim.stopped_by))
            return claim
        if any(notice.waits_for == WAITS_FOR_ORDER for notice in notices):
            raise NotSent(waiting_ending(notices[0].reason, WAITS_FOR_ORDER))
        lost = " ".join(notice.reason for notice in notices)
        if lost:
            raise NotSent(Ending("rejected", "validation-failed", lost))
        with self._db.write() as connection:
            notifications.insert_notices(connection, claim.event_id, notices)
            if to_patient := [one for one in notices if one.tells_patient]:
                doubts.ask(connection, self._config.policy, claim.event_id, claim.facts, to_patient)
        raise NotSent(cancelled_ending("The recipient now has another address."))

    def _redirected(self, claim: Claim, current: Sequence[str]) -> Claim:
        """A repeat, to its recipient's current address. Raises NotSent if that is stopped."""
        address = claim.address if claim.address in current else current[0]
        with self._db.write() as connection:
            source = attempts.redirect(connection, claim, address)
        if source:
            raise NotSent(stopped_ending(claim.channel, source))
        return replace(claim, address=address)

    def _other_way(self, claim: Claim, rule: Rule, context: RuleContext) -> NotSent:
        """Plan a message again on its rule's channels, since the rule no longer uses this one."""
        policy = self._config.policy
        made = planner.first_choice(rule, context, policy, utc_now())
        with self._db.write() as connection:
            alive = notifications.alive_channels(connection, claim.obligation, claim.id)
            notices = [notice for notice in made if notice.channel not in alive]
            if rule.digest:
                pairs = (planner.in_digest(rule, one, policy, frozenset()) for one in notices)
                notices = [one for pair in pairs for one in pair]
            notifications.insert_notices(connection, claim.event_id, notices)
        return NotSent(cancelled_ending(f"Its rule no longer uses {claim.channel}."))

    @staticmethod
    def _require_wanted(rule: Rule, context: RuleContext) -> None:
        """Raise NotSent if a rule no longer wants its message sent."""
        if objection := planner.last_objection(rule, context, utc_now()):
            raise NotSent(cancelled_ending(objection))


class NotSent(Exception):
    """A message must not go out, or not now. `ending` is its new state."""

    def __init__(self, ending: Ending):
        super().__init__(ending.reason)
        self.ending = ending


def cancelled_ending(reason: str) -> Ending:
    """The ending of a message that is no longer wanted."""
    return Ending("rejected", "cancelled", reason)


def postponed_ending(seconds: float) -> Ending:
    """The ending of a message that waits for its send window, which opens in `seconds`."""
    return Ending(
        "rejected",
        "scheduled",
        "It is waiting for its send window.",
        retry_in=seconds,
        is_a_try=False,
    )


def waiting_ending(reason: str, waits_for: str, case: Case | None = None) -> Ending:
    """The ending of a message that waits until something is put right, with the case about it."""
    return Ending(
        "rejected",
        "scheduled",
        reason,
        retry_in=0.0,
        is_a_try=False,
        waits_for=waits_for,
        case=case,
    )


def held_ending(case_id: str) -> Ending:
    """The ending of a message to somebody whose number may be another's, until a person decides."""
    reason = "Somebody has answered that this kit's number is wrong: it waits for a person."
    return replace(waiting_ending(reason, WAITS_FOR_PERSON), case_id=case_id)


def ask_lab_ending() -> Ending:
    """The ending of a message that waits for an answer from the lab, in a lane of its own."""
    reason = "Relay asks the lab about this kit again before it goes out."
    return replace(waiting_ending(reason, WAITS_FOR_LAB), status="created")


def stopped_ending(channel: str, source: str) -> Ending:
    """The ending of a message to an address that gets nothing more; the rule's fallback may reach
    the person.
    """
    return Ending("rejected", "cancelled", stops.reason(source, channel), reached_nobody=True)
