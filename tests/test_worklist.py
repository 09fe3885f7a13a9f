"""The desk's worklist: what needs a person, and what a person can do about it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from markupsafe import escape

from relay.errors import LedgerUnavailable
from relay.ledger import attempts, cases, holds
from relay.ledger import audit as ledger_audit
from relay.ledger import events as ledger_events
from relay.ledger.audit import Act
from relay.ledger.database import Database, now
from relay.ledger.schema import audit, events, notifications, quarantine, watches
from relay.ledger.schema import cases as stored
from relay.ledger.views import trail
from relay.rules import alerts
from relay.rules.alerts import ALERTS, OF_NO_KIT, happened
from relay.rules.model import Case, case_digest
from tests.desk import press
from tests.dump import dump
from tests.rows import POLICY, case, change, leased, only, planned, rows, time_passes, unknown
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
    assert (journey in page) == (kind not in OF_NO_KIT)
    assert inside.get(f"/journey?kit={only(db, events)['id']}").status_code == 200


def test_a_case_of_a_newer_version_is_shown(inside: Any, db: Database) -> None:
    """A release that was taken back has left it: it can be read and closed."""
    case_id = opened(db, "of-tomorrow")
    assert "does not know" in inside.get("/worklist").text
    assert inside.get(f"/journey?kit={only(db, events)['id']}").status_code == 200
    assert "Closed." in act(inside, case_id, act="close", note="Seen.")


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
    assert "Relay is sending it again." in act(inside, case_id, act="resend")
    assert only(db, notifications)["status"] == "created"
    assert cases.open_cases(db) == []


def test_a_held_event_is_processed_again(inside: Any, db: Database) -> None:
    """An event that was held is received anew."""
    event = leased(db)
    ledger_events.hold(db, event.id, "The lab refuses.", case("held", event.id, event.id))
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
    assert "too late for that" in act(inside, found["id"], act="send")
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
        holds.ask(connection, [about])
    return str(cases.open_cases(db, "release")[-1]["id"])


def test_what_is_held_is_released(inside: Any, db: Database) -> None:
    """Pressed, all that the case is about goes out as soon as its window is open; twice is once."""
    case_id = held(db)
    assert "it goes out" in act(inside, case_id, act="release", note="Spoke to Dr. Jones.")
    assert {row["status"] for row in rows(db, notifications)} == {"scheduled"}
    assert {row["reason"] for row in rows(db, notifications)} == {"Released by admin."}
    assert len(attempts.claim(db, "sms", 9) + attempts.claim(db, "email", 9)) == 2
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
    assert "will not be sent" in act(inside, case_id, act="stop", note="I call her myself.")
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
    assert "closes by itself." in act(inside, case_id, act="stop")
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


def test_a_case_is_closed_with_a_note(inside: Any, db: Database) -> None:
    """What was done instead is worth knowing: without a note the case stays, and the page asks."""
    case_id = opened(db)
    assert "Write a note first" in act(inside, case_id, act="close", note=" ")
    assert [row["id"] for row in cases.open_cases(db)] == [case_id]
    assert "Closed." in act(inside, case_id, act="close", note="Rang her.")


def test_what_sends_itself_is_on_the_page_however_long_it_is(inside: Any, db: Database) -> None:
    """Of more cases than a page has, what waits for a release is first, then the oldest; how many
    there are is told, and each kind can be seen by itself.
    """
    opened(db)
    (one,) = rows(db, stored)
    with db.write() as connection:
        many = [{**one, "id": f"cas_{n:04}", "digest": f"d-{n}"} for n in range(209)]
        connection.execute(stored.insert(), many)
    time_passes(db, timedelta(hours=1))
    release = held(db)
    page = inside.get("/worklist").text
    assert page.index(release) < page.index("cas_0000")
    assert "These are the oldest 25 of 211, with messages waiting for your release first" in page
    assert "/worklist?kind=release" in page
    page = inside.get("/worklist?kind=release").text
    assert (release in page, page.count('<article class="case"')) == (True, 1)
    assert "oldest" not in page
    assert inside.get("/worklist?kind=none").status_code == 404
    csrf = token(page)
    answer = inside.post(
        f"/worklist/{release}?kind=release", data={"csrf_token": csrf, "act": "stop"}
    )
    assert answer.location == "/worklist?kind=release"
    assert "No cases of this kind are open." in inside.get(answer.location).text


def test_a_case_that_was_closed_by_mistake_is_opened_again(inside: Any, db: Database) -> None:
    """The last ones are listed, with who, when and the note; a press puts one back, and it is on
    record. What has settled, or was done, has no such button.
    """
    case_id = opened(db)
    act(inside, case_id, act="close", note="Rang <her>.")
    page = inside.get("/worklist").text
    for told in ("Closed a case: admin", "Rang &lt;her&gt;.", 'value="open"'):
        assert told in page
    assert "back on the worklist" in act(inside, case_id, act="open")
    assert [row["id"] for row in cases.open_cases(db)] == [case_id]
    assert only(db, audit, action="case open")["target"] == case_id
    assert "open already" in act(inside, case_id, act="open")
    act(inside, case_id, act="resend")
    assert 'value="open"' not in inside.get("/worklist").text
    assert "open already" not in act(inside, case_id, act="close", note="No.")


@pytest.mark.parametrize("kind", sorted({*ALERTS} - {"release", "limit"}))
def test_a_case_that_is_open_again_is_known_again(kind: str, db: Database) -> None:
    """Whatever it is about: it is not opened twice, and closes by itself as before."""
    (id_,) = planned(db, a_notice())
    message = only(db, notifications)
    watched = {"looked_to": now(), "next_at": now()}
    with db.write() as connection:
        connection.execute(watches.insert().values(name="results", **watched))
    keys = {"unreached": message["family"], "held": message["event_id"], "missing": "results:o-1:0"}
    key = {**keys, "paused": "sms", "config": "config.toml", "erasure": "era_1"}.get(kind, id_)
    subject = key if kind in ("paused", "config", "erasure") else "o-1"
    about = Case(kind, key, subject, "Why.", message["event_id"], id_)
    with db.write() as connection:
        assert cases.open_case(connection, about)
    (found,) = cases.open_cases(db)
    done = Act("admin", "case close", found["id"])
    cases.see_to(db, found["id"], done, "Rang.", lambda connection: "Closed.")
    cases.reopen(db, found["id"], Act("admin", "case open", found["id"]))
    assert only(db, stored)["digest"] == case_digest(kind, key)
    with db.write() as connection:
        assert not cases.open_case(connection, about)
    cases.close_settled(db, kind, key, "It has settled.")
    assert cases.open_cases(db) == []
    with pytest.raises(ledger_audit.NotDone, match="open already"):
        cases.reopen(db, found["id"], Act("admin", "case open", found["id"]))


def test_a_newer_case_about_the_same_stays_the_only_one(db: Database) -> None:
    """It has come again meanwhile: the old case is not opened beside it."""
    case_id = opened(db)
    done = Act("admin", "case close", case_id)
    cases.see_to(db, case_id, done, "Rang.", lambda connection: "Closed.")
    message = only(db, notifications)
    with db.write() as connection:
        cases.open_case(
            connection, Case("unreached", message["id"], "o-1", "Again.", message["event_id"])
        )
    with pytest.raises(ledger_audit.NotDone, match="newer case"):
        cases.reopen(db, case_id, Act("admin", "case open", case_id))


def test_an_act_and_its_line_are_kept_together_or_not_at_all(
    inside: Any, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger goes away while the audit trail is written: nothing was done, and the page does
    not say more than it knows.
    """
    case_id = opened(db)
    inside.post("/webhooks/lab/lab-secret", data=b'{"event": "order.shipped", "data": {}}')
    post = only(db, quarantine)["id"]

    def gone(*_: Any) -> None:
        raise LedgerUnavailable("the ledger is out of reach")

    acts: list[tuple[str, dict[str, str]]] = [
        (f"/worklist/{case_id}", {"act": "resend"}),
        (f"/worklist/{case_id}", {"act": "close", "note": "Rang."}),
        (f"/worklist/refused/{post}", {"act": "aside", "note": "A test."}),
        ("/suppressions", {"act": "add", "address": "+447700900077", "note": "Asked."}),
    ]
    whole = dump(db)
    with monkeypatch.context() as patch:
        patch.setattr(ledger_audit, "write_audit_in", gone)
        for path, form in acts:
            answer = press(inside, path, **form)
            assert answer.status_code == 503
            assert "may or may not have been done" in answer.text
    assert dump(db) == whole
    for path, form in acts:
        assert press(inside, path, **form).status_code in (200, 302)


def test_what_is_about_no_kit_stands_in_no_journey(inside: Any, db: Database) -> None:
    """A pause, a limit, a config or an erasure hangs on some event: neither the case nor what staff
    are written of it is told of that event's kit.
    """
    (mine,) = planned(db, a_notice())
    event = only(db, events)
    for kind in sorted(OF_NO_KIT):
        about = alerts.case(kind, "k", "sms", "Why.", policy=POLICY, now=datetime.now(UTC))
        assert cases.open_for_all(db, about)
    (found,) = trail.find(db, event["id"])
    assert ([row["id"] for row in found.messages], found.cases) == ([mine], [])
    alert = only(db, notifications, rule="relay:paused")
    (found,) = trail.find(db, alert["id"])
    assert [row["id"] for row in found.messages] == [alert["id"]]
    page = inside.get(f"/journey?kit={event['id']}").text
    assert [kind for kind in OF_NO_KIT if ALERTS[kind].title in page] == []
    assert inside.get("/worklist").text.count('<article class="case"') == len(OF_NO_KIT)
