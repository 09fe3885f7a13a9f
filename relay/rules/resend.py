"""Decides how to try a failed message again, when a person asks for it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

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
_IN_WORK = "Its event is already being processed."


@dataclass(frozen=True)
class FailedMessage:
    """A message, and what decides whether it may go once more."""

    id: str
    event_id: str
    obligation: str
    rule: str
    subject: str
    round: int
    event_name: str
    event_received_at: datetime
    status: str
    has_address: bool
    is_blank: bool  # whom it was for is erased, or retention has blanked it
    is_stopped: bool  # its address gets nothing more this way
    was_taken: bool  # by a provider, or may have been
    may_have_arrived: bool  # and nobody has told that it did not
    made_up_for: bool  # by a fallback
    is_digest: bool
    event_is_waiting: bool


class RetryDecision(NamedTuple):
    """How a message is tried again: by MESSAGE or by EVENT; empty, and `why`, where it is not."""

    by: str
    why: str = ""


def decide(it: FailedMessage, old: str = "") -> RetryDecision:
    """How to try a message again, if at all. `old` is the reason why it is out of date, or empty.

    A message without an address of its own, or whose address was stopped, is planned anew from its
    event, by what the lab says now. Any other goes once more by itself, which asks the lab
    too where its facts are old. What may have arrived is never sent again.
    """
    is_off = it.status == "cancelled"
    objections = (
        _MEANWHILE.get(it.status, ""),
        _MADE_UP_FOR if it.made_up_for else "",
        _BLANK if it.is_blank else "",
        old,
        _MAYBE if it.may_have_arrived else "",
        _DIGEST if it.is_digest and (it.is_stopped or is_off) else "",
    )
    if why := next(filter(None, objections), ""):
        return RetryDecision("", why)
    if it.has_address and not it.is_stopped and (it.was_taken or not is_off):
        return RetryDecision(MESSAGE)
    return RetryDecision("", _IN_WORK) if it.event_is_waiting else RetryDecision(EVENT)
