"""The desk's worklist: what needs a person, and what a person can do about it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from markupsafe import escape

from relay.config.settings import Settings
from relay.errors import LedgerUnavailable
from relay.lab.facts import Record
from relay.ledger import attempts
from relay.ledger import audit as ledger_audit
from relay.ledger import events as ledger_events
from relay.ledger.audit import Act
from relay.ledger.database import Database, now
from relay.ledger.schema import audit, events, notifications, quarantine, watches
from relay.ledger.schema import cases as stored
from relay.ledger.views import trail
from relay.ledger.worklist import cases, releases
from relay.messages.alerts import AlertTemplates, CaseNames
from relay.messages.templates import Templates
from relay.rules import alerts
from relay.rules.alerts import KINDS, OF_NO_KIT
from relay.rules.model import Case, case_digest
from relay.rules.statuses import GOES_AGAIN
from tests.conftest import ROOT, SECRET
from tests.desk import press
from tests.dump import dump
from tests.rows import (
    POLICY,
    as_the_release_before,
    case,
    change,
    leased,
    only,
    open_cases,
    planned,
    rows,
    time_passes,
    unknown,
)
from tests.rows import notice as a_notice
from tests.test_desk import desk, inside, log_in, token

__all__ = ["desk", "inside"]  # fixtures
WORDS = AlertTemplates(Templates(ROOT / "templates"), Record("clinic", {}))


def opened(db: Database, kind: str = "unreached", **fields: Any) -> str:
    """A case about a message that failed; its id."""
    (id_,) = planned(db, a_notice(**fields))
    change(db, notifications, {"id": id_}, status="permanent-failure", reason="No such number.")
    event_id = only(db, notifications, id=id_)["event_id"]
    with db.write() as connection:
        cases.open_case(connection, Case(kind, id_, "o-1", "Nobody was reached.", event_id, id_))
    return str(open_cases(db)[-1]["id"])


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


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_case_is_shown_in_words(kind: str, inside: Any, db: Database) -> None:
    """Each case has its title, what has happened and why; every page counts them."""
    opened(db, kind)
    page = inside.get("/worklist").text
    words = WORDS.words(CaseNames("", kind, "o-1", ""))
    for told in (words.title, words.happened, words.to_do, "Nobody was reached."):
        assert str(escape(told)) in page
    assert "07700" not in page
    assert "+447700" not in page
    assert '<span class="count">1' in inside.get("/").text
    journey = f'href="/journey?kit={only(db, events)["id"]}"'
    assert (journey in page) == (kind not in OF_NO_KIT)
    assert inside.get(f"/journey?kit={only(db, events)['id']}").status_code == 200


@pytest.mark.parametrize("kind", [*KINDS, "of-tomorrow"])
def test_a_case_says_how_much_it_is_about(kind: str, inside: Any, db: Database) -> None:
    """One fault is one case: how many messages or events it holds up stands on the page, and in its
    kit's journey. Of one message no number is written.
    """
    case_id = opened(db, kind)
    words = f"12 {alerts.COUNTED.get(kind, 'messages')}"
    for count, is_told in ((1, False), (12, True)):
        change(db, stored, {"id": case_id}, count=count)
        for path in ("/worklist", f"/case/{case_id}"):
            assert (words in inside.get(path).text) == is_told
        if kind not in OF_NO_KIT:
            page = inside.get(f"/journey?kit={only(db, events)['id']}").text
            assert (words in page) == is_told


def test_a_case_of_a_newer_version_is_shown(inside: Any, db: Database) -> None:
    """A release that was taken back has left it: it can be read and closed."""
    case_id = opened(db, "of-tomorrow")
    assert "does not know" in inside.get("/worklist").text
    assert inside.get(f"/journey?kit={only(db, events)['id']}").status_code == 200
    assert "Closed." in act(inside, case_id, act="close", note="Seen.")


def test_a_case_has_a_page_of_its_own(inside: Any, db: Database) -> None:
    """Where an alert's link leads: that case alone, with its buttons; closed, what was done."""
    case_id, other = opened(db), opened(db, "broken", address="+447700900002")
    page = inside.get(f"/case/{case_id}").text
    assert page.count('<article class="case"') == 1
    assert (case_id in page, other in page) == (True, False)
    assert 'value="resend"' in page
    act(inside, case_id, act="close", note="Called her.")
    page = inside.get(f"/case/{case_id}").text
    assert page.count('<article class="case"') == 0
    for told in (WORDS.title("unreached"), "Called her.", 'value="open"'):
        assert told in page
    assert WORDS.title("broken") not in page
    assert inside.get("/case/cas_none").status_code == 404


