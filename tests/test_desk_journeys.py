"""The desk's journeys: a kit is found, its story told, and nobody's details shown unasked."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from relay.ledger import attempts, history, receipts
from relay.ledger.database import Database, now
from relay.ledger.removal import retention
from relay.ledger.schema import aliases, audit, events, notifications, suppressions
from relay.ledger.worklist import cases
from relay.rules import model
from relay.rules.alerts import rule_name
from relay.rules.model import Ending
from relay.rules.receipts import Receipt
from relay.staff.explain import _WAITS_FOR
from tests.desk import EMAIL, PHONE, WORDS, kit, leaks, press, search
from tests.rows import beat, change, claimed, leased, notice, only, planned, rows, time_passes
from tests.test_desk import desk, inside

__all__ = ["desk", "inside"]  # fixtures


def audited(db: Database) -> list[tuple[str, str, str]]:
    """Who did what to whom, but for logins."""
    return [
        (row["actor"], row["action"], row["target"])
        for row in rows(db, audit)
        if row["action"] != "login"
    ]


def test_a_kit_is_found_by_any_of_its_ids(inside: Any, db: Database) -> None:
    """An order, a code, one's own reference, an event or a message lead to the same page, in
    capital or small letters.
    """
    message, _ = kit(db)
    with db.write() as connection:
        for alias in ("TRF-77", "my-ref-9", "LML-e23e2d"):
            row = {"resource": "registration", "alias": alias, "subject": "o-1"}
            connection.execute(aliases.insert().values(row))
    written = ("trf-77", "MY-REF-9", "O-1", "lml-e23e2d", "LML-E23E2D", message.upper())
    for id_ in ("o-1", "TRF-77", "my-ref-9", only(db, events)["id"], message, *written):
        page = search(inside, id_)
        assert "Text to the customer" in page
        assert "Email to the customer" in page
        assert leaks(page) == []


def test_a_person_is_found(inside: Any, db: Database) -> None:
    """By surname, by both names in any order, by number or address however it is written; the
    list shows who it is by initials only.
    """
    kit(db)
    by_name = ("smith", "SMI", "Jane Smith", "smith, jane", "Mrs Jane Smith")
    by_address = ("07700 900001", PHONE, "(07700) 900-001", EMAIL, "jane.smith@EXAMPLE.org")
    for written in (*by_name, *by_address):
        page = search(inside, written)
        assert "1 kit found" in page, written
        assert 'href="/journey?kit=o-1"' in page
        assert "J••• S•••" in page
        assert leaks(page.replace(f'value="{written}"', "")) == []


def test_a_persons_kits_are_linked(inside: Any, db: Database) -> None:
    """By the same name with the lab's id of the patient or an address in common, and each that is
    shown is on record. Who only has the same name, or only the same number, is somebody else.
    """
    by_id, mail = {"patient": {"id": "p-1"}}, {"email": EMAIL}
    kits = {
        "o-1": {"order": {"id": "o-1"}, "customer": mail, **by_id},
        "o-2": {"order": {"id": "o-2"}, **by_id},
        "o-3": {"order": {"id": "o-3"}, "customer": {"email": EMAIL.upper()}},
        "o-4": {"order": {"id": "o-4"}, "customer": {"email": "other@example.org"}},
        "o-5": {"order": {"id": "o-5"}, "customer": mail, "first_name": "Tom"},
    }
    for order, facts in kits.items():
        first = str(facts.pop("first_name", "Jane"))
        kit(db, first, order=order)
        named = {"first_name": first, "last_name": "Smith"}
        whole = {**facts, "customer": {**named, **facts.get("customer", {})}}
        change(db, events, {"subject": order}, facts=whole)
    page = inside.get("/journey?kit=o-1").text
    others = page.partition("2 other kits of the same person")[2].partition("</ul>")[0]
    assert re.findall(r"kit=(o-\d)", others) == ["o-3", "o-2"]
    assert leaks(page) == []
    found = [row["target"] for row in rows(db, audit, action="found")]
    assert sorted(found) == ["o-2", "o-3"]
    assert "of the same person" not in inside.get("/journey?kit=o-4").text


def test_nobody_else_is_found(inside: Any, db: Database) -> None:
    """A first name alone, another's name or address, or a wildcard finds nothing."""
    kit(db)
    for written in ("Jane", "Smyth", "+447700900002", "smith@example.org", "%", "_", "\0"):
        assert "1 kit found" not in search(inside, written)


