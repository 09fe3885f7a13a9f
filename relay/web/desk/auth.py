"""Who may see the desk, and until when: signing in, and the session that follows.

A session's cookie names a row of the ledger, which every web process looks up: once it is ended
there, no copy of the cookie works. After a login people return to the page that they wanted, at an
address that Relay builds itself: it never follows the link as written.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import time
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pyotp
from flask import current_app, flash, redirect, render_template, request, session, url_for
from flask_login import UserMixin, current_user, login_user, logout_user
from flask_wtf import FlaskForm
from itsdangerous import BadSignature, URLSafeSerializer
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import HTTPException
from werkzeug.security import check_password_hash, generate_password_hash
from wtforms import PasswordField, StringField
from wtforms.validators import DataRequired, Length, Optional

from relay.config.settings import Settings
from relay.ledger import audit, people
from relay.privacy.masks import mark
from relay.staff.roles import FIRST, LOOK, ROLES
from relay.web.desk.layout import AGAIN, blueprint, requires
from relay.web.services import services

IDLE = timedelta(hours=1)
LOGOUT = "logout"
_NOTED_SECONDS = 60.0  # so that a cookie is not written again at each request
_CODE_SECONDS = 300.0  # for entering the code, after the password
Account = Mapping[str, Any]


class Person(UserMixin):  # type: ignore[misc]
    """Somebody who is logged in: an account's email address, or ADMIN."""

    def __init__(self, name: str, role: str):
        self.id, self.role = name, role

    def may(self, permission: str) -> bool:
        """Whether their role has a permission."""
        return permission in ROLES.get(self.role, ())


def begin_session(account: Account | None = None) -> None:
    """Begin a session for an account, or for ADMIN, in place of any that the browser has."""
    session.clear()
    name = account["login"] if account else people.ADMIN
    id_, settings = "ses_" + secrets.token_hex(16), services().settings
    session.update(id=id_, seen=time.time(), key=_key(settings.secret_key, account))
    login_user(Person(name, account["role"] if account else FIRST))
    agent = request.user_agent.string
    browser = next((one for one in _BROWSERS if one in agent), "another browser")
    with services().db.write() as connection:
        people.begin_session(connection, id_, name, this_visitor(), browser)
        audit.ORIGIN.set((id_, this_visitor()))
        audit.write_audit(connection, name, "login", id_)


_BROWSERS = ("Edg", "OPR", "Firefox", "Chrome", "Safari")  # each also names those behind it


def end_session() -> None:
    """End the session for good: a copy of its cookie does not work either."""
    with services().db.write() as connection:
        people.end(connection, session["id"])
        people.end_for_release_before(connection, session["id"])
        audit.write_audit(connection, current_user.id, LOGOUT, session["id"])
    logout_user()
    session.clear()


def person(user_id: str) -> Person | None:
    """The person whose session cookie this is; None if it is not valid."""
    if not {"id", "seen", "key"} <= session.keys():
        return None
    with services().db.read() as connection:
        row = people.session(connection, session["id"])
    is_admin = user_id == people.ADMIN
    if row is None or row["person"] != user_id or not (is_admin or row["role"]):
        return None
    settings = services().settings
    keys = (settings.secret_key, *settings.former_secret_key)
    account = None if is_admin else row
    if not any([hmac.compare_digest(session["key"], _key(key, account)) for key in keys]):
        return None
    if (now := time.time()) - session["seen"] > IDLE.total_seconds():
        session.clear()
        if request.method != "POST":  # for a POST the login says that nothing was done
            flash("You were logged out because you had been away for a while. Log in again.")
        return None
    if now - session["seen"] > _NOTED_SECONDS and AGAIN not in request.args:
        session["seen"] = now
        with services().db.write() as connection:
            people.note_seen(connection, session["id"])
    audit.ORIGIN.set((session["id"], this_visitor()))
    return Person(user_id, FIRST if is_admin else row["role"])


def _key(secret: str, account: Account | None) -> str:
    """A key that changes with the password, so that sessions under the old one end."""
    settings = services().settings
    proof = settings.admin_password_hash or settings.admin_password
    return mark(secret, "session", account["password_hash"] if account else proof)


