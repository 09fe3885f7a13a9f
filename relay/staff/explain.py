"""The ledger's record of an event, in plain sentences: why it did or did not reach somebody. Pure.

The sentences contain no name, number, address or word of a message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from relay.lab.events import EVENTS, unread
from relay.lab.facts import Facts
from relay.ledger.holds.pauses import LAB
from relay.ledger.views.status import Blockers
from relay.ledger.views.trail import Trail
from relay.rules.alerts import counted
from relay.rules.channels import CHANNELS, begun
from relay.rules.model import ALERT_PREFIX, LETTER, URGENT_WORDS
from relay.rules.statuses import (
    ALERT,
    ANSWER,
    GOES_AGAIN,
    HELD,
    RECEIVED,
    RELEASE,
    WAITING,
    WAITS_FOR_ACCOUNT,
    WAITS_FOR_LAB,
    WAITS_FOR_ORDER,
    WAITS_FOR_PERSON,
    WAITS_FOR_RESUME,
    WAITS_FOR_RULE,
)
from relay.staff.words import STANDS

Row = Mapping[str, Any]
Clock = Callable[[datetime | None], str]
Line = tuple[int, str]  # indentation level, and text
Title = Callable[[str], str]  # kind of case → its title
_KINDS = {name: row.word for name, row in CHANNELS.items()}
_ATTEMPTS = {
    "started": "is under way",
    "accepted": "was accepted by the provider",
    "rejected": "was refused",
    "unknown": "may or may not have reached the provider",
}
_KEPT_ATTEMPT = "was not sent but kept here"
_WAITS_FOR = {
    WAITS_FOR_RULE: "for its rule to be put back",
    WAITS_FOR_ORDER: "for the lab to name its order",
    WAITS_FOR_ACCOUNT: "for its provider's account",
    WAITS_FOR_LAB: "for the lab to answer",
    WAITS_FOR_RESUME: "for somebody to resume it",
    WAITS_FOR_PERSON: "for a person to close the case about the number",
}
NOT_ALL = "Relay has not yet processed everything that the lab has posted about this kit:"
_IS_PAST = "Its kit is finished and in history: Relay keeps what became of it, and no details."
_NO_WORKER = "no worker is running"


def explain_kit(
    found: Sequence[Trail], zone: ZoneInfo, blockers: Blockers, title: Title
) -> Iterator[Iterator[Line]]:
    """Yield the record of each event found; if there are several, first those not yet processed."""
    late = [*tell_unprocessed(found, clock(zone), blockers)]
    if late and len(found) > 1:
        lines = [(1, f"{event['name']} ({event['id']}) {said}.") for event, said in late]
        yield iter([(0, NOT_ALL), *lines])
    for one in found:
        yield explain(one, zone, blockers, title)


def explain(trail: Trail, zone: ZoneInfo, blockers: Blockers, title: Title) -> Iterator[Line]:
    """Yield an event and its messages, step by step, and the present blockers."""
    at = clock(zone)
    yield from tell_event(trail.event, at, blockers)
    for row in trail.messages:
        yield from tell_message(row, at, blockers, title)
    yield from tell_decisions(trail)
    for case in trail.cases:
        yield from tell_case(case, at, title)
        if case["kind"] == RELEASE and not case["closed_at"]:
            yield 2, f"The desk shows the message as it would be sent now: /case/{case['id']}"


def explain_refused(row: Row, zone: ZoneInfo) -> Iterator[Line]:
    """Yield the record of a body in quarantine."""
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
    """Return a function that writes times in the clinic's time zone."""

    def at(moment: datetime | None) -> str:
        return moment.astimezone(zone).strftime("%d %b %Y %H:%M:%S") if moment else "(never)"

    return at


