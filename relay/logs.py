"""Structured logs: JSON on stdout, text on a terminal. Ids only: no names, numbers or addresses.

Other packages log at WARNING and above whatever LOG_LEVEL says: at DEBUG some of them print
payloads and keys. We log only an exception's kind and place: its text may quote a patient.

If SENTRY_DSN is set, Sentry gets Relay's own faults: where the code broke, and nothing that
anybody wrote or sent.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections.abc import Callable, MutableMapping
from contextlib import AbstractContextManager
from typing import Any, TextIO
from urllib.parse import unquote

import structlog

Event = MutableMapping[str, Any]
_PATH = "webhooks/"
_PATH_SECRET = re.compile(rf"(/{_PATH}+lab/)\S+")
_WORD = re.compile(r"\S+")
_to_json = json.JSONEncoder(default=repr).encode
_QUIET = (
    "twilio",
    "python_http_client",
    "urllib3",
    "rq",
    "rq.worker",
    "alembic",
    "sqlalchemy",
    "werkzeug",
)


class _Writer(structlog.WriteLogger):
    """Writes lines to a stream, and keeps the name of its logger."""

    def __init__(self, stream: TextIO, name: str):
        super().__init__(stream)
        self.name = name


def set_up(level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send every logger of this process to one stream (stdout) in one form."""
    stream = stream or sys.stdout
    human = stream.isatty()
    renderer: Any = structlog.dev.ConsoleRenderer() if human else json_line
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        name_exception,
        drop_secrets,
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[plain_exception, *shared],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    # Our lines go straight to the stream: through logging each would cost three times as much.
    structlog.configure(
        processors=[*shared, renderer],
        logger_factory=lambda name: _Writer(stream, name),
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )


def about(event_id: str) -> AbstractContextManager[None]:
    """Put the event's id on this thread's lines: it finds all that followed from a webhook."""
    return structlog.contextvars.bound_contextvars(correlation_id=event_id)


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger that takes an event's name and its ids: `log.info("message sent", id=…)`."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(name)
    return logger


def without_secrets(text: str) -> str:
    """`text` without the path secret of a webhook's URL, however the path was written."""
    if _PATH in text:
        text = _PATH_SECRET.sub(r"\1[secret]", text)
    return _WORD.sub(_unless_encoded, text) if "%" in text else text


def _unless_encoded(word: re.Match[str]) -> str:
    is_path = "%" in word[0] and _PATH in unquote(word[0])
    return "[secret]" if is_path else word[0]


def drop_secrets(_logger: Any, _method: str, event: Event) -> Event:
    """Remove the path secret from each value of a line."""
    return {k: without_secrets(v) if isinstance(v, str) else v for k, v in event.items()}


def json_line(_logger: Any, _method: str, event: Event) -> str:
    """A line as JSON."""
    return _to_json(event)


def plain_exception(_logger: Any, _method: str, event: Event) -> Event:
    """Move the exception of another package's record, so that it is logged only as ours are."""
    record = event.get("_record")
    if record is not None and record.exc_info:
        event["exc_info"] = record.exc_info
        record.exc_info = record.exc_text = None
    return event


_report: Callable[[BaseException], object] | None = None


def report_errors_to(report: Callable[[BaseException], object]) -> None:
    """Pass every exception that is logged to `report` too."""
    global _report  # noqa: PLW0603 - one for the process, set once at its start
    _report = report


def name_exception(_logger: Any, _method: str, event: Event) -> Event:
    """Replace an exception by its kind and place, and report it if reporting is set up."""
    found = event.pop("exc_info", None)
    if found is True:
        found = sys.exc_info()
    error = found[1] if isinstance(found, tuple) else found
    if isinstance(error, BaseException):
        event["error"] = type(error).__name__
        frames = traceback.extract_tb(error.__traceback__)[-8:]
        event["at"] = [f"{one.filename}:{one.lineno} {one.name}" for one in frames]
        if _report:
            _report(error)
    return event


SENTRY_KEPT = (
    "event_id",
    "timestamp",
    "platform",
    "level",
    "release",
    "environment",
    "exception",
    "sdk",
)
SENTRY_KEPT_OF_FRAME = ("filename", "abs_path", "function", "module", "lineno", "in_app")


def report_to_sentry(dsn: str, environment: str) -> None:
    """Report every exception that is logged from now on. Does nothing without a DSN."""
    if not dsn:
        return
    import sentry_sdk

    sentry_sdk.init(
        dsn,
        environment=environment,
        before_send=without_details,  # type: ignore[arg-type]
        # Without integrations: they collect requests, statements, breadcrumbs and locals.
        default_integrations=False,
        auto_enabling_integrations=False,
        include_local_variables=False,
        include_source_context=False,
        max_breadcrumbs=0,
        server_name="relay",
    )
    report_errors_to(sentry_sdk.capture_exception)


def is_dsn(written: str) -> bool:
    """Whether it is an address to which Sentry's client can report."""
    from sentry_sdk.utils import Dsn

    try:
        Dsn(written)
    except ValueError:  # BadDsn is a subclass
        return False
    return True


def without_details(event: MutableMapping[str, Any], _hint: Any = None) -> dict[str, Any]:
    """An event without anything that could name a person: an exception's text may quote one."""
    kept = {key: event[key] for key in SENTRY_KEPT if key in event}
    values = (event.get("exception") or {}).get("values") or []
    kept["exception"] = {
        "values": [
            {
                **{key: one.get(key) for key in ("type", "module") if one.get(key)},
                "stacktrace": {
                    "frames": [
                        {key: frame[key] for key in SENTRY_KEPT_OF_FRAME if key in frame}
                        for frame in (one.get("stacktrace") or {}).get("frames") or []
                    ]
                },
            }
            for one in values
        ]
    }
    return kept
