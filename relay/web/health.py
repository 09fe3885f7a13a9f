"""What the platform asks: does the process serve, and is everything it needs there?"""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, Response

from relay import queue
from relay.errors import ConfigError, LedgerUnavailable
from relay.ledger import upkeep
from relay.startup import load
from relay.web.answers import answer
from relay.web.here import here

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """200 when the process serves."""
    return answer(200, status="ok")


@blueprint.get("/readyz")
def readyz() -> Response:
    """200, or 503 naming what is down."""
    checks: dict[str, Callable[[], str]] = {
        "ledger": _ledger,
        "migrations": _migrations,
        "redis": _redis,
        "workers": _workers,
        "config": _config,
    }
    wrong = {name: why for name, check in checks.items() if (why := check())}
    status = 503 if wrong else 200
    return answer(
        status, status="not ready" if wrong else "ready", down=sorted(wrong), reasons=wrong
    )


def _ledger() -> str:
    try:
        upkeep.revision(here().db)
    except LedgerUnavailable:
        return "The database is out of reach."
    return ""


def _migrations() -> str:
    try:
        migrated = upkeep.is_migrated(here().db)
    except LedgerUnavailable:
        return "The database is out of reach."
    return "" if migrated else "Run `flask relay upgrade`."


def _redis() -> str:
    settings = here().settings
    if not settings.redis_url:
        return ""  # development without a queue
    from redis.exceptions import RedisError

    try:
        with queue.connect(settings, timeout=1) as connection:
            connection.set("relay:ready", "1", ex=60)  # a full Redis still answers a PING
    except (RedisError, OSError, ValueError) as error:
        return f"Redis cannot be used ({type(error).__name__})."
    return ""


def _workers() -> str:
    try:
        alive = upkeep.workers_alive(here().db)
    except LedgerUnavailable:
        return "The database is out of reach."
    return "" if alive else "No worker has been seen for 90 seconds."


def _config() -> str:
    try:
        load(here().settings)
    except ConfigError as error:
        return str(error.problems[0])
    return ""
