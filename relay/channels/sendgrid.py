"""Email through SendGrid: sending, erasing, and the event webhook's receipts.

https://www.twilio.com/docs/sendgrid/api-reference/mail-send
"""

from __future__ import annotations

import json
import re
import time
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from sendgrid import SendGridAPIClient
from sendgrid.helpers.eventwebhook import EventWebhook
from sendgrid.helpers.mail import (
    ClickTracking,
    CustomArg,
    Email,
    Ganalytics,
    Header,
    Mail,
    OpenTracking,
    ReplyTo,
    SubscriptionTracking,
    To,
    TrackingSettings,
)

from relay.channels.base import (
    LONGEST_WAIT,
    AccountFault,
    Outcome,
    Provider,
    not_answered,
    unlisted,
)
from relay.config.settings import Settings
from relay.http_client import Answer, HttpClient, NoAnswer
from relay.messages.templates import Message
from relay.rules import addresses, stops
from relay.rules.channels import named_mailbox
from relay.rules.receipts import Receipt
from relay.rules.statuses import FAILED, OURS

CHANNEL = "email"
OK, ACCEPTED = 200, 202
# In each event SendGrid mixes our custom fields with its own, and its own win: `attempt` is how
# often it has tried a deferred email. https://github.com/sendgrid/docs/pull/820
ATTEMPT = "relay_attempt"
FORMER_ATTEMPT = "attempt"  # of emails from the previous release; to be removed a release later

# In a name in `to`, SendGrid may read a comma as the end of an address, and send to the part before
# it or drop the mail: https://github.com/sendgrid/sendgrid-python/issues/291
_NO_NAME = re.compile(r"[^\w\s.'\u2019-]")


