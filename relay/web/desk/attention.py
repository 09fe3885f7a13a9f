"""The reasons why Relay as a whole is held up, a sentence each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from flask import url_for

from relay.lab.facts import PERSONS
from relay.ledger import workers
from relay.ledger.database import Connection
from relay.ledger.holds import pauses
from relay.ledger.views import status
from relay.rules.channels import CHANNELS
from relay.rules.planner import unmet
from relay.web.services import services

NOT_TRIED = "Relay has not got to them yet."


class Need(NamedTuple):
    """Something that needs a person: how many, what, and the page that deals with it."""

    many: int | None
    said: str
    link: str
    to: str


def held_up(connection: Connection, kinds: Mapping[str, int]) -> Iterator[Need]:
    """Yield what stops Relay as a whole from sending. `kinds` are those of the open cases."""
    system = (url_for("desk.system"), "System")
    # this process knows config.toml's faults; the worker tries the templates
    if services().reloader.wrong or "config" in kinds:
        said = (
            "config.toml or a template has a mistake. Relay is still using the last good version."
        )
        yield Need(None, said, url_for("desk.rules"), "Rules")
    for row in pauses.paused(connection):
        if row["channel"] == pauses.LAB:
            said = f"Relay has waited for the lab since {when(row['since'])}: {row['reason']}"
        else:
            said = f"{CHANNELS[row['channel']].title} are paused: {row['reason']}"
        yield Need(None, said, *system)
    if not workers.workers_alive(connection):
        yield Need(None, "No worker is running: nothing goes out.", *system)
    for one in status.late_events(connection):
        is_one = one.many == 1
        words = f"event{'' if is_one else 's'} from the lab {'has' if is_one else 'have'} waited"
        said = f"{words} since {when(one.since)}: {one.named or NOT_TRIED}"
        yield Need(one.many, said, *system)
    for one in status.late_messages(connection):
        channel = CHANNELS[one.named]
        words = f"{channel.word} has been" if one.many == 1 else f"{channel.words} have been"
        yield Need(one.many, f"{words} overdue since {when(one.since)}", *system)
    for said in _no_account():
        yield Need(None, said, *system)
    yield from _never_met(connection)


NEVER_MET = 10  # events for which a rule's condition was not true, so may never be


def _never_met(connection: Connection) -> Iterator[Need]:
    """Yield rules that sent nothing for their last events: a condition may be wrong."""
    latest = status.latest_decisions(connection)
    for rule in services().config.rules:
        some = latest.get(rule.event, [])[:NEVER_MET]
        # Rules for staff may be about rare things, such as a result that failed.
        condition = rule.when if rule.enabled and rule.to in PERSONS else None
        if not condition or len(some) < NEVER_MET:
            continue
        if all(reasons.get(rule.name) == unmet(condition) for reasons in some):
            said = (
                f"{rule.name} sent nothing for the last {NEVER_MET} events: its `when` was not true"
            )
            yield Need(None, said, url_for("desk.rule", name=rule.name), "The rule")


def _no_account() -> Iterator[str]:
    settings, rules = services().settings, services().config.rules
    used = {way for rule in rules if rule.enabled for way in rule.ways}
    for channel in sorted(used):
        if settings.delivery != "dry-run" and not settings.accounts[channel]:
            why = f"delivery is {settings.delivery}, but no account is set up for them"
            yield f"{CHANNELS[channel].title} are kept here, not sent: {why}."


def when(moment: datetime) -> str:
    """A moment by the clinic's clock, in short."""
    return moment.astimezone(services().config.clinic.timezone).strftime("%-d %b, %H:%M")
