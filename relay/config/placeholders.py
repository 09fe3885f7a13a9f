"""What config.toml still has of the example clinic: with live delivery patients would read it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from relay.config.loader import Config
from relay.config.schema import SENDER
from relay.config.toml_reader import KeyPath
from relay.errors import Problem

SHIPPED: dict[KeyPath, str] = {
    ("clinic", "name"): "Example Clinic",
    ("clinic", "phone"): "020 7946 0000",
    ("clinic", "portal"): "https://portal.example/results",
    ("delivery", "sms_from"): "EXCLINIC",
    ("delivery", "email_from"): "Example Clinic <results@example.org>",
}
# Names that nobody can own: https://www.rfc-editor.org/rfc/rfc2606
_EXAMPLE = re.compile(r"example|\.(test|invalid|localhost)\b", re.IGNORECASE)
# https://www.ofcom.org.uk/phones-and-broadband/phone-numbers/numbers-for-drama, digits only.
_DRAMA = re.compile(
    r"(?:(?:11[3-8]|1[2-6]1)4960|1914980|2079460|2896496|2920180|1632960|7700900|8081570|9098790"
    r"|3069990)\d{3}"
)


def placeholders(config: Config) -> Iterator[Problem]:
    """When live: an error for what is as shipped, a warning for what looks like an example."""
    if config.settings.delivery != "live":
        return
    for path, value in _said(config):
        if value == SHIPPED.get(path):
            said = f'"{value}" is what Relay came with, and delivery is live.'
            yield config.problem(path, said, "Write your own.")
        elif _EXAMPLE.search(value) or _DRAMA.search(re.sub(r"\D", "", value)):
            said = f'"{value}" looks like an example, and delivery is live.'
            yield config.problem(path, said, "Write your own.", warning=True)


def _said(config: Config) -> Iterator[tuple[KeyPath, str]]:
    """The values by which people know the clinic, and by which staff are reached."""
    for key in ("name", "phone", "portal"):
        yield ("clinic", key), getattr(config.clinic, key) or ""
    for channel, sender in config.delivery.senders.items():
        yield ("delivery", SENDER.format(channel)), sender
    for rule in config.rules:
        for channel, sender in rule.senders.items():
            yield ("rules", rule.name, SENDER.format(channel)), sender
    for name, group in config.staff.items():
        for channel, addresses in group.addresses.items():
            for address in addresses:
                yield ("staff", name, channel), address
