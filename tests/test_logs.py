"""relay/logs.py: JSON lines with ids and nothing of persons, secrets or other packages' talk."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from relay import logs
from relay.config.settings import Settings
from relay.jobs.tasks import Jobs
from relay.lab import samples
from relay.ledger.database import Database
from tests.conftest import drain
from tests.rows import messages

Start = Callable[[], logging.Logger]
Lines = Callable[[], list[dict[str, Any]]]
PATIENT = "Jane Smith +447700900123 jane@example.com"
SECRETS = [
    "s3cret",
    "s3cret/",
    "s3/cret",
    "//s3cret",
    "s3cret?s3cret=1",
    "s3cret#s3cret",
    "it's-s3cret",
    "%22s3cret%22",
    '"s3cret"',
    "s3cret%20s3cret",
    "<s3cret>",
    "a=s3cret;b,s3cret",
]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    """What was logged since, line by line; nothing goes to stderr."""

    def read() -> list[dict[str, Any]]:
        captured = capsys.readouterr()
        assert captured.err == ""
        return [json.loads(line) for line in captured.out.splitlines()]

    return read


@pytest.fixture(params=["relay.jobs", "gunicorn.error", "another"])
def start(request: pytest.FixtureRequest) -> Start:
    """Starts logging on the test's stdout; gives a logger: ours, the server's, anybody's."""

    def set_up() -> logging.Logger:
        logs.set_up("INFO")
        return logging.getLogger(request.param)

    return set_up


def test_each_decision_is_a_json_line(lines: Lines) -> None:
    """A line has what happened, its ids, level, logger and a time with an offset."""
    logs.set_up("INFO")
    logs.get_logger("relay.jobs").info("message sent", id="ntf_1", attempt=2)
    [line] = lines()
    assert datetime.fromisoformat(line.pop("timestamp")).utcoffset() == timedelta(0)
    assert line == {
        "event": "message sent",
        "id": "ntf_1",
        "attempt": 2,
        "level": "info",
        "logger": "relay.jobs",
    }


def test_other_packages_speak_in_the_same_form(start: Start, lines: Lines) -> None:
    """Whatever logger a line comes from, it is JSON of the same shape, on one line."""
    logger = start()
    logger.warning("two\nlines of %s", "text")
    [line] = lines()
    assert (line["event"], line["level"]) == ("two\nlines of text", "warning")
    assert line["logger"] == logger.name
    assert "timestamp" in line


@pytest.mark.parametrize(
    "path", ["/%77ebhooks/lab/s3cret", "/webhooks%2flab%2Fs3cret", "/webhooks/l%61b/s3cret?x"]
)
def test_path_secret_is_in_no_line_however_the_path_is_written(
    path: str, start: Start, lines: Lines
) -> None:
    """A path that is percent-encoded is a door all the same."""
    start().warning("POST %s 100%%", path)
    assert [line["event"] for line in lines()] == ["POST [secret] 100%"]


@pytest.mark.parametrize("secret", SECRETS)
def test_path_secret_is_in_no_line(secret: str, start: Start, lines: Lines) -> None:
    """No logger prints the secret of a webhook's URL, as text or as a value."""
    logger = start()
    logger.warning('"POST /webhooks/lab/%s HTTP/1.1" 200', secret)
    logs.get_logger(logger.name).warning("posted", path=f"https://x.example/webhooks/lab/{secret}")
    told = json.dumps(found := lines())
    assert len(found) == 2
    assert "s3cret" not in told
    assert told.count("/webhooks/lab/[secret]") == 2
    assert "HTTP/1.1" in found[0]["event"]


def test_path_without_a_secret_stays(start: Start, lines: Lines) -> None:
    """Only the secret is taken out."""
    logger = start()
    logger.warning("POST /webhooks/lab HTTP/1.1 from /webhooks/other/x")
    assert lines()[0]["event"] == "POST /webhooks/lab HTTP/1.1 from /webhooks/other/x"