class SendGrid(Provider):
    """The email channel. SendGrid has no list to look in: its event webhook reports outcomes."""

    def __init__(self, api: SendGridAPIClient, wire: HttpClient, sender: str):
        self._url = f"{api.host}/v3"
        self._headers = {**api.client.request_headers, "Content-Type": "application/json"}
        self._wire = wire
        self._sender = mailbox(sender)

    def send(self, message: Message, attempt_id: str) -> Outcome:
        """Hand over an email, with the attempt's id in its `custom_args`."""
        name, address = mailbox(message.sender) if message.sender else self._sender
        mail = Mail(
            from_email=Email(address, name or None),
            to_emails=To(message.address, _NO_NAME.sub("", message.name).strip() or None),
            subject=message.subject,
            plain_text_content=message.text,
            html_content=message.html,
        )
        mail.add_header(Header("Auto-Submitted", "auto-generated"))  # RFC 3834: no out-of-office
        if message.reply_to:
            mail.reply_to = ReplyTo(message.reply_to)
        mail.custom_arg = CustomArg(ATTEMPT, attempt_id, p=0)
        mail.tracking_settings = TrackingSettings(
            click_tracking=ClickTracking(False, False),
            open_tracking=OpenTracking(False),
            subscription_tracking=SubscriptionTracking(False),
            ganalytics=Ganalytics(False),
        )
        try:
            answer = self._post("mail/send", mail.get())
        except NoAnswer as error:
            return not_answered("SendGrid", error)
        if answer.status >= 300:
            return judge(answer.status, answer.headers)
        if answer.status != ACCEPTED:
            return Outcome("unknown", f"SendGrid answered with {answer.status}.")
        return Outcome("accepted", provider_id=answer.headers.get("X-Message-Id"))

    def account_faults(self) -> list[AccountFault]:
        """Check the key's permissions, and whether the sender's domain is authenticated.

        https://www.twilio.com/docs/sendgrid/api-reference/api-key-permissions
        https://www.twilio.com/docs/sendgrid/api-reference/domain-authentication
        """
        try:
            scopes, domains = self._get("scopes"), self._get("whitelabel/domains")
        except NoAnswer as error:
            return [AccountFault(f"Relay cannot reach SendGrid ({error}).", is_warning=True)]
        if scopes.status in (401, 403):
            remedy = "Copy SENDGRID_API_KEY anew, or make another: it is shown once."
            return [AccountFault(f"SendGrid refuses the key ({scopes.status}).", remedy)]
        if scopes.status != OK:
            return [AccountFault(f"SendGrid answered with {scopes.status}.", is_warning=True)]
        if "mail.send" not in json.loads(scopes.body).get("scopes", ()):
            return [AccountFault("The key may not send.", "Give it the scope Mail Send.")]
        return self._unauthenticated(domains)

    def _unauthenticated(self, answer: Answer) -> list[AccountFault]:
        domain = self._sender[1].rpartition("@")[2]
        if answer.status != OK or not domain:  # the key may not be allowed to ask
            return []
        valid = [str(one.get("domain")) for one in json.loads(answer.body) if one.get("valid")]
        if any(domain == one or domain.endswith(f".{one}") for one in valid):
            return []
        said = f"The domain {domain} of email_from is not authenticated: emails may land in spam."
        remedy = "Set up SPF and DKIM at SendGrid, Settings, Sender Authentication."
        return [AccountFault(said, remedy, is_warning=True)]

    def _get(self, path: str) -> Answer:
        return self._wire.send("GET", f"{self._url}/{path}", self._headers)

    def erase(self, addresses: frozenset[str], provider_ids: frozenset[str]) -> list[str]:
        """Have SendGrid delete all its data about addresses; it does so within days.

        https://www.twilio.com/docs/sendgrid/api-reference/recipients-data-erasure-api
        """
        if not addresses:
            return []
        try:
            answer = self._post("recipients/erasejob", {"email_addresses": sorted(addresses)})
        except NoAnswer as error:
            return [f"SendGrid did not answer ({error}): it still has the emails' data."]
        if answer.status >= 300:
            return [f"SendGrid refused to erase the emails' data ({answer.status})."]
        return []

    def _post(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Post a body from the SDK. Raises NoAnswer.

        The SDK's own client opens a connection for each mail, loads the system's certificates each
        time, and follows a redirect with the API key.
        """
        data = json.dumps(body).encode()
        return self._wire.send("POST", f"{self._url}/{path}", self._headers, data)


def mailbox(sender: str) -> tuple[str, str]:
    """A sender's name, and the address in the form to send."""
    name, address = named_mailbox(sender)
    return name, addresses.email(address).address


def judge(status: int, headers: Any) -> Outcome:
    """The outcome for an error answer from SendGrid, by its HTTP status and headers.

    https://www.twilio.com/docs/sendgrid/api-reference/how-to-use-the-sendgrid-v3-api/errors
    """
    label = str(status)
    if status in (401, 403, 404) or 300 <= status < 400:
        return Outcome("rejected", f"SendGrid refuses our account ({label}).", label, operator=True)
    if status == 429:
        wait = until_reset((headers or {}).get("X-RateLimit-Reset", ""))
        return Outcome("rejected", f"SendGrid is busy ({label}).", label, retry_after=wait)
    if 400 <= status < 500:
        return unlisted(f"SendGrid refused the message ({label}).", label)
    return Outcome("unknown", f"SendGrid answered with {label}.", label)


def until_reset(value: str) -> float | None:
    """Seconds until `value`, the Unix time at which the rate limit ends; at most an hour.

    https://www.twilio.com/docs/sendgrid/api-reference/how-to-use-the-sendgrid-v3-api/rate-limits
    """
    if not (value.isascii() and value.isdigit()):
        return None
    return min(LONGEST_WAIT, max(0.0, float(value) - time.time()))


# SendGrid tries again for 24 hours. An older post is a replay by somebody who kept it.
SIGNED_WITHIN = timedelta(days=3)


def is_signed(settings: Settings, body: bytes, signature: str, timestamp: str) -> bool:
    """Whether one of our keys proves that a batch of events comes from SendGrid, and is recent.
    False if malformed.

    https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features
    """
    keys = (settings.sendgrid_webhook_public_key, *settings.former_sendgrid_webhook_public_key)
    when = moment(int(timestamp)) if re.fullmatch(r"\d{1,10}", timestamp, re.ASCII) else None
    if not when or abs(datetime.now(UTC) - when) > SIGNED_WITHIN:
        return False
    return any(_fits(key, body, signature, timestamp) for key in keys if key)


def _fits(public_key: str, body: bytes, signature: str, timestamp: str) -> bool:
    try:
        key = EventWebhook(public_key).public_key
        # Not by its verify_signature, which takes text: a mail server's answer may have any bytes.
        key.verify(b64decode(signature), timestamp.encode() + body, ec.ECDSA(hashes.SHA256()))
    except Exception:  # a key of another kind may raise anything
        return False
    return True


def connect(settings: Settings, sender: str, wire: HttpClient) -> SendGrid | None:
    """The email channel; None if SendGrid is not configured."""
    if not settings.accounts[CHANNEL]:
        return None
    host = {"host": settings.sendgrid_api_url} if settings.sendgrid_api_url else {}
    return SendGrid(SendGridAPIClient(settings.sendgrid_api_key, **host), wire, sender)


PERMANENT, TEMPORARY = "permanent-failure", "temporary-failure"
# Why SendGrid drops email to anybody: a fault of our account. Only the quota is documented; its
# API and its support name the others: https://github.com/sendgrid/sendgrid-nodejs/issues/1032
ACCOUNT = re.compile(r"quota|credits|suspended|under review|frozen|deactivated|billing")
# SendGrid's words for why it has dropped an email → (our reason, why the address is suppressed).
# "Spam Content" and "Invalid SMTPAPI header" are about the email: they say nothing about the
# address. https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event#dropped
DROPPED = (
    (r"bounced", "an email to this address has bounced before", stops.BOUNCE),
    (r"unsubscribed", "the person has unsubscribed", stops.UNSUBSCRIBED),
    (r"spam report", "the person has reported an email as spam", stops.SPAM_REPORT),
    (r"^invalid(?! smtpapi)", "the address is not valid", stops.INVALID),
)
_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
_CODE = re.compile(r"\d\.\d{1,3}\.\d{1,3}")  # of RFC 3463
_FAR_OFF = 1 << 33  # in the year 2242


class Verdict(NamedTuple):
    """What an event says about a message and its address, in the words of a Receipt."""

    state: str = ""
    reason: str = ""
    suppress: str = ""
    lifts: str = ""
    code: str = ""  # replaces SendGrid's


def _bounce(event: dict[str, Any]) -> Verdict:
    code = matched(_CODE, event.get("status"))
    passes = event.get("type") == "blocked" or code.startswith("4")  # even if the type is another
    state = TEMPORARY if passes else PERMANENT
    if code.endswith(".2.2"):
        return Verdict(state, "The email bounced: the mailbox is full.")
    if passes:
        return Verdict(state, "The person's mail server would not take the email for now.")
    reason = "The email bounced: there is no such mailbox, or it is closed."
    return Verdict(state, reason, stops.BOUNCE)


def _dropped(event: dict[str, Any]) -> Verdict:
    words = str(event.get("reason", "")).strip().lower()
    if ACCOUNT.search(words):
        reason = "SendGrid drops our emails: see the plan, limit and bills of its account."
        return Verdict(TEMPORARY, reason, code=OURS)
    for pattern, why, suppress in DROPPED:
        if re.search(pattern, words):
            return Verdict(PERMANENT, f"SendGrid dropped the email: {why}.", suppress)
    return Verdict(PERMANENT, "SendGrid dropped the email.")


# https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event
EVENTS: dict[str, Callable[[dict[str, Any]], Verdict]] = {
    "processed": lambda event: Verdict("sent"),
    "deferred": lambda event: Verdict("sent"),
    "delivered": lambda event: Verdict("delivered"),
    "bounce": _bounce,
    "dropped": _dropped,
    "spamreport": lambda event: Verdict(suppress=stops.SPAM_REPORT),
    "unsubscribe": lambda event: Verdict(suppress=stops.UNSUBSCRIBED),
    "group_unsubscribe": lambda event: Verdict(suppress=stops.UNSUBSCRIBED),
    "group_resubscribe": lambda event: Verdict(lifts=stops.UNSUBSCRIBED),
}


def read(body: bytes) -> list[Any]:
    """The events of a batch, odd bytes replaced. Raises ValueError if it is not a JSON list."""
    text = body.decode(json.detect_encoding(body), "replace")
    try:
        batch = json.loads(text, strict=False, parse_int=whole)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(batch, list):
        raise ValueError("no list")
    return batch


def whole(digits: str) -> int | None:
    """A whole number; None if it is too long for Python to read."""
    return int(digits) if len(digits) < 32 else None


def parse_receipts(events: Sequence[Any]) -> list[Receipt]:
    """The receipts in a batch of events, without malformed ones and those that say nothing new.

    https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event
    """
    receipts = [one for event in events if isinstance(event, dict) and (one := _receipt(event))]
    # In order of time: a person who unsubscribed and came back is not stopped.
    return sorted(receipts, key=lambda one: one.happened_at.timestamp() if one.happened_at else 0)


def _receipt(event: dict[str, Any]) -> Receipt | None:
    word = event.get("event")
    judge = EVENTS.get(word) if isinstance(word, str) else None
    attempt_id = matched(_ID, event.get(ATTEMPT)) or matched(_ID, event.get(FORMER_ATTEMPT))
    message_id = event.get("sg_message_id")
    provider_id = message_id.partition(".")[0] if isinstance(message_id, str) else ""
    provider_id = matched(_ID, provider_id)
    if judge is None:
        return None
    judged = judge(event)
    address = ""
    # A delayed bounce names only the address. People may resubscribe from any email with the link.
    is_of_address = not (attempt_id or provider_id) and judged.state in FAILED and not judged.code
    if is_of_address or judged.lifts:
        address = addresses.email(event.get("email")).address
    if not (attempt_id or provider_id or address):
        return None
    return Receipt(
        judged.state,
        str(word),
        attempt_id=attempt_id,
        provider_id=provider_id,
        code=judged.code or (matched(_CODE, event.get("status")) if judged.reason else ""),
        reason=judged.reason,
        suppress=judged.suppress,
        lifts=judged.lifts,
        happened_at=moment(event.get("timestamp")),
        address=address,
    )


def moment(timestamp: object) -> datetime | None:
    """The time of an event, from SendGrid's whole seconds of Unix time; None if invalid."""
    if type(timestamp) is not int or not 0 < timestamp < _FAR_OFF:
        return None
    return datetime.fromtimestamp(timestamp, UTC)


def matched(pattern: re.Pattern[str], value: object) -> str:
    """The text, if the whole of it matches the pattern; else empty."""
    return value if isinstance(value, str) and pattern.fullmatch(value) else ""
