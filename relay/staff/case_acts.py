"""A person's acts on a case: one table, for the desk's buttons and `flask relay case`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from relay.config.loader import Config
from relay.ledger import replay
from relay.ledger.audit import NO_NOTE, Act, NotDone
from relay.ledger.database import Connection
from relay.ledger.holds import waits
from relay.ledger.worklist import cases, faults, releases, replies
from relay.rules import planner, resend
from relay.rules.replies import REPLY
from relay.rules.resend import FailedMessage
from relay.staff import answers
from relay.staff.send_again import NO_CONFIG, why_old

Case = Mapping[str, Any]
CLOSE, RESEND, SEND = cases.CLOSE, cases.RESEND, "send"
STAYS = ("release",)  # once closed, it could not be stopped: a person must choose one of the two
LOOKED_AT = 5  # of a case's messages, before the desk says that none can go again
# The acts for each kind of case, in addition to closing it; the words on the button.
BUTTONS: Mapping[str, Mapping[str, str]] = {
    REPLY: {SEND: "Send the answer"},
    "unreached": {RESEND: "Try again"},
    "held": {"replay": "Process it again"},
    "release": {"release": "Release now", "stop": "Do not send"},
    "broken": {RESEND: "Send it again"},
    "unknown": {SEND: "Send it again", "believe": "It did arrive"},
}
_AGAIN = {
    resend.MESSAGE: "Relay is sending it again.",
    resend.EVENT: "Relay is processing its event again, with what the lab says now.",
}
_TOO_LATE = "It is too late for that."
_WAITS_NO_MORE = f"{_TOO_LATE} It is no longer waiting; the case closes by itself."
_KNOWN_BY_NOW = f"{_TOO_LATE} Relay has since found out what became of it, or is checking now."


@dataclass(frozen=True)
class Offer:
    """The acts that a case offers, each with its button's words; why not RESEND, if it is usual."""

    acts: Mapping[str, str]
    why_not: str = ""


@dataclass(frozen=True)
class Decided:
    """A person's decision about a case, in the transaction that closes it."""

    connection: Connection
    config: Config | None  # None while config.toml cannot be read
    case: Case
    by: str
    note: str
    words: str = ""  # of an answer
    at_once: bool = False  # send an answer, even outside the window
    wait: float = 0.0  # seconds before a message goes again


def acts_of(kind: str) -> dict[str, str]:
    """The acts for a kind of case, each with the words on its button."""
    return {**BUTTONS.get(kind, {}), **({} if kind in STAYS else {CLOSE: "Close"})}


def offers(
    connection: Connection, config: Config | None, found: Sequence[Case]
) -> Iterator[tuple[Case, Offer]]:
    """Yield cases, each with the acts that would do something; a closed one has none."""
    usual = {case["id"]: acts_of(case["kind"]) for case in found if case["closed_at"] is None}
    texts = replies.of_cases(connection, [case["id"] for case in found if case["kind"] == REPLY])
    tried = [case for case in found if RESEND in usual.get(case["id"], ())]
    about = {case["id"]: faults.some(connection, case, LOOKED_AT) for case in tried}
    failed = replay.failed_messages(connection, [id_ for ids in about.values() for id_ in ids])
    for case in found:
        acts, why_not = usual.get(case["id"], {}), ""
        if case["kind"] == REPLY and answers.why_not(texts.get(case["id"])):
            acts.pop(SEND, None)
        mine = [failed[id_] for id_ in about.get(case["id"], ()) if id_ in failed]
        if RESEND in acts and (why_not := why_not_again(connection, config, case, mine)):
            del acts[RESEND]
        yield case, Offer(acts, why_not)


def why_not_again(
    connection: Connection, config: Config | None, case: Case, first: Sequence[FailedMessage]
) -> str:
    """Why none of a case's messages can go again, by the `first` ones; empty if one can."""
    why = [resend.decide(it, why_old(connection, config, it)).why for it in first]
    return why[0] if why and all(why) and case["count"] <= len(why) else ""


