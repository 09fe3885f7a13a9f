"""SMS through Twilio (https://www.twilio.com/docs/messaging/api/message-resource)."""

from __future__ import annotations

import base64
import logging
from typing import Any
from urllib.parse import urlencode

from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.http import HttpClient
from twilio.http.response import Response
from twilio.rest import Client

from relay.channels.outcome import Outcome
from relay.messages import Message
from relay.settings import Settings
from relay.wire import NoAnswer, Wire

VALIDITY_SECONDS = 4 * 3600  # a text that Twilio cannot hand on by then is dropped by it

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
OPERATOR = {20003, 20403, 21606, 30002}  # our account or sender, not this message
TRANSIENT = {20429, 21611, 30001, 30036}
# What the SDK raises for a 2xx that is not a message's JSON: it trusts every answer's shape.
UNREADABLE = (TwilioException, ValueError, TypeError, LookupError, AttributeError, RecursionError)


class KeptConnections(HttpClient):  # type: ignore[misc]
    """Twilio's own client keeps the last answer on itself, so threads would read each other's."""

    def __init__(self, wire: Wire):
        super().__init__(logger=logging.getLogger("twilio"), is_async=False, timeout=None)
        self._wire = wire

    def request(
        self,
        method: str,
        url: str,
        params: dict[str, Any] | None = None,
        data: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,
        allow_redirects: bool = False,
    ) -> Response:
        """Make one request over the shared pool."""
        if params:
            url = f"{url}?{urlencode(params, doseq=True)}"
        sent = dict(headers or {})
        if auth:
            pair = base64.b64encode(":".join(auth).encode()).decode()
            sent["Authorization"] = f"Basic {pair}"
        body = urlencode(data, doseq=True).encode() if data else None
        answer = self._wire.send(method.upper(), url, sent, body)
        return Response(answer.status, answer.body.decode("utf-8", "replace"), dict(answer.headers))


class Twilio:
    """The SMS channel."""

    def __init__(self, client: Client, sender: dict[str, str]):
        self._client = client
        self._sender = sender

    def send(self, message: Message, attempt_id: str) -> Outcome:
        """Hand over one SMS."""
        try:
            made = self._client.messages.create(
                to=message.address,
                body=message.text,
                validity_period=VALIDITY_SECONDS,
                **self._sender,
            )
        except NoAnswer as error:
            if not error.sent:
                return Outcome("rejected", f"Twilio cannot be reached ({error}).")
            return Outcome("unknown", f"Twilio did not answer ({error}).")
        except TwilioRestException as error:
            return judge(error.status, error.code if isinstance(error.code, int) else None)
        except UNREADABLE:
            return Outcome("unknown", "Twilio's answer could not be read.")
        if not made.sid:
            return Outcome("unknown", "Twilio's answer names no message.")
        return Outcome("accepted", provider_id=made.sid)


def judge(status: int, code: int | None) -> Outcome:
    """What an error answer means."""
    known = PERMANENT.get(code or 0)
    if known:
        return Outcome("rejected", known, str(code), permanent=True, suppress=code == OPTED_OUT)
    label = str(code or status)
    if code in OPERATOR or status in (401, 403, 404) or 300 <= status < 400:
        return Outcome("rejected", f"Twilio refuses our account ({label}).", label, operator=True)
    if code in TRANSIENT or status in (408, 429):
        return Outcome("rejected", f"Twilio is busy ({label}).", label)
    if 400 <= status < 500:
        return Outcome("rejected", f"Twilio refused the message ({label}).", label, permanent=True)
    return Outcome("unknown", f"Twilio answered with {status}.", label)


def connect(settings: Settings, sender: str, wire: Wire) -> Twilio | None:
    """The channel, or None where Twilio is not configured."""
    if not settings.twilio_ready:
        return None
    client = Client(
        settings.twilio_account_sid,
        settings.twilio_auth_token,
        http_client=KeptConnections(wire),
    )
    if settings.twilio_api_url:
        client.api.base_url = settings.twilio_api_url
    if settings.twilio_messaging_service_sid:
        return Twilio(client, {"messaging_service_sid": settings.twilio_messaging_service_sid})
    return Twilio(client, {"from_": settings.twilio_from or sender})
