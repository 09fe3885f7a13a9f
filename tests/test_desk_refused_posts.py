"""The worklist's refused posts and unknown events: what is told of them, and seeing to each."""

from __future__ import annotations

from html import unescape
from typing import Any

import pytest

from relay.ledger import events as ledger_events
from relay.ledger.database import Database
from relay.ledger.schema import audit, events, quarantine
from relay.ledger.views import status
from relay.ledger.worklist import quarantine as ledger_quarantine
from relay.ledger.worklist import unknown_events
from tests.conftest import SECRET
from tests.desk import press
from tests.rows import MONTH, change, incoming, leased, only, rows
from tests.test_desk import desk, inside

__all__ = ["desk", "inside"]  # fixtures

GOOD = b'{"event": "order.shipped", "data": {"order_id": "o-1"}}'
BAD = b'{"event": "order.shipped", "data": {"order_id": "", "name": "Jane Smith"}}'
NASTY = b"<script>\xff\x00\xe2\x80\xaeJane"
WHY = "The lab tests."


def refused(inside: Any, db: Database, body: bytes = BAD) -> str:
    """A post that the lab was told was wrong; its id."""
    answer = inside.post(f"/webhooks/lab/{SECRET}", data=body)
    assert answer.status_code in (400, 422)
    with db.read() as connection:
        return ledger_quarantine.ids(connection)[-1]


def see_to(inside: Any, post: str, **form: str) -> str:
    """The page after a button was pressed."""
    answer = press(inside, f"/worklist/refused/{post}", **form)
    if answer.status_code == 302:
        answer = inside.get(answer.location)
    assert answer.status_code == 200
    return unescape(answer.text)


def acts(db: Database) -> list[tuple[str, str, str]]:
    """What was done to what, but for logins."""
    done = [(row["action"], row["target"], row["detail"]) for row in rows(db, audit)]
    return [one for one in done if one[0] != "login"]


def test_a_refused_post_says_what_was_wrong_and_not_what_was_in_it(
    inside: Any, db: Database
) -> None:
    """When, how often, the error and the fields; nothing of the body; the worklist counts it."""
    assert "No refused posts need a person now." in inside.get("/worklist/refused").text
    post = refused(inside, db)
    refused(inside, db)
    page = inside.get("/worklist/refused").text
    row = only(db, quarantine)
    for told in ("posted 2 times since", "The data of order.shipped", "data.order_id", "blank"):
        assert told in page
    assert row["last_at"].isoformat(timespec="seconds") in page
    assert "Jane" not in page
    assert '<span class="count">1' in page
    assert "A post from the lab was refused" in inside.get("/worklist").text
    assert f'id="{post}"' in page


@pytest.mark.parametrize(
    ("body", "read"),
    [(BAD, BAD.decode()), (NASTY, r"<script>\xff\x00\u202eJane"), (b"", "")],
    ids=["json", "nasty", "empty"],
)
def test_what_was_posted_is_shown_when_it_is_asked_for(
    body: bytes, read: str, inside: Any, db: Database
) -> None:
    """As text, whatever it holds; who looked is on record, and opened again it is hidden."""
    post = refused(inside, db, body)
    page = press(inside, f"/worklist/refused/{post}", act="reveal").text
    shown = page.partition("<pre")[2].partition("</pre>")[0].partition(">")[2]
    assert unescape(shown) == read
    assert "<script>" not in shown
    assert acts(db) == [("reveal", post, "a refused post")]
    assert "<pre" not in inside.get("/worklist/refused").text


def test_tried_again_it_is_taken_or_says_what_is_wrong_still(inside: Any, db: Database) -> None:
    """What is wrong still stays as it is; what can be read by now is one event, pressed twice."""
    post = refused(inside, db)
    page = see_to(inside, post, act="again")
    assert "Relay still refuses it: The data of order.shipped is not valid. data.order_id" in page
    assert acts(db) == []
    change(db, quarantine, {}, body=GOOD)  # as if it could be read by now
    assert "Relay has now accepted it" in see_to(inside, post, act="again")
    for act in ("again", "aside", "reveal"):
        assert "already dealt with that post" in see_to(inside, post, act=act, note=WHY)
    row = only(db, events, source="lab")
    assert (row["status"], row["duplicates"]) == ("received", 0)
    assert acts(db) == [("post again", post, row["id"])]
    with db.read() as connection:
        assert status.on_worklist(connection)["refused"] == 0


def test_what_came_rightly_since_is_not_told_twice(inside: Any, db: Database) -> None:
    """The lab has posted the same event meanwhile: there is one event, and the page says so."""
    post = refused(inside, db)
    first = ledger_events.record_webhook(db, incoming(order_id="o-1"), MONTH)
    change(db, quarantine, {}, body=GOOD)
    assert "has since posted the same event correctly" in see_to(inside, post, act="again")
    assert only(db, events, source="lab")["id"] == first.id


def test_put_aside_it_needs_nobody_any_more(inside: Any, db: Database) -> None:
    """With a note, once; posted again it stays aside; who did it and why stays on the page."""
    post = refused(inside, db)
    assert "Write a note first" in see_to(inside, post, act="aside", note=" ")
    with db.read() as connection:
        assert ledger_quarantine.ids(connection) == [post]
    assert "Put aside." in see_to(inside, post, act="aside", note=WHY)
    assert "already dealt with that post" in see_to(inside, post, act="aside", note="Again.")
    assert inside.post(f"/webhooks/lab/{SECRET}", data=BAD).status_code == 422
    with db.read() as connection:
        assert (ledger_quarantine.ids(connection), status.on_worklist(connection)["refused"]) == (
            [],
            0,
        )
    page = inside.get("/worklist/refused").text
    assert "No refused posts need a person now." in page
    assert f": {WHY}" in page.partition("Put aside by admin")[2]
    row = only(db, quarantine)
    assert (row["posts"], row["closed_by"], row["note"]) == (2, "admin", WHY)
    assert acts(db) == [("post aside", post, "")]


