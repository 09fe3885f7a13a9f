"""Who gets in, and where to: to the page that asked for the login, by no word of a link's own."""

from __future__ import annotations

import hmac
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from flask import current_app, flash, redirect, render_template, request, url_for
from flask_login import login_required
from flask_wtf import FlaskForm
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import HTTPException
from werkzeug.security import check_password_hash
from wtforms import PasswordField
from wtforms.validators import DataRequired

from relay.config.settings import Settings
from relay.ledger import audit
from relay.web.desk import sessions
from relay.web.desk.frame import blueprint
from relay.web.here import here

REFUSED = "login refused"
# Wrong passwords before one address has to wait, and how long. Others are not held up by it...
GUESSES, PAUSE = 10, timedelta(minutes=10)
# ... but for a flood from many addresses, which no clinic's staff make.
FLOOD, EBB = 300, timedelta(minutes=1)

# What pages ask for in their links: of where one was going, no more is taken along.
KNOWN = frozenset(("kit", "name", "data", "scheme", "before", "kind"))
_UNDONE = "You had been logged out: what you pressed was not done."


class LoginForm(FlaskForm):  # type: ignore[misc]
    """The password of the desk."""

    password = PasswordField("Password", validators=[DataRequired()])


@blueprint.route("/login", methods=["GET", "POST"])
def login() -> Any:
    """Ask for the password."""
    form, db = LoginForm(), here().db
    if not form.validate_on_submit():
        return render_template("login.html", form=form)
    visitor = sessions.visitor()
    if wait := _wait(visitor):
        minutes = round(wait.total_seconds() / 60)
        alert = f"There were too many wrong passwords. Wait {minutes} min, then try again."
        told = {"Retry-After": str(int(wait.total_seconds()))}
        return render_template("login.html", form=form, alert=alert), 429, told
    if _is_right(form.password.data, here().settings):
        sessions.begin()
        return redirect(_page(request.args.get("next", "")))
    audit.write_audit(db, "nobody", REFUSED, visitor)
    alert = "That is not the password. Try again."
    return render_template("login.html", form=form, alert=alert), 401


@blueprint.post("/logout")
@login_required  # type: ignore[untyped-decorator]
def logout() -> Any:
    """End the session."""
    sessions.end()
    return redirect(url_for("desk.login"))


def ask() -> Any:
    """The way to the login, for whoever is not logged in or not any more."""
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
    db = here().db
    if audit.audited(db, REFUSED, PAUSE, visitor) >= GUESSES:
        return PAUSE
    return EBB if audit.audited(db, REFUSED, EBB) >= FLOOD else None


def _is_right(password: str, settings: Settings) -> bool:
    if settings.admin_password_hash:
        return check_password_hash(settings.admin_password_hash, password)
    return hmac.compare_digest(password.encode(), settings.admin_password.encode())
