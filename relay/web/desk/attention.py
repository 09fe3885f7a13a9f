"""What needs a person, in a sentence each: what holds Relay up, and what is on the worklist."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from flask import url_for

from relay.ledger import cases, pauses, workers
from relay.ledger.database import Connection
from relay.ledger.views import status
from relay.rules.channels import CHANNELS
from relay.web.context import services

# The kinds of case, as they are counted: one, several.
KINDS = {
    "unreached": ("person was not reached", "people were not reached"),
    "held": ("event from the lab is held", "events from the lab are held"),
    "release": ("message waits for your release", "messages wait for your release"),
    "missing": ("kit has not come as far as it should", "kits have not come as far as they should"),
    "unknown": ("message may or may not have gone out", "messages may or may not have gone out"),
    "broken": ("message could not be written", "messages could not be written"),
    "erasure": ("erasure has left something", "erasures have left something"),
    "limit": ("day's limit on texts was reached", "days' limits on texts were reached"),
}
# These are told by what is so now, not by their case.
NOW = ("paused", "config")
REFUSED = ("post from the lab was refused", "posts from the lab were refused")
UNKNOWN = (
    "kind of event has come that Relay does not know",
    "kinds of events have come that Relay does not know",
)
NOT_TRIED = "Relay has not come to them."


class Need(NamedTuple):
    """Something that needs a person: how many, what, and where it is seen to."""

    many: int | None
    said: str
    link: str
    to: str


def needs(connection: Connection, waiting: Mapping[str, int]) -> Iterator[Need]:
    """All of it, what holds up everybody first. `waiting` is how much is on the worklist."""
    found = cases.open_kinds(connection)
    yield from held_up(connection, found)
    for kind, words in KINDS.items():
        if many := found.get(kind, 0):
            yield Need(many, words[many > 1], url_for("desk.worklist", kind=kind), "Worklist")
    if many := waiting["refused"]:
        yield Need(many, REFUSED[many > 1], url_for("desk.quarantine"), "Refused posts")
    if many := waiting["unknown"]:
        yield Need(many, UNKNOWN[many > 1], url_for("desk.unknown_events"), "Unknown events")


def held_up(connection: Connection, kinds: Mapping[str, int]) -> Iterator[Need]:
    """What keeps Relay as a whole from telling people. `kinds` are those of the open cases."""
    system = (url_for("desk.system"), "System")
    # config.toml we know; templates the worker tries
    if services().living.wrong or "config" in kinds:
        said = "config.toml or a template is wrong. Relay goes on by the last good one."
        yield Need(None, said, url_for("desk.rules"), "Rules")
    for row in pauses.paused(connection):
        yield Need(None, f"{CHANNELS[row['channel']].title} are paused: {row['reason']}", *system)
    if not workers.workers_alive(connection):
        yield Need(None, "No worker is alive: nothing goes out.", *system)
    for one in status.late_events(connection):
        words = "event from the lab waits" if one.many == 1 else "events from the lab wait"
        said = f"{words} since {_when(one.since)}: {one.named or NOT_TRIED}"
        yield Need(one.many, said, *system)
    for one in status.late_messages(connection):
        channel = CHANNELS[one.named]
        words = f"{channel.word} is" if one.many == 1 else f"{channel.words} are"
        yield Need(one.many, f"{words} overdue since {_when(one.since)}", *system)
    for said in _no_account():
        yield Need(None, said, *system)


def _no_account() -> Iterator[str]:
    settings, rules = services().settings, services().config.rules
    used = {way for rule in rules if rule.enabled for way in (*rule.channels, *rule.fallback)}
    for channel in sorted(used):
        if settings.delivery != "dry-run" and not settings.accounts[channel]:
            nobody = f"{CHANNELS[channel].title} go to nobody: delivery is {settings.delivery}"
            yield f"{nobody}, and no account for them is set. They are kept here."


def _when(moment: datetime) -> str:
    """A moment by the clinic's clock."""
    return moment.astimezone(services().config.clinic.timezone).strftime("%-d %b, %H:%M")
