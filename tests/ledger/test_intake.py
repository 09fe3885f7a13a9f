"""What comes in: each event once, and what was refused kept once."""

from __future__ import annotations

from datetime import timedelta

import pytest

from relay.errors import Refused
from relay.lab.events import Incoming
from relay.ledger import events as ledger_events
from relay.ledger.database import Database
from relay.ledger.schema import events, quarantine
from relay.ledger.views import status
from relay.ledger.worklist import quarantine as ledger_quarantine
from tests.rows import MONTH, at_once, incoming, keep_refused, only, rows, time_passes

UNKNOWN = incoming("order.returned", order_id="o-1")


def test_a_new_event_is_stored_as_received(db: Database) -> None:
    """A known event is stored whole, due at once, under the id that is answered."""
    recorded = ledger_events.record_webhook(
        db, incoming(order_id="o-1", url="https://lab/api/order/o-1"), MONTH
    )
    row = only(db, events)
    assert (recorded.status, recorded.id) == ("accepted", row["id"])
    assert row["id"].startswith("evt_")
    assert row["data"] == {"order_id": "o-1", "url": "https://lab/api/order/o-1"}
    assert (row["name"], row["status"], row["duplicates"]) == ("order.shipped", "received", 0)
    assert row["next_at"] <= row["received_at"] + timedelta(seconds=1)


@pytest.mark.parametrize(
    "again",
    [
        pytest.param(incoming(order_id="o-1"), id="the same"),
        pytest.param(incoming(order_id="o-1", url="https://elsewhere/o-1"), id="another url"),
        pytest.param(incoming(order_id="o-1", note="new"), id="an undocumented key"),
    ],
)
def test_the_same_event_is_counted_on_the_first(db: Database, again: Incoming) -> None:
    """The lab's retries of an event are counted on its first row, whose id they are told."""
    first = ledger_events.record_webhook(db, incoming(order_id="o-1"), MONTH)
    for _ in range(2):
        assert ledger_events.record_webhook(db, again, MONTH) == ledger_events.Recorded(
            first.id, "duplicate"
        )
    assert only(db, events)["duplicates"] == 2


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(incoming(order_id="o-2"), id="another id"),
        pytest.param(incoming("order.delivered", order_id="o-1"), id="another name"),
        pytest.param(UNKNOWN, id="an unknown name"),
    ],
)
def test_another_event_has_a_row_of_its_own(db: Database, other: Incoming) -> None:
    """Events that differ in name or identifying fields are never taken for one another."""
    ledger_events.record_webhook(db, incoming(order_id="o-1"), MONTH)
    assert ledger_events.record_webhook(db, other, MONTH).status in ("accepted", "unrouted")
    assert [row["duplicates"] for row in rows(db, events)] == [0, 0]


def test_an_unknown_event_is_stored_as_unrouted(db: Database) -> None:
    """An event whose name nobody knows yet is kept, once, so that it can be replayed."""
    first = ledger_events.record_webhook(db, UNKNOWN, MONTH)
    assert first.status == "unrouted"
    assert only(db, events)["status"] == "unrouted"
    assert ledger_events.record_webhook(db, UNKNOWN, MONTH) == ledger_events.Recorded(
        first.id, "duplicate"
    )


def test_within_the_window_it_is_still_the_same_event(db: Database) -> None:
    """`dedupe_window` lasts its whole length, from the first post."""
    first = ledger_events.record_webhook(db, incoming(), MONTH)
    time_passes(db, MONTH - timedelta(minutes=1))
    assert ledger_events.record_webhook(db, incoming(), MONTH).id == first.id
    assert only(db, events)["duplicates"] == 1


def test_after_the_window_it_is_a_new_event(db: Database) -> None:
    """Past `dedupe_window` the same body is a new event, and later posts count on the new one."""
    first = ledger_events.record_webhook(db, incoming(), MONTH)
    time_passes(db, MONTH + timedelta(minutes=1))
    second = ledger_events.record_webhook(db, incoming(), MONTH)
    assert second.status == "accepted"
    assert second.id != first.id
    assert ledger_events.record_webhook(db, incoming(), MONTH) == ledger_events.Recorded(
        second.id, "duplicate"
    )
    assert {row["id"]: row["duplicates"] for row in rows(db, events)} == {first.id: 0, second.id: 1}


def test_the_window_can_end_again_and_again(db: Database) -> None:
    """A repeat after each window is a new event each time."""
    for _ in range(3):
        assert ledger_events.record_webhook(db, incoming(), MONTH).status == "accepted"
        time_passes(db, 2 * MONTH)
    assert len(rows(db, events)) == 3


