"""The desk's erasure: shown first, asked for with a reason, done by a worker, told on a page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from relay.config.settings import Settings
from relay.jobs.tasks import Jobs
from relay.ledger.database import Database
from relay.ledger.holds import suppressions
from relay.ledger.removal import erasures as ledger_erasures
from relay.ledger.schema import audit, erasures, notifications
from tests.conftest import drain
from tests.desk import EMAIL, PHONE, SECRETS, handed_over, kit, press
from tests.dump import dump, found
from tests.rows import beat, change, only, rows
from tests.standins import ProviderStandIn, twilio_error
from tests.test_desk import desk, inside

__all__ = ["desk", "inside"]  # fixtures

WHY = "Asked in writing."
PROOF = "Relay searched every table again: nothing is left."


@pytest.fixture
def work(settings: Settings, make_jobs: Callable[[Settings], Jobs]) -> Callable[[], int]:
    """Has a worker do all that is due."""
    return lambda: drain(make_jobs(settings))


def erase(inside: Any, **form: str) -> str:
    """Have a person erased; the way to the page that tells how that stands."""
    answer = press(inside, "/erasure", **{"address": PHONE, "act": "erase", "note": WHY, **form})
    assert answer.status_code == 303
    return str(answer.location)


def test_first_it_is_shown_what_the_address_leads_to(inside: Any, db: Database) -> None:
    """Counts and no names; until it is pressed again everything is there still."""
    change(db, notifications, {"id": kit(db)[0]}, status="scheduled")
    assert "Erase this person" in press(inside, "/suppressions", address=PHONE).text
    page = press(inside, "/erasure", address="07700 900001", act="ask").text
    for shown in ("1 message<", "1 message that waits", "1 event", "1 kit", "cannot be undone"):
        assert shown in page
    assert "searches every table" in page
    assert "Jane" not in page
    assert len(found(dump(db), *SECRETS)) == 3
    assert rows(db, erasures) == []


def test_it_is_erased_and_kept_on_record(
    inside: Any, db: Database, work: Callable[[], int]
) -> None:
    """Nothing of the person is left; who did it, and why, is found by the address only."""
    kit(db)
    path = erase(inside)
    assert "A worker starts on it within seconds" in inside.get(path).text
    work()
    page = inside.get(path).text
    for shown in ("<h1>Erased</h1>", "1 event", "2 messages", PROOF):
        assert shown in page
    assert found(dump(db), PHONE, EMAIL, "Jane", "Smith") == []
    asked, done = rows(db, audit)[-2:]
    assert (asked["action"], asked["detail"]) == ("forget asked", WHY)
    assert (done["action"], done["detail"]) == ("forget", f"1 event, 2 messages. {WHY}")
    assert done["actor"] == "admin"
    assert asked["target"] == done["target"]
    assert done["target"].startswith("sms ")
    past = press(inside, "/suppressions", address=PHONE).text
    assert "Erased a person: admin. 1 event" in past


def test_how_far_it_is_can_be_followed(inside: Any, db: Database) -> None:
    """The page looks again until it is done, with scripts and without, and says who works."""
    path = erase(inside)
    page = inside.get(path).text
    assert "No worker is running" in page
    assert f'data-again="{path}?again=1"' in page
    assert f'http-equiv="refresh" content="10; url={path}?again=1"' in page
    beat(db, "worker-1")
    (asked,) = ledger_erasures.lease(db, 1)
    with db.write() as connection:
        ledger_erasures.note(connection, asked, searched="events", rows_read=120_000)
    page = inside.get(path).text
    assert "No worker is running" not in page
    assert "events</span> 120,000 rows" in page
    assert found(page, *SECRETS) == found(path, *SECRETS) == []
    assert inside.get("/erasure/era_none").status_code == 404


def test_pressed_twice_it_is_done_once(inside: Any, db: Database, work: Callable[[], int]) -> None:
    """Both lead to one page; once that is done, another finds nothing, and says so."""
    kit(db)
    path = erase(inside)
    assert erase(inside) == path
    work()
    again = erase(inside)
    work()
    page = inside.get(again).text
    assert "nothing more to erase" in page
    assert PROOF in page
    assert [row["action"] for row in rows(db, audit)].count("forget") == 2


def test_nothing_of_the_person_stays_where_it_was_asked(
    inside: Any, db: Database, work: Callable[[], int]
) -> None:
    """When it is done its row has who asked, when, and what it came to; so has the list of them."""
    kit(db)
    erase(inside, note="Jane Smith wrote to us.")
    assert "waiting</span>" in inside.get("/suppressions").text
    work()
    assert found(dump(db), *SECRETS) == []
    row = only(db, erasures)
    assert [row[name] for name in ("address", "target", "note", "known")] == ["", "", "", None]
    assert row["outcome"]["counts"] == {"events": 1, "messages": 2, "other rows": 1}
    page = inside.get("/suppressions").text
    assert "erased</span>" in page
    assert found(page, *SECRETS) == []


def test_what_a_provider_keeps_is_told(
    inside: Any,
    db: Database,
    live: Settings,
    make_jobs: Callable[[Settings], Jobs],
    twilio: ProviderStandIn,
) -> None:
    """A text that Twilio would not delete yet is named, to be deleted by hand."""
    handed_over(db)
    twilio.once(twilio_error(409, 20009))
    path = erase(inside)
    drain(make_jobs(live))
    page = inside.get(path).text
    assert "Not everything is erased" in page
    assert "Twilio did not delete SM1 (20009)." in page
    assert "incomplete</span>" in inside.get("/suppressions").text


def test_only_who_wishes_is_suppressed(inside: Any, db: Database) -> None:
    """Erased is not suppressed, which keeps the address, unless that is ticked."""
    erase(inside)
    with db.read() as connection:
        assert suppressions.suppressed(connection, PHONE) == []
    for said in ("are stopped.", "were already stopped."):
        assert f"Texts to this address {said}" in inside.get(erase(inside, stop="1")).text
    with db.read() as connection:
        (row,) = suppressions.suppressed(connection, PHONE)
    assert (row["actor"], row["note"]) == ("admin", WHY)
    (kept,) = rows(db, audit, action="suppress")
    assert (kept["actor"], kept["detail"]) == ("admin", WHY)
    assert kept["target"] == only(db, audit, action="forget asked")["target"]


def test_nothing_is_erased_by_mistake(inside: Any, db: Database) -> None:
    """Without a reason, an address, a login or the form's token nothing is done."""
    kit(db)
    form = {"address": PHONE, "act": "erase"}
    assert press(inside, "/erasure", **form).status_code == 400
    assert press(inside, "/erasure", address="jane@", act="erase", note=WHY).status_code == 400
    assert inside.post("/erasure", data={**form, "note": WHY}).status_code == 400
    stranger = inside.application.test_client()
    assert stranger.post("/erasure", data={**form, "note": WHY}).status_code in {302, 400}
    assert rows(db, erasures) == []


