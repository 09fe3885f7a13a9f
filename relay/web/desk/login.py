"""Who gets in."""

from __future__ import annotations

import hmac
from datetime import timedelta
from typing import Any

from flask import redirect, render_template, url_for
from flask_login import login_required
from flask_wtf import FlaskForm
from werkzeug.security import check_password_hash
from wtforms import PasswordField
from wtforms.validators import DataRequired

from relay.ledger import upkeep
from relay.settings import Settings
from relay.web.desk import sessions
from relay.web.desk.frame import blueprint
from relay.web.here import here

REFUSED = "login refused"
# Wrong passwords before one address has to wait, and how long. Others are not held up by it...
GUESSES, PAUSE = 10, timedelta(minutes=10)
# ... but for a flood from many addresses, which no clinic's staff make.
FLOOD, EBB = 300, timedelta(minutes=1)


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
        return redirect(url_for("desk.today"))
    upkeep.write_audit(db, "nobody", REFUSED, visitor)
    alert = "That is not the password. Try again."
    return render_template("login.html", form=form, alert=alert), 401


@blueprint.post("/logout")
@login_required  # type: ignore[untyped-decorator]
def logout() -> Any:
    """End the session."""
    sessions.end()
    return redirect(url_for("desk.login"))


def _wait(visitor: str) -> timedelta | None:
    """How long a visitor has to wait before another password is looked at."""
    db = here().db
    if upkeep.audited(db, REFUSED, PAUSE, visitor) >= GUESSES:
        return PAUSE
    return EBB if upkeep.audited(db, REFUSED, EBB) >= FLOOD else None


def _is_right(password: str, settings: Settings) -> bool:
    if settings.admin_password_hash:
        return check_password_hash(settings.admin_password_hash, password)
    return hmac.compare_digest(password.encode(), settings.admin_password.encode())