def test_a_number_that_cannot_be_texted_says_so(inside: Any) -> None:
    """Why there can be nothing by such a number is told, and that no id is written so either."""
    assert "a landline" in search(inside, "020 7946 0000")
    said = "There is no such id; and as a phone number: The phone number is not valid."
    assert said in search(inside, "10023456")


def test_an_address_that_was_not_written_to_says_so(inside: Any, db: Database) -> None:
    """Somebody who was only texted is not found by email: how it is written is not to blame."""
    kit(db)
    for written in ("other@example.org", "07700 900055"):
        page = search(inside, written)
        assert "The search covers only addresses" in page
        assert "Check the spelling" not in page
    assert "Check the spelling" in search(inside, "Smyth")


def test_an_id_as_it_is_written_comes_first(inside: Any, db: Database) -> None:
    """Where two references differ by their letters alone, each leads to its own kit."""
    kit(db)
    kit(db, order="O-1")
    for order in ("o-1", "O-1"):
        assert press(inside, "/journeys", q=order).location == f"/journey?kit={order}"


def test_a_short_surname_is_a_whole_word(inside: Any, db: Database) -> None:
    """Ng finds Ng, and not everybody whose name begins so."""
    kit(db, "Wei", "Ng", "o-1")
    kit(db, "Ana", "Ngata", "o-2", address="+447700900002")
    page = search(inside, "Ng")
    assert "1 kit found" in page
    assert "W••• N•••" in page


def test_names_are_forgotten_with_the_rest(inside: Any, db: Database) -> None:
    """After `retention` a name finds nothing, and the kit's own id still tells what happened."""
    kit(db)
    time_passes(db, timedelta(days=91))
    retention.purge(db, timedelta(days=90))
    assert only(db, events)["person"] is None
    assert "Nothing found" in search(inside, "smith")
    assert "It was sent; there is no receipt yet." in search(inside, "o-1")


def test_a_kit_in_history_has_its_page(inside: Any, db: Database) -> None:
    """A finished kit's page says that it lies there, and offers nothing that would need more."""
    message, _ = kit(db)
    with db.write() as connection:
        about = model.Case("unreached", "k-1", "o-1", "Nobody.", only(db, events)["id"])
        cases.open_case(connection, about)
        cases.close_settled(connection, "unreached", "k-1", "It was.")
    time_passes(db, timedelta(days=91))
    retention.purge(db, timedelta(days=90))
    leased(db, order_id="o-2")
    assert history.in_turns(db, timedelta(days=90), timedelta(days=900), lambda: True).moved == 1
    for wanted in ("o-1", "O-1", message):
        page = search(inside, wanted)
        assert "Its kit is finished and in history" in page
        assert "It was sent; there is no receipt yet." in page
        assert "Nobody." in page
        assert not {"Send it again", "Go to the case"} & {*re.findall(r"Send it again|Go to", page)}
    shown = press(inside, "/journey", kit="o-1").text
    assert leaks(shown) == []


def test_names_and_numbers_are_in_no_address(inside: Any, db: Database) -> None:
    """What is searched is posted, not put into a link: servers and browsers keep links."""
    kit(db)
    assert "smith" not in inside.get("/journeys?q=smith").text
    assert press(inside, "/journeys", q="o-1").location == "/journey?kit=o-1"


