"""The ledger's record of an event, in plain sentences: why it did or did not reach somebody. Pure.

No name, number, address or word of a message stands in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from relay.addresses import WAYS
from relay.alerts import ALERTS, is_alert
from relay.ledger.trail import Trail
from relay.notices import ALERT_PREFIX

Row = Mapping[str, Any]
Clock = Callable[[datetime | None], str]
Line = tuple[int, str]  # how far it is indented, and what it says
_KINDS = {name: way.word for name, way in WAYS.items()}
_ATTEMPTS = {
    "started": "is under way",
    "accepted": "was accepted by the provider",
    "rejected": "was refused",
    "unknown": "may or may not have arrived at the provider",
}


def explain(trail: Trail, zone: ZoneInfo) -> Iterator[Line]:
    """What is known of one event and its messages, step by step."""

    at = clock(zone)
    yield from tell_event(trail.event, at)
    for row in trail.messages:
        yield from tell_message(row, at)
    yield from tell_decisions(trail)
    for case in trail.cases:
        yield from tell_case(case, at)


def explain_refused(row: Row, zone: ZoneInfo) -> Iterator[Line]:
    """What is known of a body in quarantine."""
    yield 0, f"{clock(zone)(row['first_at'])}: a post was refused ({row['id']}). {row['error']}"
    for field, said in row["fields"].items():
        yield 1, f"{field}: {' '.join(said)}"
    if row["posts"] > 1:
        yield 1, f"It was posted {row['posts']} times."
    if event := row["event_id"]:
        yield 1, f"It has become {event} since."
    elif row["closed_at"]:
        at = clock(zone)(row["closed_at"])
        yield 1, f"{at}: put aside by {row['closed_by']}. {row['note']}"
    else:
        yield 1, "It is kept as it is."


def clock(zone: ZoneInfo) -> Clock:
    """How times are written: the clinic's."""

    def at(moment: datetime | None) -> str:
        return moment.astimezone(zone).strftime("%d %b %Y %H:%M:%S") if moment else "(never)"

    return at


def tell_event(event: Row, at: Clock) -> Iterator[Line]:
    """What came, and what became of it."""
    again = event["duplicates"]
    if event["source"] == "lab":
        how = f"the lab posted {event['name']}"
    else:
        how = f"Relay asked the lab, which had not posted {event['name']}, and made up for it"
    yield 0, f"{at(event['received_at'])}: {how} ({event['id']})."
    if again:
        yield 1, f"It was posted again {again} time{'s' * (again > 1)}, which changed nothing."
    if event["subject"]:
        part = f", in retest round {event['round']}" if event["round"] else ""
        yield 1, f"It is about {event['subject']}{part}."
    tried = f" after {event['tries']} tries" if event["tries"] > 1 else ""
    said = {
        "received": f"It is not processed yet. {event['reason']}",
        "processed": f"It was processed at {at(event['processed_at'])}{tried}.",
        "held": f"It is held since {at(event['processed_at'])}. {event['reason']}",
        "unrouted": "Relay does not know this event. `replay` takes it once Relay does.",
    }
    yield 1, said[event["status"]].strip()


def tell_decisions(trail: Trail) -> Iterator[Line]:
    """Why rules told nobody."""
    for decision in trail.event["decisions"] or ():
        yield 1, f"Rule {decision['rule']} told nobody. {decision['reason']}"
    if trail.event["status"] == "processed" and not (trail.messages or trail.event["decisions"]):
        yield 1, "No rule is about this event."


def tell_message(row: Row, at: Clock) -> Iterator[Line]:
    """Who is told, by which rule and way; each attempt; how it stands."""
    kind = _KINDS.get(row["channel"], row["channel"])
    if is_alert(row["rule"]):
        title = ALERTS[row["rule"].removeprefix(ALERT_PREFIX)].title
        yield 1, f'Staff are told "{title}": {kind} to {row["role"]} ({row["id"]}).'
    else:
        way = " as its fallback" if row["is_fallback"] else ""
        yield 1, f"Rule {row['rule']}{way}: {kind} to the {row['role']} ({row['id']})."
    if row["due_at"] > row["created_at"] or row["status"] in ("created", "scheduled"):
        yield 2, f"It is due at {at(row['due_at'])}."
    for item in row["items"]:
        yield 2, f"It tells of {item['name']} about {item['subject']} ({item['event_id']})."
    for attempt in row["attempts"]:
        yield from _attempt(attempt, at)
    yield 2, f"It is {row['status']}. {row['reason']}".strip()
    if digest := row["told_in"]:
        yield 2, f"That digest ({digest['id']}) is {digest['status']}."


def _attempt(attempt: Row, at: Clock) -> Iterator[Line]:
    named = f" as {attempt['provider_id']}" if attempt["provider_id"] else ""
    done = _ATTEMPTS[attempt["outcome"]]
    detail = f": {attempt['detail']}" if attempt["detail"] else "."
    yield 2, f"{at(attempt['started_at'])}: an attempt {done}{named}{detail}"
    if attempt["look_at"]:
        yield 3, f"It is looked for at the provider at {at(attempt['look_at'])}."
    for receipt in attempt["receipts"]:
        why = f" {receipt['reason']}" if receipt["reason"] else ""
        yield 3, f'{at(receipt["received_at"])}: the provider said "{receipt["word"]}".{why}'


def tell_case(case: Row, at: Clock) -> Iterator[Line]:
    """What a person has, or had, to see to."""
    title = ALERTS[case["kind"]].title
    yield 1, f"{at(case['opened_at'])}: on the worklist: {title}. {case['reason']}"
    if case["closed_at"]:
        note = f" {case['note']}" if case["note"] else ""
        yield 2, f"{at(case['closed_at'])}: closed by {case['closed_by']}.{note}"
    else:
        yield 2, "It is still open."
