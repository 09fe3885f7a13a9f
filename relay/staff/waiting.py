"""Compares how each waiting message would go by the rules and words before and after an edit.

It uses the ledger's facts about a kit. Before a message goes out Relay asks the lab once more.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple

from relay.config import check
from relay.config.loader import Config
from relay.errors import RenderError
from relay.ledger import journeys
from relay.ledger.database import Database
from relay.ledger.worklist import releases
from relay.ledger.worklist.releases import Held
from relay.messages.templates import Message, Templates
from relay.rules import planner
from relay.rules.addresses import normalised
from relay.rules.model import Step
from relay.rules.statuses import DIGEST
from relay.staff.what_if import unchanged

# How a message's fate changes, in the page's words.
DROPPED, KEPT, REVIVED = "not sent", "kept until somebody decides", "sent after all"
WAY, TIME, WORDS = "another way", "at another time", "in other words"


class Fate(NamedTuple):
    """A message's fate: if it has an `end`, DROPPED or KEPT, it goes nowhere."""

    end: str = ""
    way: tuple[str, ...] = ()
    due_at: datetime | None = None
    words: Message | str = ""


def compare(
    db: Database,
    edited: Config,
    current: Config,
    touched: Collection[str],
    progress: Callable[[], None],
) -> dict[str, Any]:
    """Count the waiting messages of the rules that an edit may concern, and by rule how many of
    them would go differently: as JSON.
    """
    concerned = {rule.name for rule in (*edited.rules, *current.rules)}
    if not any("." in name for name in touched):  # a layout is in every template
        words = {rule.name for rule in edited.rules if rule.template in touched}
        concerned -= unchanged(edited, current) - words
    both = [(config, Templates(config.settings.templates)) for config in (current, edited)]
    many, found, last, now = 0, defaultdict[str, Counter[str]](Counter), "", datetime.now(UTC)
    while True:
        with db.read() as connection:
            held = releases.waiting_after(connection, last, concerned)
            steps = cache(lambda *kit: journeys.steps_of_kit(connection, *kit))
            for one in held:
                fates = [fate(*by, one, steps(one.event_name, one.subject), now) for by in both]
                found[one.rule].update(differences(*fates))
        if not held:
            break
        many, last = many + len(held), held[-1].id
        progress()
    return {"many": many, "rules": {rule: dict(counts) for rule, counts in found.items() if counts}}


def differences(was: Fate, now: Fate) -> Iterator[str]:
    """Yield the differences between a message's fates."""
    if was.end != now.end:
        yield now.end or REVIVED
    elif was.way != now.way:
        yield WAY
    else:
        yield from (TIME,) if was.due_at != now.due_at else ()
        yield from (WORDS,) if was.words != now.words else ()


def fate(
    config: Config, loaded: Templates, held: Held, known: tuple[Step, ...], now: datetime
) -> Fate:
    """A message's fate by a configuration, if nothing else happens to its kit."""
    rule = config.by_name.get(held.rule)
    if rule is None or rule.to != held.role:
        return Fate(KEPT)
    context, is_digest = held.context(config.clinic.record(), known), held.kind == DIGEST
    try:
        is_wanted = rule.enabled and (is_digest or not planner.last_objection(rule, context, now))
    except RenderError:
        is_wanted = False
    if held.stopped_by or not is_wanted:
        return Fate(DROPPED)
    way = ("digest" if rule.digest else "", *rule.channels)
    if held.channel in rule.ways:
        made = planner.notices(rule, (held.channel,), context, config.policy, now)
        is_theirs = normalised(held.address) in (normalised(notice.address) for notice in made)
        way = (way[0], held.channel, "" if is_theirs else "another address")
    due_at = planner.opening(rule, config.policy, max(now, held.due_at))
    try:
        if rule.digest or is_digest:  # by its example: it has the words of many
            return Fate("", way, due_at, check.example(config, loaded, rule, held.channel))
        names = context.names_to(rule.to)
        return Fate("", way, due_at, loaded.message(rule, held.channel, held.address, names))
    except RenderError as error:
        return Fate("", way, due_at, str(error))