def test_put_aside_can_be_taken_back(inside: Any, db: Database) -> None:
    """It needs a person again, once; what has become an event does not."""
    post = refused(inside, db)
    see_to(inside, post, act="aside", note=WHY)
    assert "back on the worklist" in see_to(inside, post, act="back")
    assert "no longer put aside" in see_to(inside, post, act="back")
    row = only(db, quarantine)
    assert (row["closed_at"], row["closed_by"], row["note"]) == (None, None, "")
    change(db, quarantine, {}, body=GOOD)
    see_to(inside, post, act="again")
    assert "no longer put aside" in see_to(inside, post, act="back")
    assert [act for act, _, _ in acts(db)] == ["post aside", "post back", "post again"]


def test_all_that_was_seen_is_put_aside_at_once(inside: Any, db: Database) -> None:
    """With one note; what is posted after the page was made still needs a person."""
    posts = [refused(inside, db, body) for body in (b"1", b"2", b"3")]
    page = inside.get("/worklist/refused").text
    assert "Put all 3 aside at once" in page
    until = page.partition('name="until" value="')[2].partition('"')[0]
    refused(inside, db, b"1")
    form = {"until": until, "note": WHY}
    assert press(inside, "/worklist/refused", **form | {"note": " "}).status_code == 302
    with db.read() as connection:
        assert status.on_worklist(connection)["refused"] == 3
    for told in ("2 put aside", "already dealt with that post"):
        press(inside, "/worklist/refused", **form)
        assert told in inside.get("/worklist/refused").text
    with db.read() as connection:
        assert ledger_quarantine.ids(connection) == posts[:1]
    assert acts(db) == [("posts aside", "", "2")]


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/worklist/refused", {"until": "yesterday", "note": WHY}),
        ("/worklist/refused", {"note": WHY}),
        ("/worklist/refused", {"until": "0001-01-01T00:00:00+23:59", "note": WHY}),
        ("/worklist/refused", {"until": "2026-11-26T10:00:00", "note": WHY}),
        ("/worklist/refused/none", {"act": "again"}),
        ("/worklist/refused/mine", {"act": "explode"}),
        ("/worklist/unknown", {"act": "process", "name": "kit.lost"}),
        ("/worklist/unknown", {"act": "explode", "name": "kit.lost"}),
    ],
)
def test_what_cannot_be_done_is_not_found(
    path: str, form: dict[str, str], inside: Any, db: Database
) -> None:
    """An unknown post, an act that there is not, or an event that Relay cannot process."""
    post = refused(inside, db)
    ledger_events.record_webhook(db, incoming("kit.lost", kit_id="7"), MONTH)
    assert press(inside, path.replace("mine", post), **form).status_code == 404
    with db.read() as connection:
        assert status.on_worklist(connection)["refused"] == 1
        assert unknown_events.count(connection) == 1


def test_an_unknown_event_is_shown_once_until_it_is_acknowledged(
    inside: Any, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name: how often, since when, what it means. Acknowledged it is quiet for good."""
    assert "No unknown events need a person now." in inside.get("/worklist/unknown").text
    for name, kit in (("kit.lost", "7"), ("kit.lost", "8"), ("a<b>", "7")):
        last = ledger_events.record_webhook(db, incoming(name, kit_id=kit), MONTH)
    page = inside.get("/worklist/unknown").text
    for told in ("2 times, first on <time", "a&lt;b&gt;", f"/journey?kit={last.id}", "Once, on <"):
        assert told in page
    with db.read() as connection:
        assert (page.count("<article"), unknown_events.count(connection)) == (2, 2)
    assert '2</strong><span class="what">kinds of event are unknown' in inside.get("/").text
    monkeypatch.setattr(unknown_events, "MANY", 1)
    assert "More than 1 times" in inside.get("/worklist/unknown").text
    form = {"act": "acknowledge", "name": "kit.lost"}
    for note, told in ((" ", "Write a note first"), (WHY, "Acknowledged."), (WHY, "already")):
        press(inside, "/worklist/unknown", **form, note=note)
        assert told in inside.get("/worklist/unknown").text
    ledger_events.record_webhook(db, incoming("kit.lost", kit_id="9"), MONTH)
    page = inside.get("/worklist/unknown").text
    with db.read() as connection:
        assert (page.count("<article"), unknown_events.count(connection)) == (1, 1)
    assert f": {WHY}" in page.partition("<code>kit.lost</code>, by admin")[2]
    assert acts(db) == [(unknown_events.ACKNOWLEDGED, "kit.lost", WHY)]


def test_once_relay_knows_them_they_are_processed(inside: Any, db: Database) -> None:
    """Events of a name that a new version knows are received anew, once each."""
    leased(db, order_id="o-1")
    leased(db, order_id="o-2")
    change(db, events, {}, status="unrouted")
    assert "Relay now knows this event." in inside.get("/worklist/unknown").text
    form = {"act": "process", "name": "order.shipped"}
    for told in ("2 are being processed.", "have already been processed"):
        press(inside, "/worklist/unknown", **form)
        assert told in inside.get("/worklist/unknown").text
    assert {row["status"] for row in rows(db, events)} == {"received"}
    assert acts(db) == [("process events", "order.shipped", "2")]
