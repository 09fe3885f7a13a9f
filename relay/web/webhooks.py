"""The lab's way in: check the secret, parse, commit, answer. Everything else happens later."""

from __future__ import annotations

import base64
import hmac

from flask import Blueprint, Response, request
from werkzeug.exceptions import RequestEntityTooLarge

from relay import fault_injection
from relay.errors import Refused
from relay.lab import events
from relay.ledger.events import record_webhook
from relay.ledger.worklist.quarantine import keep_refused
from relay.logs import get_logger
from relay.rules import alerts
from relay.rules.model import Case
from relay.rules.schedule import utc_now
from relay.web.doors import squeezed
from relay.web.responses import answer
from relay.web.services import services

log = get_logger("relay.webhooks")
blueprint = Blueprint("webhooks", __name__, url_prefix="/webhooks")

LARGEST_BODY = 64 * 1024


@blueprint.post("/lab")
@blueprint.post("/lab/<path:secret>")
def lab(secret: str | None = None) -> Response:
    """Take one webhook. Answers 200 only after the commit: the lab then never sends it again."""
    app = services()
    if not _shown(secret, app.settings.webhook_secrets, app.settings.development):
        log.warning("webhook without its secret")
        response = answer(401, status="error", error="The webhook secret is missing or wrong.")
        response.headers["WWW-Authenticate"] = 'Basic realm="relay"'
        return response
    body = request.get_data(cache=False)
    if len(body) > LARGEST_BODY:
        raise RequestEntityTooLarge
    try:
        incoming = events.parse(body)
    except Refused as refused:
        with app.db.write() as connection:
            kept = keep_refused(connection, body, refused, case_of(refused))
        wrong = sorted(refused.fields)
        log.warning("webhook refused", id=kept, status=refused.status, fields=wrong)
        raise
    recorded = record_webhook(app.db, incoming, app.config.delivery.dedupe_window)
    log.info("webhook " + recorded.status, id=recorded.id, correlation_id=recorded.id)
    if recorded.status == "accepted":
        fault_injection.crash_point("intake.before-wake")
        app.waker.wake()
    return answer(200, status=recorded.status, id=recorded.id)


def case_of(refused: Refused) -> Case | None:
    """The case for a refused post of a known event, since no message about it goes out."""
    if not (name := refused.event):
        return None
    wrong = (f"{path}: {' '.join(said)}" for path, said in sorted(refused.fields.items()))
    policy = services().config.policy
    return alerts.case("refused", name, name, " ".join(wrong), policy=policy, now=utc_now())


def _shown(in_path: str | None, secrets: tuple[str, ...], development: bool) -> bool:
    """Whether the request shows one of the secrets. Compares each, in constant time."""
    if not secrets:
        return development  # outside development Relay does not start without one
    given = in_header()
    if in_path is not None:
        given = in_path.encode("utf-8", "surrogateescape")
        secrets = tuple(map(squeezed, secrets))  # as doors.squeeze_paths has changed the path
    return any([hmac.compare_digest(given, secret.encode()) for secret in secrets])


def in_header() -> bytes:
    """A bearer token or Basic's password, in exact bytes: werkzeug fails on "a=b" and non-ASCII."""
    scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
    given = shown.strip().encode("latin-1")
    if scheme.lower() == "bearer":
        return given
    try:
        return base64.b64decode(given).partition(b":")[2] if scheme.lower() == "basic" else b""
    except ValueError:
        return b""
