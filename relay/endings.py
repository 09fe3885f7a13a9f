"""What a notification becomes by how its attempt went. Pure: no I/O."""

from __future__ import annotations

import random
from collections.abc import Sequence

from relay.channels import Outcome
from relay.ledger.delivery import Claim, Ending
from relay.messages import Message

# Seconds to wait after an event's first, second, … failure: three days in all, then it is held.
EVENT_DELAYS = (5, 15, 60, 300, 900, 1800, 3600, 7200, 14400, 28800, *[43200] * 5)
# Likewise for a message that the provider did not take: about a day, then temporary-failure.
SEND_DELAYS = (5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, *[3600] * 22)
LONGEST_ASKED = 12 * 3600  # seconds: nobody else decides that a message is never sent


def delay(delays: Sequence[float], tries: int, asked: float | None) -> float:
    """Seconds until the next try: what the other side asked for, or else a growing delay.

    Give or take a fifth, so that many that failed together do not come back together.
    """
    seconds = min(asked, LONGEST_ASKED) if asked else delays[tries - 1]
    return seconds * random.uniform(1.0 if asked else 0.8, 1.2)  # noqa: S311 - not a secret


def cancelled(reason: str) -> Ending:
    """A message that is not wanted any more."""
    return Ending("rejected", "cancelled", reason)


def postponed(seconds: float) -> Ending:
    """A message that waits for its window to open."""
    return Ending("rejected", "scheduled", "It waits for its send window.", retry_in=seconds)


def sent(claim: Claim, message: Message, outcome: Outcome) -> Ending:
    """What a notification becomes by what its channel said."""
    if outcome.result == "rejected":
        return refused(claim, outcome)
    status = "sent" if outcome.result == "accepted" else "unknown"
    return Ending(
        outcome.result,
        status,
        outcome.reason,
        provider_id=outcome.provider_id,
        code=outcome.code,
        content=message.content,
    )


def refused(claim: Claim, outcome: Outcome) -> Ending:
    """A message that surely did not go out: its end, or another try later."""
    if outcome.permanent:
        return Ending(
            "rejected",
            "permanent-failure",
            outcome.reason,
            code=outcome.code,
            opted_out=outcome.suppress,
        )
    if claim.attempts > len(SEND_DELAYS):
        reason = f"{outcome.reason} It was tried {claim.attempts} times."
        return Ending("rejected", "temporary-failure", reason, code=outcome.code)
    wait = delay(SEND_DELAYS, claim.attempts, outcome.retry_after)
    return Ending("rejected", "created", outcome.reason, code=outcome.code, retry_in=wait)
