"""The web process: it takes the lab's webhooks, answers the platform, and shows the desk.

It may know the jobs, `staff` and the queue. Begin with `webhooks`, then `services`.
"""

from __future__ import annotations

import os

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from relay import fault_injection, logs
from relay.config.loader import load as load_config
from relay.config.reload import ConfigReloader
from relay.config.settings import Settings, from_environment
from relay.ledger.database import Database
from relay.ledger.editions import Shelf
from relay.queue import Waker
from relay.web import (
    callbacks,
    contact,
    desk,
    doors,
    health,
    metrics,
    plain_http,
    responses,
    webhooks,
)
from relay.web.forms import MOST_FIELDS, FormRequest
from relay.web.services import Services

PATIENCE_SECONDS = 1.5  # the lab gets its 503 within 3 s, whatever the ledger does


def create_app(settings: Settings | None = None) -> Flask:
    """The app, from the environment or from `settings`. Opens nothing. Raises ConfigError."""
    settings = settings or from_environment(os.environ)
    logs.set_up(settings.log_level)
    logs.report_to_sentry(settings.sentry_dsn, settings.name)
    fault_injection.arm_crash_point(settings.crash_at)
    fault_injection.set_haste(settings.haste)
    app = Flask(__name__, template_folder="pages")
    app.request_class = FormRequest
    app.config.update(
        SECRET_KEY=settings.secret_key or None,
        SECRET_KEY_FALLBACKS=list(settings.former_secret_key),
        MAX_CONTENT_LENGTH=webhooks.LARGEST_BODY + 1,
        MAX_FORM_PARTS=MOST_FIELDS,
        SESSION_COOKIE_SECURE=not settings.development,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_REFRESH_EACH_REQUEST=False,
        WTF_CSRF_TIME_LIMIT=None,  # a token ends with its session
    )
    app.url_map.merge_slashes = False  # a redirect is not JSON, and repeats the path secret
    db = Database(
        settings.database_url, patience=PATIENCE_SECONDS, connections=settings.database_connections
    )
    reloader = ConfigReloader(settings, load_config, Shelf(db))
    app.extensions["relay"] = Services(settings, reloader, db, Waker(settings))
    if not settings.development:
        plain_http.refuse(app)
    for part in (webhooks, callbacks, health, metrics, contact):
        app.register_blueprint(part.blueprint)
    if settings.desk_ready:
        desk.set_up(app, settings)
    responses.set_up(app, desk.layout.error_page if settings.desk_ready else None)
    app.wsgi_app = doors.squeeze_paths(app.wsgi_app)  # type: ignore[method-assign]
    if not settings.development:
        # Scheme and host are as the last proxy gives them; the client, as the first trusted one.
        proxies = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=proxies, x_proto=1, x_host=1)  # type: ignore[method-assign]
    return app
