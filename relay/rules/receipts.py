"""What providers report of a message after it was sent, and the verdict from all of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from relay.rules.statuses import FAILED, OURS

RECEIPT_WAIT = timedelta(hours=72)  # with no receipt after this: temporary-failure
# From the least final to the most, which only a later bounce undoes: a phone may be off, then on
# again.
STATES = ("sent", "temporary-failure", "permanent-failure", "delivered")


@dataclass(frozen=True)
class Receipt:
    """A provider's report on a message after it was sent, in the same words for every provider.

    `state` is `sent` (on its way), `delivered`, `temporary-failure`, `permanent-failure`, or empty
    if it does not say. `suppress` says why the address gets nothing more on this channel, and
    `lifts` which of these has ended.
    """

    state: str
    word: str  # the provider's own
    attempt_id: str = ""  # as the callback names it
    provider_id: str = ""
    code: str = ""
    reason: str = ""
    suppress: str = ""
    happened_at: datetime | None = None  # by the provider's clock, if it says
    address: str = field(default="", repr=False)  # if the receipt may name no message of ours
    lifts: str = ""


@dataclass(frozen=True)
class StoredReceipt:
    """One receipt of one attempt, as the ledger has it."""

    state: str
    attempt_id: str
    code: str = ""
    reason: str = ""
    happened_at: datetime | None = field(default=None, compare=False)  # ignored in comparisons


def verdict(stored: Iterable[StoredReceipt], current: str) -> StoredReceipt | None:
    """The receipt that decides a message's outcome, in whatever order they came. Pure.

    Any attempt may have arrived; a failure counts only if it is the `current` attempt's.
    """
    stored = list(stored)
    counted = [
        one
        for one in stored
        if (has_arrived(one, stored) if one.state == "delivered" else one.attempt_id == current)
    ]
    return max(
        counted,
        key=lambda one: (STATES.index(one.state), one.code, one.reason, one.attempt_id),
        default=None,
    )


def has_arrived(delivered: StoredReceipt, stored: Iterable[StoredReceipt]) -> bool:
    """Whether a delivered attempt has not failed since. An email may bounce after a mail server has
    accepted it; nobody says when a text failed, so a delivered text stays delivered.
    """
    since = delivered.happened_at
    return not any(
        one.state in FAILED
        and one.code != OURS  # a dropped message never got that far
        and one.attempt_id == delivered.attempt_id
        and one.happened_at
        and since
        and one.happened_at > since
        for one in stored
    )
