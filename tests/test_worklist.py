"""The desk's worklist: what needs a person, and what a person can do about it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from markupsafe import escape

from relay.alerts import ALERTS, happened
from relay.ledger import cases, claiming, processing, releasing
from relay.ledger.database import Database
from relay.ledger.schema import audit, events, notifications
from relay.notices import Case
from relay.web.desk import worklist
from tests.rows import case, change, leased, only, planned, rows, time_passes, unknown
from tests.rows import notice as a_notice
from tests.test_desk import desk, inside, token

__all__ = ["desk", "inside"]  # fixtures


def opened(db: Database, kind: str = "unreached", **fields: Any) -> str:
    """A case about a message that failed; its id."""
    (id_,) = planned(db, a_notice(**fields))
    change(db, notifications, {"id": id_}, status="permanent-failure", reason="No such number.")
    event_id = only(db, notifications, id=id_)["event_id"]
    with db.write() as connection:
        cases.open_case(connection, Case(kind, id_, "o-1", "Nobody was reached.", event_id, id_))
    return str(cases.open_cases(db)[-1]["id"])


def act(inside: Any, case_id: str, **form: str) -> str:
    """The page after a button was pressed."""
    csrf = token(inside.get("/worklist").text)
    answer = inside.post(
        f"/worklist/{case_id}", data={"csrf_token": csrf, **form}, follow_redirects=True
    )
    assert answer.status_code == 200
    return str(answer.text)


def test_an_empty_worklist_says_so(inside: Any) -> None:
    """Where nothing needs a person, the page says that."""
    assert "Nothing needs a person now." in inside.get("/worklist").text


@pytest.mark.parametrize("kind", ALERTS)
def test_every_kind_of_case_is_shown_in_words(kind: str, inside: Any, db: Database) -> None:
    """Each case has its title, what has happened and why; every page counts them."""
    opened(db, kind)
    page = inside.get("/worklist").text
    words = ALERTS[kind]
    for told in (words.title, happened(kind, "o-1"), "Nobody was reached."):
        assert str(escape(told)) in page
    assert "07700" not in page
    assert "+447700" not in page
    assert '<span class="count">1' in inside.get("/").text
    journey = f'href="/journey?kit={only(db, events)["id"]}"'
    assert (journey in page) == (kind not in worklist.OF_NO_KIT)
    assert inside.get(f"/journey?kit={only(db, events)['id']}").status_code == 200


def test_a_closed_case_is_gone_and_its_note_is_kept(inside: Any, db: Database) -> None:
    """Acknowledged with a note it leaves the list; who did it, and when, stays."""
    case_id = opened(db)
    page = act(inside, case_id, act="close", note="Called her on Monday.")
    assert "Closed." in page
    assert cases.open_cases(db) == []
    found = cases.get_case(db, case_id)
    assert found
    assert (found["closed_by"], found["note"]) == ("admin", "Called her on Monday.")
    assert ("case close", case_id) in {(row["action"], row["target"]) for row in rows(db, audit)}


def test_pressed_twice_it_is_done_once(inside: Any, db: Database) -> None:
    """A second press of a button, in another tab, changes nothing and says so."""
    case_id = opened(db)
    act(inside, case_id, act="resend")
    change(db, notifications, {}, status="sent")
    assert "closed already" in act(inside, case_id, act="resend")
    assert only(db, notifications)["status"] == "sent"


def test_a_failed_message_is_sent_again(inside: Any, db: Database) -> None:
    """What failed waits to be sent once more, and the case is closed."""
    case_id = opened(db, "broken")
    assert "It is sent again." in act(inside, case_id, act="resend")
    assert only(db, notifications)["status"] == "created"
    assert cases.open_cases(db) == []


def test_a_held_event_is_processed_again(inside: Any, db: Database) -> None:
    """An event that was held is received anew."""
    event = leased(db)
    processing.hold(db, event.id, "The lab refuses.", case("held", event.id, event.id))
    (found,) = cases.open_cases(db)
    act(inside, found["id"], act="replay")
    assert only(db, events)["status"] == "received"
    assert cases.open_cases(db) == []


@pytest.mark.parametrize(("choice", "status"), [("send", "created"), ("believe", "sent")])
def test_a_person_decides_what_nobody_knows(
    choice: str, status: str, inside: Any, db: Database
) -> None:
    """A message of which nobody knows is sent once more, or counts as sent, as staff say."""
    claim = unknown(db)
    with db.write() as connection:
        connection.exec_driver_sql("UPDATE attempts SET look_at = NULL")
        about = Case("unknown", claim.id, "o-1", "Nobody knows.", claim.event_id, claim.id)
        cases.open_case(connection, about)
    (found,) = cases.open_cases(db)
    act(inside, found["id"], act=choice)
    assert only(db, notifications)["status"] == status
    assert cases.open_cases(db) == []


def test_what_is_looked_for_still_is_not_decided(inside: Any, db: Database) -> None:
    """While Relay itself is finding out, nobody can have it sent twice."""
    claim = unknown(db)
    with db.write() as connection:
        about = Case("unknown", claim.id, "o-1", "Nobody knows.", claim.event_id, claim.id)
        cases.open_case(connection, about)
    (found,) = cases.open_cases(db)
    assert "cannot be done" in act(inside, found["id"], act="send")
    assert only(db, notifications)["status"] == "unknown"


def held(db: Database) -> str:
    """A case about a text and an email that wait for a person's word; its id."""
    later = datetime.now(UTC) + timedelta(days=2)
    ways = (("sms", "+447700900001"), ("email", "jane@example.org"))
    both = [
        a_notice(channel=way, address=address, status="scheduled", due_at=later)
        for way, address in ways
    ]
    first, _ = planned(db, *both)
    event_id = only(db, notifications, id=first)["event_id"]
    with db.write() as connection:
        about = Case("release", both[0].family, "o-1", "It is for the customer.", event_id)
        releasing.ask(connection, [about])
    return str(cases.open_cases(db)[-1]["id"])