def this_visitor() -> str:
    """A mark for a request's address or IPv6 network, which cannot be read from it."""
    written = request.remote_addr or ""
    try:
        address = ipaddress.ip_address(written)
    except ValueError:
        pass
    else:
        if address.version == 6:
            written = str(ipaddress.ip_network((address, 64), strict=False))
    return mark(services().settings.secret_key, "visitor", written)


# Wrong passwords after which an address, or a known browser, has to wait, and how long...
GUESSES, PAUSE = 10, timedelta(minutes=10)
# ... and after which all but known browsers have to: more than any clinic's staff would make.
FLOOD, EBB = 300, timedelta(minutes=1)
NOTED = 10  # wrong passwords a minute that the audit trail records, so that a flood cannot fill it
_BROWSER, _YEAR = "relay_browser", 365 * 24 * 3600

# The parameters of our pages' links: after a login only these are kept from the page's address.
KNOWN = frozenset(
    (
        *("kit", "name", "data", "channel", "scheme", "before", "kind", "message", "permit"),
        *("what", "status", "rule", "day", "alerts", "back", "template", "edition", "as", "from"),
    )
)
_UNDONE = "You had been logged out, so nothing was done. Log in and try again."
_WRONG = "Wrong password. Try again."


class LoginForm(FlaskForm):  # type: ignore[misc]
    """An account's email address and password; without an address, ADMIN's password."""

    login = StringField(validators=[Optional(), Length(max=100)])
    password = PasswordField(validators=[DataRequired()])


class CodeForm(FlaskForm):  # type: ignore[misc]
    """The second factor."""

    code = StringField(validators=[DataRequired(), Length(max=40)])


@blueprint.route("/login", methods=["GET", "POST"])
@requires(None)
def login() -> Any:
    """Ask for the email address and the password."""
    form = LoginForm()
    if not form.validate_on_submit():
        return _asked(form)
    if wait := _wait():
        return _too_many(form, wait)
    login = form.login.data or ""
    if not login and _is_admins(form.password.data, services().settings):
        return let_in(None, request.args.get("next", ""))
    account = _account(login, form.password.data) if login else None
    if account is None:
        return _refused(form, _WRONG)
    session["asked"] = {"login": account["login"], "at": time.time()}
    return redirect(url_for("desk.second_factor", next=request.args.get("next") or None))


@blueprint.route("/login/code", methods=["GET", "POST"])
@requires(None)
def second_factor() -> Any:
    """Ask for the code of an account whose password has just been entered correctly."""
    asked = session.get("asked") or {"at": 0.0}
    if time.time() - asked["at"] > _CODE_SECONDS:
        return redirect(url_for("desk.login", next=request.args.get("next") or None))
    form = CodeForm()
    if not form.validate_on_submit():
        return render_template("login_code.html", form=form)
    if wait := _wait():
        return _too_many(form, wait, "login_code.html")
    with services().db.write() as connection:
        account = people.find(connection, asked["login"])
        is_right = account and not account["disabled_at"] and _is_code(connection, account, form)
    if not (account and is_right):
        return _refused(
            form, "Wrong code. Wait for the next one, then try again.", "login_code.html"
        )
    return let_in(account, request.args.get("next", ""))


def _asked(form: FlaskForm, alert: str = "") -> str:
    return render_template(
        "login.html", form=form, alert=alert, oidc=services().settings.oidc_issuer
    )


def _too_many(form: FlaskForm, wait: timedelta, page: str = "login.html") -> Any:
    alert = (
        f"Too many wrong passwords. Wait {round(wait.total_seconds() / 60)} min, then try again."
    )
    headers = {"Retry-After": str(int(wait.total_seconds()))}
    return render_template(page, form=form, alert=alert), 429, headers


def _refused(form: FlaskForm, alert: str, page: str = "login.html") -> Any:
    visitor = _visitor()
    with services().db.write() as connection:
        people.add_failure(connection, visitor)
        if people.count_failures(connection, EBB) <= NOTED:
            audit.write_audit(connection, "nobody", audit.LOGIN_REFUSED, visitor)
    return render_template(page, form=form, alert=alert), 401


