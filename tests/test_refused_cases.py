"""A post of a known event that was refused: nobody hears of that kit, so a person has to."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from relay.ledger.database import Database
from relay.ledger.schema import cases, notifications
from relay.ledger.schema import quarantine as stored
from relay.ledger.views import kit_history
from tests.conftest import SECRET
from tests.desk import press
from tests.rows import only, rows
from tests.test_desk import desk, inside
from tests.test_webhooks import SHIPPED

__all__ = ["desk", "inside"]  # fixtures
DOOR = f"/webhooks/lab/{SECRET}"

SHIPPED_EVENT, RECEIVED = "order.shipped", "test_registration.sample_received"
# A post of a known event, and what its case says is wrong.
BAD: dict[str, tuple[str, Any, str]] = {
    "no id": (SHIPPED_EVENT, {}, "data.order_id: Missing data for required field."),
    "an id that is null": (SHIPPED_EVENT, {"order_id": None}, "data.order_id: Field may not be"),
    "an id of blanks": (SHIPPED_EVENT, {"order_id": " \n"}, "data.order_id: It is blank."),
    "an id that is a list": (RECEIVED, {"testregistration_id": ["x"]}, "data.testregistration_id"),
    "data that is a list, as PHP's empty array": (SHIPPED_EVENT, [], "data: It must be an object."),
}


def post(client: Any, event: str, data: Any) -> str:
    """Post an event; what it was answered with."""
    answer = client.post(DOOR, data=json.dumps({"event": event, "data": data}))
    return str(answer.json["status"])


def open_(db: Database) -> list[tuple[str, int]]:
    """The subjects of the open cases about refused posts, each with its count."""
    found = rows(db, cases, kind="refused", closed_at=None)
    return [(row["subject"], row["count"]) for row in found]


@pytest.fixture
def posted(inside: Any) -> Any:
    """A lab and a desk, after an event: every case is kept with one."""
    assert inside.post(DOOR, data=SHIPPED).status_code == 200
    return inside


def test_the_very_first_post_that_the_lab_makes_may_be_the_one(inside: Any, db: Database) -> None:
    """A ledger without any event opens the case too; staff are written to, every page that lists
    events or cases can be read, and the next good post is an event like any other.
    """
    assert post(inside, SHIPPED_EVENT, {}) == "rejected"
    assert open_(db) == [(SHIPPED_EVENT, 1)]
    assert [row["kind"] for row in rows(db, notifications)] == ["alert"]
    for page in (
        "/",
        "/worklist",
        "/worklist/refused",
        "/system",
        "/audit",
        f"/case/{only(db, cases)['id']}",
    ):
        assert inside.get(page).status_code == 200
    with db.read() as connection:
        assert kit_history.kits(connection, datetime.now(UTC) - timedelta(days=1)) == []
    assert inside.post(DOOR, data=SHIPPED).json["status"] == "accepted"
    assert post(inside, SHIPPED_EVENT, {"order_id": None}) == "rejected"
    assert open_(db) == [(SHIPPED_EVENT, 2)]


@pytest.mark.parametrize(("event", "data", "why"), BAD.values(), ids=BAD)
def test_the_first_refused_post_of_a_known_event_opens_a_case(
    event: str, data: Any, why: str, posted: Any, db: Database
) -> None:
    """It says which event and what was wrong, never a value, and staff are written to once."""
    assert post(posted, event, data) == "rejected"
    case = only(db, cases)
    assert (case["kind"], case["subject"]) == ("refused", event)
    assert case["reason"].startswith(why)
    assert only(db, notifications)["rule"] == "relay:refused"


def test_one_fault_is_one_case(posted: Any, db: Database) -> None:
    """Many posts of an event make one case that counts them; the same body posted again is no news.
    Another event is another case; one alert tells of both."""
    for number in (1, 2, 2, 3):
        post(posted, SHIPPED_EVENT, {"order_id": "/" * number})
    post(posted, RECEIVED, {})
    assert open_(db) == [(SHIPPED_EVENT, 3), (RECEIVED, 1)]
    assert len(rows(db, notifications)) == 1


def test_what_is_no_known_event_opens_no_case(posted: Any, db: Database) -> None:
    """What is not even an event is on the desk among the refused posts, and alerts nobody."""
    for body in (b"{", b"[]", b'{"event": "invoice.paid", "data": 7}', b'{"event": 7}'):
        assert posted.post(DOOR, data=body).status_code == 400
    assert rows(db, cases) == []


def test_the_case_closes_with_the_last_of_its_posts(posted: Any, db: Database) -> None:
    """Once each of its posts was put aside, the case is closed; after that a new one opens anew."""
    for number in (1, 2):
        post(posted, SHIPPED_EVENT, {"order_id": "/" * number})
    first, second = (row["id"] for row in rows(db, stored))
    press(posted, f"/worklist/refused/{first}", act="aside", note="The lab was asked.")
    assert open_(db) == [(SHIPPED_EVENT, 1)]
    press(posted, f"/worklist/refused/{second}", act="aside", note="The lab was asked.")
    assert open_(db) == []
    post(posted, SHIPPED_EVENT, {"order_id": "/" * 3})
    assert open_(db) == [(SHIPPED_EVENT, 1)]
