"""The desk's stop button: on every page, pressed with a reason, and it says what it has caught."""

from __future__ import annotations

import html
from typing import Any

import pytest

from relay.ledger.database import Database, now
from relay.ledger.holds import halts
from relay.ledger.schema import audit, notifications
from relay.ledger.schema import halts as standing
from tests.conftest import DATABASES
from tests.desk import kit, leaks, press
from tests.rows import change, notice, only, planned, rows
from tests.test_desk import desk, inside

__all__ = ["desk", "inside"]  # fixtures
pytestmark = pytest.mark.parametrize("ledger_url", DATABASES[:1], indirect=True)

WHY = "The portal's link is wrong."
RULE = "rule kit-shipped"
LATER = {"status": "scheduled", "channel": "email", "address": "jane@example.org"}


def pressed(inside: Any, act: str, what: str = RULE, note: str = WHY, **more: str) -> str:
    """The page that pressing leads to."""
    answer = press(inside, "/stop", act=act, what=what, note=note, **more)
    page = inside.get("/stop").text if answer.status_code == 303 else answer.text
    return html.unescape(page)


def test_a_rule_is_stopped_and_resumed(inside: Any, db: Database) -> None:
    """Who, why and how many wait stands on every page; so it does what had left and what is caught,
    by rule and channel, each with its kit. Each act is on record.
    """
    sent = kit(db)
    change(db, notifications, {}, sent_at=now(-1800))
    (waits,) = planned(db, notice(**LATER))
    assert "nothing is stopped" in inside.get("/stop").text
    page = pressed(inside, "stop")
    assert "Messages of the rule kit-shipped are stopped." in page
    assert "<strong>1</strong> waits. <strong>2</strong> had left in the hour before" in page
    (event,) = {only(db, notifications, id=id_)["event_id"] for id_ in sent}
    assert f"/journey?kit={event}" in page
    assert f"/journey?kit={only(db, notifications, id=waits)['event_id']}" in page
    assert leaks(page) == []
    for path in ("/", "/journeys", "/worklist", "/rules", "/suppressions", "/system"):
        shown = html.unescape(inside.get(path).text)
        assert "kit-shipped are stopped</strong> by admin, since <time" in shown
        assert f"</time>: {WHY} <strong>1</strong> waits." in shown
    assert "were already stopped" in pressed(inside, "stop")
    page = pressed(inside, "resume")
    assert "Messages of the rule kit-shipped go out again." in page
    assert "nothing is stopped" in page
    assert only(db, notifications, id=waits)["waits_for"] is None
    assert "are not stopped any more" in pressed(inside, "resume")
    acts = [(row["actor"], row["action"], row["target"]) for row in rows(db, audit)]
    assert acts[1:] == [("admin", "stop", RULE), ("admin", "resume", RULE)]
    for said in ("Stopped messages", "Resumed what was stopped"):
        assert said in inside.get("/audit").text


def test_what_waits_can_be_cancelled(inside: Any, db: Database) -> None:
    """All of what is stopped as it is resumed; or a rule's of the last hour as it is stopped."""
    for act, more in (("drop", {}), ("stop", {"cancel": "yes"})):
        subject = f"o-{act}"
        (waits,) = planned(db, notice(**LATER, subject=subject))
        if act == "drop":
            pressed(inside, "stop")
        assert "1 that waited is cancelled" in (page := pressed(inside, act, **more)) or (
            "1 of the last hour is cancelled" in page
        )
        found = only(db, notifications, id=waits)
        assert (found["status"], found["stopped_by"]) == ("cancelled", "admin")


def test_all_messages_are_asked_for_twice(inside: Any, db: Database) -> None:
    """Whoever stops or resumes all messages writes it besides."""
    for act in ("stop", "resume", "drop"):
        assert "write “all” to confirm" in pressed(inside, act, "all")
        assert len(rows(db, standing)) == (act != "stop")
        assert "All messages" in pressed(inside, "stop", "all", typed=" ALL ")
    assert "All messages go out again." in pressed(inside, "resume", "all", typed="all")


@pytest.mark.parametrize(
    ("act", "what", "note", "more", "said"),
    [
        ("stop", RULE, " ", {}, "Give a reason."),
        ("stop", "", WHY, {}, "Choose what is to be stopped."),
        ("stop", "rule nobodys", WHY, {}, "Choose what is to be stopped."),
        ("explode", RULE, WHY, {}, "Choose what is to be stopped."),
        ("stop", "channel sms", WHY, {"cancel": "yes"}, "Choose a rule"),
    ],
)
def test_what_is_not_clear_stops_nothing(
    inside: Any, db: Database, act: str, what: str, note: str, more: dict[str, str], said: str
) -> None:
    """The page says what is missing, and keeps what was written."""
    page = pressed(inside, act, what, note, **more)
    assert 'role="alert"' in page
    assert said in page
    assert rows(db, standing) == []
    if what in ("channel sms", RULE):
        assert f'value="{what}" selected' in page


def test_an_odd_name_is_told_as_it_is(inside: Any, db: Database) -> None:
    """A stop of a channel that another version knows is shown, and ends like any other."""
    assert halts.in_words("channel fax") == "All messages by fax"
    with db.write() as connection:
        row = {"what": "channel fax", "actor": "x", "reason": "<b>", "since": now()}
        connection.execute(standing.insert().values(**row))
    assert "<b>" not in inside.get("/stop").text
    assert "All messages by fax go out again." in pressed(inside, "resume", "channel fax")


def test_nothing_is_pressed_without_login_or_token(inside: Any, db: Database) -> None:
    """Whoever is not logged in, or comes from another site, stops nobody."""
    form = {"what": RULE, "act": "stop", "note": WHY}
    assert inside.post("/stop", data=form).status_code == 400
    stranger = inside.application.test_client()
    assert stranger.get("/stop").location.startswith("/login")
    assert stranger.post("/stop", data=form).status_code in {302, 400}
    assert rows(db, standing) == []
