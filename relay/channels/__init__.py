"""The providers: one file each, with the same verbs. relay/rules/channels.py has their table.

Those that send nothing are below. It may use the configuration and the messages, not the ledger.
Begin with `base`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from importlib import import_module

from relay.channels.base import AccountFault, Found, Outcome, Provider
from relay.config.settings import AS_SENT, Settings
from relay.http_client import HttpClient
from relay.messages.templates import Message
from relay.rules.addresses import normalised
from relay.rules.channels import CHANNELS

Factory = Callable[[Settings, str, HttpClient], Provider | None]
DRY = ("dry-run", AS_SENT)  # values of RELAY_DELIVERY with which nothing goes out


def lets_out(settings: Settings, allowed: Iterable[str], address: str) -> bool:
    """Whether RELAY_DELIVERY lets out a message to an address. `allowed` is the allow list."""
    listed = settings.delivery != "allow-list" or normalised(address) in map(normalised, allowed)
    return settings.delivery not in DRY and listed


class Channels:
    """All channels, and the messages that RELAY_DELIVERY lets through to their providers."""

    def __init__(self, settings: Settings, senders: Mapping[str, str], allowed: frozenset[str]):
        self._settings = settings
        self._senders = senders
        self._allowed = allowed
        self._wire = HttpClient(connections=64)
        self._dry_run = AsSent() if settings.delivery == AS_SENT else DryRun()
        self._is_dry = settings.delivery in DRY
        self._sent_by_environment = {
            name
            for name, row in CHANNELS.items()
            if row.sender and any(map(settings.variable, row.sender.instead))
        }
        self._made: dict[str, Provider | None] = {}

    def load(self) -> None:
        """Import the SDKs that will be needed, so that the first message does not wait for them."""
        for name in CHANNELS:
            if not self._is_dry:
                self._channel(name)

    def send(self, message: Message, attempt_id: str) -> Outcome:
        """Send a message by its provider, or keep it here; a sender set in the environment wins."""
        if message.channel in self._sent_by_environment:
            message = replace(message, sender="")
        return self._way(message).send(message, attempt_id)

    def find(self, message: Message, since: datetime, taken: frozenset[str]) -> Found:
        """Look for a message at its provider, sent at `since` or after. `taken` has the ids of
        other messages.

        It asks the provider even if RELAY_DELIVERY now lets nothing through: it did then.
        """
        if self._settings.delivery == AS_SENT:
            return self._dry_run.find(message, since, taken)
        if self.lacks_account(message):
            return Found(failed=f"No account is set for asking about {message.channel}.")
        try:
            provider = self._channel(message.channel) or self._dry_run
            return provider.find(message, since, taken)
        except Exception as error:  # a provider's odd answer must not decide anything
            return Found(failed=f"Relay could not look for it ({type(error).__name__}).")

    def look(self, name: str, provider_id: str) -> Found:
        """Ask a channel's provider for the outcome of a message that it accepted."""
        channel = self._provider(name)
        try:
            return channel.look(provider_id) if channel else Found()
        except Exception as error:  # a provider's odd answer must not decide anything
            return Found(failed=f"Relay could not ask about it ({type(error).__name__}).")

    def asked(self) -> list[str]:
        """The channels whose providers can be asked for the outcome of a message."""
        return [
            name for name in CHANNELS if CHANNELS[name].provider.has_list and self.reaches(name)
        ]

    def erase(
        self, name: str, addresses: frozenset[str], provider_ids: frozenset[str]
    ) -> list[str]:
        """Have a provider delete its data about a person; return a sentence for each refusal."""
        if not (addresses or provider_ids):
            return []
        channel = self._provider(name)
        if channel is None:
            return [
                f"Data at the {name} provider was not erased: that provider is not in use here."
            ]
        try:
            return channel.erase(addresses, provider_ids)
        except Exception as error:  # a provider's odd answer must not undo the erasure here
            return [f"Data at the {name} provider was not erased ({type(error).__name__})."]

    def account_faults(self, name: str) -> list[AccountFault] | None:
        """The faults of our account at a provider; None if it sends nothing for us."""
        channel = self._provider(name)
        if channel is None:
            return None
        try:
            return channel.account_faults()
        except Exception as error:  # an odd answer proves nothing
            said = f"Relay could not read its answer ({type(error).__name__})."
            return [AccountFault(said, is_warning=True)]

    def reaches(self, name: str) -> bool:
        """Whether a provider has an account and RELAY_DELIVERY lets anything through to it."""
        return self._provider(name) is not None

    def _provider(self, name: str) -> Provider | None:
        return None if self._is_dry else self._channel(name)

    def awaits_receipt(self, message: Message) -> bool:
        """Whether the provider will report if this message arrives."""
        return self.is_live(message) and self._settings.receipts.get(message.channel, False)

    def is_live(self, message: Message) -> bool:
        """Whether RELAY_DELIVERY lets this message through to its provider."""
        return self._way(message) is not self._dry_run

    def lacks_account(self, message: Message) -> bool:
        """Whether a message should go out, but its provider has no account configured."""
        return self._is_to_leave(message) and self._channel(message.channel) is None

    def _is_to_leave(self, message: Message) -> bool:
        return lets_out(self._settings, self._allowed, message.address)

    def _way(self, message: Message) -> Provider:
        provider = self._channel(message.channel) if self._is_to_leave(message) else None
        return provider or self._dry_run

    def _channel(self, name: str) -> Provider | None:
        if name not in self._made:
            # Imported for the first message: the providers' SDKs are slow to load.
            module = import_module(f"relay.channels.{CHANNELS[name].provider.module}")
            connect: Factory = module.connect
            self._made[name] = connect(self._settings, self._senders.get(name, ""), self._wire)
        return self._made[name]


class DryRun(Provider):
    """Accepts every message and keeps it here, so it has nothing to look up."""

    def send(self, message: Message, attempt_id: str) -> Outcome:
        """Accept a message without sending it."""
        return Outcome("accepted", provider_id=f"dry-run-{attempt_id}", is_kept=True)


class AsSent(DryRun):
    """Counts every message as sent: it went out before the ledger was restored from a backup."""

    def send(self, message: Message, attempt_id: str) -> Outcome:
        """Count a message as sent."""
        return Outcome("accepted", "It counts as sent: it was due before the ledger was restored.")


__all__ = ["Channels", "Outcome", "Provider"]
