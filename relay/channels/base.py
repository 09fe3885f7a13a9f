"""The verbs that every provider has, and the outcomes of a send, in the same words for all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from relay.http_client import NoAnswer
from relay.messages.templates import Message
from relay.rules.receipts import Receipt

LONGEST_WAIT = 3600.0  # seconds: if a provider asks for more, Relay still tries again


@dataclass(frozen=True)
class Outcome:
    """The outcome of a send.

    `accepted`: the provider has the message. `rejected`: it certainly does not; `permanent` says
    that another try cannot help, `operator` that the fault is in our account and not in this
    message. `unknown`: it may have it, so it must not be sent again before Relay has looked for it.
    """

    result: str
    reason: str = ""
    code: str = ""
    provider_id: str | None = None
    permanent: bool = False
    operator: bool = False
    is_unlisted: bool = False  # permanent by a code in no table: many in a row point to our account
    suppress: str = ""  # why the address gets nothing more on this channel
    retry_after: float | None = None  # seconds
    is_kept: bool = False  # accepted by dry-run delivery: kept here, and sent to nobody


def unlisted(reason: str, code: str) -> Outcome:
    """The outcome of a send refused by a code in no table: this message cannot go."""
    return Outcome("rejected", reason, code, permanent=True, is_unlisted=True)


def not_answered(provider: str, error: NoAnswer) -> Outcome:
    """The outcome of a send that got no answer: the provider may have it if anything was sent."""
    if error.sent:
        return Outcome("unknown", f"{provider} did not answer ({error}).")
    return Outcome("rejected", f"Relay cannot reach {provider} ({error}).")


@dataclass(frozen=True)
class Found:
    """The result of looking for a message: its `provider_id`, if the provider has it."""

    provider_id: str | None = None
    failed: str = ""  # why the provider could not be asked: then nothing is known
    receipt: Receipt | None = None  # its outcome there, if that is known


@dataclass(frozen=True)
class AccountFault:
    """A fault of our account at a provider, as the provider reports it."""

    wrong: str
    remedy: str = ""
    is_warning: bool = False  # messages still go out, or it could not be asked


@dataclass(frozen=True)
class Inbound:
    """A text from a person, with the provider's id; `sender` as the provider writes the number."""

    id: str
    sender: str
    words: str
    keyword: str  # as in relay.rules.replies; empty for any other words
    is_confirmed: bool  # the provider itself has confirmed the stop to the person
    files: int = 0  # the number of files with it


class Provider(Protocol):
    """A provider. Its verbs raise nothing, whatever the provider or the network does. One without a
    list, an account or a way to delete keeps the defaults here.
    """

    def send(self, message: Message, attempt_id: str) -> Outcome:
        """Hand over a message, naming the attempt so that it can be found again."""

    def find(self, message: Message, since: datetime, taken: frozenset[str]) -> Found:
        """Look for a message handed over at `since` or after; `taken` has the ids of others."""
        return Found()

    def look(self, provider_id: str) -> Found:
        """Ask for the outcome of a message that the provider accepted."""
        return Found()

    def account_faults(self) -> list[AccountFault]:
        """Ask whether our account may send; return its faults."""
        return []

    def erase(self, addresses: frozenset[str], provider_ids: frozenset[str]) -> list[str]:
        """Have the provider delete its data about a person; return a sentence for each refusal."""
        return []
