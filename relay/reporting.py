"""Faults of Relay's own, reported to Sentry where SENTRY_DSN is set: where it broke, and nothing
that anybody wrote or sent.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from relay import logs

KEPT = ("event_id", "timestamp", "platform", "level", "release", "environment", "exception", "sdk")
KEPT_OF_FRAME = ("filename", "abs_path", "function", "module", "lineno", "in_app")


def set_up(dsn: str, environment: str) -> None:
    """Report what is logged with its exception from now on. Does nothing without a DSN."""
    if not dsn:
        return
    import sentry_sdk

    sentry_sdk.init(
        dsn,
        environment=environment,
        before_send=bare,  # type: ignore[arg-type]
        # Without integrations: they collect requests, statements, breadcrumbs and locals.
        default_integrations=False,
        auto_enabling_integrations=False,
        include_local_variables=False,
        include_source_context=False,
        max_breadcrumbs=0,
        server_name="relay",
    )
    logs.report_errors_to(sentry_sdk.capture_exception)


def is_dsn(written: str) -> bool:
    """Whether it is an address that faults can be reported to."""
    from sentry_sdk.utils import Dsn

    try:
        Dsn(written)
    except ValueError:  # BadDsn is one
        return False
    return True


def bare(event: MutableMapping[str, Any], _hint: Any = None) -> dict[str, Any]:
    """An event without all that could name a person: an exception's text may quote one."""
    kept = {key: event[key] for key in KEPT if key in event}
    values = (event.get("exception") or {}).get("values") or []
    kept["exception"] = {
        "values": [
            {
                **{key: one.get(key) for key in ("type", "module") if one.get(key)},
                "stacktrace": {
                    "frames": [
                        {key: frame[key] for key in KEPT_OF_FRAME if key in frame}
                        for frame in (one.get("stacktrace") or {}).get("frames") or []
                    ]
                },
            }
            for one in values
        ]
    }
    return kept