def test_the_journey_tells_why(inside: Any, db: Database) -> None:
    """Attempts, receipts and the sentence that says why stand on the page, as explain has them."""
    claim = claimed(db, address=PHONE)
    attempts.begin(db, claim, {"text": WORDS})
    ending = Ending("accepted", "sent", provider_id="SM1", awaits_receipt=True)
    attempts.finish(db, claim, ending)
    failed = Receipt("permanent-failure", "undelivered", claim.attempt_id, reason="Not in use.")
    receipts.record(db, "sms", [failed])
    page = search(inside, claim.id)
    for said in ("accepted by the provider as SM1", "undelivered", "Not in use."):
        assert said in page
    assert "Number does not work</span>" in page
    assert leaks(page) == []


def test_a_message_that_waits_says_what_holds_it_up(
    inside: Any, db: Database, config_file: Path
) -> None:
    """No worker, a paused channel with its reason, the day's limit, or that a worker is about to
    take it; one that is for later says none of it.
    """
    claim = claimed(db, subject="o-3")
    tomorrow = {"due_at": datetime.now(UTC) + timedelta(days=1), "status": "scheduled"}
    text, later = planned(db, notice(subject="o-4"), notice(subject="o-2", **tomorrow))

    def told(id_: str) -> str:
        page = html.unescape(inside.get(f"/journey?kit={id_}").text)
        [said] = re.findall(rf'id="{id_}".*?</article>', page, re.DOTALL)
        return str(said)

    assert "It is waiting: no worker is running." in told(text)
    beat(db, "worker-1")
    assert "It is waiting for a worker, which takes it next." in told(text)
    for what, said in _WAITS_FOR.items():
        change(db, notifications, {"id": text}, waits_for=what)
        assert f"It is waiting {said}." in told(text)
    change(db, notifications, {"id": text}, waits_for=None)
    limited = config_file.read_text("utf-8").replace("sms_limit = 2000", "sms_limit = 1")
    config_file.write_text(limited, "utf-8")
    inside.application.extensions["relay"].reloader.look()
    assert "It is waiting: the day's limit of 1 text has been reached" in told(text)
    refused = model.Pause("refused", "Twilio refuses our account (401).")
    attempts.finish(db, claim, Ending("rejected", "created", refused.reason, pause=refused))
    paused = r"texts have been paused since [^;]+, because Twilio refuses our account \(401\)\.<"
    assert re.search(f"It is waiting: {paused}", told(text))
    assert "It is due at" in told(later)
    assert "It has not gone out yet." in told(later)
    assert "paused" not in told(later)
    change(db, notifications, {"id": later}, waits_for="lab")  # it is asked once that is due
    assert "It has not gone out yet." in told(later)


def test_what_never_left_is_not_told_as_sent(inside: Any, db: Database) -> None:
    """Where delivery is dry-run, or nobody's account sends it, the journey says that it was kept
    here, and its mark is not that of what was sent.
    """
    claim = claimed(db, address=PHONE)
    kept = Ending("accepted", "sent", provider_id=f"dry-run-{claim.attempt_id}", is_kept=True)
    attempts.finish(db, claim, kept)
    page = search(inside, claim.id)
    assert "It was made and kept here, not sent." in page
    assert "kept here, not sent</span>" in page
    assert "accepted by the provider" not in page
    assert "status sent" not in page


def test_an_alert_has_its_title(inside: Any, db: Database) -> None:
    """What staff were told stands there in words, and not the name that it has inside; a fallback
    is called one.
    """
    alert, fallback = planned(
        db,
        notice(rule=rule_name("unreached"), kind="alert"),
        notice(subject="o-2", is_fallback=True),
    )
    page = search(inside, alert)
    for where in (page, inside.get("/activity?alerts=1").text):
        assert "Somebody could not be reached" in where
        assert rule_name("unreached") not in where
    assert "kit-shipped, as its fallback" in search(inside, fallback)


def test_a_reveal_is_on_record(inside: Any, db: Database) -> None:
    """Who asks sees names, addresses and messages, once; the audit trail has who and what, and
    none of what was seen.
    """
    kit(db)
    page = press(inside, "/journey", kit="o-1").text
    for seen in (PHONE, EMAIL, "Jane Smith", WORDS, "For Jane"):
        assert seen in page
    assert audited(db) == [("admin", "reveal", "o-1")]
    assert leaks(f"{rows(db, audit)}") == []
    assert leaks(inside.get("/journey?kit=o-1").text) == []
    press(inside, "/journey", kit="o-1")
    assert [action for _, action, _ in audited(db)] == ["reveal", "open kit", "reveal"]


