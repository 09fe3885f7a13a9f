"""The ledger's record of an event, in plain sentences: why it did or did not reach somebody. Pure.

They contain no name, number, address or word of a message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from relay.ledger.views.status import Blockers
from relay.ledger.views.trail import Trail
from relay.rules.channels import CHANNELS
from relay.rules.model import ALERT, ALERT_PREFIX
from relay.rules.statuses import RECEIVED, WAITING

Row = Mapping[str, Any]
Clock = Callable[[datetime | None], str]
Line = tuple[int, str]  # how far it is indented, and what it says
Title = Callable[[str], str]  # what a kind of case is called
_KINDS = {name: row.word for name, row in CHANNELS.items()}
_ATTEMPTS = {
    "started": "is under way",
    "accepted": "was accepted by the provider",
    "rejected": "was refused",
    "unknown": "may or may not have reached the provider",
}


# How a message stands, said of it. The words of failures are those of the docs' tables besides.
_STANDS = {
    "created": "has not gone out yet",
    "scheduled": "has not gone out yet",
    "sending": "is being sent",
    "sent": "was sent; there is no receipt yet",
    "delivered": "has arrived",
    "permanent-failure": "cannot arrive (permanent-failure)",
    "temporary-failure": "was given up (temporary-failure)",
    "technical-failure": "failed through a fault on our side (technical-failure)",
    "validation-failed": "could not be sent: there is no usable address (validation-failed)",
    "cancelled": "was cancelled",
    "unknown": "may or may not have gone out",
}
_KEPT = "was made and kept here, not sent"
_KEPT_ATTEMPT = "was not sent but kept here"
_NO_WORKER = "no worker is running"


def explain(trail: Trail, zone: ZoneInfo, standing: Blockers, title: Title) -> Iterator[Line]:
    """One event and its messages, step by step, and what holds them up now."""

    at = clock(zone)
    yield from tell_event(trail.event, at, standing)
    for row in trail.messages:
        yield from tell_message(row, at, standing, title)
    yield from tell_decisions(trail)
    for case in trail.cases:
        yield from tell_case(case, at, title)


def explain_refused(row: Row, zone: ZoneInfo) -> Iterator[Line]:
    """The record of a body in quarantine."""
    yield 0, f"{clock(zone)(row['first_at'])}: a post was refused ({row['id']}). {row['error']}"
    for field, said in row["fields"].items():
        yield 1, f"{field}: {' '.join(said)}"
    if row["posts"] > 1:
        yield 1, f"It was posted {row['posts']} times."
    if event := row["event_id"]:
        yield 1, f"It has since been accepted as {event}."
    elif row["closed_at"]:
        at = clock(zone)(row["closed_at"])
        yield 1, f"{at}: put aside by {row['closed_by']}. {row['note']}"
    else:
        yield 1, "Relay keeps it unchanged."


def clock(zone: ZoneInfo) -> Clock:
    """Writes times in the clinic's time zone."""

    def at(moment: datetime | None) -> str:
        return moment.astimezone(zone).strftime("%d %b %Y %H:%M:%S") if moment else "(never)"

    return at


def tell_event(event: Row, at: Clock, standing: Blockers) -> Iterator[Line]:
    """An event, and what Relay did with it."""
    again = event["duplicates"]
    if event["source"] == "lab":
        how = f"the lab posted {event['name']}"
    else:
        how = f"the lab had not posted {event['name']}; Relay asked, and it had happened"
    yield 0, f"{at(event['received_at'])}: {how} ({event['id']})."
    if again:
        yield 1, f"It was posted again {again} time{'s' * (again > 1)}, which changed nothing."
    if event["subject"]:
        part = f", in retest round {event['round']}" if event["round"] else ""
        yield 1, f"It is about {event['subject']}{part}."
    tried = f" after {event['tries']} tries" if event["tries"] > 1 else ""
    held_at = event["tried_at"] or event["processed_at"]  # the release before wrote the second
    said = {
        "received": f"Relay has not processed it yet. {event['reason']}",
        "processed": f"It was processed at {at(event['processed_at'])}{tried}.",
        "held": f"It has been held since {at(held_at)}. {event['reason']}",
        "unrouted": "Relay does not know this event. `replay` processes it once Relay does.",
    }
    yield 1, said[event["status"]].strip()
    if event["status"] == RECEIVED and not standing.workers:
        yield 1, f"It is waiting: {_NO_WORKER}."


