"""Structured logs: JSON on stdout, text on a terminal. Ids only: no names, numbers, addresses.

Other packages speak at WARNING and above whatever LOG_LEVEL says: at DEBUG some of them print
payloads and keys. Of an exception only its kind and place are logged: its text may quote a patient.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from types import TracebackType
from typing import Any, TextIO

import structlog

_PATH_SECRET = re.compile(r"(/webhooks/lab/)\S+")
_QUIET = ("twilio", "python_http_client", "urllib3", "rq", "alembic", "sqlalchemy", "werkzeug")


def set_up(level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send every logger of this process to one stream (stdout) in one form."""
    stream = stream or sys.stdout
    human = stream.isatty()
    renderer: Any = (
        structlog.dev.ConsoleRenderer() if human else structlog.processors.JSONRenderer()
    )
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _where_it_broke,
        _without_secrets,
    ]
    foreign: list[Any] = [_plain_exception, *shared]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=foreign,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("relay").setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger that takes an event's name and its ids: `log.info("message sent", id=…)`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def without_secrets(text: str) -> str:
    """`text` with the path secret of a webhook's URL taken out."""
    return _PATH_SECRET.sub(r"\1[secret]", text)


def _without_secrets(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    return {k: without_secrets(v) if isinstance(v, str) else v for k, v in event.items()}


def _plain_exception(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Another package's record: its exception is told as ours are, and nowhere else."""
    record = event.get("_record")
    if record is not None and record.exc_info:
        event["exc_info"] = record.exc_info
        record.exc_info = record.exc_text = None
    return event


def _where_it_broke(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    found = event.pop("exc_info", None)
    if found is True:
        found = sys.exc_info()
    error = found[1] if isinstance(found, tuple) else found
    if isinstance(error, BaseException):
        event["error"] = type(error).__name__
        event["at"] = _frames(error.__traceback__)
    return event


def _frames(trace: TracebackType | None) -> list[str]:
    return [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(trace)[-8:]]
