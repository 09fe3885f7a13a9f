"""Who may see the desk, and until when: signing in, and the session that follows.

A session's cookie names a row of the ledger, which any web process asks: ended there, no copy of
the cookie opens anything. After a login the link leads to the page that asked for it, by no word of
the link's own.
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
_NOTED_SECONDS = 60.0  # a cookie is not written anew at each look
_CODE_SECONDS = 300.0  # for the code, after the password
Account = Mapping[str, Any]


class Person(UserMixin):  # type: ignore[misc]
    """Somebody who is logged in: an account's email address, or ADMIN."""

    def __init__(self, name: str, role: str):
        self.id, self.role = name, role

    def may(self, permission: str) -> bool:
        """Whether their role lets them."""
        return permission in ROLES.get(self.role, ())


def begin_session(account: Account | None = None) -> None:
    """A new session of an account, or of ADMIN, whatever the browser had before."""
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


_BROWSERS = ("Edg", "OPR", "Firefox", "Chrome", "Safari")  # each names those behind it too


def end_session() -> None:
    """End it for good: a copy of its cookie opens nothing either."""
    with services().db.write() as connection:
        people.end(connection, session["id"])
        people.end_for_release_before(connection, session["id"])
        audit.write_audit(connection, current_user.id, LOGOUT, session["id"])
    logout_user()
    session.clear()


def person(user_id: str) -> Person | None:
    """Whose a session's cookie is, while it is valid."""
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
        if request.method != "POST":  # the login says that a button did nothing
            flash("You were logged out because you had been away for a while. Log in again.")
        return None
    if now - session["seen"] > _NOTED_SECONDS and AGAIN not in request.args:
        session["seen"] = now
        with services().db.write() as connection:
            people.note_seen(connection, session["id"])
    audit.ORIGIN.set((session["id"], this_visitor()))
    return Person(user_id, FIRST if is_admin else row["role"])


def _key(secret: str, account: Account | None) -> str:
    """Changes with the password, so that an old one's sessions end."""
    settings = services().settings
    proof = settings.admin_password_hash or settings.admin_password
    return mark(secret, "session", account["password_hash"] if account else proof)


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


# Wrong passwords before one address, or one known browser, has to wait, and how long...
GUESSES, PAUSE = 10, timedelta(minutes=10)
# ... and before everybody has to but for known browsers: a flood that no clinic's staff make.
FLOOD, EBB = 300, timedelta(minutes=1)
NOTED = 10  # that the audit trail keeps of the wrong passwords of a minute: a flood may not fill it
_BROWSER, _YEAR = "relay_browser", 365 * 24 * 3600

# What pages ask for in their links: of where one was going, no more is taken along.
KNOWN = frozenset(
    (
        *("kit", "name", "data", "channel", "scheme", "before", "kind", "message", "permit"),
        *("what", "status", "rule", "day", "alerts", "back", "template", "edition", "as", "from"),
    )
)
_UNDONE = "You had been logged out, so nothing was done. Log in and try again."
_WRONG = "Wrong password. Try again."


class LoginForm(FlaskForm):  # type: ignore[misc]
    """An account's email address and password; without the address, ADMIN's."""

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
    """Ask for the code of an account whose password was right just now."""
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
    """Begin a session, and go to where one was going; this browser is known from now on."""
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
    """The account that a password opens. It takes as long where there is no such account."""
    with services().db.read() as connection:
        account = people.find(connection, login)
    kept = account["password_hash"] if account else ""
    is_right = check_password_hash(kept or _nobodys(), password)
    return account if account and kept and is_right and not account["disabled_at"] else None


@cache
def _nobodys() -> str:
    """A hash that no password has: made once, and not at each start, since it takes long."""
    return generate_password_hash(secrets.token_hex())


def _is_code(connection: Any, account: Account, form: CodeForm) -> bool:
    """Whether a code is the authenticator's, of now or of half a minute ago, or a recovery code;
    each is used once.
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
    if not is_ours or not endpoint.startswith("desk.") or not is_guarded(endpoint):
        return url_for("desk.today")
    asked: dict[str, Any] = MultiDict(parse_qsl(parts.query)).to_dict()  # of each word the first
    return url_for(endpoint, **{key: asked[key] for key in asked if key in KNOWN} | dict(given))


def is_guarded(endpoint: str) -> bool:
    """Whether a page is for people who are logged in only."""
    return getattr(current_app.view_functions[endpoint], "requires", None) is not None


def _browsers() -> URLSafeSerializer:
    return URLSafeSerializer(str(current_app.secret_key), salt="browser")


def _browser() -> str:
    """A mark of a browser in which somebody has logged in before; empty for another."""
    try:
        known = _browsers().loads(request.cookies.get(_BROWSER, ""))
    except BadSignature:
        return ""
    return mark(services().settings.secret_key, "browser", str(known))


def _visitor() -> str:
    """Whose guesses are counted together."""
    return _browser() or this_visitor()


def _wait() -> timedelta | None:
    """How long a visitor has to wait before another password is looked at. A known browser waits
    for its own guesses only: a stranger's never shut staff out.
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