def tell_decisions(trail: Trail) -> Iterator[Line]:
    """Why each rule that sent nothing did so."""
    for decision in trail.event["decisions"] or ():
        yield 1, f"Rule {decision['rule']} sent nothing. {decision['reason']}"
    if trail.event["status"] == "processed" and not (trail.messages or trail.event["decisions"]):
        yield 1, "No rule is for this event."


def named(row: Row, title: Title) -> str:
    """The name of a message's rule, or the title of one of Relay's own alerts."""
    rule = str(row["rule"])
    return title(rule.removeprefix(ALERT_PREFIX)) if row["kind"] == ALERT else rule


def is_kept(row: Row) -> bool:
    """Whether a message counts as sent and was only kept here: delivery was dry-run."""
    return row["status"] == "sent" and bool(row["is_kept"])


def tell_message(row: Row, at: Clock, standing: Blockers, title: Title) -> Iterator[Line]:
    """A message: its recipient, rule and channel, each attempt, and its status."""
    kind = _KINDS.get(row["channel"], row["channel"])
    if row["kind"] == ALERT:
        yield 1, f'Alert "{named(row, title)}": {kind} to {row["role"]} ({row["id"]}).'
    else:
        way = " as its fallback" if row["is_fallback"] else ""
        yield 1, f"Rule {row['rule']}{way}: {kind} to the {row['role']} ({row['id']})."
    if row["due_at"] > row["created_at"] or row["status"] in WAITING:
        tense = "is" if row["due_at"] > standing.at else "was"
        yield 2, f"It {tense} due at {at(row['due_at'])}."
    for item in row["items"]:
        yield 2, f"It includes {item['name']} about {item['subject']} ({item['event_id']})."
    for attempt in row["attempts"]:
        yield from tell_attempt(attempt, at)
    stands, why = f"It {message_state(row, at, standing)}.", row["reason"]
    yield 2, stands if why in stands else f"{stands} {why}"
    if digest := row["told_in"]:
        yield 2, f"That digest ({digest['id']}) {message_state(digest, at, standing)}."


def message_state(row: Row, at: Clock, standing: Blockers) -> str:
    """How a message stands; of one that is due, what holds it up."""
    if is_kept(row):
        return _KEPT
    if row["status"] not in WAITING or row["due_at"] > standing.at:
        return _STANDS[row["status"]]
    causes = "; ".join(waiting_causes(row["channel"], at, standing))
    return f"is waiting: {causes}" if causes else "is waiting for a worker, which takes it next"


def waiting_causes(channel: str, at: Clock, standing: Blockers) -> Iterator[str]:
    """Yield each reason why a channel's due messages wait: no worker, a pause, a limit."""
    way = CHANNELS[channel]
    if not standing.workers:
        yield _NO_WORKER
    if pause := standing.pauses.get(channel):
        why = pause["reason"].removesuffix(".")
        yield f"{way.words} have been paused since {at(pause['since'])}, because {why}"
    if channel in standing.spent:
        most = standing.spent[channel]
        yield f"the day's limit of {way.many(most)} has been reached; more go out tomorrow"


def tell_attempt(attempt: Row, at: Clock) -> Iterator[Line]:
    """Yield the lines about one attempt: its outcome, the next look-up and its receipts."""
    id_ = attempt["provider_id"] or ""
    done = _KEPT_ATTEMPT if attempt["is_kept"] else _ATTEMPTS[attempt["outcome"]]
    detail = f": {attempt['detail']}" if attempt["detail"] else "."
    yield 2, f"{at(attempt['started_at'])}: an attempt {done}{id_ and f' as {id_}'}{detail}"
    if attempt["look_at"]:
        yield 3, f"Relay looks for it at the provider at {at(attempt['look_at'])}."
    for receipt in attempt["receipts"]:
        why = f" {receipt['reason']}" if receipt["reason"] else ""
        yield 3, f'{at(receipt["received_at"])}: the provider said "{receipt["word"]}".{why}'


def tell_case(case: Row, at: Clock, title: Title) -> Iterator[Line]:
    """A case on the worklist, open or closed."""
    said = title(case["kind"])
    yield 1, f"{at(case['opened_at'])}: on the worklist: {said}. {case['reason']}"
    if case["closed_at"]:
        note = f" {case['note']}" if case["note"] else ""
        yield 2, f"{at(case['closed_at'])}: closed by {case['closed_by']}.{note}"
    else:
        yield 2, "It is still open."
