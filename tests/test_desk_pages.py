"""The desk's pages: what they show, what they never show, and how they guard themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from relay.config.settings import Settings
from relay.jobs.tasks import Jobs
from relay.lab import samples
from relay.ledger.database import Database
from relay.ledger.views import queries
from tests.conftest import drain
from tests.test_desk import desk, inside
from tools.bench import desk_pages

__all__ = ["desk", "inside"]  # fixtures

NASTY = "<script>alert(1)</script>"


@pytest.mark.parametrize("path", ["/", "/login"])
def test_pages_guard_themselves(path: str, inside: Any) -> None:
    """No frame, no script from elsewhere, no guess of a type, no copy in a cache, no referrer."""
    headers = inside.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert set(re.findall(r"'\S+'", policy)) == {"'none'", "'self'"}
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Frame-Options"] == "DENY"
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "same-origin"


def test_pages_need_nothing_that_their_policy_forbids(inside: Any) -> None:
    """Pages have no inline style or script, nothing from other hosts, and a style sheet."""
    for page in (inside.get("/").text, inside.get("/login").text):
        assert not re.search(r"<script(?! src=./static/)|<style|\sstyle=|\son\w+=|https?://", page)
        [style] = re.findall(r'<link rel="stylesheet" href="([^"]+)"', page)
        with inside.get(style) as response:
            assert response.status_code == 200


def test_session_cookie_is_guarded(
    make_client: Callable[[Settings], Any], settings: Settings
) -> None:
    """In production the cookie goes over TLS only; scripts and other sites never get it."""
    client = make_client(replace(settings, development=False))
    cookie = client.get("/login", base_url="https://relay.example").headers["Set-Cookie"]
    for word in ("Secure", "HttpOnly", "SameSite=Lax"):
        assert word in cookie


@pytest.fixture
def busy(
    client: Any, settings: Settings, make_jobs: Callable[[Settings], Jobs], inside: Any
) -> Any:
    """A desk with the seven example events on it, and a nasty one."""
    for body in (*samples.webhooks(), {"event": NASTY, "data": {}}, samples.webhooks()[0]):
        assert client.post("/webhooks/lab", data=json.dumps(body)).status_code == 200
    drain(make_jobs(settings))
    return inside


def test_shows_the_latest_events_and_messages(busy: Any, db: Database) -> None:
    """The page has each event and each message, with its rule, channel and status."""
    page = busy.get("/").text
    for body in samples.webhooks():
        assert body["event"] in page
    with db.read() as connection:
        messages = queries.messages(connection)
    assert messages
    for row in messages:
        cells = "".join(f"<td>{row[key]}</td>" for key in ("rule", "to", "channel"))
        status = "kept here" if row["status"] == "sent" else row["status"]  # delivery is dry-run
        assert re.search(f"{re.escape(cells)}.*>{status}<", page)


def test_newest_comes_first(busy: Any) -> None:
    """What came last stands above what came before."""
    page = busy.get("/").text.partition('id="events"')[2]
    names = [body["event"] for body in samples.webhooks()]
    places = [page.index(f"<td>{name}</td>") for name in names]
    assert places == sorted(places, reverse=True)


def test_shows_no_address_and_no_words(busy: Any, db: Database) -> None:
    """Nobody's number, email address, name or message can be read over an admin's shoulder."""
    page = busy.get("/").text
    with db.read() as connection:
        rows_ = queries.messages(connection)
    words = [row["content"] or {} for row in rows_]  # none where other news overtook a message
    told = {row["address"] for row in rows_} | {content.get("text") for content in words}
    assert len(told) > 2
    for text in told - {None, ""}:
        assert text not in page
    assert "@" not in page
    assert not re.search(r"\+\d{7,}", page)


def test_what_the_lab_wrote_is_text(busy: Any) -> None:
    """An event's name cannot become part of the page."""
    page = busy.get("/").text
    assert NASTY not in page
    assert "&lt;script&gt;" in page


def test_says_when_nothing_is_really_sent(busy: Any) -> None:
    """Dry-run delivery is told at the top: an admin does not wait for messages that never go."""
    assert "dry-run" in busy.get("/").text


def test_empty_desk_says_so(inside: Any) -> None:
    """A new desk says that nothing has come yet."""
    assert "No messages yet" in inside.get("/").text


def test_the_bench_asks_for_every_page_and_every_act(desk: Any) -> None:
    """A page or an act that is new is timed on a full ledger too."""
    config, kit = (
        desk.application.extensions["relay"].config,
        desk_pages.Kit(1, "o-1", "evt_1", "msg_1"),
    )
    acts = desk_pages.acts(kit, config, datetime.now(UTC))
    tables: dict[str, Any] = {
        "GET": [desk_pages.gets(kit, config)],
        "POST": [desk_pages.looks(kit), acts],
    }
    desk_pages.check_whole(desk.application.url_map, tables)
    del tables["GET"][0]["desk.audit"]
    with pytest.raises(SystemExit, match=r"GET: desk\.audit$"):
        desk_pages.check_whole(desk.application.url_map, tables)
