"""Whoever knocks at our public routes: strangers, and those who show what they have to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any

from twilio.request_validator import RequestValidator
from werkzeug.wrappers import Request

from tests.channels.test_sendgrid_receipts import AT, sign
from tests.conftest import SECRET

TOKEN = "twilio-token"
WEBHOOK = "/webhooks/lab"


class Known:
    """An app whose every visitor is the lab or a provider: it shows the secret, or signs."""

    def __init__(self, app: Callable[..., Iterable[bytes]]):
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Show it, and go on."""
        body = Request(environ).get_data(cache=False)
        environ["wsgi.input"] = BytesIO(body)
        request = Request(environ)
        if request.path.startswith("/callbacks/twilio/"):
            url, query = request.root_url.rstrip("/") + request.path, request.query_string
            url += f"?{query.decode('latin-1')}" if query else ""
            signature = RequestValidator(TOKEN).compute_signature(url, request.form)
            environ["HTTP_X_TWILIO_SIGNATURE"] = signature
            environ["wsgi.input"] = BytesIO(body)
        elif request.path == "/callbacks/sendgrid":
            environ["HTTP_X_TWILIO_EMAIL_EVENT_WEBHOOK_SIGNATURE"] = sign(body)
            environ["HTTP_X_TWILIO_EMAIL_EVENT_WEBHOOK_TIMESTAMP"] = str(AT)
        elif request.path.startswith(f"{WEBHOOK}/"):
            environ["PATH_INFO"] = f"{WEBHOOK}/{SECRET}"
        else:
            environ["HTTP_AUTHORIZATION"] = f"Bearer {SECRET}"
        return self._app(environ, start_response)
