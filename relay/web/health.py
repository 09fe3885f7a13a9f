"""Answers the platform: does the process serve, and does everything that it needs work?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from flask import Blueprint, Response

from relay import queue
from relay.config.check import load
from relay.config.reload import Stamps, stamps
from relay.config.settings import Settings
from relay.errors import ConfigError, LedgerUnavailable, Problem
from relay.ledger import migrate
from relay.ledger import workers as ledger_workers
from relay.web.responses import answer
from relay.web.services import services

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """Answer 200 while the process serves."""
    return answer(200, status="ok")


@blueprint.get("/readyz")
def readyz() -> Response:
    """Answer 200, or 503 naming what is down."""
    wrong = down()
    code, said = (503, "not ready") if wrong else (200, "ready")
    return answer(code, status=said, down=sorted(wrong), reasons=wrong)


def down() -> dict[str, str]:
    """Each part that is down, and why."""
    parts = {**ledger(), "redis": _redis(), "config": _config()}
    return {name: why for name, why in parts.items() if why}


def ledger() -> dict[str, str]:
    """What is wrong with the ledger and the workers: asked once, since each wait costs seconds."""
    db = services().db
    try:
        if not migrate.is_migrated(db):
            return {"migrations": "Run `flask relay upgrade`."}
        with db.read() as connection:
            workers = ledger_workers.workers_alive(connection)
    except LedgerUnavailable as error:
        why = f"Relay cannot use the database: {error}."
        return dict.fromkeys(("ledger", "migrations", "workers"), why)
    return {} if workers else {"workers": "No worker has been seen for 90 seconds."}


def _redis() -> str:
    settings = services().settings
    if not settings.redis_url:
        return ""  # development without a queue
    from redis.exceptions import RedisError

    try:
        with queue.connect(settings, timeout=1) as connection:
            connection.set("relay:ready", "1", ex=60)  # a full Redis still answers a PING
    except (RedisError, OSError, ValueError) as error:
        return f"Relay cannot use Redis: {queue.why_not(error)}."
    return ""


def _config() -> str:
    said = "config.toml or a template has a mistake: run `flask relay check` to see where."
    return said if problems() else ""


def problems() -> Sequence[Problem]:
    """The problems of the configuration that should be in use: published, or the files on disk."""
    settings, reloader = services().settings, services().reloader
    if reloader.is_published:
        return [
            one for one in (reloader.wrong.problems if reloader.wrong else ()) if not one.warning
        ]
    return judged(settings, stamps(settings))


@lru_cache(maxsize=2)
def judged(settings: Settings, _stamps: Stamps) -> Sequence[Problem]:
    """The files' errors. Anybody may ask, and often, so they are read again only after a change."""
    try:
        load(settings)
    except ConfigError as error:
        return tuple(error.problems)
    return ()
