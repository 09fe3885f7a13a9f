"""The desk's suppressions: who gets nothing more, added and lifted with a reason, on record."""

from __future__ import annotations

from typing import Any

from relay.ledger.database import Database
from relay.ledger.schema import audit, suppressions
from tests.desk import EMAIL, PHONE, press
from tests.rows import only, rows, suppress
from tests.test_desk import desk, inside

__all__ = ["desk", "inside"]  # fixtures

WHY = "Asked at the front desk."


def acts(db: Database) -> list[tuple[str, str, str]]:
    """Who did what and why, but for logins."""
    return [
        (row["actor"], row["action"], row["detail"])
        for row in rows(db, audit)
        if row["action"] != "login"
    ]


def test_the_latest_are_listed_masked(inside: Any, db: Database) -> None:
    """Each with its source and time; nobody can copy the list of addresses."""
    assert "Nobody is suppressed." in inside.get("/suppressions").text
    suppress(db, "sms", PHONE, "STOP")
    suppress(db, "email", EMAIL, "SendGrid: bounce")
    page = inside.get("/suppressions").text
    for shown in ("+44•••••••001", "j•••@example.org", "STOP", "SendGrid: bounce", "<time"):
        assert shown in page
    assert PHONE not in page
    assert EMAIL not in page


def test_staff_stop_and_lift_an_address(inside: Any, db: Database) -> None:
    """Both are done at once, kept with who and why, and by the address its past is found."""
    for written, address in (("07700 900001", PHONE), ("jane.smith@EXAMPLE.org", EMAIL)):
        page = press(inside, "/suppressions", address=written, act="add", note=WHY).text
        assert "are stopped." in page
        row = only(db, suppressions)
        assert (row["address"], row["source"]) == (address, "staff")
        assert (row["actor"], row["note"]) == ("admin", WHY)
        page = press(inside, "/suppressions", address=written, act="lift", note="Mistake.").text
        assert "go out again." in page
        assert WHY in page
        assert rows(db, suppressions) == []
        assert address not in f"{rows(db, audit)}"
    assert acts(db) == [("admin", "suppress", WHY), ("admin", "unsuppress", "Mistake.")] * 2


def test_pressed_twice_it_is_done_once(inside: Any, db: Database) -> None:
    """The second press says how it stands, and writes nothing."""
    form = {"address": PHONE, "note": WHY}
    for act, told in (("add", "were already stopped"), ("lift", "are not stopped")):
        press(inside, "/suppressions", act=act, **form)
        assert told in press(inside, "/suppressions", act=act, **form).text
    assert len(acts(db)) == 2


def test_an_opt_out_stays_its_persons(inside: Any, db: Database) -> None:
    """Staff who stop what the person has stopped do not take the place of the STOP; lifting it
    says that the provider keeps a list of its own.
    """
    suppress(db, "sms", PHONE, "STOP")
    press(inside, "/suppressions", address=PHONE, act="add", note=WHY)
    assert only(db, suppressions)["source"] == "STOP"
    assert "Twilio keeps its own list" in press(inside, "/suppressions", address=PHONE).text


def test_a_reason_is_asked_for(inside: Any, db: Database) -> None:
    """Without one nothing is done."""
    suppress(db, "sms", "+447700900002", "STOP")
    for act, number in (("add", PHONE), ("lift", "+447700900002")):
        answer = press(inside, "/suppressions", address=number, act=act, note="  ")
        assert answer.status_code == 400
        assert "Give a reason" in answer.text
    assert len(rows(db, suppressions)) == 1


def test_what_is_no_address_is_refused_in_words(inside: Any, db: Database) -> None:
    """A landline or a slip of the pen says what is wrong, and stops nobody."""
    for written in ("", "020 7946 0000", "jane@", "\0", "<b>"):
        answer = press(inside, "/suppressions", address=written, act="add", note=WHY)
        assert answer.status_code == 400
        assert 'role="alert"' in answer.text
        assert "<b>" not in answer.text
    assert rows(db, suppressions) == []


def test_nothing_is_done_without_login_or_token(inside: Any, db: Database) -> None:
    """Whoever is not logged in, or comes from another site, stops nobody."""
    form = {"address": PHONE, "act": "add", "note": WHY}
    assert inside.post("/suppressions", data=form).status_code == 400
    stranger = inside.application.test_client()
    assert stranger.get("/suppressions").location.startswith("/login")
    assert stranger.post("/suppressions", data=form).status_code in {302, 400}
    assert rows(db, suppressions) == []