def test_what_is_held_is_released(inside: Any, db: Database) -> None:
    """Pressed, all that the case is about goes out as soon as its window is open; twice is once."""
    case_id = held(db)
    assert "It goes out" in act(inside, case_id, act="release", note="Spoke to Dr. Jones.")
    assert {row["status"] for row in rows(db, notifications)} == {"scheduled"}
    assert {row["reason"] for row in rows(db, notifications)} == {"Released by admin."}
    assert len(claiming.claim(db, "sms", 9) + claiming.claim(db, "email", 9)) == 2
    assert "closed already" in act(inside, case_id, act="stop")
    assert {row["status"] for row in rows(db, notifications)} == {"sending"}
    found = cases.get_case(db, case_id)
    assert found
    assert (found["closed_by"], found["note"]) == ("admin", "Spoke to Dr. Jones.")
    assert "case release" in {row["action"] for row in rows(db, audit)}


def test_what_is_held_is_released_into_its_window(
    inside: Any, config_file: Path, db: Database
) -> None:
    """Released at night it waits for the morning."""
    hour = datetime.now(ZoneInfo("Europe/London")).hour
    window = f"{(hour + 2) % 24:02}:00-{(hour + 3) % 24:02}:00"
    text = config_file.read_text("utf-8")
    config_file.write_text(text.replace('"always"', f'"{window}"'), "utf-8")
    case_id = held(db)
    reread = inside.application.extensions["relay"].living
    reread.look()
    act(inside, case_id, act="release")
    now = datetime.now(UTC)
    for row in rows(db, notifications):
        assert now + timedelta(hours=1) <= row["due_at"] <= now + timedelta(hours=3)


def test_what_is_held_is_stopped(inside: Any, db: Database) -> None:
    """Stopped, none of it is sent; who did it and why stands with each message."""
    case_id = held(db)
    assert "is not sent" in act(inside, case_id, act="stop", note="I call her myself.")
    told = {(row["status"], row["reason"]) for row in rows(db, notifications)}
    assert told == {("cancelled", "Stopped by admin. I call her myself.")}
    assert cases.open_cases(db) == []


def test_what_is_held_is_released_or_stopped_and_not_just_closed(inside: Any, db: Database) -> None:
    """Closed, nobody could stop it any more: there is no such button. What has gone is told."""
    case_id = held(db)
    csrf = token(inside.get("/worklist").text)
    answer = inside.post(f"/worklist/{case_id}", data={"csrf_token": csrf, "act": "close"})
    assert answer.status_code == 404
    change(db, notifications, {}, status="sent")
    assert "It closes by itself." in act(inside, case_id, act="stop")
    assert {row["status"] for row in rows(db, notifications)} == {"sent"}


@pytest.mark.parametrize(
    ("case_id", "form"),
    [("none", {"act": "close"}), ("", {"act": "explode"}), ("", {"act": "send"})],
)
def test_what_cannot_be_done_is_not_found(
    case_id: str, form: dict[str, str], inside: Any, db: Database
) -> None:
    """An unknown case, an unknown act, or one of another kind of case does nothing."""
    mine = opened(db)
    csrf = token(inside.get("/worklist").text)
    answer = inside.post(f"/worklist/{case_id or mine}", data={"csrf_token": csrf, "act": act})
    assert answer.status_code == 404
    assert len(cases.open_cases(db)) == 1


def test_nothing_is_done_without_login_or_token(desk: Any, db: Database) -> None:
    """Whoever is not logged in, or comes from another site, closes nothing."""
    case_id = opened(db)
    assert desk.get("/worklist").status_code == 302
    assert desk.post(f"/worklist/{case_id}", data={"act": "close"}).status_code in (302, 400)
    assert len(cases.open_cases(db)) == 1


def test_the_oldest_is_first(inside: Any, db: Database) -> None:
    """Who has waited longest is seen to first."""
    first = opened(db)
    time_passes(db, timedelta(hours=1))
    second = opened(db, address="+447700900002")
    page = inside.get("/worklist").text
    assert page.index(first) < page.index(second)