def test_an_alerts_link_leads_there_after_the_login(desk: Any, db: Database) -> None:
    """Whoever is not logged in is asked for the password first, and then sees the case."""
    case_id = opened(db)
    asked = desk.get(f"/case/{case_id}")
    assert (asked.status_code, asked.location) == (302, f"/login?next=/case/{case_id}")
    assert log_in(desk, next_=f"/case/{case_id}").location == f"/case/{case_id}"
    assert case_id in desk.get(f"/case/{case_id}").text


def test_a_case_is_shown_though_its_words_are_broken(
    make_client: Callable[[Settings], Any], settings: Settings, db: Database, tmp_path: Path
) -> None:
    """A mistake in templates/alerts hides no case: it is shown in plain words, with its reason."""
    inside = make_client(replace(settings, templates=tmp_path))
    log_in(inside)
    case_id = opened(db)
    for path in ("/worklist", f"/case/{case_id}"):
        page = inside.get(path).text
        assert "Something needs a person (unreached)" in page
        assert "Nobody was reached." in page


def test_a_closed_case_is_gone_and_its_note_is_kept(inside: Any, db: Database) -> None:
    """Acknowledged with a note it leaves the list; who did it, and when, stays."""
    case_id = opened(db)
    page = act(inside, case_id, act="close", note="Called her on Monday.")
    assert "Closed." in page
    assert open_cases(db) == []
    with db.read() as connection:
        found = cases.get_case(connection, case_id)
    assert found
    assert (found["closed_by"], found["note"]) == ("admin", "Called her on Monday.")
    assert ("case close", case_id) in {(row["action"], row["target"]) for row in rows(db, audit)}


def test_pressed_twice_it_is_done_once(inside: Any, db: Database) -> None:
    """A second press of a button, in another tab, changes nothing and says so."""
    case_id = opened(db)
    act(inside, case_id, act="resend")
    change(db, notifications, {}, status="sent")
    assert "already closed" in act(inside, case_id, act="resend")
    assert only(db, notifications)["status"] == "sent"


def test_a_failed_message_is_sent_again(inside: Any, db: Database) -> None:
    """What failed is about to be sent once more, and the case is closed."""
    case_id = opened(db, "broken")
    page = act(inside, case_id, act="resend")
    assert "Relay is sending it again." in page
    assert "Undo</button>" in page
    assert only(db, notifications)["waits_for"] == GOES_AGAIN
    assert open_cases(db) == []


def test_a_held_event_is_processed_again(inside: Any, db: Database) -> None:
    """An event that was held is received anew."""
    event = leased(db)
    held = case("held", event.id, event.id)
    with db.write() as connection:
        ledger_events.hold(connection, event.id, "The lab refuses.", held)
    (found,) = open_cases(db)
    act(inside, found["id"], act="replay")
    assert only(db, events)["status"] == "received"
    assert open_cases(db) == []


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
    (found,) = open_cases(db)
    act(inside, found["id"], act=choice)
    assert only(db, notifications)["status"] == status
    assert open_cases(db) == []


def test_what_is_looked_for_still_is_not_decided(inside: Any, db: Database) -> None:
    """While Relay itself is finding out, nobody can have it sent twice."""
    claim = unknown(db)
    with db.write() as connection:
        about = Case("unknown", claim.id, "o-1", "Nobody knows.", claim.event_id, claim.id)
        cases.open_case(connection, about)
    (found,) = open_cases(db)
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
        about = Case("release", both[0].obligation, "o-1", "It is for the customer.", event_id)
        releases.ask(connection, about)
    return str(open_cases(db, "release")[-1]["id"])


def test_what_is_held_is_released(inside: Any, db: Database) -> None:
    """Pressed, all that the case is about goes out as soon as its window is open; twice is once."""
    case_id = held(db)
    assert "it goes out" in act(inside, case_id, act="release", note="Spoke to Dr. Jones.")
    assert {row["status"] for row in rows(db, notifications)} == {"scheduled"}
    assert {row["reason"] for row in rows(db, notifications)} == {"Released by admin."}
    assert len(attempts.claim(db, "sms", 9) + attempts.claim(db, "email", 9)) == 2
    assert "already closed" in act(inside, case_id, act="stop")
    assert {row["status"] for row in rows(db, notifications)} == {"sending"}
    with db.read() as connection:
        found = cases.get_case(connection, case_id)
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
    reread = inside.application.extensions["relay"].reloader
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
    assert open_cases(db) == []


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
    assert len(open_cases(db)) == 1


