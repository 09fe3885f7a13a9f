"""The desk's pages: what they show, what they never show, and how they guard themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from relay.config.settings import Settings
from relay.jobs.tasks import Jobs
from relay.lab import samples
from relay.ledger.database import Database
from relay.ledger.schema import notifications
from relay.ledger.views import queries
from relay.ledger.views.daily_counts import KEPT
from relay.rules.channels import CHANNELS
from relay.rules.statuses import EVENT_STATUSES, STATUSES
from relay.staff import words
from tests.conftest import drain
from tests.desk import leaks
from tests.rows import change, notice, planned
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
    page = busy.get("/activity").text
    for body in samples.webhooks():
        assert body["event"] in busy.get("/activity?what=events").text
    with db.read() as connection:
        messages = queries.messages(connection)
    assert messages
    for row in messages:
        by = CHANNELS[row["channel"]].word
        cells = "".join(f"<td>{cell}</td>" for cell in (row["rule"], row["to"], by))
        status = "kept" if row["status"] == "sent" else row["status"]  # delivery is dry-run
        assert re.search(f"{re.escape(cells)}.*>{words.stands(status, row['channel'])}<", page)


def test_every_status_is_said_as_a_receptionist_would() -> None:
    """No word of the program's stands on a page: each status has its words on each channel."""
    for status in (*STATUSES, *EVENT_STATUSES, KEPT):
        for channel in ("", *CHANNELS) if status in EVENT_STATUSES else CHANNELS:
            said = words.stands(status, channel)
            assert said[0].isupper(), status
            assert not {"-", "{"} & {*said}
    assert words.stands("of-tomorrow", "sms") == "of-tomorrow"
    assert words.stands("permanent-failure", "pigeon") == "permanent-failure"


def test_lines_are_found_by_what_is_in_the_address(busy: Any, db: Database) -> None:
    """By status, rule, channel, day and kit, a page at a time; a file has the same lines, and
    nobody's details. A bookmark with nonsense finds nothing, or is not found.
    """

    def kits(**given: str) -> int:
        return int(busy.get("/activity", query_string=given).text.count(">Journey<"))

    with db.read() as connection:
        messages = [row for row in queries.messages(connection) if row["to"] != "relay"]
    today = messages[0]["created_at"].astimezone(ZoneInfo("Europe/London")).date()
    assert kits(day=f"{today}") == len(messages)
    assert kits(day="2026-01-01") == 0
    assert kits(channel="sms") == sum(row["channel"] == "sms" for row in messages)
    mine = [row for row in messages if row["subject"] == messages[0]["subject"]]
    assert kits(kit=messages[0]["subject"], rule=mine[0]["rule"], channel="sms") in (0, 1)
    assert kits(status="delivered", before="msg_z") == 0
    for nonsense in ("what=people", "day=yesterday", "day=9999-12-31"):
        assert busy.get(f"/activity?{nonsense}").status_code == 404
    file = busy.get("/activity.csv?channel=sms").text
    assert file.count("\n") == kits(channel="sms") + 1
    assert leaks(file) == []


def test_older_lines_are_a_page_further(
    inside: Any, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are, each is on one page; what is rare is looked for in several."""
    monkeypatch.setattr("relay.web.desk.activity.LATEST", 2)
    monkeypatch.setattr("relay.ledger.views.activity.LOOKED_AT", 4)
    made = [*planned(db, *(notice(subject=f"o-{n}", status="sent") for n in range(5)))]
    change(db, notifications, {"id": made[0]}, status="delivered")
    for status, pages in (("", 3), ("delivered", 2)):
        path, seen = f"/activity?status={status}", []
        for _ in range(pages):
            page = inside.get(path).text
            seen += re.findall(r"journey\?kit=evt", page)
            older = re.search(r'rel="next" href="([^"]+)"', page)
            path = older[1].replace("&amp;", "&") if older else ""
        assert (path, len(seen)) == ("", 5 if not status else 1)


def test_newest_comes_first(busy: Any) -> None:
    """What came last stands above what came before."""
    page = busy.get("/activity?what=events").text
    names = [body["event"] for body in samples.webhooks()]
    places = [page.index(f"<code>{name}</code>") for name in names]
    assert places == sorted(places, reverse=True)


def test_shows_no_address_and_no_words(busy: Any, db: Database) -> None:
    """Nobody's number, email address, name or message can be read over an admin's shoulder."""
    page = busy.get("/").text + busy.get("/activity").text
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
    page = busy.get("/activity?what=events").text
    assert NASTY not in page
    assert "&lt;script&gt;" in page


def test_says_when_nothing_is_really_sent(busy: Any) -> None:
    """Dry-run delivery is told at the top: an admin does not wait for messages that never go."""
    assert "dry-run" in busy.get("/").text


def test_empty_desk_says_so(inside: Any) -> None:
    """A new desk says that nothing has come yet, and leads to what is left before going live."""
    assert "No messages yet" in inside.get("/activity").text
    page = inside.get("/").text
    assert "The lab has posted nothing yet." in page
    assert 'href="/going-live"' in page


def test_what_is_left_before_going_live_ticks_itself_off(inside: Any, busy: Any) -> None:
    """Each line is checked by Relay, says what is missing and what to do; the rest is done."""
    page = busy.get("/going-live").text
    assert re.search(r"Going live: \d+ of \d+ still to do", page)
    assert re.search(r"done</span> <strong>The lab&#39;s webhook has been seen", page)
    assert re.search(r"to do</span> <strong>A second person has an account", page)


def test_the_bench_asks_for_every_page_and_every_act(desk: Any) -> None:
    """A page or an act that is new is timed on a full ledger too."""
    config, kit = (
        desk.application.extensions["relay"].config,
        desk_pages.Kit(1, "o-1", "evt_1", "msg_1"),
    )
    acts = desk_pages.acts(kit, datetime.now(UTC))
    tables: dict[str, Any] = {
        "GET": [desk_pages.gets(kit, config)],
        "POST": [desk_pages.looks(kit), acts],
    }
    desk_pages.check_whole(desk.application.url_map, tables)
    del tables["GET"][0]["desk.audit"]
    with pytest.raises(SystemExit, match=r"GET: desk\.audit$"):
        desk_pages.check_whole(desk.application.url_map, tables)
