"""Twilio's error codes, and what each means for a message."""

from __future__ import annotations

from relay.channels.outcome import Outcome

# Error code → (what it is, in plain words). https://www.twilio.com/docs/api/errors
PERMANENT = {
    21211: "The phone number is not one that Twilio knows.",
    21408: "The Twilio account may not text this country.",
    21610: "The person has opted out of texts (STOP).",
    21612: "This number cannot be reached from our sender.",
    21614: "The phone number is not a mobile.",
    30004: "The person's network has blocked the text.",
    30005: "The phone number is not in use.",
    30006: "The phone number is a landline or cannot be reached.",
    30007: "The network has filtered the text as spam.",
}
OPTED_OUT = 21610
STOPPED = "STOP (Twilio 21610)"  # begins with STOP: the person's START takes it back
CALLBACK = 21609  # the address for receipts that each text names
OPERATOR = {20003, 20403, 21606, CALLBACK, 30002}  # our account or settings, not this message
TRANSIENT = {20429, 21611, 30001, 30036}


def judge(status: int, code: int | None, wait: float | None = None) -> Outcome:
    """What an error answer means."""
    known = PERMANENT.get(code or 0)
    if known:
        suppress = STOPPED if code == OPTED_OUT else ""
        return Outcome("rejected", known, str(code), permanent=True, suppress=suppress)
    label = str(code or status)
    if code in OPERATOR or status in (401, 403, 404) or 300 <= status < 400:
        what = "PUBLIC_URL" if code == CALLBACK else "account"
        return Outcome("rejected", f"Twilio refuses our {what} ({label}).", label, operator=True)
    if code in TRANSIENT or status in (408, 429):
        return Outcome("rejected", f"Twilio is busy ({label}).", label, retry_after=wait)
    if 400 <= status < 500:
        return Outcome("rejected", f"Twilio refused the message ({label}).", label, permanent=True)
    return Outcome("unknown", f"Twilio answered with {status}.", label)
