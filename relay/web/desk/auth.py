"""Who may see the desk, and until when.

A session is in the signed cookie, but for its end by logging out: that is in the ledger, since any
web process may be asked next. After a login the link leads to the page that asked for it, by no
word of the link's own.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import time
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from flask import current_app, flash, redirect, render_template, request, session, url_for
from flask_login import UserMixin, login_required, login_user, logout_user
from flask_wtf import FlaskForm
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import HTTPException
from werkzeug.security import check_password_hash
from wtforms import PasswordField
from wtforms.validators import DataRequired

from relay.config.settings import Settings
from relay.ledger import audit, logins
from relay.privacy.masks import mark
from relay.web.desk.layout import AGAIN, blueprint
from relay.web.services import services

IDLE, LONGEST = timedelta(hours=1), logins.LONGEST_SESSION
LOGOUT = "logout"
_NOTED_SECONDS = 60.0  # a cookie is not written anew at each look


class Admin(UserMixin):  # type: ignore[misc]
    """The desk's only account."""

    id = "admin"


def begin_session() -> None:
    """A new session, whatever the browser had before."""
    session.clear()
    id_, now, settings = "ses_" + secrets.token_hex(16), time.time(), services().settings
    session.update(id=id_, began=now, seen=now, key=_key(settings, settings.secret_key))
    login_user(Admin())
    with services().db.write() as connection:
        audit.write_audit(connection, Admin.id, "login", id_)


def end_session() -> None:
    """End it for good: a copy of its cookie opens nothing either."""
    with services().db.write() as connection:
        logins.end_session(connection, session["id"])
        audit.write_audit(connection, Admin.id, LOGOUT, session["id"])
    logout_user()
    session.clear()


def admin(user_id: str) -> Admin | None:
    """The admin that a session's cookie belongs to, while it is valid."""
    known = {"id", "began", "seen", "key"} <= session.keys()
    if user_id != Admin.id or not known or not is_open():
        return None
    now = time.time()
    if now - session["began"] > LONGEST.total_seconds() or _idle(now):
        session.clear()
        if request.method != "POST":  # the login says that a button did nothing
            flash("You were logged out because you had been away for a while. Log in again.")
        return None
    if now - session["seen"] > _NOTED_SECONDS and AGAIN not in request.args:
        session["seen"] = now
    return Admin()


def _idle(now: float) -> bool:
    return bool(now - session["seen"] > IDLE.total_seconds())


def is_open() -> bool:
    """Whether it was opened by the password there is now, and not logged out of."""
    settings = services().settings
    keys = (settings.secret_key, *settings.former_secret_key)
    if not any([hmac.compare_digest(session["key"], _key(settings, key)) for key in keys]):
        return False
    with services().db.read() as connection:
        return not logins.has_ended(connection, session["id"])


def _key(settings: Settings, secret: str) -> str:
    """Changes with the password, so that an old one's sessions end."""
    return mark(secret, "session", settings.admin_password_hash or settings.admin_password)


def this_visitor() -> str:
    """A mark for where a request comes from, an address or an IPv6 network, that hides it."""
    written = request.remote_addr or ""
    try:
        address = ipaddress.ip_address(written)
    except ValueError:
        pass
    else:
        if address.version == 6:
            written = str(ipaddress.ip_network((address, 64), strict=False))
    return mark(services().settings.secret_key, "visitor", written)


REFUSED = "login refused"
# Wrong passwords before one address has to wait, and how long. Others are not held up by it...
GUESSES, PAUSE = 10, timedelta(minutes=10)
# ... but for a flood from many addresses, which no clinic's staff make.
FLOOD, EBB = 300, timedelta(minutes=1)

# What pages ask for in their links: of where one was going, no more is taken along.
KNOWN = frozenset(
    ("kit", "name", "data", "channel", "scheme", "before", "kind", "message", "permit")
)
_UNDONE = "You had been logged out, so nothing was done. Log in and try again."


class LoginForm(FlaskForm):  # type: ignore[misc]
    """The password of the desk."""

    password = PasswordField("Password", validators=[DataRequired()])


@blueprint.route("/login", methods=["GET", "POST"])
def login() -> Any:
    """Ask for the password."""
    form = LoginForm()
    if not form.validate_on_submit():
        return render_template("login.html", form=form)
    visitor = this_visitor()
    if wait := _wait(visitor):
        minutes = round(wait.total_seconds() / 60)
        alert = f"Too many wrong passwords. Wait {minutes} min, then try again."
        headers = {"Retry-After": str(int(wait.total_seconds()))}
        return render_template("login.html", form=form, alert=alert), 429, headers
    if _is_right(form.password.data, services().settings):
        begin_session()
        return redirect(_page(request.args.get("next", "")))
    with services().db.write() as connection:
        logins.add_failure(connection, visitor)
        audit.write_audit(connection, "nobody", REFUSED, visitor)
    alert = "Wrong password. Try again."
    return render_template("login.html", form=form, alert=alert), 401


@blueprint.post("/logout")
@login_required  # type: ignore[untyped-decorator]
def logout() -> Any:
    """End the session."""
    end_session()
    return redirect(url_for("desk.login"))


def ask() -> Any:
    """Sends somebody who is not logged in, or no longer, to the login."""
    if request.method != "POST":
        return redirect(url_for("desk.login", next=request.full_path.rstrip("?")))
    if request.endpoint == "desk.logout":
        return redirect(url_for("desk.login"))
    flash(_UNDONE)
    here_, page = request.host_url, request.referrer or ""
    # The page that the button stood on: what it posts to may be none.
    is_ours = page.startswith(here_)
    return redirect(url_for("desk.login", next=page[len(here_) - 1 :] if is_ours else request.path))


def _page(written: str) -> str:
    """The address of the desk's page that a link names, made anew; Today's where it names none."""
    try:
        parts = urlsplit(written)
        endpoint, given = current_app.url_map.bind("").match(parts.path, "GET")
    except (ValueError, HTTPException):
        return url_for("desk.today")
    is_ours = written.startswith("/") and not parts.netloc
    if not is_ours or not endpoint.startswith("desk.") or endpoint == "desk.login":
        return url_for("desk.today")
    asked: dict[str, Any] = MultiDict(parse_qsl(parts.query)).to_dict()  # of each word the first
    return url_for(endpoint, **{key: asked[key] for key in asked if key in KNOWN} | dict(given))


def _wait(visitor: str) -> timedelta | None:
    """How long a visitor has to wait before another password is looked at."""
    with services().db.read() as connection:
        if logins.count_failures(connection, PAUSE, visitor) >= GUESSES:
            return PAUSE
        return EBB if logins.count_failures(connection, EBB) >= FLOOD else None


def _is_right(password: str, settings: Settings) -> bool:
    if settings.admin_password_hash:
        return check_password_hash(settings.admin_password_hash, password)
    return hmac.compare_digest(password.encode(), settings.admin_password.encode())
