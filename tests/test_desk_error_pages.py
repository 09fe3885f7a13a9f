"""What cannot be had, told to people in words and to programs as the contract has it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from relay import logs
from relay.config.settings import Settings
from relay.errors import LedgerUnavailable
from relay.ledger import audit, people
from tests.test_desk import desk, inside
from tests.test_desk_rules import ledger_url

__all__ = ["desk", "inside", "ledger_url"]  # fixtures

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8"}
TODAY = '<a href="/">'


@pytest.mark.parametrize(
    ("path", "method", "status", "said"),
    [
        ("/worklists", "GET", 404, "There is no such page"),
        ("/worklists", "POST", 404, "There is no such page"),
        ("/erasure", "GET", 405, "cannot be opened directly"),
        ("/worklist/cas_1", "GET", 405, "cannot be opened directly"),
        ("/worklist", "DELETE", 405, "cannot be opened directly"),
    ],
)
def test_a_browser_is_told_in_words(
    path: str, method: str, status: int, said: str, desk: Any
) -> None:
    """An address that is no page answers browsers by one that leads to Today, others by JSON."""
    page = desk.open(path, method=method, headers=BROWSER)
    assert (page.status_code, page.mimetype) == (status, "text/html")
    assert said in page.text
    assert TODAY in page.text
    assert "Set-Cookie" not in page.headers
    for accept in ({}, {"Accept": "*/*"}, {"Accept": "application/json, text/html;q=0.5"}):
        answer = desk.open(path, method=method, headers=accept)
        assert (answer.status_code, answer.json["status"]) == (status, "error")
        assert ("Allow" in answer.headers) is ("Allow" in page.headers) is (status == 405)


@pytest.mark.parametrize(
    "path", ["/webhooks/lab", "/webhooks", "/callbacks/sendgrid", "/readyz/", "/metrics/x"]
)
def test_what_is_for_programs_stays_json(path: str, desk: Any) -> None:
    """Below a program's address the answer is JSON, whatever is asked for."""
    answer = desk.open(path, method="DELETE", headers=BROWSER)
    assert answer.status_code in (404, 405)
    assert answer.json["status"] == "error"


def test_without_a_desk_there_are_no_pages(
    settings: Settings, make_client: Callable[[Settings], Any]
) -> None:
    """Where the desk is off, nothing leads to it."""
    client = make_client(replace(settings, admin_password="", development=False))
    assert client.get("/worklists", headers=BROWSER).json["status"] == "error"


def test_a_page_at_fault_says_so_and_is_reported(
    inside: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of Relay's is reported as ever, and told in words without any of its own."""
    reported: list[BaseException] = []
    monkeypatch.setattr(logs, "_report", reported.append)
    fault = RuntimeError("+447700900001")

    def broken(*_: Any) -> Any:
        raise fault

    monkeypatch.setattr(audit, "audit_before", broken)
    page = inside.get("/audit", headers=BROWSER)
    assert (page.status_code, page.mimetype) == (500, "text/html")
    assert "Something went wrong" in page.text
    assert TODAY in page.text
    assert "0900001" not in page.text
    answer = inside.get("/audit")
    assert answer.json == {"status": "error", "error": "Relay failed. The fault has been logged."}
    assert reported == [fault, fault]


@pytest.mark.parametrize(("error", "status"), [(LedgerUnavailable, 503), (RuntimeError, 500)])
def test_a_session_that_cannot_be_read_is_told_too(
    error: type[Exception], status: int, inside: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page that says what is wrong needs neither the session nor the ledger."""

    def broken(*_: Any) -> Any:
        raise error("away")

    monkeypatch.setattr(people, "session", broken)
    page = inside.get("/audit", headers=BROWSER)
    assert (page.status_code, page.mimetype) == (status, "text/html")
    assert TODAY in page.text
