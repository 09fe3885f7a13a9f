"""The admin desk: the latest events and messages, and the worklist, behind a login."""

from __future__ import annotations

from flask import Flask
from flask_login import LoginManager
from flask_wtf import CSRFProtect

from relay.web import callbacks
from relay.web.desk import login, today, worklist  # each adds its pages to the blueprint
from relay.web.desk.frame import Admin, blueprint

__all__ = ["login", "set_up", "today", "worklist"]


def set_up(app: Flask) -> None:
    """Add the desk to an app."""
    manager = LoginManager(app)
    manager.login_view = "desk.login"
    manager.login_message = None
    manager.user_loader(lambda id_: Admin() if id_ == Admin.id else None)
    csrf = CSRFProtect(app)
    csrf.exempt("relay.web.webhooks.lab")
    csrf.exempt(callbacks.blueprint)
    app.register_blueprint(blueprint)
