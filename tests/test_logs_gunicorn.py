"""gunicorn.conf.py's logger: what the server prints of a request, and of itself."""

from __future__ import annotations

import json
import logging
import runpy
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

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
    secret: str, gunicorn: Callable[[], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """The access log tells a request's method and status, and not the secret of its path."""
    uri = f"/webhooks/lab/{secret}"
    environ = {
        **{"REQUEST_METHOD": "POST", "RAW_URI": uri, "PATH_INFO": uri, "QUERY_STRING": ""},
        **{"SERVER_PROTOCOL": "HTTP/1.1", "HTTP_REFERER": f"https://x.example{uri}"},
    }
    reply = SimpleNamespace(status="200 OK", sent=2, headers=[])
    request = SimpleNamespace(headers=[("REFERER", environ["HTTP_REFERER"])])
    server = gunicorn()
    server.access(reply, request, environ, timedelta(seconds=1))
    atoms = server.atoms(reply, request, environ, timedelta(seconds=1))
    told = capsys.readouterr().out
    assert "s3cret" not in f"{told} {atoms}"
    assert "POST /webhooks/lab/[secret] HTTP/1.1" in told
    assert " 200 " in told


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
