"""Decides how to send a message again when a person asks for it. Pure.

A failed message is tried again as it is. One that went out, perhaps to a wrong number, is repeated
by a new message, which its rule makes as the rule is now.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from relay.rules import planner
from relay.rules.model import Notice, Policy, Rule
from relay.rules.statuses import ALERT, ANSWER, DIGEST, FAILED, GONE, ITEM, RESENT, WAITS_FOR_LAB

MESSAGE, EVENT = "message", "event"
_MEANWHILE = {
    **dict.fromkeys(("created", "scheduled"), "It is already waiting to be sent."),
    "sending": "It is being sent.",
    "sent": "It has gone out in the meantime.",
    "delivered": "It has arrived in the meantime.",
    "unknown": "It may have gone out: Relay is checking.",
}
_MADE_UP_FOR = "Another message from its rule has gone out instead, or is about to."
_BLANK = "Relay no longer knows whom it was for: erased, or older than the retention time."
_MAYBE = "It may have arrived: its provider has not reported a failure."
_DIGEST = "It covered several kits: process each kit's event again (flask relay replay)."
_ALERT = "It is Relay's own, about a case: see to that case."
_ANSWER = "It is a person's own answer to a text: ring the person instead."
_CANCELLED = "It was cancelled, and has not gone out; its reason says why."
_STOPPED = "A person stopped it. If it is to go out after all, write: flask relay replay {}"
_NEWER = "A later message has taken its place. To send it once more, send that one again: {}"
_IN_WORK = "Its event is already being processed."


@dataclass(frozen=True)
class FailedMessage:
    """A message that somebody wants sent again, and the facts that decide whether it may be."""

    id: str
    event_id: str
    obligation: str
    rule: str
    subject: str
    round: int
    event_name: str
    event_received_at: datetime
    kind: str
    role: str
    channel: str
    address: str
    urgency: int
    status: str
    stopped_by: str | None
    is_blank: bool  # its person has been erased, or retention has blanked it
    is_stopped: bool  # its address gets nothing more on this channel
    was_taken: bool  # a provider accepted it, or may have
    may_have_arrived: bool  # no receipt says that it did not
    made_up_for: bool  # by a fallback, or by its repeat
    newer: str | None  # the message to the same recipient that has taken its place
    event_is_waiting: bool


class RetryDecision(NamedTuple):
    """How a message is tried again: by MESSAGE or by EVENT; if it is not, empty, and `why`."""

    by: str
    why: str = ""


def decide(it: FailedMessage, old: str = "") -> RetryDecision:
    """Decide how to try a message again, if at all. `old` is why it is out of date, or empty.

    A message without an address of its own, or whose address was stopped, is planned again from its
    event, with the lab's current facts. Any other goes again itself, after asking the lab if its
    facts are old. A message that may have arrived is never sent again.
    """
    is_off = it.status == "cancelled"
    objections = (
        _MEANWHILE.get(it.status, ""),
        _MADE_UP_FOR if it.made_up_for else "",
        _BLANK if it.is_blank else "",
        old,
        _MAYBE if it.may_have_arrived else "",
        _DIGEST if it.kind == DIGEST and (it.is_stopped or is_off) else "",
        _ANSWER if it.kind == ANSWER and (it.is_stopped or is_off) else "",
    )
    if why := next(filter(None, objections), ""):
        return RetryDecision("", why)
    if it.kind == RESENT:  # it asks the lab for its address; its event would answer: already sent
        return RetryDecision(MESSAGE)
    if it.address and not it.is_stopped and (it.was_taken or not is_off):
        return RetryDecision(MESSAGE)
    return RetryDecision("", _IN_WORK) if it.event_is_waiting else RetryDecision(EVENT)


def why_not_repeated(it: FailedMessage, old: str = "") -> str:
    """Why no other message may repeat one; empty if one may. `old` is as in `decide`."""
    is_over = it.status in (*GONE, *FAILED)
    objections = (
        "" if is_over else _MEANWHILE.get(it.status, ""),
        _ALERT if it.kind == ALERT else "",
        _ANSWER if it.kind == ANSWER else "",
        _DIGEST if it.kind in (DIGEST, ITEM) else "",
        _STOPPED.format(it.id) if it.stopped_by else "",
        "" if is_over else _CANCELLED,
        _BLANK if it.is_blank else "",
        _NEWER.format(it.newer) if it.newer else "",
        old,
        _IN_WORK if it.event_is_waiting else "",
    )
    return next(filter(None, objections), "")


def repeat(
    it: FailedMessage,
    rule: Rule,
    policy: Policy,
    now: datetime,
    reason: str,
    wait: float = 0.0,
) -> Notice:
    """The message that repeats another, by its rule as it is now, due when that rule may write, and
    not until `wait` seconds have passed.

    It has the other's address until Relay asks the lab, just before it goes out, so that an erasure
    of that person finds it. It is not held for release: a person has just decided about it.
    """
    due_at = planner.opening(rule, policy, now + timedelta(seconds=wait))
    ways = rule.ways
    channel = it.channel if it.channel in ways else ways[0]
    return Notice(
        rule=rule.name,
        template=rule.template,
        subject=it.subject,
        round=it.round,
        role=it.role,
        channel=channel,
        address=it.address,
        status="scheduled" if due_at > now else "created",
        reason=reason,
        due_at=due_at,
        urgency=it.urgency,
        is_fallback=channel not in rule.channels,
        key=it.id,
        kind=RESENT,
        waits_for=WAITS_FOR_LAB,
    )
