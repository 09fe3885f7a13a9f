"""The parts of every page of the desk: frame, protection of forms, and error pages in words.

An error page needs neither the ledger nor a session, since either may be the fault.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import wraps
from typing import Any

from flask import (
    Blueprint,
    Response,
    abort,
    current_app,
    flash,
    g,
    render_template,
    request,
)
from flask_login import current_user
from flask_wtf import FlaskForm
from markupsafe import Markup
from werkzeug.exceptions import HTTPException

from relay.errors import LedgerUnavailable
from relay.http_client import origin
from relay.ledger.audit import Act
from relay.ledger.holds.halts import Halt
from relay.ledger.views import status, stopped
from relay.logs import get_logger
from relay.messages.alerts import AlertTemplates
from relay.messages.templates import Templates
from relay.staff import looks, words
from relay.staff.looks import Look
from relay.web.services import services

UNAVAILABLE = 503
_WORDS = {
    400: (
        "Not done",
        "That form did not come from an open page of the desk, so nothing was done. You may have "
        "been logged out since. Load the page again, then press.",
    ),
    403: (
        "Not for your role",
        "Your role does not let you do this, so nothing was done. A manager can change your role.",
    ),
    404: (
        "Not found",
        "There is no such page, or its subject no longer exists.",
    ),
    405: (
        "Nothing to see here",
        "This page cannot be opened directly. Nothing was changed.",
    ),
    413: ("Too long", "That is too long. Nothing was changed."),
    500: (
        "Something went wrong",
        "Something in Relay broke. It has been logged. If you had pressed a button, look whether "
        "it was done before you press it again.",
    ),
    UNAVAILABLE: ("Try again soon", "Relay cannot reach its database. Try again in a minute."),
}
# The answers to a button: the ledger may have gone away just after it had saved the change.
_PRESSED = {
    UNAVAILABLE: (
        "Not now",
        "The ledger is out of reach. What you pressed may or may not have been done: look again in "
        "a minute, before you press it once more.",
    ),
}


def error_page(code: int) -> str:
    """The page for an HTTP status, in words, with a link to Today."""
    words = {**_WORDS, **_PRESSED} if request.method == "POST" else _WORDS
    title, said = words.get(code, ("Not possible", "That is not possible."))
    # Not `render_template`: it would ask who is logged in.
    template = current_app.jinja_env.get_template("refused.html")
    return template.render(title=title, said=said)


log = get_logger("relay.desk")
blueprint = Blueprint("desk", __name__)


@blueprint.before_request
def own_forms_only() -> None:
    """Refuse a form that did not come from one of our pages."""
    current_app.extensions["csrf"].protect()


@blueprint.errorhandler(HTTPException)
def refused(error: HTTPException) -> Any:
    """A page in words, for which a program would get JSON."""
    code = error.code or 500
    return error_page(code), code


@blueprint.errorhandler(LedgerUnavailable)
def _unavailable(error: LedgerUnavailable) -> Any:
    log.error("ledger unavailable", reason=str(error))
    code = UNAVAILABLE
    return error_page(code), code, {"Retry-After": "10"}


def requires(permission: str | None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let only people with a permission see a page, or everybody if None: each route has one."""

    def guard(view: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(view)
        def guarded(**given: Any) -> Any:
            if permission and not current_user.is_authenticated:
                return current_app.login_manager.unauthorized()  # type: ignore[attr-defined]
            if permission:
                allow_only(permission)
            return view(**given)

        guarded.requires = permission  # type: ignore[attr-defined]
        return guarded

    return guard


def allow_only(permission: str) -> None:
    """Abort with 403 for people without a permission: an act may need more than its page does."""
    if not current_user.may(permission):
        abort(403)


def waiting() -> dict[str, int]:
    """How many items each part of the worklist has: counted once for each page."""
    if "waiting" not in g:
        with services().db.read() as connection:
            g.waiting = status.on_worklist(connection)
    found: dict[str, int] = g.waiting
    return found


def halts() -> list[tuple[Halt, int]]:
    """Each stop that stands, and how many messages wait for it."""
    with services().db.read() as connection:
        return stopped.counted(connection)


def templates() -> Templates:
    """The clinic's templates: read once for each page."""
    if "templates" not in g:
        g.templates = Templates(services().config.settings.templates)
    found: Templates = g.templates
    return found


def alert_words() -> AlertTemplates:
    """The clinic's words for each kind of case: read once for each page."""
    if "alert_words" not in g:
        g.alert_words = AlertTemplates(templates(), services().config.clinic.record())
    found: AlertTemplates = g.alert_words
    return found


def actor() -> str:
    """The name in the audit trail of the person who is logged in."""
    return str(current_user.get_id())


def my_act(action: str, target: str = "", detail: str = "") -> Act:
    """An act of the person who is logged in, to keep in the same transaction as its effect."""
    return Act(actor(), action, target, detail)


def note_look(act: str, target: str, detail: str, found: Iterable[str] = ()) -> None:
    """Keep in the audit trail who looks at whom: the search, and each kit that was `found`. Staff
    hear of anybody who looks at very many.
    """
    app = services()
    with app.db.write() as connection:
        looks.note(connection, app.config, actor(), Look(act, target, detail, (*found,)))


def me() -> Any:
    """The person who is logged in: see relay.web.desk.auth."""
    return current_user


def reason_for() -> str | None:
    """The reason for unmasking, for the audit trail; None if one is still needed."""
    reason = request.form.get("reason", "").strip()[:300]
    if not reason and services().config.desk.reveal_reason:
        flash("Write why you need to see it. Relay keeps that in the audit trail.")
        return None
    return f". {reason}" if reason else ""


# Begins the kind of a notice about an act that can be undone; the ids to undo follow it.
UNDO = "undo"
SHOWN = "Shown; the audit trail records it. Reload the page to hide it."


def written_note() -> str:
    """The note written beside the button that was pressed."""
    return request.form.get("note", "").strip()[:500]


def page(template: str, **context: Any) -> str:
    """A page with the desk's head: the clinic, links to the other pages, the worklist's counts."""
    app = services()
    form = FlaskForm()
    form.csrf_token.render_kw = {"id": False}  # a page has several, and no two may have the same id
    return render_template(
        template,
        clinic=app.config.clinic,
        waiting=waiting(),
        halts=halts(),
        form=form,
        when=when,
        me=current_user,
        asks_reason=app.config.desk.reveal_reason,
        called=called,
        stands=words.stands,
        step=words.step,
        **context,
    )


def called(name: str) -> str:
    """A rule's title, if it has one. Any other text is returned as it is."""
    rule = services().config.by_name.get(name)
    return rule.title if rule and rule.title else name


def when(moment: datetime) -> Markup:
    """A moment by the clinic's clock, as HTML with the exact time."""
    local = moment.astimezone(services().config.clinic.timezone)
    written = local.strftime("%-d %b %Y, %H:%M")
    exact = moment.isoformat(timespec="seconds")
    return Markup('<time datetime="{}">{}</time>').format(exact, written)


AGAIN = "again"  # a parameter of requests by pages that refresh themselves: nobody need be there


SCHEMES = ("light", "dark")  # of an email's preview
# An email as it was made, and nothing that it may bring along: no script, no form, and no picture
# but the clinic's own.
_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'"


def framed(scheme: str, html: str) -> Response:
    """An email's HTML for a frame on a page of the desk."""
    response = Response(_in(scheme, html), content_type="text/html; charset=utf-8")
    logo = services().config.clinic.logo
    pictures = f"; img-src {origin(logo)}" if logo else ""
    response.headers["Content-Security-Policy"] = _POLICY + pictures
    response.headers["X-Frame-Options"] = "SAMEORIGIN"
    return response


def _in(scheme: str, html: str) -> str:
    """The email as a mail program in light or dark mode shows it, whatever the browser's mode."""
    other = next(one for one in SCHEMES if one != scheme)
    html = re.sub(rf"\(prefers-color-scheme:\s*{scheme}\)", "all", html)
    html = re.sub(rf"\(prefers-color-scheme:\s*{other}\)", "not all", html)
    return html.replace('content="light dark"', f'content="{scheme}"')