@pytest.mark.parametrize(
    "name",
    [
        "twilio.http_client",
        "python_http_client",
        "urllib3.connectionpool",
        "rq.worker",
        "sqlalchemy.engine.Engine",
        "alembic",
        "werkzeug",
        "redis",
        "requests",
        "anything",
    ],
)
def test_other_packages_are_quiet_at_debug(name: str, lines: Lines) -> None:
    """At LOG_LEVEL=DEBUG others still speak at WARNING and above only: they print payloads."""
    logs.set_up("DEBUG")
    for level in (logging.DEBUG, logging.INFO):
        logging.getLogger(name).log(level, PATIENT)
    logging.getLogger(name).warning("careful")
    logs.get_logger("relay.jobs").debug("ours")
    assert [line["event"] for line in lines()] == ["careful", "ours"]


@pytest.mark.parametrize(
    ("level", "told"),
    [
        ("DEBUG", ["debug", "info", "warning", "error"]),
        ("INFO", ["info", "warning", "error"]),
        ("WARNING", ["warning", "error"]),
        ("ERROR", ["error"]),
    ],
)
def test_log_level_is_obeyed(level: str, told: list[str], lines: Lines) -> None:
    """LOG_LEVEL says from where on our own lines are printed."""
    logs.set_up(level)
    logger = logs.get_logger("relay.jobs")
    for word in ("debug", "info", "warning", "error"):
        getattr(logger, word)(word)
    assert [line["event"] for line in lines()] == told


def break_() -> None:
    try:
        raise KeyError(PATIENT)
    except KeyError as error:
        raise ValueError(f"no number in {PATIENT}") from error


def test_exceptions_are_told_without_their_text(start: Start, lines: Lines) -> None:
    """An exception's kind and place are logged; its text, and its cause's, may quote a patient."""
    logger = start()
    ours = logs.get_logger(logger.name)
    try:
        break_()
    except ValueError as error:
        logger.exception("broke")
        logger.error("broke", exc_info=error)
        ours.exception("broke")
        ours.error("broke", exc_info=error)
    found = lines()
    assert len(found) == 4
    for line in found:
        assert (line["event"], line["error"]) == ("broke", "ValueError")
        assert line["at"][-1].endswith(" break_")
    for word in ("Jane", "447700", "example.com"):
        assert word not in json.dumps(found)


def test_no_exception_is_no_place(lines: Lines) -> None:
    """`exc_info` outside an exception adds nothing."""
    logs.set_up("INFO")
    logs.get_logger("relay.jobs").error("odd", exc_info=True)
    assert not {"error", "at", "exc_info"} & set(lines()[0])


def test_whole_way_at_debug_names_nobody(
    live: Settings,
    make_client: Callable[[Settings], Any],
    make_jobs: Callable[[Settings], Jobs],
    db: Database,
    lines: Lines,
) -> None:
    """From the posts to what the providers took, DEBUG has ids and no name, number or address."""
    settings = replace(live, log_level="DEBUG", webhook_secrets=("s3cret",))
    client = make_client(settings)
    bad = {"event": "order.shipped", "data": {"order_id": "", "name": PATIENT, PATIENT: 1}}
    for body in (*samples.webhooks(), bad, {"event": PATIENT, "data": {}}, PATIENT):
        client.post("/webhooks/lab/s3cret", data=json.dumps(body))
        client.post(f"/webhooks/lab/wrong-{PATIENT}", data=json.dumps(body))
    drain(make_jobs(settings))
    rows = messages(db)
    told = json.dumps(found := lines(), ensure_ascii=False)
    assert len(rows) > 2
    went = {row["id"] for row in rows if row["status"] != "cancelled"}  # none that was overtaken
    assert went <= {line.get("id") for line in found}
    persons = {row["address"] for row in rows} | set(PATIENT.split()) | {"s3cret", "lab-token"}
    for text in persons:
        assert text not in told
