"""The admin desk: for now the latest events and messages, behind a login."""

from __future__ import annotations

import hmac
from datetime import timedelta
from typing import Any

from flask import Blueprint, Flask, Response, redirect, render_template, url_for
from flask_login import LoginManager, UserMixin, login_required, login_user, logout_user
from flask_wtf import CSRFProtect, FlaskForm
from werkzeug.security import check_password_hash
from wtforms import PasswordField
from wtforms.validators import DataRequired

from relay.ledger import reading, upkeep
from relay.settings import Settings
from relay.web.here import here

blueprint = Blueprint("desk", __name__)

REFUSED = "login refused"
GUESSES, PAUSE = 10, timedelta(minutes=1)  # wrong passwords, whoever sent them, before all wait


class Admin(UserMixin):  # type: ignore[misc]
    """The one account there is."""

    id = "admin"


class LoginForm(FlaskForm):  # type: ignore[misc]
    """The password of the desk."""

    password = PasswordField("Password", validators=[DataRequired()])


def set_up(app: Flask, settings: Settings) -> None:
    """Add the desk to an app."""
    manager = LoginManager(app)
    manager.login_view = "desk.login"
    manager.login_message = None
    manager.user_loader(lambda id_: Admin() if id_ == Admin.id else None)
    csrf = CSRFProtect(app)
    csrf.exempt("relay.web.webhooks.lab")
    app.register_blueprint(blueprint)


@blueprint.after_request
def _guard(response: Response) -> Response:
    """Nothing from elsewhere, and no frame around us."""
    policy = "default-src 'self'; frame-ancestors 'none'; form-action 'self'; base-uri 'none'"
    response.headers["Content-Security-Policy"] = policy
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


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


@blueprint.get("/")
@login_required  # type: ignore[untyped-decorator]
def today() -> str:
    """The latest events and messages."""
    app = here()
    events, messages = reading.latest(app.db)
    return render_template(
        "today.html",
        clinic=app.config.clinic,
        events=events,
        messages=messages,
        delivery=app.settings.delivery,
        form=FlaskForm(),
    )


def _is_right(password: str, settings: Settings) -> bool:
    if settings.admin_password_hash:
        return check_password_hash(settings.admin_password_hash, password)
    return hmac.compare_digest(password.encode(), settings.admin_password.encode())