def see_to(
    connection: Connection,
    config: Config | None,
    case: Case,
    act: str,
    *,
    by: str,
    note: str,
    words: str = "",
    at_once: bool = False,
    wait: float = 0.0,
) -> str:
    """Do what a person chose, close the case and record who did it. Raises NotDone."""
    if case["closed_at"] is not None:
        raise NotDone(cases.CLOSED_ALREADY)
    if act not in (acts := acts_of(case["kind"])):
        raise NotDone(f'This case has no act "{act}". Choose from: {", ".join(acts)}.')
    if act == CLOSE and not note:
        raise NotDone(NO_NOTE)
    said = DOING[act](Decided(connection, config, case, by, note, words, at_once, wait))
    if case["kind"] == REPLY and act == SEND:
        note = note or said
    cases.see_to(connection, case["id"], Act(by, cases.CASE_ACT + act, case["id"]), note)
    return said


def close(it: Decided) -> str:
    """Close the case. Cancel messages that wait for a missing rule; others go on by themselves."""
    if it.case["kind"] == "rule":
        reason = f"Cancelled by {it.by}. {it.note}"
        gone = waits.cancel(it.connection, it.case["subject"], reason)
        return f"Closed. {gone} waiting message{'s are' if gone != 1 else ' is'} cancelled."
    return "Closed."


def try_again(it: Decided) -> str:
    """Try the failed messages again."""
    if not it.case["notification_id"]:
        gone = replay.replay_failed(it.connection, faults.concerned(it.case), it.wait)
        if not gone:
            ids = faults.some(it.connection, it.case, LOOKED_AT)
            first = [*replay.failed_messages(it.connection, ids).values()]
            why = why_not_again(it.connection, it.config, it.case, first)
            raise NotDone(f"None of them can go again. {why}".rstrip())
        return f"Relay is sending {gone} message{'s' * (gone > 1)} again."
    id_ = str(it.case["notification_id"])
    failed = replay.failed_messages(it.connection, [id_]).get(id_)
    old = why_old(it.connection, it.config, failed) if failed else ""
    return _AGAIN[replay.try_again(it.connection, id_, old, it.wait)]


def release(it: Decided) -> str:
    """Let the message go now, or when its rule's window opens."""
    moment, id_ = datetime.now(UTC), it.case["notification_id"]
    rule = it.config and it.config.by_name.get(releases.rule_of(it.connection, id_))
    due_at = planner.opening(rule, it.config.policy, moment) if it.config and rule else moment
    if not releases.release(it.connection, id_, due_at, it.by):
        raise NotDone(_WAITS_NO_MORE)
    return "Released: it goes out at once, or when the send window opens."


def stop(it: Decided) -> str:
    """Stop the message for good."""
    if not releases.stop(it.connection, it.case["notification_id"], it.by, it.note):
        raise NotDone(_WAITS_NO_MORE)
    return "Stopped: anything that had not gone out will not be sent."


def process_again(it: Decided) -> str:
    """Process a held event again."""
    if not replay.process_again(it.connection, it.case["event_id"]):
        raise NotDone(f"{_TOO_LATE} It is already being processed.")
    return "Relay is processing it again."


def send(it: Decided) -> str:
    """Send the answer to a text; or send a message again that may not have gone out."""
    if it.case["kind"] == REPLY:
        if it.config is None:
            raise NotDone(NO_CONFIG)
        made = answers.send(it.connection, it.config, it.case, it.words, at_once=it.at_once)
        return f"Answered by {made}."
    if not replay.decide_unknown(it.connection, faults.concerned(it.case), send=True):
        raise NotDone(_KNOWN_BY_NOW)
    return "Relay is sending it again."


def believe_unknown(it: Decided) -> str:
    """Count a message that may have gone out as sent, because a person says so."""
    if not replay.decide_unknown(it.connection, faults.concerned(it.case), send=False):
        raise NotDone(_KNOWN_BY_NOW)
    return "It now counts as sent."


DOING: Mapping[str, Callable[[Decided], str]] = {
    CLOSE: close,
    RESEND: try_again,
    "replay": process_again,
    SEND: send,
    "believe": believe_unknown,
    "release": release,
    "stop": stop,
}
