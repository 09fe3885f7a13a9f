"""The channels: one row each in CHANNELS. To add one, add its row and its provider's file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from relay.lab import facts, plain_text
from relay.rules import addresses
from relay.rules.addresses import EMAIL, PHONE, AddressKind


@dataclass(frozen=True)
class Sender:
    """The key of config.toml that says who a channel's messages are from: `sms_from`."""

    parse: Callable[[str], str]  # raises ValueError with words for an admin
    meaning: str
    example: str
    instead: tuple[str, ...] = ()  # environment variables that override the key
    is_name: Callable[[str], bool] = lambda _text: False  # a name that nobody can reply to


@dataclass(frozen=True)
class Provider:
    """The company that carries a channel's messages, as all code but its own file knows it."""

    name: str  # as people read it
    module: str  # of relay.channels; its `connect` makes the provider
    account: tuple[str, ...]  # environment variables that sending needs
    home: str = ""  # the host of its API, in the USA, unless <NAME>_API_URL names another
    receipts: str = ""  # the variable that receipts need
    has_list: bool = False  # whether it has a list of messages, in which to look one up
    deletes: str = ""  # BY_ID or BY_ADDRESS, if it deletes anything on request
    stops_remedy: str = ""  # if it keeps its own list of people who want nothing more


BY_ID, BY_ADDRESS = "id", "address"


@dataclass(frozen=True)
class Channel:
    """A way of writing to people."""

    address: AddressKind
    field: str  # of a person, in which the lab has their address
    provider: Provider
    word: str  # for one message
    words: str  # for several
    verb: str  # for writing to somebody: "text" the patient
    parts: Mapping[str, str]  # part of a message (text, subject, html) → the template's file for it
    shown: tuple[str, ...]  # the parts that a locked screen shows
    lookup_delays: tuple[float, ...]  # seconds after which Relay looks for an unknown message
    sender: Sender | None = None
    in_segments: bool = False  # billed in segments: they are counted, and daily_sms_limit applies
    alert_rank: int = 0  # staff's alerts use the lowest they have an address for; never one with 0

    @property
    def title(self) -> str:
        """The word for several messages, at the beginning of a sentence: Texts."""
        return begun(self.words)

    @property
    def label(self) -> str:
        """The word for one message, by itself: Text."""
        return begun(self.word)

    @property
    def one(self) -> str:
        """The word for one message, with its article: a text."""
        return f"{'an' if self.word[0] in 'aeiou' else 'a'} {self.word}"

    def many(self, number: int) -> str:
        """A number of messages: 1 text, 2 texts."""
        return f"{number:,} {self.word if number == 1 else self.words}"


def begun(words: str) -> str:
    """Words at the beginning of a sentence. Capital letters stay: WhatsApp."""
    return words[:1].upper() + words[1:]


def is_sender_name(text: str) -> bool:
    """Whether a sender is letters, which a phone shows and cannot write to:
    https://www.twilio.com/docs/glossary/what-alphanumeric-sender-id
    """
    return bool(re.fullmatch(r"(?=.*[A-Za-z])[A-Za-z0-9 &+_-]{1,11}", text))


def sms_sender(text: str) -> str:
    """A Twilio sender: a name, a number or a short code. Raises ValueError."""
    if is_sender_name(text) or re.fullmatch(r"\+\d{7,15}|\d{3,8}", text):
        return text
    raise ValueError("write up to 11 letters and digits, at least one a letter, or a +44 number")


def named_mailbox(text: str) -> tuple[str, str]:
    """Split a sender into name and address. Everything before the last < is the name, quoted or
    not, whatever it contains. The grammar of email would end the name at a comma or colon.
    """
    before, bracket, after = text.rpartition("<")
    if not bracket:
        return "", text.strip()
    name = before.strip()
    if len(name) > 1 and name[0] == name[-1] == '"':
        name = re.sub(r"\\(.)", r"\1", name[1:-1])
    return plain_text.plain(name), after.strip().removesuffix(">").strip()


def email_sender(text: str) -> str:
    """An address with or without a display name."""
    if why := why_no_sender(text):
        raise ValueError(f'{why}; write it as "Example Clinic <results@example.org>"')
    return text


def why_no_sender(text: str) -> str:
    """Why a sender of emails is not valid; empty if it is."""
    name, address = named_mailbox(text)
    if "\n" in text or "\r" in text:
        return "it has more than one line"
    if re.search(r"<[^<>]*@[^<>]*>", name) or (address.count("@") > 1 and "<" not in text):
        return "it has more than one address"
    if "@" not in address:
        return "it has no email address"
    if "<" in text and not text.rstrip().endswith(">"):
        return "there is text after the address" if ">" in address else "its last > is missing"
    if "<" not in text and re.search(r"\s", address):
        return "its address is not between < and >"
    return addresses.email(address).reason.rstrip(".")


