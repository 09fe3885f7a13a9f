"""The admin desk: what came and went out, kits' journeys, the worklist, opt-outs, the system."""

from __future__ import annotations

from flask import Flask
from flask_login import LoginManager
from flask_wtf import CSRFProtect

from relay.web import callbacks
from relay.web.desk import (  # each adds its pages to the blueprint
    erasing,
    journeys,
    login,
    sessions,
    suppressions,
    system,
    today,
    worklist,
)
from relay.web.desk.frame import blueprint

__all__ = ["erasing", "journeys", "login", "set_up", "suppressions", "system", "today", "worklist"]


def set_up(app: Flask) -> None:
    """Add the desk to an app."""
    manager = LoginManager(app)
    manager.login_view = "desk.login"
    manager.login_message = None
    manager.user_loader(sessions.admin)
    csrf = CSRFProtect(app)
    csrf.exempt("relay.web.webhooks.lab")
    csrf.exempt(callbacks.blueprint)
    app.register_blueprint(blueprint)