def test_a_reason_that_has_the_address_is_not_kept(inside: Any, db: Database) -> None:
    """What was asked for is kept without whom: the number in the reason is left out at once."""
    erase(inside, note=f"Rang from {PHONE}.")
    assert found(dump(db, but=frozenset({"erasures"})), PHONE) == []
    assert only(db, erasures)["note"] == ""


@pytest.mark.parametrize("asked", ["o-1", "Jane Smith", "smith jane"])
def test_somebody_without_an_address_is_erased(
    inside: Any, db: Database, work: Callable[[], int], asked: str
) -> None:
    """By an id or a name: the page shows who it is, masked, and offers no stop of an address."""
    kit(db)
    page = press(inside, "/suppressions", address=asked, act="find")
    assert (page.status_code, "Erase a person" in page.text) == (400, True)
    page = press(inside, "/erasure", address=asked, act="ask").text
    assert "It is about J••• S•••." in page
    assert 'name="stop"' not in page
    assert found(page, PHONE, EMAIL) == []
    erase(inside, address=asked, stop="1")
    work()
    assert found(dump(db), *SECRETS) == []
    assert rows(db, audit)[-1]["target"].startswith("person ")


@pytest.mark.parametrize("asked", ["", "Nobody Here", "07400 MUM"])
def test_nobody_is_erased_by_what_leads_to_nobody(inside: Any, db: Database, asked: str) -> None:
    """It is said, with what to write instead."""
    answer = press(inside, "/erasure", address=asked, act="erase", note=WHY)
    assert answer.status_code == 400
    assert "Relay knows nobody by that. Write an address" in answer.text
    assert rows(db, erasures) == []
