"""The doors for programs, /webhooks and /callbacks: a slash too many or too few does not matter.

A redirect would turn the post into a GET, and repeat the path's secret; a 404 would hide it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from flask import current_app, request
from werkzeug.exceptions import HTTPException

from relay.logs import get_logger

log = get_logger("relay.web")
DOORS = frozenset(("webhooks", "callbacks"))
_SLASHES = re.compile("/{2,}")


def squeezed(path: str) -> str:
    """A path with each run of slashes made one, and none at its ends."""
    return _SLASHES.sub("/", path).strip("/")


def squeeze_paths(wsgi: Callable[..., Any]) -> Callable[..., Any]:
    """A WSGI app that finds a path below the doors, whatever slashes are in it."""

    def call(environ: dict[str, Any], start_response: Any) -> Any:
        path = squeezed(environ.get("PATH_INFO", ""))
        if path.partition("/")[0] in DOORS:
            environ["PATH_INFO"] = f"/{path}"
        return wsgi(environ, start_response)

    return call


def note_lost(error: HTTPException) -> None:
    """Log a lost request below the doors, in our own words only: the rest may be a secret."""
    parts = squeezed(request.path).split("/")
    if parts[0] not in DOORS or error.code not in (404, 405):
        return
    ours = {word for rule in current_app.url_map.iter_rules() for word in rule.rule.split("/")}
    path = "".join(f"/{part if part in ours else '…'}" for part in parts)
    log.warning("no such door", method=request.method, path=path, status=error.code)