def let_in(account: Account | None, next_: str) -> Any:
    """Begin a session and go to the page that was wanted; from now on this browser is known."""
    page = _page(next_)
    begin_session(account)
    response = redirect(page)
    response.set_cookie(
        _BROWSER,
        _browsers().dumps(secrets.token_hex(8)),
        max_age=_YEAR,
        secure=not services().settings.development,
        httponly=True,
        samesite="Lax",
    )
    return response


def _account(login: str, password: str) -> Account | None:
    """The account that a password opens. It takes just as long if there is no such account."""
    with services().db.read() as connection:
        account = people.find(connection, login)
    kept = account["password_hash"] if account else ""
    is_right = check_password_hash(kept or _nobodys(), password)
    return account if account and kept and is_right and not account["disabled_at"] else None


@cache
def _nobodys() -> str:
    """A hash that no password has: made once, when first needed, since that is slow."""
    return generate_password_hash(secrets.token_hex())


def _is_code(connection: Any, account: Account, form: CodeForm) -> bool:
    """Whether a code is the authenticator's, of now or half a minute ago, or a recovery code. Each
    works once.
    """
    code = "".join(form.code.data.split())
    totp, now = pyotp.TOTP(account["totp_secret"]), int(time.time()) // 30
    for step in (now, now - 1):
        if hmac.compare_digest(totp.at(step * 30), code):
            return people.use_step(connection, account["id"], step)
    return people.use_recovery(connection, account["id"], code.lower())


@blueprint.post("/logout")
@requires(LOOK)
def logout() -> Any:
    """End the session."""
    end_session()
    return redirect(url_for("desk.login"))


def ask() -> Any:
    """Send a visitor who is not, or no longer, logged in to the login."""
    if request.method != "POST":
        return redirect(url_for("desk.login", next=request.full_path.rstrip("?")))
    if request.endpoint == "desk.logout":
        return redirect(url_for("desk.login"))
    flash(_UNDONE)
    here_, page = request.host_url, request.referrer or ""
    # The page with the button: the address that it posts to may not be a page.
    is_ours = page.startswith(here_)
    return redirect(url_for("desk.login", next=page[len(here_) - 1 :] if is_ours else request.path))


def _page(written: str) -> str:
    """The address of the desk's page that a link names, built afresh; Today's if it names none."""
    try:
        parts = urlsplit(written)
        endpoint, given = current_app.url_map.bind("").match(parts.path, "GET")
    except (ValueError, HTTPException):
        return url_for("desk.today")
    is_ours = written.startswith("/") and not parts.netloc
    if not is_ours or not endpoint.startswith("desk.") or not is_guarded(endpoint):
        return url_for("desk.today")
    asked: dict[str, Any] = MultiDict(parse_qsl(parts.query)).to_dict()  # the first value of each
    return url_for(endpoint, **{key: asked[key] for key in asked if key in KNOWN} | dict(given))


def is_guarded(endpoint: str) -> bool:
    """Whether a page is only for people who are logged in."""
    return getattr(current_app.view_functions[endpoint], "requires", None) is not None


def _browsers() -> URLSafeSerializer:
    return URLSafeSerializer(str(current_app.secret_key), salt="browser")


def _browser() -> str:
    """A mark of a browser in which somebody has logged in before; empty for any other."""
    try:
        known = _browsers().loads(request.cookies.get(_BROWSER, ""))
    except BadSignature:
        return ""
    return mark(services().settings.secret_key, "browser", str(known))


def _visitor() -> str:
    """The mark by which wrong passwords are counted: a known browser's, or an address's."""
    return _browser() or this_visitor()


def _wait() -> timedelta | None:
    """How long a visitor must wait before Relay checks another password. A known browser waits only
    for its own guesses: a stranger's never lock staff out.
    """
    with services().db.read() as connection:
        if people.count_failures(connection, PAUSE, _visitor()) >= GUESSES:
            return PAUSE
        if _browser():
            return None
        return EBB if people.count_failures(connection, EBB) >= FLOOD else None


def _is_admins(password: str, settings: Settings) -> bool:
    if settings.admin_password_hash:
        return check_password_hash(settings.admin_password_hash, password)
    return bool(settings.admin_password) and hmac.compare_digest(
        password.encode(), settings.admin_password.encode()
    )
