"""What Twilio tells of a text after it was sent, and what people answer to one."""

from __future__ import annotations

import re
from collections.abc import Mapping

from relay.channels.outcome import Receipt
from relay.channels.twilio_codes import OPERATOR, OPTED_OUT, PERMANENT, STOPPED

# Twilio's word → our state. https://www.twilio.com/docs/messaging/api/message-resource#message-status-values
STATES = {
    "accepted": "sent",
    "scheduled": "sent",
    "queued": "sent",
    "sending": "sent",
    "sent": "sent",
    "delivered": "delivered",
    "read": "delivered",
    "undelivered": "temporary-failure",  # these three by their error code
    "failed": "temporary-failure",
    "canceled": "temporary-failure",
}
REASONS = {
    30003: "The phone was off or out of reach.",
    30008: "The text was not delivered, and the network does not say why.",
}
# https://www.twilio.com/docs/messaging/tutorials/advanced-opt-out
WORDS = {
    **dict.fromkeys(
        ("STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT"), "stop"
    ),
    **dict.fromkeys(("START", "UNSTOP", "YES"), "start"),
    **dict.fromkeys(("HELP", "INFO"), "help"),
}
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def parse_receipts(form: Mapping[str, str], attempt_id: str) -> list[Receipt]:
    """The receipt in a status callback; none where it has no status.

    https://www.twilio.com/docs/messaging/guides/outbound-message-status-in-status-callbacks
    """
    word = _id(form.get("MessageStatus") or form.get("SmsStatus") or "").lower()
    if not word:
        return []
    by = _id(form.get("MessageSid") or form.get("SmsSid") or "")
    return [receipt(word, _number(form.get("ErrorCode", "")), by, _id(attempt_id))]


def receipt(word: str, error: int, provider_id: str, attempt_id: str = "") -> Receipt:
    """What a text's status, with its error's code or 0, tells of it."""
    state, code, reason = STATES.get(word, ""), "", ""
    if state == "temporary-failure":
        code = str(error or "")
        state = "permanent-failure" if error in PERMANENT else state
        reason = _reason(word, error)
    return Receipt(
        state,
        word,
        attempt_id=attempt_id,
        provider_id=provider_id,
        code=code,
        reason=reason,
        suppress=STOPPED if code == str(OPTED_OUT) else "",
    )


def opt(form: Mapping[str, str]) -> str:
    """What an inbound text asks for: `stop`, `start`, `help`, or nothing that we know."""
    written = form.get("OptOutType") or re.sub(r"^[\W_]+|[\W_]+$", "", form.get("Body", ""))
    return WORDS.get(written.upper(), "")


def _reason(word: str, code: int) -> str:
    known = PERMANENT.get(code) or REASONS.get(code)
    if known:
        return known
    label = f" ({code})" if code else ""
    if code in OPERATOR:
        return f"Twilio refuses our account{label}."
    done = "cancelled" if word == "canceled" else "could not deliver"
    return f"Twilio {done} the text{label}."


def _number(written: str) -> int:
    """An error code; 0 for none."""
    return int(written) if written.isascii() and written.isdigit() and len(written) < 10 else 0


def _id(written: str) -> str:
    """A word or id as Twilio and we make them; empty for what is none."""
    return written if _ID.fullmatch(written) else ""