def tell_event(event: Row, at: Clock, blockers: Blockers) -> Iterator[Line]:
    """Yield an event, and what Relay did with it."""
    if event["source"] == "lab":
        how = f"the lab posted {event['name']}"
    else:
        how = f"the lab had not posted {event['name']}; Relay asked, and it had happened"
    yield 0, f"{at(event['received_at'])}: {how} ({event['id']})."
    if event.get("is_past"):
        yield 1, _IS_PAST
    if again := event["duplicates"]:
        yield 1, f"It was posted again {again} time{'s' * (again > 1)}, which changed nothing."
    if event["subject"]:
        part = f", in retest round {event['round']}" if event["round"] else ""
        yield 1, f"It is about {event['subject']}{part}."
    tried = f" after {event['tries']} tries" if event["tries"] > 1 else ""
    stands = unprocessed_state(event, at, blockers)
    said = {
        "received": f"Relay has not processed it yet. {event['reason']}",
        "processed": f"It was processed at {at(event['processed_at'])}{tried}.",
        "held": f"It {stands}. {event['reason']}",
        "unrouted": "Relay does not know this event. `replay` processes it once Relay does.",
    }
    yield 1, said[event["status"]].strip()
    kind = EVENTS.get(event["name"])
    notes = unread(kind, event["data"]) if kind else ()
    for note in (*notes, *Facts.from_json(event["facts"]).notes()):
        yield 1, note
    if event["status"] == RECEIVED:
        yield 1, f"It {stands}."
        if not blockers.workers:
            yield 1, f"It is waiting: {_NO_WORKER}."


def tell_unprocessed(
    found: Sequence[Trail], at: Clock, blockers: Blockers
) -> Iterator[tuple[Row, str]]:
    """Yield each event of a kit that has not led to anything yet, with its state."""
    for one in found:
        if one.event["status"] in (RECEIVED, HELD):
            yield one.event, unprocessed_state(one.event, at, blockers)


def unprocessed_state(event: Row, at: Clock, blockers: Blockers) -> str:
    """Since when an event has waited or been held, how often it was tried, and its next try."""
    many = event["tries"]
    times = "once" if many == 1 else f"{many} times"
    tried = f"was tried {times}" if many else "was not tried"
    if event["status"] == HELD:
        held_at = event["tried_at"] or event["processed_at"]  # the previous release sets the second
        since = f"has been held since {at(held_at)}"
        return f"{since}, {tried}, and will be tried again when a person asks for it"
    last = f", the last time at {at(event['tried_at'])}" if many else " yet"
    if event["processed_at"]:
        since = f"is to be processed again (the last time was at {at(event['processed_at'])})"
    else:
        since = f"has waited since {at(event['received_at'])}"
    is_due = event["next_at"] is None or event["next_at"] <= blockers.at
    then = f"will next be tried at {at(event['next_at'])}"
    if is_due:
        taken = "once the lab answers" if LAB in blockers.pauses else "next"
        then = f"a worker will take it {taken}"
    return f"{since}, {tried}{last}, and {then}"


def tell_decisions(trail: Trail) -> Iterator[Line]:
    """Yield why each rule that sent nothing did so."""
    for decision in trail.event["decisions"] or ():
        yield 1, f"Rule {decision['rule']} sent nothing. {decision['reason']}"
    if trail.event["status"] == "processed" and not (trail.messages or trail.event["decisions"]):
        yield 1, "No rule is for this event."


def named(row: Row, title: Title) -> str:
    """The name of a message's rule, or the title of one of Relay's own alerts."""
    rule = str(row["rule"])
    if row["kind"] == ANSWER:
        return "a letter to many" if rule == ALERT_PREFIX + LETTER else "an answer to a text"
    return title(rule.removeprefix(ALERT_PREFIX)) if row["kind"] == ALERT else rule


def is_kept(row: Row) -> bool:
    """Whether a message counts as sent but was only kept here: delivery was dry-run."""
    return row["status"] == "sent" and bool(row["is_kept"])


def tell_message(row: Row, at: Clock, blockers: Blockers, title: Title) -> Iterator[Line]:
    """Yield a message: its recipient, rule and channel, each attempt, and its status."""
    kind = _KINDS.get(row["channel"], row["channel"])
    if row["kind"] == ALERT:
        yield 1, f'Alert "{named(row, title)}": {kind} to {row["role"]} ({row["id"]}).'
    elif row["kind"] == ANSWER:
        what = f"{begun(named(row, title))}, in a person's words"
        yield 1, f"{what}: {kind} to the {row['role']} ({row['id']})."
    else:
        way = " as its fallback" if row["is_fallback"] else ""
        yield 1, f"Rule {row['rule']}{way}: {kind} to the {row['role']} ({row['id']})."
    if edition := row["edition"]:
        yield 2, f"It goes by edition {edition}."
    for act in row["asked"]:
        said = f"{act['actor']} had {row['repeats']} sent again, by this message"
        yield 2, f"{at(act['at'])}: {said}: {act['detail']}"
    if row["due_at"] > row["created_at"] or row["status"] in WAITING:
        tense = "is" if row["due_at"] > blockers.at else "was"
        yield 2, f"It {tense} due at {at(row['due_at'])}."
    for item in row["items"]:
        yield 2, f"It includes {item['name']} about {item['subject']} ({item['event_id']})."
    for attempt in row["attempts"]:
        yield from tell_attempt(attempt, at)
    why = "" if is_held_by_pause(row, blockers) else row["reason"]
    yield 2, f"It {message_state(row, at, blockers)}. {why}".rstrip()
    if digest := row["told_in"]:
        yield 2, f"That digest ({digest['id']}) {message_state(digest, at, blockers)}."
    if repeat := row["repeated"]:
        yield 2, f"A person had it sent again, by another message ({repeat})."


