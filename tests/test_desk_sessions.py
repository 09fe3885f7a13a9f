"""Sessions that end, and a login that one visitor cannot shut for the others."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from relay.config.settings import Settings
from relay.ledger import people
from relay.ledger.database import Database
from relay.ledger.schema import audit, sessions
from relay.web.desk import auth as logins
from tests.conftest import one_database
from tests.rows import change, rows, time_passes
from tests.test_desk import PASSWORD, desk, inside, is_out, log_in, token

__all__ = ["desk", "inside"]  # fixtures


def test_an_idle_session_ends(inside: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Used again and again it goes on; left for an hour it is over, and the login says why."""
    start = time.time()
    for minutes in (50, 100, 150):
        monkeypatch.setattr(logins.time, "time", lambda m=minutes: start + m * 60)
        assert not is_out(inside)
    monkeypatch.setattr(logins.time, "time", lambda: start + 211 * 60)
    assert is_out(inside)
    assert "You were logged out" in inside.get("/login").text


def test_no_session_lasts_for_ever(
    inside: Any, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However busy, it ends after twelve hours."""
    start = time.time()
    for half_hours in range(1, 24):
        monkeypatch.setattr(logins.time, "time", lambda h=half_hours: start + h * 1800)
        assert not is_out(inside)
    change(db, sessions, {}, began_at=datetime.now(UTC) - timedelta(hours=12, seconds=1))
    assert is_out(inside)


def test_a_copied_cookie_dies_with_its_session(inside: Any) -> None:
    """Who has taken the cookie is out too once its owner has logged out."""
    copied = inside.get_cookie("session").value
    inside.post("/logout", data={"csrf_token": token(inside.get("/").text)})
    inside.set_cookie("session", copied)
    assert is_out(inside)


def test_a_new_password_ends_the_sessions_of_the_old(
    inside: Any, make_client: Callable[[Settings], Any], settings: Settings
) -> None:
    """When the password is changed, whoever had the old one is out."""
    other = make_client(replace(settings, admin_password="another"))
    other.set_cookie("session", inside.get_cookie("session").value)
    assert is_out(other)


def guess(client: Any, source: str, times: int = 1) -> int:
    """The status of the last of some wrong guesses from an address."""
    client.environ_base["REMOTE_ADDR"] = source
    return [log_in(client, "guess").status_code for _ in range(times)][-1]


def test_who_guesses_waits_alone(desk: Any, db: Database) -> None:
    """After ten wrong passwords an address waits ten minutes, others do not; then it may again.
    Of the address only a mark is kept.
    """
    assert guess(desk, "203.0.113.7", 11) == 429
    assert log_in(desk).status_code == 429
    desk.environ_base["REMOTE_ADDR"] = "203.0.113.8"
    assert log_in(desk).status_code == 302
    assert "203.0.113" not in f"{rows(db, audit)}"
    time_passes(db, timedelta(minutes=11))
    desk.environ_base["REMOTE_ADDR"] = "203.0.113.7"
    assert log_in(desk.application.test_client()).status_code == 302


@one_database
def test_a_network_of_ipv6_is_one_visitor(desk: Any) -> None:
    """Whoever has a whole /64 has not as many guesses as it has addresses."""
    for number in range(10):
        assert guess(desk, f"2001:db8::{number:x}") == 401
    assert guess(desk, "2001:db8::ffff") == 429
    assert guess(desk, "2001:db8:0:1::1") == 401


@pytest.mark.parametrize(("proxies", "behind"), [(1, ""), (2, ", 66.241.125.1")])
@one_database
def test_the_visitor_is_who_the_one_proxy_names(
    make_client: Callable[[Settings], Any], settings: Settings, proxies: int, behind: str
) -> None:
    """In production the last address in X-Forwarded-For counts, or that before the other proxies
    of TRUSTED_PROXIES: what a visitor wrote before it does not make them another, and two
    visitors are not one.
    """
    client = make_client(replace(settings, development=False, trusted_proxies=proxies))
    client.environ_base["HTTP_X_FORWARDED_PROTO"] = "https"

    def status(forwarded: str) -> int:
        client.environ_base["HTTP_X_FORWARDED_FOR"] = forwarded + behind
        page = client.get("/login", base_url="https://relay.example")
        form = {"csrf_token": token(page.text), "password": "guess"}
        told = {"Referer": "https://relay.example/login"}
        return client.post(
            "/login", data=form, base_url="https://relay.example", headers=told
        ).status_code

    assert [status(f"198.51.100.{n}, 203.0.113.7") for n in range(11)] == [401] * 10 + [429]
    assert status("203.0.113.7, 203.0.113.9") == 401


def test_a_flood_from_everywhere_is_slowed(
    desk: Any, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many addresses together meet a ceiling that no clinic's staff reach; it lasts a minute."""
    monkeypatch.setattr(logins, "FLOOD", 3)
    for number in range(3):
        with db.write() as connection:
            people.add_failure(connection, f"visitor-{number}")
    assert log_in(desk).status_code == 429
    time_passes(db, timedelta(seconds=61))
    assert log_in(desk, PASSWORD).status_code == 302


@one_database
def test_production_tells_browsers_to_stay_on_tls(
    make_client: Callable[[Settings], Any], settings: Settings
) -> None:
    """Over TLS the desk says so for a year; in development it does not."""
    client = make_client(settings)
    answers = [
        client.get("/login", base_url=f"{kind}://relay.example") for kind in ("https", "http")
    ]
    told = ["Strict-Transport-Security" in answer.headers for answer in answers]
    assert told == [True, False]


def test_a_secret_key_that_is_changed_leaves_no_gap(
    inside: Any, make_client: Callable[[Settings], Any], settings: Settings
) -> None:
    """While the old key stands behind the new one nobody is logged out; without it all are."""
    for former, is_over in ((("tests",), False), ((), True)):
        by = replace(settings, secret_key="new", former_secret_key=former)
        other = make_client(by)
        other.set_cookie("session", inside.get_cookie("session").value)
        assert is_out(other) is is_over
