"""What providers tell of a message after it was sent, and what that adds up to. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# From what it may still change into to what nothing undoes: a phone may be off, then on again.
STATES = ("sent", "temporary-failure", "permanent-failure", "delivered")


@dataclass(frozen=True)
class Receipt:
    """What a provider told of a message after it was sent, in the same words for every provider.

    `state` is `sent` (on its way), `delivered`, `temporary-failure`, `permanent-failure`, or empty
    where it says nothing of that. `suppress` says why the address gets nothing more this way.
    """

    state: str
    word: str  # the provider's own
    attempt_id: str = ""  # as the callback names it
    provider_id: str = ""
    code: str = ""
    reason: str = ""
    suppress: str = ""
    moment: str = ""  # the provider's timestamp: with the word it tells one receipt from another


@dataclass(frozen=True)
class StoredReceipt:
    """One receipt of one attempt, as the ledger has it."""

    state: str
    attempt_id: str
    code: str = ""
    reason: str = ""


def verdict(told: Iterable[StoredReceipt], current: str) -> StoredReceipt | None:
    """What receipts add up to, whatever their order. Pure.

    Any attempt may have been delivered; a failure counts only if it is the `current` attempt's.
    """
    counted = [one for one in told if one.state == "delivered" or one.attempt_id == current]
    return max(
        counted,
        key=lambda one: (STATES.index(one.state), one.code, one.reason, one.attempt_id),
        default=None,
    )