CHANNELS: dict[str, Channel] = {
    "sms": Channel(
        address=PHONE,
        field=facts.PHONE,
        provider=Provider(
            name="Twilio",
            module="twilio",
            home="api.twilio.com",
            account=("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"),
            receipts="PUBLIC_URL",
            has_list=True,
            deletes=BY_ID,
            stops_remedy="It texts a person who has sent STOP only once they send START.",
        ),
        word="text",
        words="texts",
        verb="text",
        parts={"text": "sms.txt"},
        shown=("text",),
        lookup_delays=(120, 600),
        sender=Sender(
            parse=sms_sender,
            meaning="The sender that phones show. Nobody can answer a name, not even STOP.",
            example="EXCLINIC",
            instead=("TWILIO_MESSAGING_SERVICE_SID", "TWILIO_FROM"),
            is_name=is_sender_name,
        ),
        in_segments=True,
        alert_rank=2,
    ),
    "email": Channel(
        address=EMAIL,
        field=facts.EMAIL,
        provider=Provider(
            name="SendGrid",
            module="sendgrid",
            home="api.sendgrid.com",
            account=("SENDGRID_API_KEY",),
            receipts="SENDGRID_WEBHOOK_PUBLIC_KEY",
            deletes=BY_ADDRESS,
            stops_remedy=(
                "Remove the address from its suppressions too, or it drops the next email."
            ),
        ),
        word="email",
        words="emails",
        verb="email",
        parts={"subject": "subject.txt", "text": "email.txt", "html": "email.html"},
        shown=("subject",),
        lookup_delays=(900,),
        sender=Sender(
            parse=email_sender,
            meaning="The sender of emails.",
            example="Example Clinic <results@example.org>",
        ),
        alert_rank=1,
    ),
    # A new channel's row goes here. In the audit trail the first of an address kind stands for it.
}
CHANNEL_NAMES = tuple(CHANNELS)
ALERT_CHANNELS = sorted(
    (name for name, row in CHANNELS.items() if row.alert_rank),
    key=lambda name: CHANNELS[name].alert_rank,
)
IN_SEGMENTS = tuple(name for name, row in CHANNELS.items() if row.in_segments)
DELETED_BY_ID = tuple(name for name, row in CHANNELS.items() if row.provider.deletes == BY_ID)
DELETED_BY_ADDRESS = tuple(
    name for name, row in CHANNELS.items() if row.provider.deletes == BY_ADDRESS
)


def variables() -> tuple[str, ...]:
    """The environment variables that the rows name, each once."""
    found = dict[str, None]()
    for row in CHANNELS.values():
        found |= dict.fromkeys(row.provider.account)
        found |= dict.fromkeys(row.sender.instead if row.sender else ())
        found |= dict.fromkeys(filter(None, (row.provider.receipts,)))
    return tuple(found)


def kind_of(text: str) -> AddressKind | None:
    """The kind of address that a text looks like, if any."""
    kinds = dict.fromkeys(row.address for row in CHANNELS.values())
    return next((kind for kind in kinds if kind.is_written(text)), None)


def channels_to(kind: AddressKind) -> tuple[str, ...]:
    """The channels that write to a kind of address."""
    return tuple(name for name, row in CHANNELS.items() if row.address == kind)


def channel_of(text: str) -> str:
    """The channel that stands for all that write to an address: the first of its kind's. A text
    that looks like no address is judged as a phone number.
    """
    return channels_to(kind_of(text) or PHONE)[0]


def stop_lists(channels: Iterable[str]) -> list[Provider]:
    """The providers of channels that keep their own lists, which Relay does not touch."""
    found = dict.fromkeys(CHANNELS[name].provider for name in channels)
    return [provider for provider in found if provider.stops_remedy]


def sharing(channel: str) -> tuple[str, ...]:
    """A channel and the others that write to the same addresses."""
    return channels_to(CHANNELS[channel].address)


def carried_with(channel: str) -> tuple[str, ...]:
    """The channels of a channel's provider: its callbacks do not say which of them it used."""
    mine = CHANNELS[channel].provider.name
    return tuple(name for name, row in CHANNELS.items() if row.provider.name == mine)


def words_of(channel: str) -> str:
    """The words for all messages to a channel's addresses, to begin a sentence: Texts."""
    return begun(" and ".join(CHANNELS[name].words for name in sharing(channel)))
