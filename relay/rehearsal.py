"""What a config would have made of a kit's past. Pure: nothing is fetched, written or sent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from relay import rules
from relay.config import Config
from relay.events import EVENTS
from relay.expressions import names
from relay.facts import PERSONS, RESOURCES, Facts
from relay.history import Step, Waiting
from relay.ledger.past import History, Past, Way
from relay.ledger.statuses import ALIVE, FAILED
from relay.notices import Told
from relay.rule_keys import Rule
from relay.rules import Occasion

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

    messages: dict[str, dict[Way, Message]] = field(default_factory=lambda: defaultdict(dict))
    silent: dict[tuple[str, str, str], str] = field(default_factory=dict)  # rule, channel → why
    unknown: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))  # rule

    def is_unknown(self, past: Past, rule: str) -> bool:
        """Whether it cannot be told what a rule would have made of an event."""
        return rule in self.unknown.get(past.id, ())


class Rehearsal:
    """A config that past events are played to, as if it had been in use since `since`.

    A fact that the rules of then did not ask for is not in the ledger. What the rule of the same
    name in `before` needs as well was asked for: if it is missing, the lab did not have it.
    """

    def __init__(self, config: Config, before: Config, since: datetime):
        self.config = config
        self._since = since
        self._policy = config.policy
        self._clinic = config.clinic.record()
        self._conditional = {rule.event for rule in config.rules if rule.when}
        self._new_needs: dict[str, dict[str, frozenset[str]]] = {name: {} for name in EVENTS}
        for rule in config.rules:
            old = before.rule(rule.name)
            asked_for = _needs(old) if old and old.enabled and old.event == rule.event else set()
            if needs := _needs(rule) - asked_for:
                self._new_needs[rule.event][rule.name] = needs

    def of(self, kit: History) -> Rehearsed:
        """What would have come of a kit."""
        made = Rehearsed()
        for place, past in enumerate(kit):
            earlier = kit[:place]
            if past.facts is not None and past.received_at >= self._since:
                self._play(past, earlier, made)
            elif past.received_at >= self._since:
                for rule in self.config.rules:
                    if rule.event == past.name and rule.enabled:
                        made.unknown[past.id][rule.name] = BLANKED
        return made

    def why_not(self, made: Rehearsed, past: Past, way: Way) -> str:
        """Why nothing would have gone out that way."""
        name, role, channel = way
        rule = self.config.rule(name)
        if rule is None:
            return "There is no such rule."
        if rule.event != past.name:
            return f"The rule is about {rule.event}."
        for key in ((past.id, name, channel), (past.id, name, "")):
            if key in made.silent:
                return made.silent[key]
        if rule.to != role:
            return f"The rule writes to {rule.to}."
        if channel in rule.fallback:
            return f"{channel} is only its fallback."
        return "" if channel in rule.channels else f"The rule does not use {channel}."

    def _play(self, past: Past, earlier: History, made: Rehearsed) -> None:
        """Let an event be processed, when it was."""
        kin = [one for one in earlier if _is_kin(one, past)]
        waiting = {str(n): w for n, w in enumerate(_waiting(kin, made, past.processed_at))}
        unknown = self._unknown(past)
        plan = rules.plan(
            self._occasion(past, kin),
            self._asked(unknown),
            self._policy,
            self._told(past, earlier, made),
            past.processed_at,
            [
                Waiting(id_, way[0], made.messages[one.id][way].due_at, _step(one))
                for id_, (one, way) in waiting.items()
            ],
        )
        for id_, reason in plan.cancelled.items():
            one, way = waiting[id_]
            del made.messages[one.id][way]
            made.silent[(one.id, way[0], way[2])] = reason
        for decision in plan.decisions:
            made.silent[(past.id, decision.rule, "")] = decision.reason
        for notice in plan.notices:
            if notice.rule in unknown:
                made.unknown[past.id][notice.rule] = _not_known(unknown[notice.rule])
            elif notice.status in FAILED:
                made.silent[(past.id, notice.rule, notice.channel)] = notice.reason
            else:
                way = (notice.rule, notice.role, notice.channel)
                message = Message(notice.template, notice.due_at)
                made.messages[past.id].setdefault(way, message).addresses += 1

    def _occasion(self, past: Past, kin: History) -> Occasion:
        facts = past.facts or Facts()
        seen: Mapping[str, Any] = {}
        if past.name in self._conditional:  # they cost more than all else
            seen = names(past.name, past.data, past.received_at, facts, self._clinic)
        known = tuple(_step(one) for one in kin)
        return Occasion(_step(past), past.subject, facts, seen, known)

    def _unknown(self, past: Past) -> dict[str, frozenset[str]]:
        """The rules that need what the ledger may not have been told: their names, and what."""
        return {
            rule: lacking
            for rule, needs in self._new_needs[past.name].items()
            if (lacking := frozenset(need for need in needs if getattr(past.facts, need) is None))
        }

    def _asked(self, unknown: Mapping[str, frozenset[str]]) -> Sequence[Rule]:
        """The rules; where a condition cannot be told it is left out: the rest may say no."""
        if not unknown:
            return self.config.rules
        return [
            replace(rule, when=None)
            if rule.when and _roots(rule) & unknown.get(rule.name, frozenset())
            else rule
            for rule in self.config.rules
        ]

    def _told(self, past: Past, earlier: History, made: Rehearsed) -> Told:
        """Who has been told already: before `since` in truth, from then on in this rehearsal."""
        told: set[Way] = set()
        for one in earlier:
            if (one.subject, one.round) != (past.subject, past.round):
                continue
            if one.received_at >= self._since and one.facts is not None:
                told |= made.messages.get(one.id, {}).keys()
            else:
                told |= {row.way for row in one.rows if row.status in ALIVE}
        return frozenset(told)


def _not_known(lacking: frozenset[str]) -> str:
    return f"The ledger does not know the {' and the '.join(sorted(lacking))} of this event."


def _step(past: Past) -> Step:
    return Step(past.name, past.round, past.received_at)


def _is_kin(one: Past, other: Past) -> bool:
    """Whether two events of a kit concern each other: two registrations of one order do not."""
    same = EVENTS[one.name].resource == EVENTS[other.name].resource
    return not same or one.subject == other.subject


def _waiting(kin: History, made: Rehearsed, now: datetime) -> Iterator[tuple[Past, Way]]:
    """The messages about these events that would have been waiting."""
    for one in kin:
        for way, message in made.messages.get(one.id, {}).items():
            if message.due_at > now:
                yield one, way


def _roots(rule: Rule) -> frozenset[str]:
    """What of the lab's a rule's condition speaks of."""
    roots = rule.when.roots if rule.when else frozenset()
    who = {rule.to} if "recipient" in roots else set()
    return (roots | who) & frozenset(RESOURCES)


def _needs(rule: Rule) -> frozenset[str]:
    """What of the lab's it takes to decide a rule."""
    return _roots(rule) | ({rule.to} & set(PERSONS))
