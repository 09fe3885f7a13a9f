"""Email through SendGrid: sending, erasing, and the event webhook's receipts.

https://www.twilio.com/docs/sendgrid/api-reference/mail-send
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sendgrid import SendGridAPIClient
from sendgrid.helpers.eventwebhook import EventWebhook
from sendgrid.helpers.mail import (
    ClickTracking,
    CustomArg,
    Email,
    Ganalytics,
    Mail,
    OpenTracking,
    SubscriptionTracking,
    To,
    TrackingSettings,
)

from relay.channels.base import LONGEST_WAIT, Found, Outcome, Receipt
from relay.config.settings import Settings
from relay.http_client import Answer, HttpClient, NoAnswer
from relay.messages.templates import Message
from relay.rules import addresses
from relay.rules.channels import named_mailbox
from relay.rules.statuses import FAILED

CHANNEL = "email"
ACCEPTED = 202


class SendGrid:
    """The email channel."""

    def __init__(self, api: SendGridAPIClient, wire: HttpClient, sender: str):
        self._url = f"{api.host}/v3"
        self._headers = {**api.client.request_headers, "Content-Type": "application/json"}
        self._wire = wire
        name, address = named_mailbox(sender)
        self._sender = name, addresses.email(address).address

    def send(self, message: Message, attempt_id: str) -> Outcome:
        """Hand over one email, with the attempt's id in its `custom_args`."""
        name, address = self._sender
        mail = Mail(
            from_email=Email(address, name or None),
            to_emails=To(message.address),
            subject=message.subject,
            plain_text_content=message.text,
            html_content=message.html,
        )
        mail.custom_arg = CustomArg("attempt", attempt_id)
        mail.tracking_settings = TrackingSettings(
            click_tracking=ClickTracking(False, False),
            open_tracking=OpenTracking(False),
            subscription_tracking=SubscriptionTracking(False),
            ganalytics=Ganalytics(False),
        )
        try:
            answer = self._post("mail/send", mail.get())
        except NoAnswer as error:
            if not error.sent:
                return Outcome("rejected", f"Relay cannot reach SendGrid ({error}).")
            return Outcome("unknown", f"SendGrid did not answer ({error}).")
        if answer.status >= 300:
            return judge(answer.status, answer.headers)
        if answer.status != ACCEPTED:
            return Outcome("unknown", f"SendGrid answered with {answer.status}.")
        return Outcome("accepted", provider_id=answer.headers.get("X-Message-Id"))

    def find(self, message: Message, since: datetime, taken: frozenset[str]) -> Found:
        """Find nothing: SendGrid has no list to look in. Its event webhook will say."""
        return Found()

    def erase(self, addresses: frozenset[str], provider_ids: frozenset[str]) -> list[str]:
        """Have all that SendGrid keeps of addresses deleted; it does so within days.

        https://www.twilio.com/docs/sendgrid/api-reference/recipients-data-erasure-api
        """
        if not addresses:
            return []
        body = {"email_addresses": sorted(addresses)}
        try:
            answer = self._post("recipients/erasejob", body)
        except NoAnswer as error:
            return [f"SendGrid did not answer ({error}): it still has the emails' data."]
        if answer.status >= 300:
            return [f"SendGrid refused to erase the emails' data ({answer.status})."]
        return []

    def _post(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Post what the SDK has built. Raises NoAnswer.

        The SDK's own client opens a connection for each mail, loads the system's certificates for
        each, and follows a redirect with the API key.
        """
        data = json.dumps(body).encode()
        return self._wire.send("POST", f"{self._url}/{path}", self._headers, data)


def judge(status: int, headers: Any) -> Outcome:
    """The outcome that an error answer of SendGrid's stands for, by its HTTP status and headers.

    https://www.twilio.com/docs/sendgrid/api-reference/how-to-use-the-sendgrid-v3-api/errors
    """
    label = str(status)
    if status in (401, 403, 404) or 300 <= status < 400:
        return Outcome("rejected", f"SendGrid refuses our account ({label}).", label, operator=True)
    if status == 429:
        wait = until_reset((headers or {}).get("X-RateLimit-Reset", ""))
        return Outcome("rejected", f"SendGrid is busy ({label}).", label, retry_after=wait)
    if 400 <= status < 500:
        return Outcome(
            "rejected", f"SendGrid refused the message ({label}).", label, permanent=True
        )
    return Outcome("unknown", f"SendGrid answered with {label}.", label)


def until_reset(value: str) -> float | None:
    """Seconds until `value`, the Unix time at which the rate limit ends; an hour at most.

    https://www.twilio.com/docs/sendgrid/api-reference/how-to-use-the-sendgrid-v3-api/rate-limits
    """
    if not (value.isascii() and value.isdigit()):
        return None
    return min(LONGEST_WAIT, max(0.0, float(value) - time.time()))


def is_signed(settings: Settings, body: bytes, signature: str, timestamp: str) -> bool:
    """Whether one of our keys shows that a batch of events comes from SendGrid. False if malformed.

    https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features
    """
    keys = (settings.sendgrid_webhook_public_key, *settings.former_sendgrid_webhook_public_key)
    return any(_fits(key, body, signature, timestamp) for key in keys if key)


def _fits(public_key: str, body: bytes, signature: str, timestamp: str) -> bool:
    try:
        webhook = EventWebhook(public_key)
        return bool(webhook.verify_signature(body.decode(), signature, timestamp))
    except Exception:  # a key of another kind raises what it likes
        return False


def connect(settings: Settings, sender: str, wire: HttpClient) -> SendGrid | None:
    """The email channel; None where SendGrid is not configured."""
    if not settings.accounts[CHANNEL]:
        return None
    host = {"host": settings.sendgrid_api_url} if settings.sendgrid_api_url else {}
    return SendGrid(SendGridAPIClient(settings.sendgrid_api_key, **host), wire, sender)


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
_FAR_OFF = 1 << 33  # in the year 2242

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
    """The receipts in a batch of events, leaving out the malformed and those that say nothing new.

    https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event
    """
    receipts = (_receipt(event) for event in events if isinstance(event, dict))
    return [receipt for receipt in receipts if receipt]


def _receipt(event: dict[str, Any]) -> Receipt | None:
    word = event.get("event")
    judge = EVENTS.get(word) if isinstance(word, str) else None
    attempt_id = matched(_ID, event.get("attempt"))
    message_id = event.get("sg_message_id")
    provider_id = message_id.partition(".")[0] if isinstance(message_id, str) else ""
    provider_id = matched(_ID, provider_id)
    if judge is None:
        return None
    state, reason, suppress = judge(event)
    address = ""
    if not (attempt_id or provider_id) and state in FAILED:
        address = addresses.email(event.get("email")).address  # all that a delayed bounce names
    if not (attempt_id or provider_id or address):
        return None
    return Receipt(
        state,
        str(word),
        attempt_id=attempt_id,
        provider_id=provider_id,
        code=matched(_CODE, event.get("status")) if reason else "",
        reason=reason,
        suppress=suppress,
        happened_at=moment(event.get("timestamp")),
        address=address,
    )


def moment(timestamp: object) -> datetime | None:
    """When something happened, as SendGrid writes it: in whole seconds of Unix time."""
    if type(timestamp) is not int or not 0 < timestamp < _FAR_OFF:
        return None
    return datetime.fromtimestamp(timestamp, UTC)


def matched(pattern: re.Pattern[str], value: object) -> str:
    """The text, if it matches the pattern as a whole; else empty."""
    return value if isinstance(value, str) and pattern.fullmatch(value) else ""
