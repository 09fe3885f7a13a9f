"""Compares the messages that an edited config.toml would have sent for past events with those sent.

It rehearses a kit's past event by event with the changed rules (pure), then compares.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from relay.config.loader import Config
from relay.errors import RenderError
from relay.lab.events import EVENTS
from relay.lab.facts import PERSONS, RESOURCES, Facts
from relay.ledger.database import Database
from relay.ledger.views import kit_history
from relay.ledger.views.kit_history import History, Kit, MessageKey, PastEvent, Row
from relay.rules import planner
from relay.rules.expressions import RuleContext, names, recipient
from relay.rules.model import AlreadyNotified, Never, Notice, Rule, Waiting
from relay.rules.staleness import Kits
from relay.rules.statuses import ALIVE, FAILED, WAITING

BLANKED = "The ledger no longer has this event's details: they passed the retention time."


@dataclass
class Message:
    """A message that would have gone out by a rule and channel, to a number of addresses."""

    template: str
    due_at: datetime
    addresses: int = 0


@dataclass
class Rehearsed:
    """The result of rehearsing a kit's events. Keys begin with an event's id."""

    config: Config
    messages: dict[str, dict[MessageKey, Message]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    silent: dict[tuple[str, str, str], str] = field(default_factory=dict)  # rule, channel → why
    unknown: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))  # rule
    forbidden: list[str] = field(default_factory=list)  # the name of each message's [never.…]

    last_due: datetime | None = None  # when the last message goes out

    def message(self, past: PastEvent, way: MessageKey, rows: Sequence[Row]) -> Message | None:
        """The message that would have gone out `way`, where `rows` did. A fallback that went
        because something had failed would have gone again, if the rule still has it.
        """
        own = self.messages.get(past.id, {})
        name, role, channel = way
        if way in own or not any(row.is_fallback for row in rows):
            return own.get(way)
        rule = self.config.by_name.get(name)
        if rule and channel in rule.fallback and any(other[:2] == (name, role) for other in own):
            return Message(rule.template, rows[0].due_at, len(rows))
        return None

    def why_not(self, past: PastEvent, way: MessageKey) -> str:
        """Why nothing would have gone out `way`."""
        name, role, channel = way
        rule = self.config.by_name.get(name)
        if rule is None:
            return "There is no such rule."
        if rule.event != past.name:
            return f"The rule is for {rule.event}."
        for key in ((past.id, name, channel), (past.id, name, "")):
            if key in self.silent:
                return self.silent[key]
        if rule.to != role:
            return f"The rule writes to {rule.to}."
        if channel in rule.fallback:
            return f"{channel} is only its fallback."
        return "" if channel in rule.channels else f"The rule does not use {channel}."

    def is_unknown(self, past: PastEvent, rule: str) -> bool:
        """Whether Relay cannot work out how a rule would have handled an event."""
        return rule in self.unknown.get(past.id, ())


class Rehearsal:
    """Rules of a config to which past events are played, as if in use since `since`.

    The ledger lacks facts that no rule then asked for. Those that the rule of the same name in
    `before` needs too were asked for: if one is missing, the lab did not have it.
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
        self._by_name = {rule.name: rule for rule in self._rules}
        self._conditional = {rule.event for rule in self._rules if rule.conditions}
        self._new_needs: dict[str, dict[str, frozenset[str]]] = {name: {} for name in EVENTS}
        for rule in self._rules:
            old = before.by_name.get(rule.name)
            asked_for = (
                needed_resources(old) if old and old.enabled and old.event == rule.event else set()
            )
            if needs := needed_resources(rule) - asked_for:
                self._new_needs[rule.event][rule.name] = needs

    def of(self, kit: History) -> Rehearsed:
        """Rehearse one kit's events."""
        made = Rehearsed(self.config)
        for place, past in enumerate(kit.events if self._rules else ()):
            if past.received_at < self._since:
                continue
            own = self._events.get(past.name, ())
            if past.is_blanked:
                lost = {rule.name: BLANKED for rule in own if rule.enabled}
                made.unknown.update({past.id: lost} if lost else {})
                own = ()
            if own or (made.last_due and made.last_due > past.processed_at):
                self.play(kit, place, own, made)
        return made

    def play(self, kit: History, place: int, own: Sequence[Rule], made: Rehearsed) -> None:
        """Process the event at a place in the history, by its own rules, as when processed."""
        past, earlier = kit.events[place], kit.events[:place]
        kits = kit.kits_at(place)
        waiting = list(would_be_waiting(earlier, kits, made, past.processed_at))
        if not (own or waiting):
            return
        unknown = self._unknown(past) if own else {}
        seen = self._names(past)
        known = kits.steps(EVENTS[past.name].resource, past.subject)
        plan = planner.plan(
            RuleContext(past.step, past.subject, past.facts or Facts(), seen, known),
            self._asked(own, unknown, {way[0] for _, _, way in waiting}),
            self._policy,
            self.already_notified(past, earlier, made),
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
                continue  # its items count as messages
            if notice.rule in unknown:
                lacking = " and the ".join(sorted(unknown[notice.rule]))
                why = f"The ledger does not know the {lacking} of this event."
                made.unknown[past.id][notice.rule] = why
            elif notice.status in FAILED:
                made.silent[(past.id, notice.rule, notice.channel)] = notice.reason
            elif never := self._never(notice, seen, past.facts or Facts()):
                made.silent[(past.id, notice.rule, notice.channel)] = never.reason
                made.forbidden.append(never.name)
            else:
                way = (notice.rule, notice.role, notice.channel)
                message = Message(notice.template, notice.due_at)
                made.messages[past.id].setdefault(way, message).addresses += 1
                made.last_due = max(made.last_due or notice.due_at, notice.due_at)

    def _never(self, notice: Notice, seen: Mapping[str, Any], facts: Facts) -> Never | None:
        """The [never.…] that forbids a message, by the facts when its event was processed."""
        rule = self._by_name[notice.rule]
        if not rule.never:
            return None
        try:
            return rule.forbidden_by({**seen, "recipient": recipient(rule.to, facts)})
        except RenderError:
            return None  # it would fail, with an alert to staff: no [never.…] stopped it

    def _names(self, past: PastEvent) -> Mapping[str, Any]:
        """The names that a condition reads: costly, so made only if there is a condition."""
        if past.name not in self._conditional:
            return {}
        facts = past.facts or Facts()
        return names(past.name, past.data or {}, past.received_at, facts, self._clinic)

    def _unknown(self, past: PastEvent) -> dict[str, frozenset[str]]:
        """The names of rules that need facts the ledger may lack, each with those facts."""
        return {
            rule: lacking
            for rule, needs in self._new_needs[past.name].items()
            if (lacking := frozenset(need for need in needs if getattr(past.facts, need) is None))
        }

    def _asked(
        self, own: Sequence[Rule], unknown: Mapping[str, frozenset[str]], waiting: set[str]
    ) -> Sequence[Rule]:
        """Own rules and those of waiting messages, without conditions that cannot be decided."""
        if unknown:
            own = [
                replace(rule, when=None)
                if condition_resources(rule) & unknown.get(rule.name, set())
                else rule
                for rule in own
            ]
        if others := waiting.difference(rule.name for rule in own):
            own = [*own, *(rule for rule in self._rules if rule.name in others)]
        return own

    def already_notified(
        self, past: PastEvent, earlier: Sequence[PastEvent], made: Rehearsed
    ) -> AlreadyNotified:
        """The messages already sent: in fact before `since`, from then on in this rehearsal."""
        notified: set[MessageKey] = set()
        for one in earlier:
            if one.subject != past.subject or one.round != past.round:
                continue
            if one.received_at >= self._since and not one.is_blanked:
                notified.update(made.messages.get(one.id, ()))
            else:
                notified |= {row.way for row in one.rows if row.status in ALIVE}
        return frozenset(notified)


def would_be_waiting(
    earlier: Sequence[PastEvent], kits: Kits, made: Rehearsed, now: datetime
) -> Iterator[tuple[Waiting, str, MessageKey]]:
    """Yield each message about these events that would have waited, its event and its key."""
    if made.last_due and made.last_due > now:
        for one in earlier:
            known = kits.steps(EVENTS[one.name].resource, one.subject)
            for way, message in made.messages.get(one.id, {}).items():
                if message.due_at > now:
                    id_ = " ".join((one.id, *way))
                    yield Waiting(id_, way[0], message.due_at, one.step, known), one.id, way


def condition_resources(rule: Rule) -> frozenset[str]:
    """The lab's resources that a rule's conditions read."""
    roots = frozenset[str]().union(*(when.roots for when in rule.conditions))
    who = {rule.to} if "recipient" in roots else set()
    return (roots | who) & frozenset(RESOURCES)


def needed_resources(rule: Rule) -> frozenset[str]:
    """The lab's resources that decide a rule."""
    return condition_resources(rule) | ({rule.to} & set(PERSONS))


ADDED, DROPPED, CHANGED, UNKNOWN = "added", "dropped", "changed", "cannot-be-told"
EITHER_WAY = "either-way"
WOULD, SENT = "would-send", "sent"
COUNTS = (WOULD, SENT, ADDED, DROPPED, CHANGED, UNKNOWN, EITHER_WAY)
MORE = "more"  # more messages than were sent, because of the edit alone

# A provider took it, may have, or refused it; or it waits. One without words went nowhere.
_SENT = (*ALIVE, "permanent-failure", "temporary-failure")
_SAME_TIME = timedelta(minutes=1)


class Line(NamedTuple):
    """A difference. Each of its `messages` goes to another address; it contains no address."""

    at: datetime  # when the event arrived
    event_id: str
    event: str
    subject: str
    round: int
    rule: str
    role: str
    channel: str
    what: str
    messages: int
    why: str


Volumes = Counter[tuple[str, str, str]]  # (rule, channel, SENT or MORE) → messages


@dataclass
class Found:
    """The result of a comparison, for all kits or some."""

    lines: list[Line] = field(default_factory=list)
    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))  # by rule
    volumes: Volumes = field(default_factory=Counter)
    forbidden: Counter[str] = field(default_factory=Counter)  # [never.…] → messages it would stop

    def add(self, other: Found) -> None:
        """Add the result for other kits."""
        self.lines += other.lines
        for rule, count in other.counts.items():
            self.counts[rule].update(count)
        self.volumes.update(other.volumes)
        self.forbidden.update(other.forbidden)


