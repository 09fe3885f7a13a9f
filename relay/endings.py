"""What a notification becomes by how its attempt went. Pure: no I/O."""

from __future__ import annotations

import random
from collections.abc import Sequence

from relay.channels import Outcome
from relay.ledger.claiming import Claim
from relay.ledger.delivery import Ending
from relay.messages import Message

# Seconds to wait after an event's first, second, … failure: three days in all, then it is held.
EVENT_DELAYS = (5, 15, 60, 300, 900, 1800, 3600, 7200, 14400, 28800, *[43200] * 5)
# Likewise for a message that the provider did not take: about a day, then temporary-failure.
SEND_DELAYS = (5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, *[3600] * 22)
LONGEST_ASKED = 12 * 3600  # seconds: nobody else decides that a message is never sent


def delay(delays: Sequence[float], tries: int, asked: float | None) -> float:
    """Seconds until the next try: a growing delay, or longer where the other side asks for it.

    Up to a fifth more, so that many that failed together do not come back together.
    """
    seconds = max(delays[tries - 1], min(asked or 0.0, LONGEST_ASKED))
    return seconds * random.uniform(1.0, 1.2)  # noqa: S311 - not a secret


def cancelled(reason: str) -> Ending:
    """A message that is not wanted any more."""
    return Ending("rejected", "cancelled", reason)


def postponed(seconds: float) -> Ending:
    """A message that waits for its window to open."""
    return Ending(
        "rejected", "scheduled", "It waits for its send window.", retry_in=seconds, is_a_try=False
    )


def lapsed() -> Ending:
    """A message whose claim ran out before it was sent: it surely did not go out."""
    return Ending("rejected", "created", "It took too long to prepare.", retry_in=0.0)


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
    if claim.tries > len(SEND_DELAYS):
        reason = f"{outcome.reason} It was tried {claim.tries} times."
        return Ending("rejected", "temporary-failure", reason, code=outcome.code)
    wait = delay(SEND_DELAYS, claim.tries, outcome.retry_after)
    return Ending("rejected", "created", outcome.reason, code=outcome.code, retry_in=wait)
