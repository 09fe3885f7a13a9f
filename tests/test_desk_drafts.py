"""What waits for a person is shown as its reader will see it, masked until somebody asks."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from markupsafe import escape

from relay.config.settings import Settings
from relay.lab import samples
from relay.lab.events import parse
from relay.ledger import events as ledger_events
from relay.ledger.database import Database
from relay.ledger.events import Event
from relay.ledger.schema import audit, events, notifications
from relay.ledger.worklist import releases
from relay.rules.model import Case, Plan
from tests.desk import EMAIL, PHONE, leaks, press
from tests.rows import change, notice, only, open_cases, rows, suppress
from tests.test_desk import desk, inside, log_in

__all__ = ["desk", "inside"]  # fixtures


def held(db: Database) -> str:
    """A case about a text and an email of one rule that wait for a person's word; its id."""
    later = datetime.now(UTC) + timedelta(days=2)
    ways = (("sms", PHONE), ("email", EMAIL))
    both = [
        notice(channel=way, address=address, status="scheduled", due_at=later)
        for way, address in ways
    ]
    body = parse(b'{"event": "order.shipped", "data": {"order_id": "o-1"}}')
    ledger_events.record_webhook(db, body, timedelta(days=30))
    [event] = ledger_events.lease_events(db, 1)
    plan_held(db, event, both)
    return str(open_cases(db, "release")[-1]["id"])


def plan_held(db: Database, event: Event, both: list[Any]) -> None:
    """Plan messages that wait, by the lab's example of a kit of Jane Smith's, and ask a person."""
    full = samples.full("Jane")
    customer = {
        **(full.customer or {}),
        "last_name": "Smith",
        "email": EMAIL,
        "phone_number": PHONE,
    }
    facts = replace(full, customer=customer, order={**(full.order or {}), "id": "o-1"})
    with db.write() as connection:
        ledger_events.plan_and_mark_processed(connection, event, facts, lambda _kit: Plan(both))
        about = Case("release", both[0].obligation, "o-1", "It is for the customer.", event.id)
        releases.ask(connection, about)


def frames(page: str) -> list[str]:
    """Where the frames of a page lead."""
    return [unescape(src) for src in re.findall(r'<iframe[^>]* src="([^"]+)"', page)]


def article(page: str) -> str:
    """The case on a page, without its button's form."""
    return page.partition('<article class="case"')[2].partition('<label for="note')[0]


def looks(db: Database) -> list[tuple[str, str]]:
    """The looks at masked details: at which message, and of what."""
    return [(row["target"], row["detail"]) for row in rows(db, audit) if row["action"] == "reveal"]


def test_a_release_shows_the_message_above_its_buttons(inside: Any, db: Database) -> None:
    """The text with its segments and the email with its subject stand above the buttons, on the
    list and on the case's own page, where the email is in its frame; nothing personal is shown.
    """
    case_id = held(db)
    for path in ("/worklist", f"/case/{case_id}"):
        page = inside.get(path).text
        assert "J•••" in article(page)
        for told in ("segment", "Subject:", "+44•••••••001", "with what the lab said on"):
            assert told in article(page), told
        assert leaks(page) == []
        assert page.index("segment") < page.index('value="release"') < page.index('value="stop"')
    assert frames(inside.get("/worklist").text) == []
    [src] = frames(inside.get(f"/case/{case_id}").text)
    mail = inside.get(src)
    assert "J•••" in mail.text
    assert leaks(mail.text) == []
    assert mail.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
    assert looks(db) == []


def test_the_kits_page_shows_it_too(inside: Any, db: Database) -> None:
    """What waits is on the kit's page as it would be sent, masked; asked for, one message is shown,
    and its frame too.
    """
    held(db)
    page = inside.get("/journey?kit=o-1").text
    assert "J•••" in page
    assert "segment" in page
    assert leaks(page) == []
    mail = only(db, notifications, channel="email")["id"]
    page = press(inside, "/journey", kit="o-1", message=mail).text
    assert EMAIL in page
    assert PHONE not in page
    assert "Jane" in inside.get(frames(page)[0]).text
    assert looks(db) == [(mail, "kit o-1")]


def test_it_is_shown_whole_to_whoever_asks(inside: Any, db: Database) -> None:
    """Names, addresses and words are shown, the email's frame too, and who looked is on record for
    each message. Opened again the page is masked again, and nothing of the words was kept.
    """
    case_id = held(db)
    page = press(inside, f"/case/{case_id}").text
    for told in (PHONE, EMAIL, "Jane", "the audit trail records it"):
        assert told in page
    assert all("Jane" in inside.get(src).text for src in frames(page))
    assert looks(db) == [(row["id"], "kit o-1") for row in rows(db, notifications)]
    assert leaks(inside.get(f"/case/{case_id}").text) == []
    assert {row["content"] for row in rows(db, notifications)} == {None}


