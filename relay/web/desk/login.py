"""Who gets in."""

from __future__ import annotations

import hmac
from datetime import timedelta
from typing import Any

from flask import redirect, render_template, url_for
from flask_login import login_required, login_user, logout_user
from flask_wtf import FlaskForm
from werkzeug.security import check_password_hash
from wtforms import PasswordField
from wtforms.validators import DataRequired

from relay.ledger import upkeep
from relay.settings import Settings
from relay.web.desk.frame import Admin, blueprint
from relay.web.here import here

REFUSED = "login refused"
GUESSES, PAUSE = 10, timedelta(minutes=1)  # wrong passwords, whoever sent them, before all wait


class LoginForm(FlaskForm):  # type: ignore[misc]
    """The password of the desk."""

    password = PasswordField("Password", validators=[DataRequired()])


@blueprint.route("/login", methods=["GET", "POST"])
def login() -> Any:
    """Ask for the password."""
    form, db = LoginForm(), here().db
    if not form.validate_on_submit():
        return render_template("login.html", form=form)
    if upkeep.audited(db, REFUSED, PAUSE) >= GUESSES:
        alert = "There were too many wrong passwords. Wait a minute."
        wait = {"Retry-After": str(int(PAUSE.total_seconds()))}
        return render_template("login.html", form=form, alert=alert), 429, wait
    if _is_right(form.password.data, here().settings):
        login_user(Admin())
        upkeep.write_audit(db, Admin.id, "login", "desk")
        return redirect(url_for("desk.today"))
    upkeep.write_audit(db, "nobody", REFUSED, "desk")
    alert = "That is not the password. Try again."
    return render_template("login.html", form=form, alert=alert), 401


@blueprint.post("/logout")
@login_required  # type: ignore[untyped-decorator]
def logout() -> Any:
    """End the session."""
    logout_user()
    return redirect(url_for("desk.login"))


def _is_right(password: str, settings: Settings) -> bool:
    if settings.admin_password_hash:
        return check_password_hash(settings.admin_password_hash, password)
    return hmac.compare_digest(password.encode(), settings.admin_password.encode())
