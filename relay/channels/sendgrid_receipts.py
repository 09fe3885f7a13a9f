"""What SendGrid's event webhook tells of an email after it was sent."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from relay.channels.outcome import Receipt

PERMANENT, TEMPORARY = "permanent-failure", "temporary-failure"
# SendGrid's words for why it has dropped an email → (our reason, why the address is suppressed).
# "Spam Content" and "Invalid SMTPAPI header" are about the email: they say nothing of the address.
# https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event#dropped
DROPPED = (
    (r"bounced", "an email to this address has bounced before", "bounce"),
    (r"unsubscribed", "the person has unsubscribed", "unsubscribed"),
    (r"spam report", "the person has reported an email as spam", "spam report"),
    (r"^invalid(?! smtpapi)", "the address is not valid", "invalid address"),
)
_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
_CODE = re.compile(r"\d\.\d{1,3}\.\d{1,3}")

# An event → (state, reason, why the address is suppressed).
Verdict = tuple[str, str, str]


def _bounce(event: dict[str, Any]) -> Verdict:
    if event.get("type") == "blocked":
        return TEMPORARY, "The person's mail server would not take the email for now.", ""
    return PERMANENT, "The email bounced: there is no such mailbox, or it is closed.", "bounce"


def _dropped(event: dict[str, Any]) -> Verdict:
    words = str(event.get("reason", "")).strip().lower()
    for pattern, why, suppress in DROPPED:
        if re.search(pattern, words):
            return PERMANENT, f"SendGrid dropped the email: {why}.", suppress
    return PERMANENT, "SendGrid dropped the email.", ""


# https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event
EVENTS: dict[str, Callable[[dict[str, Any]], Verdict]] = {
    "processed": lambda event: ("sent", "", ""),
    "deferred": lambda event: ("sent", "", ""),
    "delivered": lambda event: ("delivered", "", ""),
    "bounce": _bounce,
    "dropped": _dropped,
    "spamreport": lambda event: ("", "", "spam report"),
    "unsubscribe": lambda event: ("", "", "unsubscribed"),
    "group_unsubscribe": lambda event: ("", "", "unsubscribed"),
}


def parse_receipts(events: Sequence[Any]) -> list[Receipt]:
    """The receipts in a batch; what is malformed, or no news of a message, is passed over."""
    receipts = (_receipt(event) for event in events if isinstance(event, dict))
    return [receipt for receipt in receipts if receipt]


def _receipt(event: dict[str, Any]) -> Receipt | None:
    word = event.get("event")
    judge = EVENTS.get(word) if isinstance(word, str) else None
    attempt_id = _matched(_ID, event.get("attempt"))
    message_id = event.get("sg_message_id")
    provider_id = message_id.partition(".")[0] if isinstance(message_id, str) else ""
    provider_id = _matched(_ID, provider_id)
    if judge is None or not (attempt_id or provider_id):
        return None
    state, reason, suppress = judge(event)
    moment = event.get("timestamp")
    return Receipt(
        state,
        str(word),
        attempt_id=attempt_id,
        provider_id=provider_id,
        code=_matched(_CODE, event.get("status")) if reason else "",
        reason=reason,
        suppress=suppress,
        moment=str(moment) if type(moment) is int and abs(moment) < 1 << 53 else "",
    )


def _matched(pattern: re.Pattern[str], value: object) -> str:
    """A text that has the shape it should have; else nothing."""
    return value if isinstance(value, str) and pattern.fullmatch(value) else ""
