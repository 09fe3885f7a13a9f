"""Builds the context of rules and templates: an event or a message, with the lab's facts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from relay.config.loader import Config
from relay.fault_injection import hastened
from relay.lab.events import EVENTS, REGISTRATION, is_named
from relay.lab.facts import Facts
from relay.ledger import journeys
from relay.ledger.database import Database
from relay.messages.templates import Templates
from relay.rules.expressions import RuleContext, names
from relay.rules.model import Step
from relay.rules.planner import FRESH_SECONDS

if TYPE_CHECKING:
    from relay.jobs.circuit_breaker import LabBreaker
    from relay.ledger.events import Event, Kit
    from relay.ledger.notifications import WithEvent

MOST_ANSWERS = 500  # in a process's memory, a few kB each


class ContextBuilder:
    """Fetches facts from the lab, and builds the contexts that rules and templates see."""

    def __init__(self, config: Config, db: Database, lab: LabBreaker, templates: Templates):
        self._db = db
        self._lab = lab
        self._answers = Answers()
        self._clinic = config.clinic.record()
        self._wanted = {name: _named(config, templates, name) for name in EVENTS}
        self._read = {name: _read(config, templates, name) for name in EVENTS}

    def of_event(self, event: Event, facts: Facts, kit: Kit) -> RuleContext:
        """The context of an event that is being processed."""
        seen = names(event.name, event.data, event.received_at, facts, self._clinic)
        step = Step(event.name, kit.place.round, event.received_at)
        return RuleContext(step, kit.place.subject, facts, seen, kit.known)

    def of_message(self, row: WithEvent, known: tuple[Step, ...] = ()) -> RuleContext:
        """The context of a notification, with the facts that it carries and the steps `known`."""
        return row.context(self._clinic, known)

    def facts(
        self, name: str, data: Mapping[str, Any], known: Facts, *, has_turn: bool = False
    ) -> Facts:
        """Return the lab's current facts about an event's kit. Raises LabError, and LabAway; a
        leased event `has_turn` to ask.

        If the `known` facts say which kit an event is about, ask for that one: its name may since
        belong to another.
        """
        kind = EVENTS[name]
        if kind.resource == REGISTRATION and (id_ := own_id(known, str(data[kind.id_field]))):
            data = {**data, kind.id_field: id_}
        wanted = self._wanted[name]
        return self._lab.gather(kind, data, wanted, self._order_of, has_turn=has_turn)

    def recent_facts(self, row: WithEvent, *, may_ask: bool, anew: bool) -> Facts | None:
        """The lab's facts about a message's kit: those that another message of the event fetched
        recently, or new ones if it `may_ask`; else None. `anew` ignores recent ones. Raises
        LabError.
        """
        fetch = partial(self.facts, row.event_name, row.event_data, row.facts)
        return self._answers.get(row, fetch if may_ask else None, anew=anew)

    def _order_of(self, registration: str) -> str | None:
        with self._db.read() as connection:
            return journeys.order_of(connection, registration)

    def to_keep(self, name: str, facts: Facts) -> Facts:
        """The facts that the ledger keeps: without sensitive fields that no rule reads."""
        return facts.without_unread(self._read[name])

    def are_old(self, name: str, facts: Facts, since: datetime) -> bool:
        """Whether Relay must ask the lab again before a message goes out with these facts."""
        is_old = (datetime.now(UTC) - since).total_seconds() > hastened(FRESH_SECONDS)
        return is_old or facts.lacks(self._read[name])


class Answers:
    """The lab's recent answers about events, so that all messages of an event ask once.

    Only in memory, since the data may be erased meanwhile; other workers ask for themselves.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[tuple[str, datetime], tuple[Future[Facts], datetime]] = {}

    def get(self, row: WithEvent, fetch: Callable[[], Facts] | None, *, anew: bool) -> Facts | None:
        """Return the answer about a message's event that is there or under way, unless it must be
        `anew`, else that of `fetch`; None without either. Raises what `fetch` raises.
        """
        key, at = (row.event_id, row.facts_at), datetime.now(UTC)
        mine: Future[Facts] | None = None
        with self._lock:
            known, asked_at = self._asked.get(key) or (None, at)
            if anew or (at - asked_at).total_seconds() > hastened(FRESH_SECONDS):
                known = None
            if known is None and fetch:
                known = mine = Future()
                self._asked[key] = (mine, at)
                if len(self._asked) > MOST_ANSWERS:
                    del self._asked[next(iter(self._asked))]  # the oldest
        if mine and fetch:
            try:
                mine.set_result(fetch())
            except BaseException as error:
                with self._lock:
                    if self._asked.get(key) == (mine, at):
                        del self._asked[key]
                mine.set_exception(error)
        if known is None or not (fetch or known.done()):
            return None
        return known.result()


def own_id(known: Facts, name: str) -> str:
    """The id of a registration that had a name when its facts were kept; empty if none had."""
    registration = known.registration or {}
    return str(registration.get("id") or "") if is_named(registration, name) else ""


def _named(config: Config, templates: Templates, event: str) -> frozenset[str]:
    """The resources that the enabled rules for an event name: Relay must fetch them."""
    named: set[str] = set()
    for rule in config.rules:
        if rule.event == event and rule.enabled:
            named |= {rule.to}.union(*(one.roots for one in rule.asks))
            channels, is_digest = rule.ways, bool(rule.digest)
            for one in templates.variants(rule):
                named |= templates.roots(one.template, channels, is_digest=is_digest)
    return frozenset(named)


def _read(config: Config, templates: Templates, event: str) -> frozenset[str]:
    """The fields that the enabled rules for an event read."""
    read: set[str] = set()
    for rule in config.rules:
        if rule.event == event and rule.enabled:
            read = read.union(*(one.fields for one in rule.asks))
            for one in templates.variants(rule):
                read |= templates.fields(one.template, rule.ways)
    return frozenset(read)