def test_nothing_is_done_without_login_or_token(desk: Any, db: Database) -> None:
    """Whoever is not logged in, or comes from another site, closes nothing."""
    case_id = opened(db)
    assert desk.get("/worklist").status_code == 302
    assert desk.post(f"/worklist/{case_id}", data={"act": "close"}).status_code in (302, 400)
    assert len(open_cases(db)) == 1


def test_one_act_sees_to_all_that_one_thing_has_led_to(inside: Any, db: Database) -> None:
    """Twelve presses and as many notes are one: cases with the same cause and the same acts stand
    together, each kit with its initials, and closed by mistake they are put back together.
    """
    alike = [opened(db, address=f"+44770090000{n}") for n in range(3)]
    other = opened(db, "broken", address="+447700900009")
    page = inside.get("/worklist").text
    assert page.count('<article class="case"') == 2
    assert "3 messages have reached nobody." in page
    others = " ".join(alike[1:])
    assert f'<input type="hidden" name="case" value="{others}">' in page
    page = act(inside, alike[0], act="close", case=others, note="A bad night.", next=other)
    assert "3 of 3 done. Closed." in page
    assert [row["id"] for row in open_cases(db)] == [other]
    assert "Undo" in page
    assert "3 of 3 done." in act(inside, alike[0], act="open", case=" ".join(alike))
    change(
        db, notifications, {"id": only(db, stored, id=alike[1])["notification_id"]}, status="sent"
    )
    page = act(inside, alike[0], act="resend", case=others)
    assert "2 of 3 done. Relay is sending it again." in page


def test_a_press_leads_back_to_where_it_was_pressed(inside: Any, db: Database) -> None:
    """Not to the top of a long list: to the next case, or to Today."""
    first, second = opened(db), opened(db, "broken", address="+447700900002")
    csrf = token(inside.get("/worklist").text)
    form = {"csrf_token": csrf, "act": "close", "note": "Rang.", "next": second}
    assert inside.post(f"/worklist/{first}", data=form).location == f"/worklist#{second}"
    assert inside.post(f"/worklist/{second}?back=today", data=form).location == "/"


def test_results_come_before_a_parcel(inside: Any, db: Database) -> None:
    """What may do most harm is first, however old the rest is."""
    opened(db)
    change(db, events, {}, urgency=0)
    results = opened(db, "broken", address="+447700900002")
    change(db, events, {"id": only(db, stored, id=results)["event_id"]}, urgency=5)
    page = inside.get("/worklist").text
    assert page.index(f'id="{results}"') < page.index('id="cas_', page.index(f'id="{results}"') + 9)


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
    assert [row["id"] for row in open_cases(db)] == [case_id]
    assert "Closed." in act(inside, case_id, act="close", note="Rang her.")


def test_a_page_has_twelve_cards_and_leads_to_the_next(inside: Any, db: Database) -> None:
    """Who cannot close the first cases reaches the others, and after an act is where they were."""
    opened(db)
    (one,) = rows(db, stored)
    with db.write() as connection:
        many = [  # each has a cause of its own
            {**one, "id": f"cas_{n:04}", "about": f"d-{n}", "digest": f"d-{n}", "reason": f"R{n}."}
            for n in range(28)
        ]
        connection.execute(stored.insert(), many)

    def shown(page: str) -> list[str]:
        return re.findall('<article class="case" id="([^"]+)"', page)

    first = inside.get("/worklist").text
    assert "The cases before" not in first
    second = inside.get("/worklist?from=12").text
    last = inside.get("/worklist?from=24").text
    assert [len(shown(page)) for page in (first, second, last)] == [12, 12, 5]
    assert len({*shown(first), *shown(second), *shown(last)}) == 29
    assert 'href="/worklist?from=12">The next' in first
    assert 'href="/worklist">The cases before' in second
    assert 'href="/worklist?from=24">The next' in second
    assert "The next" not in last
    assert shown(inside.get("/worklist?from=400").text) == shown(last)
    case_id, next_ = shown(second)[:2]
    form = {"csrf_token": token(second), "act": "close", "note": "Seen.", "next": next_}
    answer = inside.post(f"/worklist/{case_id}?from=12", data=form)
    assert answer.location == f"/worklist?from=12#{next_}"


