"""The admin desk: who gets in, what it shows, and what it never shows."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from werkzeug.security import generate_password_hash

from relay.config.settings import Settings
from relay.ledger.database import Database
from relay.ledger.schema import audit
from tests.conftest import one_database
from tests.test_webhooks import rows

PASSWORD = "letmein"


def token(page: str) -> str:
    """The CSRF token of a page's form."""
    found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
    assert found
    return found[1]


def log_in(desk: Any, password: str = PASSWORD, next_: str = "") -> Any:
    """The answer to the login form, filled in; `next_` as whoever made the link wrote it."""
    form = {"csrf_token": token(desk.get("/login").text), "password": password, "next": next_}
    return desk.post("/login", query_string={"next": next_} if next_ else {}, data=form)


@pytest.fixture
def desk(make_client: Callable[[Settings], Any], settings: Settings) -> Any:
    """A browser without a secret, and not logged in."""
    client = make_client(settings)
    del client.environ_base["HTTP_AUTHORIZATION"]
    return client


@pytest.fixture
def inside(desk: Any) -> Any:
    """A browser that is logged in."""
    assert log_in(desk).status_code == 302
    return desk


def is_out(desk: Any) -> bool:
    """Whether the desk sends this browser to its login."""
    response = desk.get("/")
    return response.status_code == 302 and response.location.startswith("/login")


def test_without_login_the_desk_asks_for_it(desk: Any) -> None:
    """Whoever is not logged in sees the login and nothing else."""
    assert is_out(desk)
    page = desk.get("/", follow_redirects=True)
    assert (page.status_code, page.mimetype) == (200, "text/html")
    assert 'type="password"' in page.text
    assert "Messages" not in page.text


def test_right_password_opens_the_desk(desk: Any, db: Database) -> None:
    """The password leads to the desk, and the login is on record."""
    response = log_in(desk)
    assert (response.status_code, response.location) == (302, "/")
    assert desk.get("/").status_code == 200
    assert [(row.actor, row.action) for row in rows(db, audit)] == [("admin", "login")]


@pytest.mark.parametrize("password", ["wrong", "LETMEIN", "letmein ", "\0", "é😀", "x" * 5_000])
def test_wrong_password_is_refused(password: str, desk: Any, db: Database) -> None:
    """A wrong password is 401, says so, is on record without its words, and opens nothing."""
    response = log_in(desk, password)
    assert response.status_code == 401
    assert 'role="alert"' in response.text
    assert is_out(desk)
    [row] = rows(db, audit)
    assert (row.action, password in f"{row}") == ("login refused", False)


@one_database
def test_blank_password_is_refused(desk: Any) -> None:
    """No password is not a password."""
    log_in(desk, "")
    assert is_out(desk)


def test_password_may_be_a_hash(make_client: Callable[[Settings], Any], settings: Settings) -> None:
    """ADMIN_PASSWORD_HASH opens the desk to its password, and wins over ADMIN_PASSWORD."""
    hashed = replace(settings, admin_password_hash=generate_password_hash("hashed"))
    assert log_in(make_client(hashed), "hashed").status_code == 302
    for other in (PASSWORD, hashed.admin_password_hash):
        assert log_in(make_client(hashed), other).status_code == 401


@pytest.mark.parametrize("path", ["/login", "/logout"])
@pytest.mark.parametrize("csrf", ["missing", "forged", "another session's"])
@one_database
def test_form_without_its_csrf_token_is_refused(path: str, csrf: str, inside: Any) -> None:
    """A form that another site made the browser send does nothing."""
    other = token(inside.application.test_client().get("/login").text)
    forms = {
        "missing": {},
        "forged": {"csrf_token": "x"},
        "another session's": {"csrf_token": other},
    }
    response = inside.post(path, data={**forms[csrf], "password": PASSWORD})
    assert response.status_code == 400
    assert inside.get("/").status_code == 200


def test_log_out_ends_the_session(inside: Any) -> None:
    """After logging out the desk is shut again."""
    response = inside.post("/logout", data={"csrf_token": token(inside.get("/").text)})
    assert (response.status_code, response.location) == (302, "/login")
    assert is_out(inside)


def test_log_out_is_no_link(inside: Any) -> None:
    """A link or an image elsewhere cannot end the session."""
    assert inside.get("/logout").status_code == 405
    assert inside.get("/").status_code == 200


@one_database
def test_forged_session_is_no_session(desk: Any) -> None:
    """A cookie that we did not sign opens nothing."""
    desk.set_cookie("session", "eyJfdXNlcl9pZCI6ImFkbWluIn0.aAAAAA.forgedforgedforgedforged")
    assert is_out(desk)


def test_password_is_not_guessed_by_force(desk: Any) -> None:
    """After many wrong guesses even the right one must wait, so nobody tries them all."""
    for number in range(100):
        if log_in(desk, f"guess-{number}").status_code == 429:
            break
    response = log_in(desk)
    assert response.status_code == 429
    assert int(response.headers["Retry-After"]) > 0
    assert is_out(desk)


@pytest.mark.parametrize("path", ["/", "/login", "/logout"])
@one_database
def test_desk_is_off_without_a_password(
    path: str, make_client: Callable[[Settings], Any], settings: Settings
) -> None:
    """Without a password there is no desk, and no login to try."""
    client = make_client(replace(settings, admin_password="", development=False))
    for answer in (client.get(path), client.post(path, data={"password": ""})):
        assert answer.status_code == 404
        assert answer.mimetype == "application/json"
    assert client.get("/healthz").status_code == 200
