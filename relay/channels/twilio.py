"""SMS through Twilio: sending, looking up, deleting, receipts, and people's replies.

https://www.twilio.com/docs/messaging/api/message-resource
"""

from __future__ import annotations

import base64
import logging
import re
import threading
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.http import HttpClient as TwilioHttpClient
from twilio.http.response import Response
from twilio.request_validator import RequestValidator, compare
from twilio.rest import Client

from relay.channels.base import (
    LONGEST_WAIT,
    AccountFault,
    Found,
    Inbound,
    Outcome,
    Provider,
    not_answered,
    unlisted,
)
from relay.config.settings import Settings
from relay.http_client import HttpClient, NoAnswer
from relay.messages.templates import Message
from relay.rules import replies
from relay.rules.receipts import Receipt
from relay.rules.statuses import OURS

CHANNEL = "sms"
# Error code → its meaning, in plain words. https://www.twilio.com/docs/api/errors
PERMANENT = {
    21211: "Twilio does not know this phone number.",
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
STOPPED = "STOP (Twilio 21610)"  # begins with STOP: the person's START cancels it
CALLBACK = 21609  # the callback address for receipts, which each text names
# Faults of our account, sender or settings, not of this message.
SENDER, SERVICE = {21212, 21603, 21606, 21659, 21660, 21661}, {21703, 21704, 21705, 21712}
OPERATOR = {20003, 20403, 30002, CALLBACK} | SENDER | SERVICE
TRANSIENT = {20429, 21611, 30001, 30036}


def judge(status: int, code: int | None, wait: float | None = None) -> Outcome:
    """The outcome for an error answer from Twilio: HTTP status, code, seconds to wait.

    https://www.twilio.com/docs/api/errors
    """
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
        return unlisted(f"Twilio refused the message ({label}).", label)
    return Outcome("unknown", f"Twilio answered with {status}.", label)


# Twilio's word → our state. https://www.twilio.com/docs/messaging/api/message-resource#message-status-values
STATES = {
    "accepted": "sent",
    "scheduled": "sent",
    "queued": "sent",
    "sending": "sent",
    "sent": "sent",
    "delivered": "delivered",
    "read": "delivered",
    "undelivered": "temporary-failure",  # these three depend on the error code
    "failed": "temporary-failure",
    "canceled": "temporary-failure",
}
REASONS = {
    30003: "The phone was off or out of reach.",
    30008: "The text was not delivered, and the network does not say why.",
}
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def parse_receipts(form: Mapping[str, str], attempt_id: str) -> list[Receipt]:
    """The receipt in a status callback; none if it has no status.

    https://www.twilio.com/docs/messaging/guides/outbound-message-status-in-status-callbacks
    """
    word = _id(form.get("MessageStatus") or form.get("SmsStatus") or "").lower()
    if not word:
        return []
    by = _id(form.get("MessageSid") or form.get("SmsSid") or "")
    return [receipt(word, number(form.get("ErrorCode", "")), by, _id(attempt_id))]


def receipt(word: str, error: int, provider_id: str, attempt_id: str = "") -> Receipt:
    """The receipt for a text's status; `error` is Twilio's code, or 0 for none."""
    state, code, reason = STATES.get(word, ""), "", ""
    if state == "temporary-failure":
        code = OURS if error in OPERATOR else str(error or "")
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


# Texts of one word that Twilio itself takes as STOP: it confirms them and sends nothing more.
# https://www.twilio.com/docs/messaging/tutorials/advanced-opt-out
CONFIRMED = {"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT"}


def parse_inbound(form: Mapping[str, str]) -> Inbound:
    """Read an inbound text. A service with its own keywords gives their meaning in OptOutType.

    https://www.twilio.com/docs/messaging/guides/webhook-request
    """
    meant, words = replies.keyword(form.get("OptOutType", "")), form.get("Body", "")
    is_bare = "".join(c for c in words.upper() if c.isalnum() or c.isspace()).strip() in CONFIRMED
    return Inbound(
        form.get("MessageSid", ""),
        # Twilio's other channels put their name first, as in whatsapp:+447700900001.
        form.get("From", "").rpartition(":")[2],
        words.replace("\0", ""),
        meant or replies.keyword(words),
        is_confirmed=bool(meant) or is_bare,
        files=number(form.get("NumMedia", "")),
    )


def _reason(word: str, code: int) -> str:
    known = PERMANENT.get(code) or REASONS.get(code)
    if known:
        return known
    label = f" ({code})" if code else ""
    if code in OPERATOR:
        return f"Twilio refuses our account{label}."
    done = "cancelled" if word == "canceled" else "could not deliver"
    return f"Twilio {done} the text{label}."


def number(written: str) -> int:
    """A provider's error code as a number; 0 for none."""
    return int(written) if written.isascii() and written.isdigit() and len(written) < 10 else 0


def _id(written: str) -> str:
    """A word or id in the form that Twilio and we use; empty for anything else."""
    return written if _ID.fullmatch(written) else ""


VALIDITY_SECONDS = 4 * 3600  # Twilio drops a text that it cannot hand on within this
STATUS_PATH = "/callbacks/twilio/status"
# Twilio calls again within seconds if we answer with an error or not at all.
# https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides
OVERRIDES = "#rc=5&rp=5xx,ct,rt"
PAGE, PAGES = 100, 10  # the texts to one number that Relay looks through
SKEW = timedelta(seconds=60)  # between Twilio's clock and ours
OLD = timedelta(minutes=2)  # the search ends with a page that goes back this far

# The SDK trusts every answer's shape: it raises these for a 2xx that is not a message's JSON.
UNREADABLE = (TwilioException, ValueError, TypeError, LookupError, AttributeError, RecursionError)


class KeptConnections(TwilioHttpClient):  # type: ignore[misc]
    """Twilio's own client keeps the last answer on itself, so threads would read each other's."""

    def __init__(self, wire: HttpClient):
        super().__init__(logger=logging.getLogger("twilio"), is_async=False, timeout=None)
        self._wire = wire
        self._asked = threading.local()

    @property
    def retry_after(self) -> float | None:
        """The seconds that this thread's last answer asks to wait: exceptions lack its headers."""
        wait: float | None = getattr(self._asked, "wait", None)
        return wait

    def request(
        self,
        method: str,
        url: str,
        params: dict[str, Any] | None = None,
        data: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        **_: Any,
    ) -> Response:
        """Make a request over the shared pool, which has its own timeouts."""
        if params:
            url = f"{url}?{urlencode(params, doseq=True)}"
        sent = dict(headers or {})
        if auth:
            pair = base64.b64encode(":".join(auth).encode()).decode()
            sent["Authorization"] = f"Basic {pair}"
        body = urlencode(data, doseq=True).encode() if data else None
        self._asked.wait = None
        answer = self._wire.send(method.upper(), url, sent, body)
        if answer.status == 429 and answer.retry_after is not None:
            self._asked.wait = min(LONGEST_WAIT, answer.retry_after)
        return Response(answer.status, answer.body.decode("utf-8", "replace"), dict(answer.headers))


REFUSES_US = (401, 403, 404)


class Twilio(Provider):
    """The SMS channel."""

    def __init__(self, client: Client, sender: dict[str, str], callback: str = ""):
        self._client = client
        self._sender = sender
        self._callback = callback

    def send(self, message: Message, attempt_id: str) -> Outcome:
        """Hand over a text, with the attempt's id in its status callback.

        https://www.twilio.com/docs/messaging/api/message-resource#create-a-message-resource
        """
        callback = {"status_callback": f"{self._callback}?attempt={attempt_id}{OVERRIDES}"}
        try:
            made = self._client.messages.create(
                to=message.address,
                body=message.text,
                validity_period=VALIDITY_SECONDS,
                **({"from_": message.sender} if message.sender else self._sender),
                **(callback if self._callback else {}),
            )
        except NoAnswer as error:
            return not_answered("Twilio", error)
        except TwilioRestException as error:
            code = error.code if isinstance(error.code, int) else None
            return judge(error.status, code, self._client.http_client.retry_after)
        except UNREADABLE:
            return Outcome("unknown", "Relay could not read Twilio's answer.")
        if not made.sid:
            return Outcome("unknown", "Twilio's answer names no message.")
        return Outcome("accepted", provider_id=made.sid)

    def find(self, message: Message, since: datetime, taken: frozenset[str]) -> Found:
        """Look for a text in Twilio's list. One that failed there was accepted, so it is found.

        https://www.twilio.com/docs/messaging/api/message-resource#read-multiple-message-resources
        """
        try:
            made = [
                text
                for text in self._listed(message.address, since)
                if text.sid not in taken and _is(text, message) and age(text, since) >= -SKEW
            ]
            nearest = min(made, key=lambda text: abs(age(text, since)), default=None)
        except (NoAnswer, *UNREADABLE) as error:
            return not_asked(error)
        return Found() if nearest is None else found(nearest)

    def look(self, provider_id: str) -> Found:
        """Ask for the outcome of a text. One that Twilio no longer has is not found.

        https://www.twilio.com/docs/messaging/api/message-resource#fetch-a-message-resource
        """
        try:
            text = self._client.messages(provider_id).fetch()
            if not text.sid:
                return Found(failed="Relay could not read Twilio's answer.")
            return found(text)
        except (NoAnswer, *UNREADABLE) as error:
            is_gone = isinstance(error, TwilioRestException) and error.status == 404
            return Found() if is_gone else not_asked(error)

    def account_faults(self) -> list[AccountFault]:
        """Check the account itself. A suspended or closed one sends nothing.

        https://www.twilio.com/docs/iam/api/account#fetch-an-account-resource
        """
        try:
            account = self._client.api.v2010.accounts(self._client.account_sid).fetch()
        except NoAnswer as error:
            return [AccountFault(f"Relay cannot reach Twilio ({error}).", is_warning=True)]
        except TwilioRestException as error:
            if error.status not in REFUSES_US:
                return [AccountFault(f"Twilio answered with {error.status}.", is_warning=True)]
            said = f"Twilio refuses the account ({error.code or error.status})."
            copied = (
                "Copy TWILIO_ACCOUNT_SID, which begins with AC, and its token from the console."
            )
            return [AccountFault(said, copied)]
        if account.status in (None, "active"):
            return []
        return [AccountFault(f"Twilio calls the account {account.status}: it sends nothing.")]

    def erase(self, addresses: frozenset[str], provider_ids: frozenset[str]) -> list[str]:
        """Delete the texts themselves, number and words. It is not a failure if one is gone.

        https://www.twilio.com/docs/messaging/api/message-resource#delete-a-message-resource
        """
        return [said for sid in sorted(provider_ids) if (said := self._delete(sid))]

    def _delete(self, sid: str) -> str:
        try:
            self._client.messages(sid).delete()
        except NoAnswer as error:
            return f"Twilio did not answer ({error}): it still has {sid}."
        except TwilioRestException as error:
            if error.status == 404:
                return ""
            return f"Twilio did not delete {sid} ({error.code or error.status})."
        except UNREADABLE as error:
            return f"Twilio did not delete {sid} ({kind(error)})."
        return ""

    def _listed(self, address: str, since: datetime) -> Iterator[Any]:
        """Yield the texts to a number, by whole pages: queued ones have no `date_sent` to sort."""
        page = self._client.messages.page(to=address, page_size=PAGE)
        for _ in range(PAGES):
            texts = list(page)
            yield from texts
            dates = [text.date_created for text in texts if text.date_created]
            page = None if dates and min(dates) < since - OLD else page.next_page()
            if page is None:
                return
        raise LookupError("more texts to one number than can be looked through")


def not_asked(error: Exception) -> Found:
    """Nothing is known: Relay could not ask Twilio, or could not read its answer."""
    why = error if isinstance(error, NoAnswer) else kind(error)
    return Found(failed=f"Relay could not ask Twilio ({why}).")


def found(text: Any) -> Found:
    """A text as Twilio has it, with a receipt if its outcome is known."""
    code = text.error_code if isinstance(text.error_code, int) else 0
    reported = receipt(str(text.status), code, provider_id=text.sid)
    return Found(text.sid, receipt=reported if reported.state not in ("", "sent") else None)


def _is(text: Any, message: Message) -> bool:
    """Whether a text in Twilio's list has a message's words. A trial account puts some before."""
    sought, body = folded(message.text), folded(text.body or "")
    before = body.removesuffix(sought)
    return (
        bool(sought and text.sid)
        and str(text.direction).startswith("outbound")
        and text.to == message.address
        and body.endswith(sought)
        and (not before or "trial" in before)
    )


def age(text: Any, since: datetime) -> timedelta:
    """The time from `since` until a text in Twilio's list was made."""
    return (text.date_created or text.date_sent) - since  # type: ignore[no-any-return]


def folded(text: str) -> str:
    """The letters and digits of a text, to compare: Twilio may change spaces, quotes and dashes.

    https://www.twilio.com/docs/messaging/services/smart-encoding-char-list
    """
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text))).lower()


