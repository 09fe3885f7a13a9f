"""Who is logged in, and until when. All of it is in the signed cookie but its end by logging out,
which is in the ledger: any web process may be asked next.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import time
from datetime import timedelta

from flask import flash, request, session
from flask_login import UserMixin, login_user, logout_user

from relay.config.settings import Settings
from relay.ledger import audit
from relay.privacy.masks import mark
from relay.web.here import here

IDLE, LONGEST = timedelta(hours=1), timedelta(hours=12)
LOGOUT = "logout"
AGAIN = "again"  # what a page that looks again by itself asks with: nobody need be there
_NOTED_SECONDS = 60.0  # a cookie is not written anew at each look


class Admin(UserMixin):  # type: ignore[misc]
    """The one account there is."""

    id = "admin"


def begin() -> None:
    """A new session, whatever the browser had before."""
    session.clear()
    id_, now, settings = "ses_" + secrets.token_hex(16), time.time(), here().settings
    session.update(id=id_, began=now, seen=now, key=_key(settings, settings.secret_key))
    login_user(Admin())
    audit.write_audit(here().db, Admin.id, "login", id_)


def end() -> None:
    """End it for good: a copy of its cookie opens nothing either."""
    audit.write_audit(here().db, Admin.id, LOGOUT, session["id"])
    logout_user()
    session.clear()


def admin(user_id: str) -> Admin | None:
    """Who a session's cookie stands for, while it holds."""
    known = {"id", "began", "seen", "key"} <= session.keys()
    if user_id != Admin.id or not known or not _is_open():
        return None
    now = time.time()
    if now - session["began"] > LONGEST.total_seconds() or _idle(now):
        session.clear()
        if request.method != "POST":  # what was pressed in vain is told by the login
            flash("You have been logged out, since that was a while ago. Log in again.")
        return None
    if now - session["seen"] > _NOTED_SECONDS and AGAIN not in request.args:
        session["seen"] = now
    return Admin()


def _idle(now: float) -> bool:
    return bool(now - session["seen"] > IDLE.total_seconds())


def _is_open() -> bool:
    """Whether it was opened by the password there is now, and not logged out of."""
    settings = here().settings
    keys = (settings.secret_key, *settings.former_secret_key)
    if not any([hmac.compare_digest(session["key"], _key(settings, key)) for key in keys]):
        return False
    return not audit.audited(here().db, LOGOUT, LONGEST + IDLE, session["id"])


def _key(settings: Settings, secret: str) -> str:
    """Changes with the password, so that an old one's sessions end."""
    return mark(secret, "session", settings.admin_password_hash or settings.admin_password)


def visitor() -> str:
    """Names where a request comes from, without telling it: an address, or an IPv6 network."""
    written = request.remote_addr or ""
    try:
        address = ipaddress.ip_address(written)
    except ValueError:
        pass
    else:
        if address.version == 6:
            written = str(ipaddress.ip_network((address, 64), strict=False))
    return mark(here().settings.secret_key, "visitor", written)
