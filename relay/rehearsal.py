"""What a config would have made of a kit's past. Pure: nothing is fetched, written or sent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from relay.config.loader import Config
from relay.lab.events import EVENTS
from relay.lab.facts import PERSONS, RESOURCES, Facts
from relay.ledger.views.kit_history import History, MessageKey, PastEvent, Row
from relay.rules import planner
from relay.rules.expressions import names
from relay.rules.model import ALIVE, FAILED, AlreadyNotified, Rule
from relay.rules.planner import RuleContext
from relay.rules.staleness import Waiting

BLANKED = "The ledger's details of this event were blanked by retention."


@dataclass
class Message:
    """What would have gone out about an event one way, to so many addresses."""

    template: str
    due_at: datetime
    addresses: int = 0


@dataclass
class Rehearsed:
    """What would have come of a kit's events. Keys begin with an event's id."""

    config: Config
    messages: dict[str, dict[MessageKey, Message]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    silent: dict[tuple[str, str, str], str] = field(default_factory=dict)  # rule, channel → why
    unknown: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))  # rule

    last_due: datetime | None = None  # when the last of the messages goes out

    def message(self, past: PastEvent, way: MessageKey, rows: Sequence[Row]) -> Message | None:
        """What would have gone out that way, where `rows` did. A fallback that was tried because
        something had failed would have been tried again, if the rule still has it.
        """
        own = self.messages.get(past.id, {})
        name, role, channel = way
        if way in own or not any(row.is_fallback for row in rows):
            return own.get(way)
        rule = self.config.rule(name)
        if rule and channel in rule.fallback and any(other[:2] == (name, role) for other in own):
            return Message(rule.template, rows[0].due_at, len(rows))
        return None

    def why_not(self, past: PastEvent, way: MessageKey) -> str:
        """Why nothing would have gone out that way."""
        name, role, channel = way
        rule = self.config.rule(name)
        if rule is None:
            return "There is no such rule."
        if rule.event != past.name:
            return f"The rule is about {rule.event}."
        for key in ((past.id, name, channel), (past.id, name, "")):
            if key in self.silent:
                return self.silent[key]
        if rule.to != role:
            return f"The rule writes to {rule.to}."
        if channel in rule.fallback:
            return f"{channel} is only its fallback."
        return "" if channel in rule.channels else f"The rule does not use {channel}."

    def is_unknown(self, past: PastEvent, rule: str) -> bool:
        """Whether it cannot be told what a rule would have made of an event."""
        return rule in self.unknown.get(past.id, ())


class Rehearsal:
    """Rules of a config that past events are played to, as if in use since `since`.

    A fact that the rules of then did not ask for is not in the ledger. What the rule of the same
    name in `before` needs as well was asked for: if it is missing, the lab did not have it.
    """

    def __init__(self, config: Config, played: Iterable[Rule], before: Config, since: datetime):
        self.config = config
        self._rules = tuple(played)
        self._since = since
        self._policy = config.policy
        self._clinic = config.clinic.record()
        self._events: dict[str, list[Rule]] = defaultdict(list)
        for rule in self._rules:
            self._events[rule.event].append(rule)
        self._conditional = {rule.event for rule in self._rules if rule.when}
        self._new_needs: dict[str, dict[str, frozenset[str]]] = {name: {} for name in EVENTS}
        for rule in self._rules:
            old = before.rule(rule.name)
            asked_for = _needs(old) if old and old.enabled and old.event == rule.event else set()
            if needs := _needs(rule) - asked_for:
                self._new_needs[rule.event][rule.name] = needs

    def of(self, kit: History) -> Rehearsed:
        """What would have come of a kit."""
        made = Rehearsed(self.config)
        for place, past in enumerate(kit if self._rules else ()):
            if past.received_at < self._since:
                continue
            own = self._events.get(past.name, ())
            if past.is_blanked:
                lost = {rule.name: BLANKED for rule in own if rule.enabled}
                made.unknown.update({past.id: lost} if lost else {})
                own = ()
            if own or (made.last_due and made.last_due > past.processed_at):
                self._play(past, kit[:place], own, made)
        return made

    def _play(
        self, past: PastEvent, earlier: History, own: Sequence[Rule], made: Rehearsed
    ) -> None:
        """Let an event be processed, when it was."""
        kin = [one for one in earlier if _is_kin(one, past)]
        waiting = list(_waiting(kin, made, past.processed_at))
        if not (own or waiting):
            return
        unknown = self._unknown(past) if own else {}
        known = tuple([one.step for one in kin])
        plan = planner.plan(
            RuleContext(past.step, past.subject, past.facts or Facts(), self._names(past), known),
            self._asked(own, unknown, {way[0] for _, _, way in waiting}),
            self._policy,
            self._told(past, earlier, made),
            past.processed_at,
            [wait for wait, _, _ in waiting],
        )
        for wait, event_id, way in waiting:
            if reason := plan.cancelled.get(wait.id):
                del made.messages[event_id][way]
                made.silent[(event_id, way[0], way[2])] = reason
        for decision in plan.decisions:
            made.silent[(past.id, decision.rule, "")] = decision.reason
        for notice in plan.notices:
            if notice.is_digest:
                continue  # what it tells are the messages
            if notice.rule in unknown:
                made.unknown[past.id][notice.rule] = _not_known(unknown[notice.rule])
            elif notice.status in FAILED:
                made.silent[(past.id, notice.rule, notice.channel)] = notice.reason
            else:
                way = (notice.rule, notice.role, notice.channel)
                message = Message(notice.template, notice.due_at)
                made.messages[past.id].setdefault(way, message).addresses += 1
                made.last_due = max(made.last_due or notice.due_at, notice.due_at)

    def _names(self, past: PastEvent) -> Mapping[str, Any]:
        """What a condition sees: it costs more than all else, so only where there is one."""
        if past.name not in self._conditional:
            return {}
        facts = past.facts or Facts()
        return names(past.name, past.data or {}, past.received_at, facts, self._clinic)

    def _unknown(self, past: PastEvent) -> dict[str, frozenset[str]]:
        """The rules that need what the ledger may not have been told: their names, and what."""
        return {
            rule: lacking
            for rule, needs in self._new_needs[past.name].items()
            if (lacking := frozenset(need for need in needs if getattr(past.facts, need) is None))
        }

    def _asked(
        self, own: Sequence[Rule], unknown: Mapping[str, frozenset[str]], waiting: set[str]
    ) -> Sequence[Rule]:
        """An event's own rules, and those of what waits. Where a condition cannot be told it is
        left out: the rest of the rule may say no.
        """
        if unknown:
            own = [
                replace(rule, when=None) if _roots(rule) & unknown.get(rule.name, set()) else rule
                for rule in own
            ]
        if others := waiting.difference(rule.name for rule in own):
            own = [*own, *(rule for rule in self._rules if rule.name in others)]
        return own

    def _told(self, past: PastEvent, earlier: History, made: Rehearsed) -> AlreadyNotified:
        """Who has been told already: before `since` in truth, from then on in this rehearsal."""
        told: set[MessageKey] = set()
        for one in earlier:
            if one.subject != past.subject or one.round != past.round:
                continue
            if one.received_at >= self._since and not one.is_blanked:
                told.update(made.messages.get(one.id, ()))
            else:
                told |= {row.way for row in one.rows if row.status in ALIVE}
        return frozenset(told)


def _is_kin(one: PastEvent, other: PastEvent) -> bool:
    """Whether two events of a kit concern each other: two registrations of one order do not."""
    if one.subject == other.subject:
        return True
    return EVENTS[one.name].resource != EVENTS[other.name].resource


def _waiting(
    kin: History, made: Rehearsed, now: datetime
) -> Iterator[tuple[Waiting, str, MessageKey]]:
    """The messages about these events that would have been waiting."""
    if made.last_due and made.last_due > now:
        for one in kin:
            for way, message in made.messages.get(one.id, {}).items():
                if message.due_at > now:
                    id_ = " ".join((one.id, *way))
                    yield Waiting(id_, way[0], message.due_at, one.step), one.id, way


def _not_known(lacking: frozenset[str]) -> str:
    return f"The ledger does not know the {' and the '.join(sorted(lacking))} of this event."


def _roots(rule: Rule) -> frozenset[str]:
    """What of the lab's a rule's condition speaks of."""
    roots = rule.when.roots if rule.when else frozenset()
    who = {rule.to} if "recipient" in roots else set()
    return (roots | who) & frozenset(RESOURCES)


def _needs(rule: Rule) -> frozenset[str]:
    """What of the lab's it takes to decide a rule."""
    return _roots(rule) | ({rule.to} & set(PERSONS))