class WhatIf:
    """Compares one kit after another; `found` holds the result.

    Rules that the edit leaves alone are not rehearsed: they would do what they did; but each with a
    [never.…] is, to find what that would stop. Rules of the current config are rehearsed if
    something differs.
    """

    def __init__(
        self, edited: Config, current: Config, since: datetime, *, is_of_words: bool = False
    ):
        self.edited, self.current, self.since = edited, current, since
        self.found = Found()
        self._same = unchanged(edited, current)
        self.is_edit = len(self._same) < max(len(edited.rules), len(current.rules))
        self._same -= {rule.name for rule in edited.rules if rule.never}
        # The current file may itself have been edited: then only sent messages are compared. If
        # only words are edited, this counts the messages.
        if not self.is_edit and not is_of_words:
            self._same = frozenset()
        self._edited = Rehearsal(edited, _but(edited.rules, self._same), current, since)
        self._current = {
            rule.name: Rehearsal(current, [rule], current, since)
            for rule in _but(current.rules, self._same)
        }
        self._gone = Rehearsal(current, (), current, since)

    @property
    def events(self) -> set[str]:
        """The events whose details are needed."""
        rules = (*self.edited.rules, *self.current.rules)
        return {rule.event for rule in _but(rules, self._same)}

    def take_batch(self, db: Database, batch: Sequence[Kit]) -> None:
        """Read the histories of some kits, and compare each."""
        with db.read() as connection:
            histories = kit_history.histories(connection, batch, self.events)
        for history in histories:
            self.take(history)

    def take(self, kit: History) -> None:
        """Compare the messages sent about a kit with those that would have been sent."""
        ours = self._edited.of(kit)
        self.found.forbidden.update(ours.forbidden)
        theirs = cache(lambda name: self._current.get(name, self._gone).of(kit))
        for past in kit.events:
            if past.received_at < self.since:
                continue
            was = sent(past)
            for name, why in ours.unknown.get(past.id, {}).items():
                rule = self.edited.by_name.get(name)
                self._note(past, (name, rule.to if rule else "", ""), UNKNOWN, 1, why)
            for way in {**was, **ours.messages.get(past.id, {})}:
                rows, counts = was.get(way, []), self.found.counts[way[0]]
                counts[SENT] += len(rows)
                self.found.volumes[way[0], way[2], SENT] += len(rows)
                if way[0] in self._same:
                    counts[WOULD] += len(rows)
                elif not ours.is_unknown(past, way[0]):
                    our = ours.message(past, way, rows)
                    counts[WOULD] += our.addresses if our else 0
                    self._judge(past, way, rows, our, ours, theirs)

    def _judge(
        self,
        past: PastEvent,
        way: MessageKey,
        rows: Sequence[Row],
        our: Message | None,
        ours: Rehearsed,
        theirs: Callable[[str], Rehearsed],
    ) -> None:
        """Compare the messages that went out one `way`, if any, with those that would have."""
        if our and rows and not (changed := changes(our, rows, self.edited.clinic.timezone)):
            return
        other = theirs(way[0]) if self.is_edit else ours
        their = other.message(past, way, rows)
        if our and rows:
            self._note_changes(past, way, changed, our, their, rows)
        elif our and their:
            why = f"It was not sent at the time: {unsent_reasons(past, way)}"
            self._note(past, way, EITHER_WAY if self.is_edit else ADDED, our.addresses, why)
        elif our:
            why = f"config.toml as it is would not send it: {other.why_not(past, way)}"
            self._note(past, way, ADDED, our.addresses, why)
        elif rows:
            why = ours.why_not(past, way)
            if any(row.status in WAITING for row in rows):
                why = f"{why} It still waits: what becomes of it is decided when it is due."
            by_edit = their or other.is_unknown(past, way[0]) or not self.is_edit
            self._note(past, way, DROPPED if by_edit else EITHER_WAY, len(rows), why)

    def _note_changes(
        self,
        past: PastEvent,
        way: MessageKey,
        changed: Mapping[str, str],
        our: Message,
        their: Message | None,
        rows: Sequence[Row],
    ) -> None:
        """Note how a message that was sent would have been different."""
        if not self.is_edit:
            their = None
        by_edit = [name for name in changed if getattr(our, name) != getattr(their, name, None)]
        anyway = [name for name in changed if name != "due_at"]  # tries move that
        if names := by_edit or anyway:
            why = "; ".join(changed[name] for name in names) + "."
            self._note(past, way, CHANGED if by_edit else EITHER_WAY, our.addresses, why)
        if by_edit:
            self.found.volumes[way[0], way[2], MORE] += our.addresses - len(rows)

    def _note(self, past: PastEvent, way: MessageKey, what: str, messages: int, why: str) -> None:
        self.found.counts[way[0]][what] += messages
        if more := {ADDED: messages, DROPPED: -messages}.get(what):
            self.found.volumes[way[0], way[2], MORE] += more
        about = (past.received_at, past.id, past.name, past.subject, past.round)
        self.found.lines.append(Line(*about, *way, what, messages, why))