def kind(error: Exception) -> str:
    """A page's HTTP status, else an error's type: never its text, which may quote a number."""
    answer = error.args[-1] if error.args else None
    return str(answer.status_code) if isinstance(answer, Response) else type(error).__name__


def is_signed(settings: Settings, url: str, form: Mapping[str, str], signature: str) -> bool:
    """Whether a callback is Twilio's: signed over the exact public URL and every field.

    Any of the account's tokens counts: during a change Twilio signs with the old one. It may or may
    not sign the overrides, which no request shows: it does not say.
    https://www.twilio.com/docs/usage/security#validating-requests
    """
    tokens = (settings.twilio_auth_token, *settings.former_twilio_auth_token)
    try:
        return any(
            by.validate(asked, form, signature)  # it drops a ? with nothing after it
            or compare(by.compute_signature(asked, form), signature)
            for by in map(RequestValidator, filter(None, tokens))
            for asked in (url, url + OVERRIDES)
        )
    except ValueError:  # a host that is not valid
        return False


def client(settings: Settings, wire: HttpClient) -> Client:
    """Twilio's own client, over our shared connections."""
    sid, token = settings.twilio_account_sid, settings.twilio_auth_token
    made = Client(sid, token, http_client=KeptConnections(wire))
    if settings.twilio_api_url:
        made.api.base_url = settings.twilio_api_url
    return made


def callback(settings: Settings) -> str:
    """The URL for receipts that each message names; empty if Twilio could not reach it."""
    return settings.public_url and settings.public_url + STATUS_PATH


def connect(settings: Settings, sender: str, wire: HttpClient) -> Twilio | None:
    """The SMS channel; None if Twilio is not configured."""
    if not settings.accounts[CHANNEL]:
        return None
    by = {"from_": settings.twilio_from or sender}
    if settings.twilio_messaging_service_sid:
        by = {"messaging_service_sid": settings.twilio_messaging_service_sid}
    return Twilio(client(settings, wire), by, callback(settings))
