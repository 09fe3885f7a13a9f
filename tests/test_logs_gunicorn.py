"""gunicorn.conf.py's logger: what the server prints of a request, and of itself."""

from __future__ import annotations

import json
import logging
import runpy
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest
from gunicorn.config import Config as GunicornConfig

from relay import logs
from tests.conftest import ROOT
from tests.test_logs import SECRETS, Lines, break_, lines

__all__ = ["lines"]  # a fixture


@pytest.fixture
def gunicorn() -> Iterator[Callable[[], Any]]:
    """Starts gunicorn's logger by our gunicorn.conf.py, with the access log on."""
    loggers = [logging.getLogger(f"gunicorn.{name}") for name in ("error", "access")]
    before = [(logger.handlers[:], logger.propagate, logger.level) for logger in loggers]

    def set_up() -> Any:
        logs.set_up("INFO")
        settings = GunicornConfig()
        settings.set("accesslog", "-")
        return runpy.run_path(str(ROOT / "gunicorn.conf.py"))["logger_class"](settings)

    yield set_up
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.mark.parametrize("secret", SECRETS)
def test_access_log_has_no_path_secret(
    secret: str, gunicorn: Callable[[], Any], lines: Lines
) -> None:
    """The access log tells a request's method, path and status as JSON, a line each, and not the
    secret of its path."""
    gunicorn().access(*asked(f"/webhooks/lab/{secret}"))
    [line] = lines()
    assert "s3cret" not in json.dumps(line)
    assert line.pop("timestamp")
    assert line == {
        **{"event": "request", "method": "POST", "path": "/webhooks/lab/[secret]"},
        **{"status": 200, "ms": 1500, "level": "info", "logger": "gunicorn.access"},
    }


def test_access_log_names_nobody(gunicorn: Callable[[], Any], lines: Lines) -> None:
    """No address, browser, page before or query is in it: they may be somebody's own."""
    gunicorn().access(*asked("/journeys/o-1", query="q=Jane"))
    [line] = lines()
    assert line["path"] == "/journeys/o-1"
    assert not [word for word in ("203.0.113.7", "Firefox", "Jane") if word in json.dumps(line)]


@pytest.mark.parametrize(
    "path", ["/%77ebhooks/lab/s3cret", "/x%0As3cret", '/x"s3cret"', "/\u2028s3cret"]
)
def test_access_log_is_a_line_a_request(
    path: str, gunicorn: Callable[[], Any], lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However a path is written, its line is one object, without a secret that stands in it."""
    monkeypatch.setenv("WEBHOOK_SECRET", "s3cret")
    gunicorn().access(*asked(path))
    [line] = lines()
    assert line["path"] == "[secret]"


def test_access_log_may_be_off(gunicorn: Callable[[], Any], lines: Lines) -> None:
    """Where nobody turns it on there is none."""
    server = gunicorn()
    server.cfg.set("accesslog", None)
    server.setup(server.cfg)
    server.access(*asked("/healthz"))
    assert lines() == []


def asked(path: str, query: str = "") -> tuple[Any, Any, dict[str, str], timedelta]:
    """A request that was answered, as gunicorn hands it to its logger."""
    environ = {
        **{"REQUEST_METHOD": "POST", "RAW_URI": f"{path}?{query}", "PATH_INFO": unquote(path)},
        **{"SERVER_PROTOCOL": "HTTP/1.1", "HTTP_REFERER": f"https://x.example{path}"},
        **{"QUERY_STRING": query, "REMOTE_ADDR": "203.0.113.7", "HTTP_USER_AGENT": "Firefox"},
    }
    reply = SimpleNamespace(status="200 OK", sent=2, headers=[])
    uri, headers = environ["RAW_URI"], [("REFERER", environ["HTTP_REFERER"])]
    request = SimpleNamespace(method="POST", uri=uri, headers=headers)
    return reply, request, environ, timedelta(seconds=1.5)


def test_what_gunicorn_says_of_itself_is_ours_in_form(
    gunicorn: Callable[[], Any], lines: Lines
) -> None:
    """Gunicorn's own log is JSON once a line, with no secret and no exception's text."""
    server = gunicorn()
    try:
        break_()
    except ValueError:
        server.exception("Error handling request %s", "/webhooks/lab/s3cret")
    [line] = lines()
    assert line["event"] == "Error handling request /webhooks/lab/[secret]"
    assert (line["logger"], line["error"]) == ("gunicorn.error", "ValueError")
    assert "Jane" not in json.dumps(line)
