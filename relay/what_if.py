"""An edited config against what was sent: which messages it adds, drops or changes. Pure.

Both configs are played to the same past. What was sent is compared with what the edited one would
have sent; where the config that is in use differs from the past in the same way, the edit is not
the reason: somebody had opted out, an event was replayed, or the config was another one then.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import NamedTuple

from relay.config.loader import Config
from relay.ledger.views.kit_history import History, MessageKey, PastEvent, Row
from relay.rehearsal import Message, Rehearsal, Rehearsed
from relay.rules.model import ALIVE, WAITING, Rule

ADDED, DROPPED, CHANGED, UNKNOWN = "added", "dropped", "changed", "cannot-be-told"
EITHER_WAY = "either-way"
WOULD, SENT = "would-send", "sent"
COUNTS = (WOULD, SENT, ADDED, DROPPED, CHANGED, UNKNOWN, EITHER_WAY)

# A provider took it, may have, or refused it; or it waits. What could not be written went nowhere.
_SENT = (*ALIVE, "permanent-failure", "temporary-failure")
_SAME_TIME = timedelta(minutes=1)


class Line(NamedTuple):
    """One difference. Of `messages` each goes to an address of its own; no address is in it."""

    at: datetime  # when the event came
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


class WhatIf:
    """Takes one kit's past after another; `lines` and `counts` (by rule) are what came of it.

    Rules that the edit leaves alone are not played: they would do what they did. Those of the
    config that is in use are asked where something differs.
    """

    def __init__(self, edited: Config, current: Config, since: datetime):
        self.edited, self.current, self.since = edited, current, since
        self.lines: list[Line] = []
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self._same = unchanged(edited, current)
        # The file that is in use may have been edited itself: then only what was sent is compared.
        self.is_edit = len(self._same) < max(len(edited.rules), len(current.rules))
        if not self.is_edit:
            self._same = frozenset()
        self._edited = Rehearsal(edited, _but(edited.rules, self._same), current, since)
        self._current = {
            rule.name: Rehearsal(current, [rule], current, since)
            for rule in _but(current.rules, self._same)
        }
        self._gone = Rehearsal(current, (), current, since)
        self._zone = edited.clinic.timezone

    @property
    def events(self) -> set[str]:
        """The events whose details are needed."""
        rules = (*self.edited.rules, *self.current.rules)
        return {rule.event for rule in _but(rules, self._same)}

    def take(self, kit: History) -> None:
        """Compare what was sent about a kit with what would have been."""
        ours = self._edited.of(kit)
        theirs = cache(lambda name: self._current.get(name, self._gone).of(kit))
        for past in kit:
            if past.received_at < self.since:
                continue
            was = _sent(past)
            for name, why in ours.unknown.get(past.id, {}).items():
                rule = self.edited.rule(name)
                self._note(past, (name, rule.to if rule else "", ""), UNKNOWN, 1, why)
            for way in {**was, **ours.messages.get(past.id, {})}:
                rows, counts = was.get(way, []), self.counts[way[0]]
                counts[SENT] += len(rows)
                if way[0] in self._same:
                    counts[WOULD] += len(rows)
                elif not ours.is_unknown(past, way[0]):
                    our = ours.message(past, way, rows)
                    counts[WOULD] += our.addresses if our else 0
                    self._judge(past, way, rows, our, ours, theirs)

    def add(self, lines: Sequence[Line], counts: Mapping[str, Counter[str]]) -> None:
        """Take over what came of other kits."""
        self.lines += lines
        for rule, count in counts.items():
            self.counts[rule] += count

    def _judge(
        self,
        past: PastEvent,
        way: MessageKey,
        rows: Sequence[Row],
        our: Message | None,
        ours: Rehearsed,
        theirs: Callable[[str], Rehearsed],
    ) -> None:
        """Compare what went out one way, if anything did, with what would have."""
        if our and rows and not (changed := _changed(our, rows)):
            return
        other = theirs(way[0]) if self.is_edit else ours
        their = other.message(past, way, rows)
        if our and rows:
            self._note_changes(past, way, changed, our, their, rows)
        elif our and their:
            why = f"It was not sent then: {_ends(past, way)}"
            self._note(past, way, EITHER_WAY if self.is_edit else ADDED, our.addresses, why)
        elif our:
            why = f"By config.toml it is not sent: {other.why_not(past, way)}"
            self._note(past, way, ADDED, our.addresses, why)
        elif rows:
            why = ours.why_not(past, way)
            if any(row.status in WAITING for row in rows):
                why = f"{why} It still waits: it is cancelled when it is due."
            by_edit = their or other.is_unknown(past, way[0]) or not self.is_edit
            self._note(past, way, DROPPED if by_edit else EITHER_WAY, len(rows), why)

    def _note_changes(
        self,
        past: PastEvent,
        way: MessageKey,
        changed: Sequence[str],
        our: Message,
        their: Message | None,
        rows: Sequence[Row],
    ) -> None:
        """Note how a message that was sent would have been another one."""
        if not self.is_edit:
            their = None
        then = _as_sent(rows)
        by_edit = [name for name in changed if getattr(our, name) != getattr(their, name, None)]
        if by_edit:
            self._note(past, way, CHANGED, our.addresses, self._told(by_edit, our, then))
        elif anyway := [name for name in changed if name != "due_at"]:  # tries move that
            self._note(past, way, EITHER_WAY, our.addresses, self._told(anyway, our, then))

    def _told(self, names: Sequence[str], our: Message, then: Message) -> str:
        return "; ".join(self._instead(name, our, then) for name in names) + "."

    def _instead(self, name: str, our: Message, then: Message) -> str:
        if name == "template":
            return f"template {our.template} instead of {then.template}"
        if name == "addresses":
            return f"{our.addresses} addresses instead of {then.addresses}"
        due, was = (one.due_at.astimezone(self._zone) for one in (our, then))
        return f"due {due:%d %b %Y %H:%M} instead of {was:%d %b %Y %H:%M}"

    def _note(self, past: PastEvent, way: MessageKey, what: str, messages: int, why: str) -> None:
        self.counts[way[0]][what] += messages
        about = (past.received_at, past.id, past.name, past.subject, past.round)
        self.lines.append(Line(*about, *way, what, messages, why))


def unchanged(edited: Config, current: Config) -> frozenset[str]:
    """The names of the rules that decide the same by both."""
    if (edited.policy, edited.clinic) != (current.policy, current.clinic):
        return frozenset()
    return frozenset(rule.name for rule in edited.rules if current.rule(rule.name) == rule)


def renamed(edited: Config, current: Config) -> Iterator[tuple[str, str]]:
    """Each (new rule, rule that is gone) about the same event: it may be the same one renamed."""
    for new in edited.rules:
        if current.rule(new.name):
            continue
        for gone in current.rules:
            if gone.event == new.event and not edited.rule(gone.name):
                yield new.name, gone.name


def _but(rules: Sequence[Rule], same: frozenset[str]) -> list[Rule]:
    return [rule for rule in rules if rule.name not in same]


def _sent(past: PastEvent) -> dict[MessageKey, list[Row]]:
    """What really went out about an event, or waits to."""
    was: dict[MessageKey, list[Row]] = {}
    for row in past.rows:
        if row.status in _SENT:
            was.setdefault(row.way, []).append(row)
    return was


def _as_sent(rows: Sequence[Row]) -> Message:
    return Message(rows[0].template, min(row.due_at for row in rows), len(rows))


def _changed(our: Message, rows: Sequence[Row]) -> list[str]:
    """What of a message is not as it was sent."""
    then = _as_sent(rows)
    differs = {
        "template": our.template != then.template,
        "addresses": our.addresses != then.addresses,
        "due_at": abs(our.due_at - then.due_at) > _SAME_TIME,
    }
    return [name for name, differ in differs.items() if differ]


def _ends(past: PastEvent, way: MessageKey) -> str:
    """What became of the messages that were not sent after all."""
    ends = {f"{row.status}. {row.reason}".strip() for row in past.rows if row.way == way}
    return " ".join(sorted(ends)) or "no rule of then planned it."
