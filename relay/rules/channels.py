"""The channels: one row each in CHANNELS. To add a channel, add its row and its provider's file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from relay.rules.addresses import Address, email, phone


@dataclass(frozen=True)
class Channel:
    """A channel, as all but its provider's own module has to know it."""

    judge: Callable[[object], Address]
    field: str  # of a person, where the lab has the address
    word: str  # what one message is called
    parts: Mapping[str, str]  # part of a message → the template's file that makes it
    looks: tuple[float, ...]  # seconds after which an unknown message is looked for

    @property
    def title(self) -> str:
        """What several messages are called, at the beginning of a sentence: Texts."""
        return f"{self.word.capitalize()}s"

    def many(self, number: int) -> str:
        """So many messages: 1 text, 2 texts."""
        return f"{number:,} {self.word}{'s' if number != 1 else ''}"


# To add a channel, add its row, and its provider's module to CHANNELS of relay/channels.
CHANNELS: dict[str, Channel] = {
    "sms": Channel(phone, "phone_number", "text", {"text": "sms.txt"}, (120, 600)),
    "email": Channel(
        email,
        "email",
        "email",
        {"subject": "subject.txt", "text": "email.txt", "html": "email.html"},
        (900,),
    ),
}
CHECKS = {name: way.judge for name, way in CHANNELS.items()}
CHANNEL_NAMES = tuple(CHANNELS)


def channel_of(text: str) -> str:
    """The channel that a written address belongs to."""
    return "email" if "@" in text else "sms"
