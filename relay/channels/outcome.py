"""What came of a send, in the same words for every provider."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from relay.messages import Message


@dataclass(frozen=True)
class Outcome:
    """How a provider took a message.

    `accepted`: it has it. `rejected`: it surely has it not; `permanent` says that trying again
    cannot help, `operator` that the fault is in our account and not in this message. `unknown`: it
    may have it, so it must not be sent again before it was looked for.
    """

    result: str
    reason: str = ""
    code: str = ""
    provider_id: str | None = None
    permanent: bool = False
    operator: bool = False
    suppress: bool = False
    retry_after: float | None = None  # seconds


class Channel(Protocol):
    """A provider. `send` does not raise for what a provider or the network does."""

    def send(self, message: Message, attempt_id: str) -> Outcome:
        """Hand over one message, naming the attempt so that it can be found again."""