def test_a_frame_is_whole_only_for_whoever_has_asked(
    inside: Any,
    make_client: Callable[[Settings], Any],
    settings: Settings,
    db: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its address alone shows nothing: not without a login, not with another message's permit, not
    with one that was made up, and not ten minutes later.
    """
    later = time.time() + 700
    case_id = held(db)
    [src] = frames(press(inside, f"/case/{case_id}").text)
    stranger = make_client(settings)
    del stranger.environ_base["HTTP_AUTHORIZATION"]
    assert stranger.get(src).status_code == 302
    permit = parse_qs(urlsplit(src).query)["permit"][0]
    assert "Jane" in inside.get(src).text
    assert leaks(inside.get(src.replace(permit, f"{permit}x")).text) == []
    text = only(db, notifications, channel="sms")["id"]
    assert inside.get(f"/draft?message={text}&permit={permit}").status_code == 404
    assert inside.get("/draft?message=msg_none").status_code == 404
    monkeypatch.setattr(time, "time", lambda: later)
    masked = inside.get(src).text
    assert ("J•••" in masked, leaks(masked)) == (True, [])


def test_what_cannot_be_written_says_why(
    make_client: Callable[[Settings], Any], settings: Settings, db: Database, tmp_path: Path
) -> None:
    """A broken template is said in its own words, without a detail of anybody's."""
    folder = tmp_path / "templates" / "kit_shipped"
    folder.mkdir(parents=True)
    (folder / "sms.txt").write_text("Hello {{ order.tracking_number }}", "utf-8")
    (folder / "subject.txt").write_text("{% if %}", "utf-8")
    inside = make_client(replace(settings, templates=tmp_path / "templates"))
    log_in(inside)
    case_id = held(db)
    change(db, events, {}, facts={"order": {"id": "o-1"}, "customer": {"first_name": "Jane"}})
    for path in ("/worklist", f"/case/{case_id}", "/journey?kit=o-1"):
        page = inside.get(path).text
        said = "Relay cannot write this message: kit_shipped/"
        assert f"{said}sms.txt: order.tracking_number is empty." in page
        assert f"{said}subject.txt: Expected an expression" in page
        assert leaks(page) == []


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ("[rules.gone]", "Its rule, kit-shipped, is no longer in config.toml."),
        ("[rules.kit-shipped]\nenabled = false", "The rule is switched off (enabled = false)."),
        ("[rules.kit-shipped]\nwhen = \"order.carrier == 'dhl'\"", "Its condition is not met:"),
    ],
)
def test_what_would_not_go_out_says_why(
    edit: str, said: str, inside: Any, db: Database, config_file: Path
) -> None:
    """The page says that a release would not send it: the rule is gone, off, or not for it."""
    case_id = held(db)
    text = config_file.read_text("utf-8").replace("[rules.kit-shipped]", edit)
    config_file.write_text(text, "utf-8")
    inside.application.extensions["relay"].reloader.look()
    assert str(escape(said)) in inside.get(f"/case/{case_id}").text


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("STOP", "The person has opted out of texts."),
        ("staff", "Staff have stopped texts to this address."),
    ],
)
def test_who_has_opted_out_is_said(inside: Any, db: Database, source: str, why: str) -> None:
    """A STOP since then holds for a release too, and so does what staff have stopped."""
    case_id = held(db)
    suppress(db, "sms", PHONE, source)
    page = inside.get(f"/case/{case_id}").text
    assert f"Relay would not send this. {why}" in page


def test_what_is_no_longer_kept_is_said(inside: Any, db: Database) -> None:
    """Blanked facts give no words: the page says so."""
    case_id = held(db)
    change(db, events, {}, facts=None)
    assert "Relay no longer keeps what the lab said" in inside.get(f"/case/{case_id}").text


def test_nobody_is_asked_for_it(inside: Any, db: Database, lab: Any) -> None:
    """A page goes by what the ledger has: the lab is not asked."""
    case_id = held(db)
    before = len(lab.requests)
    inside.get(f"/case/{case_id}")
    inside.get("/journey?kit=o-1")
    press(inside, f"/case/{case_id}")
    assert len(lab.requests) == before