@pytest.mark.parametrize("is_old", [False, True], ids=["new", "after the window"])
def test_ten_posts_at_once_give_one_row(db: Database, is_old: bool) -> None:
    """Ten identical posts at once are one event and nine duplicates of it (fault 11)."""
    if is_old:
        ledger_events.record_webhook(db, incoming(), MONTH)
        time_passes(db, 2 * MONTH)
    told = at_once(lambda _: ledger_events.record_webhook(db, incoming(), MONTH))
    assert sorted(one.status for one in told) == ["accepted", *["duplicate"] * 9]
    assert len({one.id for one in told}) == 1
    assert only(db, events, id=told[0].id)["duplicates"] == 9
    assert len(rows(db, events)) == 1 + is_old


def test_a_refused_body_is_kept_once(db: Database) -> None:
    """A refused body is kept byte by byte, once, with its reasons and how often it came."""
    refused = Refused(422, "The data cannot be taken.", {"data.order_id": ["It is blank."]})
    kept = {keep_refused(db, b'{"\xff\x00', refused) for _ in range(3)}
    row = only(db, quarantine)
    assert kept == {row["id"]}
    assert (bytes(row["body"]), row["posts"]) == (b'{"\xff\x00', 3)
    assert (row["error"], row["fields"]) == (refused.error, refused.fields)
    assert row["first_at"] <= row["last_at"]


def test_another_refused_body_has_a_row_of_its_own(db: Database) -> None:
    """Distinct bodies are kept apart, also the empty one, oldest first."""
    ids = [keep_refused(db, body, Refused(400, "Not JSON.")) for body in (b"", b"{", b"[")]
    with db.read() as connection:
        assert ledger_quarantine.ids(connection) == sorted(set(ids))
    assert len(set(ids)) == 3


@pytest.mark.parametrize(("limit", "most"), [("MOST_POSTS", 2), ("MOST_BYTES", 100)])
def test_a_broken_lab_does_not_fill_the_ledger(
    db: Database, limit: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past what is kept of a day, distinct refused bodies are one row that counts them, and needs a
    person like any other; those that are kept are counted on as before.
    """
    monkeypatch.setattr(ledger_quarantine, limit, most)
    bodies = [bytes((letter,)) * 45 for letter in b"abcdb"]
    ids = [keep_refused(db, body, Refused(400, "Not JSON.")) for body in bodies]
    assert (ids[2], ids[1]) == (ids[3], ids[4])
    kept = {row["id"]: (len(row["body"]), row["posts"]) for row in rows(db, quarantine)}
    assert kept == {ids[0]: (45, 1), ids[1]: (45, 2), ids[2]: (0, 2)}
    assert only(db, quarantine, id=ids[2])["error"] == ledger_quarantine.MORE
    with db.read() as connection:
        assert status.on_worklist(connection)["refused"] == 3


def test_ten_refused_posts_at_once_are_kept_once(db: Database) -> None:
    """Identical refused bodies at once are one row that counts all of them."""
    kept = at_once(lambda _: keep_refused(db, b"{", Refused(400, "Not JSON.")))
    assert len(set(kept)) == 1
    assert only(db, quarantine)["posts"] == 10


def test_a_released_body_becomes_an_event(db: Database) -> None:
    """A body that can be read by now is recorded as its event and leaves quarantine."""
    kept = keep_refused(db, b"{...}", Refused(422, "It could not be read."))
    with db.write() as connection:
        recorded = ledger_quarantine.release(connection, kept, incoming(), MONTH)
    assert recorded.status == "accepted"
    assert only(db, events)["id"] == recorded.id == only(db, quarantine)["event_id"]
    with db.read() as connection:
        assert ledger_quarantine.ids(connection) == []
    with db.write() as connection:
        again = ledger_quarantine.release(connection, kept, incoming(), MONTH)
    assert again == ledger_events.Recorded(recorded.id, "duplicate")
    assert only(db, events)["duplicates"] == 0


def test_a_released_body_that_came_otherwise_is_a_duplicate(db: Database) -> None:
    """Releasing what the lab has posted rightly since makes no second event."""
    kept = keep_refused(db, b"{...}", Refused(422, "It could not be read."))
    first = ledger_events.record_webhook(db, incoming(), MONTH)
    with db.write() as connection:
        released = ledger_quarantine.release(connection, kept, incoming(), MONTH)
    assert released == ledger_events.Recorded(first.id, "duplicate")
    assert only(db, quarantine)["event_id"] == first.id
    assert len(rows(db, events)) == 1
