"""Why an address gets nothing more: the ledger's words for it, and those that people read."""

from __future__ import annotations

from relay.rules.channels import CHANNELS

STOP = "STOP"  # by a text; followed by more if a provider said so
OWN_WORDS = "STOP (in their own words)"
WRONG_NUMBER = "wrong number"
STAFF = "staff"
BOUNCE, INVALID = "bounce", "invalid address"
UNSUBSCRIBED, SPAM_REPORT = "unsubscribed", "spam report"
OPTED_OUT = "The person has opted out of {words}."
REASONS = {
    STOP: OPTED_OUT,
    WRONG_NUMBER: "Somebody has answered that this is the wrong number.",
    STAFF: "Staff have stopped {words} to this address.",
    BOUNCE: "An earlier {word} to this address bounced: there is no such mailbox.",
    INVALID: "An earlier {word} was refused: this address is not valid.",
    UNSUBSCRIBED: "The person has unsubscribed from {words}.",
    SPAM_REPORT: "The person has reported an earlier {word} as spam.",
}


def reason(source: str, channel: str) -> str:
    """Why a message to a stopped address does not go out, by what stopped it."""
    row = CHANNELS[channel]
    return REASONS.get(source, OPTED_OUT).format(word=row.word, words=row.words)


def confirmation(clinic: str) -> str:
    """The answer to a STOP that its provider has not confirmed."""
    return f"{clinic}: you will get no more texts from us. If you want them again, text START."