def forbidden(compared: WhatIf) -> Iterator[tuple[str, int]]:
    """Yield each [never.…] of the edit and the number of messages it would have stopped."""
    names = (one.name for rule in compared.edited.rules for one in rule.never)
    for name in dict.fromkeys(names):
        yield name, compared.found.forbidden[name]


def unchanged(edited: Config, current: Config) -> frozenset[str]:
    """The names of the rules that both configs decide alike."""
    if (edited.policy, edited.clinic) != (current.policy, current.clinic):
        return frozenset()
    return frozenset(rule.name for rule in edited.rules if current.by_name.get(rule.name) == rule)


def renamed(edited: Config, current: Config) -> Iterator[tuple[str, str]]:
    """Yield each (new rule, removed rule) about the same event: it may be one rule renamed."""
    for new in edited.rules:
        if current.by_name.get(new.name):
            continue
        for gone in current.rules:
            if gone.event == new.event and not edited.by_name.get(gone.name):
                yield new.name, gone.name


def _but(rules: Sequence[Rule], same: frozenset[str]) -> list[Rule]:
    return [rule for rule in rules if rule.name not in same]


def sent(past: PastEvent) -> dict[MessageKey, list[Row]]:
    """The messages that really went out about an event, or wait to."""
    was: dict[MessageKey, list[Row]] = {}
    for row in past.rows:
        if row.status in _SENT:
            was.setdefault(row.way, []).append(row)
    return was


def changes(our: Message, rows: Sequence[Row], zone: ZoneInfo) -> Mapping[str, str]:
    """The ways in which a message differs from its rows, in words."""
    first, found = min(row.due_at for row in rows), {}
    if our.template != rows[0].template:
        found["template"] = f"template {our.template} instead of {rows[0].template}"
    if our.addresses != len(rows):
        found["addresses"] = f"{our.addresses} addresses instead of {len(rows)}"
    if abs(our.due_at - first) > _SAME_TIME:
        due, was = (f"{one.astimezone(zone):%d %b %Y %H:%M}" for one in (our.due_at, first))
        found["due_at"] = f"due {due} instead of {was}"
    return found


def unsent_reasons(past: PastEvent, way: MessageKey) -> str:
    """The outcomes of the messages that were not sent after all."""
    ends = {f"{row.status}. {row.reason}".strip() for row in past.rows if row.way == way}
    return " ".join(sorted(ends)) or "no rule at the time planned it."