def is_due(row: Row, blockers: Blockers) -> bool:
    """Whether a message still waits after its due time."""
    return row["status"] in WAITING and row["due_at"] <= blockers.at


def is_held_by_pause(row: Row, blockers: Blockers) -> bool:
    """Whether a message was tried and waits for its channel: other lines already say so."""
    is_held = row["channel"] in blockers.pauses and not row["waits_for"]
    return is_due(row, blockers) and is_held and bool(row["attempts"])


def message_state(row: Row, at: Clock, blockers: Blockers) -> str:
    """The state of a message; if it is due, also what holds it up."""
    if is_kept(row):
        return STANDS["kept"][1]
    is_asked_first = row["waits_for"] == WAITS_FOR_LAB  # a later message waits only once it is due
    if row["waits_for"] and row["status"] in WAITING and not is_asked_first:
        return f"is waiting {_WAITS_FOR[row['waits_for']]}"
    if not is_due(row, blockers):
        said = STANDS[row["status"]][1]
        goes_again = row["waits_for"] == GOES_AGAIN
        return f"{said}, and is about to be sent again" if goes_again else said
    if causes := "; ".join(waiting_causes(row, at, blockers)):
        return f"is waiting: {causes}"
    if is_asked_first:
        return f"is waiting {_WAITS_FOR[WAITS_FOR_LAB]}"
    return "is waiting for a worker, which takes it next"


def waiting_causes(row: Row, at: Clock, blockers: Blockers) -> Iterator[str]:
    """Yield each reason why a due message waits: no worker, a pause, a limit."""
    channel, urgency = row["channel"], row["urgency"]
    way = CHANNELS[channel]
    if not blockers.workers:
        yield _NO_WORKER
    if pause := blockers.pauses.get(channel):
        why = pause["reason"].removesuffix(".")
        yield f"{way.words} have been paused since {at(pause['since'])}, because {why}"
    day = blockers.limits.get(channel)
    if day and not day.lets_through(urgency):
        is_used_up = day.spent >= day.most
        but = "" if is_used_up else f", but for the {day.kept:,} kept for {URGENT_WORDS}"
        yield f"the day's limit of {way.many(day.most)} has been reached{but}; more go out tomorrow"


def tell_attempt(attempt: Row, at: Clock) -> Iterator[Line]:
    """Yield the lines about an attempt: its outcome, the next look-up and its receipts."""
    id_ = attempt["provider_id"] or ""
    done = _KEPT_ATTEMPT if attempt["is_kept"] else _ATTEMPTS[attempt["outcome"]]
    detail = f": {attempt['detail']}" if attempt["detail"] else "."
    yield 2, f"{at(attempt['started_at'])}: an attempt {done}{id_ and f' as {id_}'}{detail}"
    if attempt["look_at"]:
        yield 3, f"Relay looks for it at the provider at {at(attempt['look_at'])}."
    for receipt in attempt["receipts"]:
        why = f" {receipt['reason']}" if receipt["reason"] else ""
        yield 3, f'{at(receipt["at"])}: the provider said "{receipt["word"]}".{why}'


def tell_case(case: Row, at: Clock, title: Title) -> Iterator[Line]:
    """Yield a case on the worklist, open or closed."""
    said = title(case["kind"])
    many = counted(case["kind"], case["count"])
    about = f" ({many})" if many else ""
    yield 1, f"{at(case['opened_at'])}: on the worklist: {said}{about}. {case['reason']}"
    if case["closed_at"]:
        note = f" {case['note']}" if case["note"] else ""
        yield 2, f"{at(case['closed_at'])}: closed by {case['closed_by']}.{note}"
    else:
        yield 2, "It is still open."
