"""The providers' callbacks: receipts, and people's STOP. Relay refuses unsigned ones."""

from __future__ import annotations

import re
from collections.abc import Sequence

from flask import Blueprint, Response, request
from markupsafe import escape
from werkzeug.exceptions import RequestEntityTooLarge

from relay.channels import lets_out
from relay.ledger import receipts
from relay.logs import get_logger
from relay.rules import addresses, stops
from relay.rules.receipts import Receipt
from relay.web import inbound_texts
from relay.web.responses import answer
from relay.web.services import services

log = get_logger("relay.callbacks")
blueprint = Blueprint("callbacks", __name__, url_prefix="/callbacks")

LARGEST_BATCH = 4 * 1024 * 1024
LARGEST_FORM = 32 * 1024  # twice what the longest text takes: 1,600 characters, 9 bytes each
SIGNATURE = "X-Twilio-Signature"
MAIL_SIGNATURE = "X-Twilio-Email-Event-Webhook-Signature"
MAIL_TIMESTAMP = "X-Twilio-Email-Event-Webhook-Timestamp"
_ORIGIN = re.compile(r"\Ahttps?://[^/]*")  # HTTP lets a client put it before the path


@blueprint.post("/twilio/status")
def twilio_status() -> Response:
    """Take a receipt for a text."""
    from relay.channels import twilio

    if not _from_twilio():
        return _refused()
    attempt_id = request.args.get("attempt", "")
    return _recorded(twilio.CHANNEL, twilio.parse_receipts(request.form, attempt_id))


@blueprint.post("/twilio/inbound")
def twilio_inbound() -> Response:
    """A text from a person. Twilio confirms a plain STOP, we confirm any other; staff reply."""
    from relay.channels import twilio

    if not _from_twilio():
        return _refused()
    app, text = services(), twilio.parse_inbound(request.form)
    number = addresses.phone(text.sender, app.config.policy.countries).address
    with app.db.write() as connection:
        taken = inbound_texts.take(connection, app.config.policy, twilio.CHANNEL, number, text)
    log.info("text came in", word=taken.word, known=bool(number), case=taken.case_id)
    if taken.case_id:
        app.waker.wake()
    said = "<Response/>"
    confirms = taken.is_stopped and not text.is_confirmed
    if confirms and lets_out(app.settings, app.config.delivery.allow, number):
        clinic = app.config.clinic.short_name or app.config.clinic.name
        said = f"<Response><Message>{escape(stops.confirmation(clinic))}</Message></Response>"
    return Response(said, content_type="text/xml")


@blueprint.post("/sendgrid")
def sendgrid_events() -> Response:
    """Take a batch of receipts for emails."""
    from relay.channels import sendgrid

    shown = request.headers.get(MAIL_SIGNATURE, ""), request.headers.get(MAIL_TIMESTAMP, "")
    if not all(shown):  # a stranger's batch is not even read
        return _refused()
    body = _body(LARGEST_BATCH)
    if not sendgrid.is_signed(services().settings, body, *shown):
        return _refused()
    try:
        batch = sendgrid.read(body)
    except ValueError:
        return answer(400, status="error", error="The body is not a list of events in JSON.")
    return _recorded(sendgrid.CHANNEL, sendgrid.parse_receipts(batch))


def _from_twilio() -> bool:
    from relay.channels import twilio

    settings, signature = services().settings, request.headers.get(SIGNATURE, "")
    if not signature:  # a stranger's form is not even read
        return False
    _body(LARGEST_FORM)
    # The address as Twilio wrote it: it signs each slash, and a ? with nothing behind it.
    asked = _ORIGIN.sub("", request.environ["RAW_URI"])
    named = "" if settings.is_platforms_url else settings.public_url
    url = (named or request.host_url.rstrip("/")) + asked
    return twilio.is_signed(settings, url, request.form, signature)


def _body(largest: int) -> bytes:
    """The body, which Flask keeps for the form. Raises RequestEntityTooLarge."""
    request.max_content_length = largest + 1
    body = request.get_data()
    if len(body) > largest:
        raise RequestEntityTooLarge
    return body


def _refused() -> Response:
    log.warning("callback refused", route=request.endpoint)
    return answer(403, status="error", error="The signature is missing or wrong.")


def _recorded(channel: str, reported: Sequence[Receipt]) -> Response:
    app = services()
    news = receipts.record(app.db, channel, reported)
    for heard in news:
        ids = {"id": heard.notification_id, "attempt": heard.attempt_id}
        log.info("receipt", **ids, correlation_id=heard.event_id, state=heard.state)
    log.info("receipts taken", channel=channel, told=len(reported), news=len(news))
    if news:
        app.waker.wake()
    return answer(200, status="ok")
