"""An edited config against what was sent: which messages it adds, drops or changes. Pure.

Both configs are played to the same past. What was sent is compared with what the edited one would
have sent; where the config that is in use would differ from the past in the same way, the edit is
not the reason: somebody had opted out, a provider refused, or the config was another one then.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from relay.config import Config
from relay.ledger.past import History, Past, Row, Way
from relay.ledger.statuses import ALIVE, WAITING
from relay.rehearsal import Message, Rehearsal, Rehearsed

ADDED, DROPPED, CHANGED, UNKNOWN = "added", "dropped", "changed", "cannot-be-told"
EITHER_WAY = "either-way"
WOULD, SENT = "would-send", "sent"
COUNTS = (WOULD, SENT, ADDED, DROPPED, CHANGED, UNKNOWN, EITHER_WAY)

# A provider took it, may have, or refused it; or it waits. What could not be written went nowhere.
_SENT = (*ALIVE, "permanent-failure", "temporary-failure")
_SAME_TIME = timedelta(minutes=1)


@dataclass(frozen=True)
class Line:
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
    """Takes one kit's past after another; `lines` and `counts` (by rule) are what came of it."""

    def __init__(self, edited: Config, current: Config, since: datetime):
        self.edited, self.current, self.since = edited, current, since
        self.lines: list[Line] = []
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self._edited = Rehearsal(edited, current, since)
        self._current = Rehearsal(current, current, since)
        self._zone = edited.clinic.timezone

    def take(self, kit: History) -> None:
        """Compare what was sent about a kit with what would have been."""
        ours, theirs = self._edited.of(kit), self._current.of(kit)
        for past in kit:
            if past.received_at >= self.since:
                self._compare(past, ours, theirs)

    def _compare(self, past: Past, ours: Rehearsed, theirs: Rehearsed) -> None:
        was: dict[Way, list[Row]] = defaultdict(list)
        for row in past.rows:
            if row.status in _SENT:
                was[row.way].append(row)
                self.counts[row.rule][SENT] += 1
        unknown = ours.unknown.get(past.id, {})
        for name, why in unknown.items():
            rule = self.edited.rule(name)
            self._note(past, (name, rule.to if rule else "", ""), UNKNOWN, 1, why)
        for way in {**was, **ours.messages.get(past.id, {})}:
            if way[0] not in unknown:
                self._judge(past, way, was.get(way, []), ours, theirs)

    def _judge(
        self, past: Past, way: Way, rows: Sequence[Row], ours: Rehearsed, theirs: Rehearsed
    ) -> None:
        """Compare what went out one way, if anything did, with what would have."""
        our = _message(self._edited, ours, past, way, rows)
        their = _message(self._current, theirs, past, way, rows)
        if our:
            self.counts[way[0]][WOULD] += our.addresses
        if our and rows:
            self._changes(past, way, our, their, rows)
        elif our and their:
            why = f"config.toml would send it too, but it was not sent then: {_ends(past, way)}"
            self._note(past, way, EITHER_WAY, our.addresses, why)
        elif our:
            why = f"config.toml does not: {self._current.why_not(theirs, past, way)}"
            self._note(past, way, ADDED, our.addresses, why)
        elif their or theirs.is_unknown(past, way[0]):
            why = self._edited.why_not(ours, past, way)
            if any(row.status in WAITING for row in rows):
                why = f"{why} It still waits: it is cancelled when it is due."
            self._note(past, way, DROPPED, len(rows), why)
        else:
            why = self._current.why_not(theirs, past, way)
            why = f"config.toml would not send it either: {why}"
            self._note(past, way, EITHER_WAY, len(rows), why)

    def _changes(
        self, past: Past, way: Way, our: Message, their: Message | None, rows: Sequence[Row]
    ) -> None:
        """Note how a message that was sent would have been another one."""
        then = Message(rows[0].template, min(row.due_at for row in rows), len(rows))
        differs = {
            "template": our.template != then.template,
            "addresses": our.addresses != then.addresses,
            "due_at": abs(our.due_at - then.due_at) > _SAME_TIME,
        }
        told = self._told(our, then)
        changed = [name for name, differ in differs.items() if differ]
        by_edit = [name for name in changed if getattr(our, name) != getattr(their, name, None)]
        if by_edit:
            why = "; ".join(told[name] for name in by_edit)
            self._note(past, way, CHANGED, our.addresses, f"{why}.")
        elif anyway := [told[name] for name in changed if name != "due_at"]:  # tries move that
            why = f"config.toml would send it so as well: {'; '.join(anyway)}."
            self._note(past, way, EITHER_WAY, our.addresses, why)

    def _told(self, our: Message, then: Message) -> Mapping[str, str]:
        def at(moment: datetime) -> str:
            return moment.astimezone(self._zone).strftime("%d %b %Y %H:%M")

        return {
            "template": f"template {our.template} instead of {then.template}",
            "addresses": f"{our.addresses} addresses instead of {then.addresses}",
            "due_at": f"due {at(our.due_at)} instead of {at(then.due_at)}",
        }

    def _note(self, past: Past, way: Way, what: str, messages: int, why: str) -> None:
        self.counts[way[0]][what] += messages
        about = (past.received_at, past.id, past.name, past.subject, past.round)
        self.lines.append(Line(*about, *way, what, messages, why))


def renamed(edited: Config, current: Config) -> Iterator[tuple[str, str]]:
    """Each (new rule, rule that is gone) about the same event: it may be the same one renamed."""
    for new in edited.rules:
        if current.rule(new.name):
            continue
        for gone in current.rules:
            if gone.event == new.event and not edited.rule(gone.name):
                yield new.name, gone.name


def _message(
    rehearsal: Rehearsal, made: Rehearsed, past: Past, way: Way, rows: Sequence[Row]
) -> Message | None:
    """What would have gone out that way. A fallback that was tried because something had failed
    would have been tried again, if the rule still has it.
    """
    own = made.messages.get(past.id, {})
    name, role, channel = way
    if way in own or not any(row.is_fallback for row in rows):
        return own.get(way)
    rule = rehearsal.config.rule(name)
    if rule and channel in rule.fallback and any(other[:2] == (name, role) for other in own):
        return Message(rule.template, rows[0].due_at, len(rows))
    return None


def _ends(past: Past, way: Way) -> str:
    """What became of the messages that were not sent after all."""
    ends = {f"{row.status}. {row.reason}".strip() for row in past.rows if row.way == way}
    return " ".join(sorted(ends)) or "no rule of then planned it."
