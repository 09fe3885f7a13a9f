"""Outcomes: the ending that a message gets by how its attempt went. Pure: no I/O."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from relay import fault_injection
from relay.channels.base import Outcome
from relay.errors import LabAway, LabError
from relay.jobs.backoff import EVENT_DELAYS, SEND_DELAYS, delay, is_hopeless
from relay.rules import stops
from relay.rules.model import Case, Ending, Pause
from relay.rules.statuses import LAB_FAILED, REFUSED, WAITS_FOR_LAB, WAITS_FOR_PERSON

if TYPE_CHECKING:
    from relay.ledger.attempts import Claim


class NotSent(Exception):
    """A message must not go out, or not now. `ending` is what becomes of it."""

    def __init__(self, ending: Ending):
        super().__init__(ending.reason)
        self.ending = ending


def cancelled(reason: str) -> Ending:
    """The ending of a message that is no longer wanted."""
    return Ending("rejected", "cancelled", reason)


def postponed(seconds: float) -> Ending:
    """The ending of a message that waits for its send window, which opens in `seconds`."""
    return Ending(
        "rejected",
        "scheduled",
        "It is waiting for its send window.",
        retry_in=seconds,
        is_a_try=False,
    )


def kept_waiting(reason: str, waits_for: str, case: Case | None = None) -> Ending:
    """The ending of a message that waits for something to be put right, and the case about it."""
    return Ending(
        "rejected",
        "scheduled",
        reason,
        retry_in=0.0,
        is_a_try=False,
        waits_for=waits_for,
        case=case,
    )


def held(case_id: str) -> Ending:
    """The ending of a message to somebody whose number may be another's, until that is settled."""
    reason = "Somebody has answered that this kit's number is wrong: it waits for a person."
    return replace(kept_waiting(reason, WAITS_FOR_PERSON), case_id=case_id)


def asks_first() -> Ending:
    """The ending of a message about which the lab has to be asked, in a lane of its own."""
    reason = "Relay asks the lab about this kit again before it goes out."
    return replace(kept_waiting(reason, WAITS_FOR_LAB), status="created")


def lapsed() -> Ending:
    """The ending of a message that this claim may send no more: it surely did not go out."""
    reason = "Relay was too slow to send it, or its address was stopped meanwhile."
    return Ending("rejected", "created", reason, retry_in=0.0)


def stopped(channel: str, source: str) -> Ending:
    """The ending of a message to an address that gets nothing more; the rule's fallback may reach
    the person.
    """
    return Ending("rejected", "cancelled", stops.reason(source, channel), reached_nobody=True)


def to_arrive(ending: Ending, within: timedelta) -> Ending:
    """The ending of a message that is to arrive within that time, if its rule says so."""
    is_out = ending.outcome == "accepted"
    return replace(ending, fallback_in=within.total_seconds()) if is_out else ending


def sent(claim: Claim, outcome: Outcome, *, awaits_receipt: bool, pause: Pause | None) -> Ending:
    """The ending of a message that was handed over, by the provider's answer."""
    if outcome.result == "rejected":
        if pause and pause.cause == REFUSED:  # whatever was refused with it, it is kept
            outcome = replace(outcome, permanent=False, operator=True)
        return replace(refused(claim, outcome), pause=pause, answered=bool(outcome.code))
    accepted = outcome.result == "accepted"
    return Ending(
        outcome.result,
        "sent" if accepted else "unknown",
        outcome.reason,
        provider_id=outcome.provider_id,
        code=outcome.code,
        awaits_receipt=accepted and awaits_receipt,
        is_kept=outcome.is_kept,
        pause=pause,
        answered=accepted,
    )


def unanswered(error: LabError, patience: timedelta, failures: int, claim: Claim) -> Ending:
    """The ending of a message about which the lab has to be asked again first, after so many
    `failures` of the lab, with this one.

    They use up none of its tries. Where they are its own kit's alone, it is given up once they have
    lasted for `patience`, as an event is.
    """
    reason = f"{error} Relay has to ask the lab again before this goes out."
    waiting = replace(asks_first(), reason=reason, code=LAB_FAILED)
    if isinstance(error, LabAway):
        return waiting
    if not error.failed:
        return refused(claim, Outcome("rejected", reason))
    if is_hopeless(failures, patience):
        reason = f"{reason} Relay tried {failures} times."
        return Ending("rejected", "temporary-failure", reason)
    return replace(waiting, retry_in=delay(EVENT_DELAYS, failures, None))


def refused(claim: Claim, outcome: Outcome) -> Ending:
    """The ending of a message that surely did not go out: a failure, or another try later."""
    if outcome.permanent:
        return Ending(
            "rejected",
            "permanent-failure",
            outcome.reason,
            code=outcome.code,
            suppress=outcome.suppress,
        )
    if outcome.operator:  # no fault of this message: it is kept for as long as it takes
        return Ending(
            "rejected",
            "created",
            outcome.reason,
            code=outcome.code,
            retry_in=fault_injection.hastened(SEND_DELAYS[0]),
            is_a_try=False,
        )
    if claim.tries > len(SEND_DELAYS):
        reason = f"{outcome.reason} Relay tried {claim.tries} times."
        return Ending("rejected", "temporary-failure", reason, code=outcome.code)
    wait = delay(SEND_DELAYS, claim.tries, outcome.retry_after)
    return Ending("rejected", "created", outcome.reason, code=outcome.code, retry_in=wait)
