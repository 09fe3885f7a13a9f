"""Logging in leads to where one was going on the desk, and what was not done is told."""

from __future__ import annotations

import re
import time
from html import unescape
from typing import Any

import pytest

from relay.ledger.database import Database
from relay.ledger.schema import audit
from relay.web.desk import auth as logins
from tests.conftest import ROOT
from tests.desk import press
from tests.rows import rows
from tests.test_desk import PASSWORD, desk, inside, log_in, token
from tests.test_desk_rules import ledger_url

__all__ = ["desk", "inside", "ledger_url"]  # fixtures

UNDONE = "You had been logged out, so nothing was done. Log in and try again."


def led(desk: Any, login: str) -> str:
    """Where the login at an address leads."""
    form = {"csrf_token": token(desk.get(login).text), "password": PASSWORD}
    answer = desk.post(login, data=form)
    assert answer.status_code == 302
    return str(answer.location)


@pytest.mark.parametrize(
    "wanted",
    [
        "/",
        "/worklist",
        "/worklist/refused",
        "/erasure/era_1",
        "/audit?before=aud_1",
        "/journey?kit=TRF-1%26x",
        "/rule?name=kit-shipped&data=real",
    ],
)
def test_login_leads_to_where_one_was_going(wanted: str, desk: Any) -> None:
    """A page that asked for the login is there after it, with what its link said."""
    answer = desk.get(wanted)
    assert answer.status_code == 302
    assert led(desk, answer.location) == wanted


@pytest.mark.parametrize(
    "next_",
    [
        "https://evil.example",
        "https://evil.example/worklist",
        "//evil.example/worklist",
        "\\\\evil.example",
        "/\\evil.example",
        "/%5Cevil.example",
        "/%2Fevil.example",
        "%2F%2Fevil",
        "///evil.example",
        "/\t/evil.example",
        "http:worklist",
        "javascript:alert(1)",
        "worklist",
        "/worklist/../../evil",
        "//[",
        "/erasure/%0d%0aX: y/z",
        "@evil.example",
        "/metrics",
        "/webhooks/lab",
        "/healthz",
        "/static/desk.css",  # no pages of the desk
        "/erasure",
        "/worklist/cas_1",
        "/logout",
        "/login",
        "/login?next=/system",
        "/worklists",
    ],
)
def test_login_leads_nowhere_else(next_: str, desk: Any) -> None:
    """A link to the login cannot choose where it leads: only pages of the desk are gone to."""
    assert log_in(desk, next_=next_).location == "/"
    assert led(desk, "/login") == "/"


def test_only_what_a_page_asks_for_is_taken_along(desk: Any) -> None:
    """Of what a link had beside its page, what no page knows is left behind."""
    query = "kit=a&_external=1&_scheme=evil&_anchor=x&again=1&next=//evil&kit=b&id_=x"
    assert log_in(desk, next_=f"/journey?{query}#there").location == "/journey?kit=a"


def test_each_word_that_pages_ask_for_is_known() -> None:
    """A page that begins to ask for another word is led back to with it."""
    asked = {
        word
        for path in (ROOT / "relay" / "web" / "desk").glob("*.py")
        for word in re.findall(r'\bargs\.get\("(\w+)"', path.read_text("utf-8"))
    }
    assert {"kit", "before", "scheme", "data"} <= asked
    assert asked - {"next"} <= logins.KNOWN


def ended(inside: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than an hour goes by."""
    later = time.time() + 3700
    monkeypatch.setattr(logins.time, "time", lambda: later)


def test_what_was_pressed_too_late_is_told(
    inside: Any, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A button that meets the end of a session says that nothing was done, and its page is next."""
    form = {"csrf_token": token(inside.get("/suppressions").text), "kit": "o-1"}
    ended(inside, monkeypatch)
    on_page = {"Referer": "http://localhost/journey?kit=o-1"}
    answer = inside.post("/journey", data=form, headers=on_page)
    assert answer.status_code == 302
    page = inside.get(answer.location).text
    assert [unescape(told) for told in re.findall(r'role="status">([^<]+)', page)] == [UNDONE]
    assert rows(db, audit, action="reveal") == []
    assert led(inside, answer.location) == "/journey?kit=o-1"


def test_one_who_was_logged_out_elsewhere_is_told_too(inside: Any) -> None:
    """Another window's "Log out" ends this one's session: its button says that nothing was done."""
    csrf = token(inside.get("/rule?name=kit-shipped").text)
    cookie = inside.get_cookie("session").value
    press(inside, "/logout")
    inside.set_cookie("session", cookie)
    answer = inside.post("/rule", data={"csrf_token": csrf, "name": "kit-shipped"})
    assert UNDONE in inside.get(answer.location).text
    assert led(inside, answer.location) == "/rule"


def test_logging_out_too_late_says_nothing(inside: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever presses "Log out" after the end of the session has what they wanted."""
    csrf = token(inside.get("/").text)
    ended(inside, monkeypatch)
    answer = inside.post("/logout", data={"csrf_token": csrf})
    assert UNDONE not in inside.get(answer.location).text
