"""The admin desk: Today, activity, journeys, the worklist, rules, opt-outs and the system, with one
module for each page.

`layout` has the parts of every page, `auth` says who may see it, `causes` shows open cases.
"""

from __future__ import annotations

from flask import Flask, Request
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from flask_login import LoginManager
from flask_wtf import CSRFProtect

from relay.config.settings import Settings
from relay.web.desk import (
    activity,
    auth,
    brand,
    causes,
    editions,
    going_live,
    journeys,
    layout,
    letters,
    organisation,
    people,
    previews,
    refused_posts,
    rule_form,
    rules,
    stop_button,
    suppressions,
    system,
    today,
    unknown_events,
    worklist,
)
from relay.web.desk.layout import blueprint

# Imported for their routes.
__all__ = [
    "activity",
    "auth",
    "brand",
    "causes",
    "editions",
    "going_live",
    "journeys",
    "layout",
    "letters",
    "organisation",
    "people",
    "previews",
    "refused_posts",
    "rule_form",
    "rules",
    "set_up",
    "stop_button",
    "suppressions",
    "system",
    "today",
    "unknown_events",
    "worklist",
]


class _DeskSessions(SecureCookieSessionInterface):
    """Gives programs no session: reading and writing one is a twentieth of a webhook's cost."""

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        """Return the session of a browser's request; None for a program's."""
        if request.path.startswith(("/webhooks/", "/callbacks/")):
            return None
        return super().open_session(app, request)


def set_up(app: Flask, settings: Settings) -> None:
    """Add the desk to an app."""
    manager = LoginManager(app)
    manager.unauthorized_handler(auth.ask)
    manager.user_loader(auth.person)
    app.config["WTF_CSRF_CHECK_DEFAULT"] = False  # the desk, which has the cookie, checks by itself
    CSRFProtect(app)
    app.session_interface = _DeskSessions()
    organisation.set_up(app, settings)
    app.register_blueprint(blueprint)
