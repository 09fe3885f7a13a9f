"""The desk's journeys: a kit is found, its story told, and nobody's details shown unasked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from relay.ledger import delivery, receipts, upkeep
from relay.ledger.database import Database
from relay.ledger.delivery import Ending
from relay.ledger.schema import aliases, audit, events, notifications
from relay.receipts import Receipt
from tests.desk import EMAIL, PHONE, WORDS, kit, leaks, press, search
from tests.rows import change, claimed, only, rows, time_passes
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
    """An order, a code, one's own reference, an event or a message lead to the same page."""
    message, _ = kit(db)
    with db.write() as connection:
        for alias in ("TRF-77", "my-ref-9"):
            row = {"resource": "registration", "alias": alias, "subject": "o-1"}
            connection.execute(aliases.insert().values(row))
    for id_ in ("o-1", "TRF-77", "my-ref-9", only(db, events)["id"], message):
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


def test_nobody_else_is_found(inside: Any, db: Database) -> None:
    """A first name alone, another's name or address, or a wildcard finds nothing."""
    kit(db)
    for written in ("Jane", "Smyth", "+447700900002", "smith@example.org", "%", "_", "\0"):
        assert "1 kit found" not in search(inside, written)


def test_a_number_that_cannot_be_texted_says_so(inside: Any) -> None:
    """Why there can be nothing by such a number is told."""
    assert "a landline" in search(inside, "020 7946 0000")


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
    upkeep.purge(db, timedelta(days=90))
    assert only(db, events)["person"] is None
    assert "Nothing found" in search(inside, "smith")
    assert "It was sent." in search(inside, "o-1")


def test_names_and_numbers_are_in_no_address(inside: Any, db: Database) -> None:
    """What is searched is posted, not put into a link: servers and browsers keep links."""
    kit(db)
    assert "smith" not in inside.get("/journeys?q=smith").text
    assert press(inside, "/journeys", q="o-1").location == "/journey?kit=o-1"


def test_the_journey_tells_why(inside: Any, db: Database) -> None:
    """Attempts, receipts and the sentence that says why stand on the page, as explain has them."""
    claim = claimed(db, address=PHONE)
    delivery.begin(db, claim, {"text": WORDS})
    ending = Ending("accepted", "sent", provider_id="SM1", awaits_receipt=True)
    delivery.finish(db, claim, ending)
    failed = Receipt("permanent-failure", "undelivered", claim.attempt_id, reason="Not in use.")
    receipts.record(db, "sms", [failed])
    page = search(inside, claim.id)
    for said in ("accepted by the provider as SM1", "undelivered", "Not in use."):
        assert said in page
    assert "permanent-failure</span>" in page
    assert leaks(page) == []


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
    assert len(audited(db)) == 2


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