def test_what_sends_itself_is_on_the_page_however_long_it_is(inside: Any, db: Database) -> None:
    """Of more cases than a page has, what waits for a release is first, then the oldest; how many
    there are is told, and each kind can be seen by itself.
    """
    opened(db)
    (one,) = rows(db, stored)
    with db.write() as connection:
        many = [
            {**one, "id": f"cas_{n:04}", "about": f"d-{n}", "digest": f"d-{n}"} for n in range(209)
        ]
        connection.execute(stored.insert(), many)
    time_passes(db, timedelta(hours=1))
    release = held(db)
    page = inside.get("/worklist").text
    assert page.index(release) < page.index("cas_0000")
    assert "Here are the first 100 of 211: what may do most harm first" in page
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
    assert [row["id"] for row in open_cases(db)] == [case_id]
    assert only(db, audit, action="case open")["target"] == case_id
    assert "already open" in act(inside, case_id, act="open")
    act(inside, case_id, act="resend")
    assert 'value="open"' not in inside.get("/worklist").text
    assert "already open" not in act(inside, case_id, act="close", note="No.")


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize("kind", sorted({*KINDS} - {"release", "limit"}))
def test_a_case_that_is_open_again_is_known_again(kind: str, is_old: bool, db: Database) -> None:
    """Whatever it is about, and also where the release before has opened and closed it: it is not
    opened twice, and closes by itself as before.
    """
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
    (found,) = open_cases(db)
    done = Act("admin", "case close", found["id"])
    with db.write() as connection:
        cases.see_to(connection, found["id"], done, "Rang.")
    if is_old:
        as_the_release_before(db, stored)
    with db.write() as connection:
        cases.reopen(connection, found["id"], Act("admin", "case open", found["id"]))
    row = only(db, stored)
    assert row["about"] == row["digest"] == case_digest(kind, key)
    with db.write() as connection:
        assert not cases.open_case(connection, about)
    with db.write() as connection:
        cases.close_settled(connection, kind, key, "It has settled.")
    assert open_cases(db) == []
    with pytest.raises(ledger_audit.NotDone, match="too late"), db.write() as connection:
        cases.reopen(connection, found["id"], Act("admin", "case open", found["id"]))


def test_a_days_limit_stays_closed(db: Database) -> None:
    """It is over at midnight: there is nothing to open again."""
    planned(db, a_notice())
    about = Case("limit", "2026-11-28", "sms", "Why.", only(db, events)["id"])
    with db.write() as connection:
        assert cases.open_case(connection, about)
    (found,) = open_cases(db)
    with db.write() as connection:
        cases.see_to(connection, found["id"], Act("admin", "case close", found["id"]), "Seen.")
    with db.read() as connection:
        assert [row["can_open"] for row in cases.closed_cases(connection)] == [False]


def test_a_newer_case_about_the_same_stays_the_only_one(db: Database) -> None:
    """It has come again meanwhile: the old case is not opened beside it."""
    case_id = opened(db)
    done = Act("admin", "case close", case_id)
    with db.write() as connection:
        cases.see_to(connection, case_id, done, "Rang.")
    message = only(db, notifications)
    with db.write() as connection:
        cases.open_case(
            connection, Case("unreached", message["id"], "o-1", "Again.", message["event_id"])
        )
    with pytest.raises(ledger_audit.NotDone, match="newer case"), db.write() as connection:
        cases.reopen(connection, case_id, Act("admin", "case open", case_id))


def test_an_act_and_its_line_are_kept_together_or_not_at_all(
    inside: Any, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger goes away while the audit trail is written: nothing was done, and the page does
    not say more than it knows.
    """
    case_id = opened(db)
    inside.post(f"/webhooks/lab/{SECRET}", data=b'{"event": "order.shipped", "data": {}}')
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
        patch.setattr(ledger_audit, "write_audit", gone)
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
        with db.write() as connection:
            assert cases.open_for_all(connection, about)
    with db.read() as connection:
        (found,) = trail.find(connection, event["id"])
    assert ([row["id"] for row in found.messages], found.cases) == ([mine], [])
    alert = only(db, notifications, rule="relay:paused")
    with db.read() as connection:
        about_it = cases.get_case(connection, alert["case_id"])
        (found,) = trail.find(connection, alert["id"])
    assert (alert["kind"], about_it and about_it["kind"]) == ("alert", "paused")
    assert [row["id"] for row in found.messages] == [alert["id"]]
    page = inside.get(f"/journey?kit={event['id']}").text
    assert [kind for kind in OF_NO_KIT if str(escape(WORDS.title(kind))) in page] == []
    assert inside.get("/worklist").text.count('<article class="case"') == len(OF_NO_KIT)
