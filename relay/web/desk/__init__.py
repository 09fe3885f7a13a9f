"""The admin desk: what came and went out, kits' journeys, the worklist, opt-outs, the system."""

from __future__ import annotations

from flask import Flask, Request
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from flask_login import LoginManager
from flask_wtf import CSRFProtect

from relay.web.desk import (
    audit,
    erasing,
    journeys,
    login,
    previews,
    quarantine,
    refusals,
    rules,
    sessions,
    suppressions,
    system,
    today,
    unknown_events,
    worklist,
)
from relay.web.desk.frame import blueprint

__all__ = [
    "audit",
    "erasing",
    "journeys",
    "login",
    "previews",
    "quarantine",
    "refusals",
    "rules",
    "set_up",
    "suppressions",
    "system",
    "today",
    "unknown_events",
    "worklist",
]


class _DeskSessions(SecureCookieSessionInterface):
    """No session for programs: reading and writing one is a twentieth of a webhook's cost."""

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        """The session of a browser's request."""
        if request.path.startswith(("/webhooks/", "/callbacks/")):
            return None
        return super().open_session(app, request)


def set_up(app: Flask) -> None:
    """Add the desk to an app."""
    manager = LoginManager(app)
    manager.unauthorized_handler(login.ask)
    manager.user_loader(sessions.admin)
    app.config["WTF_CSRF_CHECK_DEFAULT"] = False  # the desk asks for it itself: it has the cookie
    CSRFProtect(app)
    app.session_interface = _DeskSessions()
    app.register_blueprint(blueprint)