def test_a_number_is_stopped_from_its_kits_page(inside: Any, db: Database) -> None:
    """Nobody has to see it for that; the page says so then, and who did it is on record."""
    text, _ = kit(db)
    assert "Give a reason" in inside.get(press(inside, "/journey/stop", message=text).location).text
    press(inside, "/journey/stop", message=text, note="She asked.")
    page = inside.get("/journey?kit=o-1").text
    assert "Texts to this address are stopped since" in page
    assert leaks(page) == []
    assert only(db, suppressions)["address"] == PHONE
    assert ("admin", "suppress") in {row[:2] for row in audited(db)}
    for message in ("msg_none", ""):
        assert press(inside, "/journey/stop", message=message, note="x").status_code == 404


def test_the_lab_is_asked_now(inside: Any, db: Database) -> None:
    """About an event that waits or is held, from its kit's page; not over and over."""
    event = leased(db, order_id="o-9").id
    change(db, events, {"id": event}, tries=3, next_at=now(3600), tried_at=now(-3600))
    assert "Ask the lab now" in inside.get(f"/journey?kit={event}").text
    page = inside.get(press(inside, "/journey/ask", event=event).location).text
    assert "Relay is asking the lab." in page
    assert only(db, events)["next_at"] <= datetime.now(UTC)
    assert ("admin", "replay", event) in audited(db)
    change(db, events, {"id": event}, next_at=now(3600), tried_at=now())
    page = inside.get(press(inside, "/journey/ask", event=event).location).text
    assert "Relay has just tried it." in page
    change(db, events, {"id": event}, status="held")
    press(inside, "/journey/ask", event=event)
    assert only(db, events)["status"] == "received"
    assert press(inside, "/journey/ask", event="evt_none").status_code == 404


def test_one_message_can_be_revealed_alone(inside: Any, db: Database) -> None:
    """The others' addresses and the names stay masked, and that message is on record."""
    text, _ = kit(db)
    page = press(inside, "/journey", kit="o-1", message=text).text
    assert PHONE in page
    assert EMAIL not in page
    assert "Smith" not in page
    assert audited(db) == [("admin", "reveal", text)]


def test_staffs_messages_are_revealed_one_by_one(inside: Any, db: Database) -> None:
    """What staff were written may tell of other people: it is not shown with a kit's."""
    mine, _ = kit(db)
    change(db, notifications, {"id": mine}, role="lab-desk", address="+447700900009")
    assert "+447700900009" not in press(inside, "/journey", kit="o-1").text
    assert "+447700900009" in press(inside, "/journey", kit="o-1", message=mine).text


def test_what_is_not_there_reveals_nothing(inside: Any, db: Database) -> None:
    """An unknown kit or another kit's message is not found, and nothing is noted."""
    kit(db)
    for form in ({"kit": "none"}, {"kit": ""}, {"kit": "\0"}, {"kit": "o-1", "message": "msg_2"}):
        answer = press(inside, "/journey", **form)
        assert (answer.status_code, answer.mimetype) == (404, "text/html")
    assert audited(db) == []


def test_nothing_is_shown_without_login_or_token(inside: Any, db: Database) -> None:
    """Whoever is not logged in, or comes from another site, sees and finds nothing."""
    kit(db)
    form, stranger = {"kit": "o-1", "q": "smith"}, inside.application.test_client()
    for path in ("/journeys", "/journey"):
        refused = inside.post(path, data=form)
        assert (refused.status_code, refused.mimetype) == (400, "text/html")
        assert stranger.get(path, query_string={"kit": "o-1"}).location.startswith("/login")
        for answer in (refused, stranger.post(path, data=form)):
            assert answer.status_code in {302, 400}
            assert leaks(answer.text) == []
    assert audited(db) == []
