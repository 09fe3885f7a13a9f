"""The desk's erasure: shown first, done with a reason, on record without the address."""

from __future__ import annotations

from typing import Any

from relay.ledger import suppressing
from relay.ledger.database import Database
from relay.ledger.schema import audit, notifications
from tests.desk import EMAIL, PHONE, SECRETS, kit, press
from tests.dump import dump, found
from tests.rows import change, rows
from tests.test_desk import desk, inside

__all__ = ["desk", "inside"]  # fixtures

WHY = "Asked in writing."


def test_first_it_is_shown_what_there_is(inside: Any, db: Database) -> None:
    """Counts and no names; until it is pressed again everything is there still."""
    change(db, notifications, {"id": kit(db)[0]}, status="scheduled")
    assert "Erase this person" in press(inside, "/suppressions", address=PHONE).text
    page = press(inside, "/erasure", address="07700 900001", act="ask").text
    for shown in ("2 messages", "1 message that waits", "1 event", "There is no way back."):
        assert shown in page
    assert "Jane" not in page
    assert len(found(dump(db), *SECRETS)) == 3


def test_it_is_erased_and_kept_on_record(inside: Any, db: Database) -> None:
    """Nothing of the person is left; who did it, and why, is found by the address only."""
    kit(db)
    page = press(inside, "/erasure", address=PHONE, act="erase", note=WHY).text
    assert "Every table was searched again: nothing is left." in page
    assert found(dump(db), PHONE, EMAIL, "Jane", "Smith") == []
    (row,) = (row for row in rows(db, audit) if row["action"] == "forget")
    assert row["actor"] == "admin"
    assert row["target"].startswith("sms ")
    assert row["detail"] == f"1 event, 2 messages. {WHY}"


def test_pressed_twice_it_is_done_once(inside: Any, db: Database) -> None:
    """The second press finds nothing, and says so."""
    kit(db)
    for told in ("2 messages", "nothing more to erase"):
        assert told in press(inside, "/erasure", address=PHONE, act="erase", note=WHY).text


def test_only_who_wishes_is_suppressed(inside: Any, db: Database) -> None:
    """Erased is not suppressed, which keeps the address, unless that is ticked."""
    press(inside, "/erasure", address=PHONE, act="erase", note=WHY)
    assert suppressing.suppressed(db, PHONE) == []
    page = press(inside, "/erasure", address=PHONE, act="erase", note=WHY, stop="1").text
    assert "Texts to this address are stopped." in page
    assert suppressing.suppressed(db, PHONE)[0]["actor"] == "admin"


def test_nothing_is_erased_by_mistake(inside: Any, db: Database) -> None:
    """Without a reason, an address, a login or the form's token nothing is done."""
    kit(db)
    form = {"address": PHONE, "act": "erase"}
    assert press(inside, "/erasure", **form).status_code == 400
    assert press(inside, "/erasure", address="jane@", act="erase", note=WHY).status_code == 400
    assert inside.post("/erasure", data={**form, "note": WHY}).status_code == 400
    stranger = inside.application.test_client()
    assert stranger.post("/erasure", data={**form, "note": WHY}).status_code in {302, 400}
    assert len(found(dump(db), PHONE)) == 1


def test_a_reason_that_names_the_person_is_not_kept(inside: Any, db: Database) -> None:
    """What was asked for is kept without whom: the number in the reason is left out."""
    kit(db)
    press(inside, "/erasure", address=PHONE, act="erase", note=f"Rang from {PHONE}.")
    assert found(dump(db), PHONE) == []
