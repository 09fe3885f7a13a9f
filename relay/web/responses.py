"""Maps every exception to its HTTP answer, in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask, Response, jsonify, make_response, request
from gunicorn.http.errors import NoMoreData, ParseException
from werkzeug.exceptions import HTTPException

from relay.errors import LedgerUnavailable, Refused
from relay.logs import get_logger
from relay.web import doors

log = get_logger("relay.web")

RETRY_AFTER_SECONDS = 10


# For every answer: a page loads only what the desk itself serves, has no inline code, cannot be
# framed, and is not cached.
def policy(pictures: str = "") -> str:
    """A page's Content-Security-Policy. `pictures` is another site whose pictures it shows."""
    own = f"'self' {pictures}".rstrip()
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        f"frame-src 'self'; img-src {own}; form-action 'self'; frame-ancestors 'none'; "
        "base-uri 'none'"
    )


GUARDS = {
    "Content-Security-Policy": policy(),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex",
    # Other sites do not learn which page led to them. The desk itself must: over TLS it refuses a
    # form without its page's address (flask-wtf, WTF_CSRF_SSL_STRICT).
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
NOT_A_PAGE = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
# The client below these paths is a program, whatever its Accept header says.
PROGRAMS = doors.DOORS | {"healthz", "readyz", "metrics"}
_YEAR = 365 * 24 * 3600


def answer(code: int, /, **body: Any) -> Response:
    """A JSON answer."""
    response = jsonify(body)
    response.status_code = code
    return response


def set_up(app: Flask, page: Callable[[int], str] | None = None) -> None:
    """Answer each failure with JSON that reveals no internals, or for a browser with a page."""

    guard(app)

    def failure(code: int, error: str) -> Response:
        if page and is_read_by_a_person():
            return make_response(page(code), code)
        return answer(code, status="error", error=error)

    @app.errorhandler(LedgerUnavailable)
    def _unavailable(error: LedgerUnavailable) -> Response:
        log.error("ledger unavailable", reason=str(error))
        said = "Relay cannot reach its database. Try again."
        response = answer(503, status="unavailable", error=said)
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return response

    @app.errorhandler(Refused)
    def _refused(error: Refused) -> Response:
        return answer(error.status, status="rejected", error=error.error, fields=error.fields)

    @app.errorhandler(ParseException)
    @app.errorhandler(NoMoreData)
    def _unreadable(_error: Exception) -> Response:
        said = "The body is cut off, or its chunks are none."
        return answer(400, status="rejected", error=said, fields={})

    @app.errorhandler(HTTPException)
    def _http(error: HTTPException) -> Response:
        doors.note_lost(error)
        response = failure(error.code or 500, error.name)
        for name, value in error.get_headers():
            if name.lower() in ("allow", "retry-after", "www-authenticate", "location"):
                response.headers[name] = value
        return response

    @app.errorhandler(Exception)
    def _broken(error: Exception) -> Response:
        log.error("request broke", exc_info=error)
        return failure(500, "Relay failed. The fault has been logged.")


def guard(app: Flask) -> None:
    """Add the security headers to every answer."""

    @app.after_request
    def _headers(response: Response) -> Response:
        # A program's answer is not a page, and a page's headers would cost as much as its JSON.
        for name, value in (NOT_A_PAGE if request.blueprint == "webhooks" else GUARDS).items():
            response.headers.setdefault(name, value)
        if request.is_secure:
            response.headers["Strict-Transport-Security"] = f"max-age={_YEAR}"
        return response


def is_read_by_a_person() -> bool:
    """Whether a browser asks: it prefers a page, while a program takes anything."""
    wanted = request.accept_mimetypes.best_match(("application/json", "text/html"))
    return wanted == "text/html" and request.path[1:].partition("/")[0] not in PROGRAMS
