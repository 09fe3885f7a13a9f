"""A kit's record: every event about it, also one that waits or is held, by whichever name."""

from __future__ import annotations

import html
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from relay.lab.events import RESULTS, RETEST
from relay.lab.facts import Facts
from relay.ledger import events as ledger_events
from relay.ledger.database import Database
from relay.ledger.schema import cases, events
from relay.ledger.views import kit_names, trail
from relay.ledger.views.status import Blockers
from relay.rules.model import Plan
from relay.staff.explain import NOT_ALL, explain_kit
from tests.desk import press, search
from tests.rows import MONTH, case, change, incoming, only
from tests.test_desk import desk, inside

__all__ = ["desk", "inside"]  # fixtures
COMPLETE, SHIPPED, DELIVERED = "test_registration.complete", "order.shipped", "order.delivered"
KIT = {"id": "r-1", "trf_code": "LML-e23e2d", "foreign_id": "Ref-Ab"}
ORDER = {
    "id": "o-1",
    "order_number": " 10-Ab ",
    "tracking_number": "AB 1234 5678 5GB",
    "test_registrations": [{"id": "r-1", "trf_code": "LML-e23e2d"}],
}
OF_KIT = (
    "r-1",
    "R-1",
    "LML-e23e2d",
    "lml-E23E2D",
    "e23e2d",
    "E23E2D",
    "Ref-Ab",
    "ref-ab",
    " REF-AB ",
)
OF_ORDER = ("o-1", "10-Ab", "10-ab", "AB 1234 5678 5GB", "ab123456785gb", "AB123456785GB ")


def posted(db: Database, name: str, id_: str, **more: str) -> str:
    """An event that has come in, by this name of its kit; its id."""
    field = "order_id" if name.startswith("order.") else "testregistration_id"
    given = incoming(name, **{field: id_, **more})
    return ledger_events.record_webhook(db, given, MONTH).id


def processed(db: Database, name: str, id_: str, **more: Any) -> str:
    """An event that was processed: the lab's API had these answers."""
    facts = Facts(**{key: more.pop(key) for key in ("order", "registration") if key in more})
    event_id = posted(db, name, id_, **more)
    with db.write() as connection:
        event = ledger_events.get_event(connection, event_id)
        assert event
        ledger_events.plan_and_mark_processed(connection, event, facts, lambda _kit: Plan(()))
    return event_id


def held(db: Database, event_id: str) -> None:
    """An event that a person has to look at."""
    with db.write() as connection:
        about = case("held", event_id, event_id)
        ledger_events.hold(connection, event_id, "The lab does not know it.", about)


def found(db: Database, wanted: str) -> list[str]:
    """The events that a kit's record has, by any id."""
    with db.read() as connection:
        return [one.event["id"] for one in trail.find(connection, wanted)]


def on_page(db: Database, wanted: str) -> list[str]:
    """The events on the kit's page that an id leads to."""
    with db.read() as connection:
        return [one.event["id"] for one in trail.find_kit(connection, wanted)]


def told(db: Database, wanted: str) -> str:
    """What `explain` prints."""
    standing = Blockers(datetime.now(UTC), 1, {}, {})
    with db.read() as connection:
        kit = trail.find(connection, wanted)
    told = explain_kit(kit, ZoneInfo("Europe/London"), standing, str)
    return "\n".join(line for lines in told for _, line in lines)


@pytest.mark.parametrize("used", ["r-1", "LML-e23e2d", "E23E2D", "Ref-Ab", "lml-E23E2D"])
def test_results_that_wait_are_found_by_every_name(db: Database, used: str) -> None:
    """Whichever name the lab used for them, and by whichever the kit is asked for."""
    first = processed(db, COMPLETE, "r-1", registration=KIT)
    results = posted(db, RESULTS, used)
    for wanted in OF_KIT:
        assert found(db, wanted) == on_page(db, wanted) == [first, results], wanted
    assert on_page(db, results) == on_page(db, first) == [first, results]


@pytest.mark.parametrize("used", ["o-1", "10-Ab", "AB 1234 5678 5GB"])
def test_orders_and_their_kits_show_what_waits_of_each_other(db: Database, used: str) -> None:
    """By the order's number and the parcel's too, also in other letters or without white space."""
    shipped = processed(db, SHIPPED, "o-1", order=ORDER)
    complete = processed(db, COMPLETE, "r-1", registration=KIT)
    delivered = posted(db, DELIVERED, used)
    results = posted(db, RESULTS, "LML-e23e2d")
    for wanted in (*OF_KIT, *OF_ORDER, delivered, results):
        assert on_page(db, wanted) == [shipped, complete, delivered, results], wanted


def test_a_kit_is_found_before_anything_is_known_of_it(db: Database) -> None:
    """While the lab's API has not answered once, by the name that the lab used, however spelt."""
    first, second = posted(db, COMPLETE, "LML-e23e2d"), posted(db, RESULTS, "E23E2D")
    other = posted(db, RESULTS, "LML-77")
    for wanted in ("LML-e23e2d", "e23e2d", "lml-e23e2d", first, second):
        assert on_page(db, wanted) == [first, second], wanted
    assert found(db, "77") == [other]
    assert found(db, "nothing") == []


def test_a_retest_has_the_record_of_its_original(db: Database) -> None:
    """What waits under a name of any round is on the page of all."""
    first = processed(db, COMPLETE, "r-1", registration=KIT)
    again = {"id": "r-2", "trf_code": "LML-222222", "parent_id": "r-1"}
    second = processed(db, RETEST, "r-1", registration=KIT, retest_testregistration_id="r-2")
    third = processed(db, COMPLETE, "r-2", registration=again)
    late = [posted(db, RESULTS, "222222"), posted(db, RESULTS, "LML-e23e2d")]
    for wanted in (*OF_KIT, "r-2", "lml-222222", *late):
        assert on_page(db, wanted) == [first, second, third, *late], wanted


def test_a_name_that_is_another_kits_is_not_meant(db: Database) -> None:
    """Where two references differ by their letters alone, each event is its own kit's."""
    processed(db, COMPLETE, "r-1", registration=KIT)
    processed(db, COMPLETE, "r-2", registration={"id": "r-2", "foreign_id": "REF-AB"})
    results = posted(db, RESULTS, "REF-AB")
    assert results not in found(db, "r-1")
    assert results in found(db, "r-2")
    assert on_page(db, results) == found(db, "r-2")


def test_an_orders_name_is_not_a_registrations(db: Database) -> None:
    """An order that goes by the same name as somebody's test has nothing to do with it."""
    first = processed(db, COMPLETE, "r-1", registration=KIT)
    order = posted(db, DELIVERED, "e23e2d")
    assert found(db, "r-1") == [first]
    assert on_page(db, order) == [order]


def test_a_shared_name_shows_what_waits_on_both_pages(db: Database) -> None:
    """Nobody can know whose it is, so neither is silent; its own page shows neither's record."""
    one = processed(db, COMPLETE, "r-1", registration=KIT)
    other = processed(db, COMPLETE, "r-2", registration={"id": "r-2", "foreign_id": "Ref-Ab"})
    used = processed(
        db,
        "test_registration.sample_received",
        "Ref-Ab",
        sample_received_at="2026-11-24T09:30:00Z",
        registration={"id": "r-2", "foreign_id": "Ref-Ab"},
    )
    results = posted(db, RESULTS, "Ref-Ab")
    assert found(db, "r-1") == [one, results]
    assert found(db, "r-2") == [other, used, results]
    assert found(db, "Ref-Ab") == [one, other, used, results]
    assert on_page(db, results) == [results]


def test_rows_of_the_release_before_are_found_by_their_data(db: Database) -> None:
    """It keeps no name beside them: those that are due, and those on the worklist."""
    first = processed(db, COMPLETE, "r-1", registration=KIT)
    waits, stays = (
        posted(db, RESULTS, "E23E2D"),
        posted(db, RETEST, "Ref-Ab", retest_testregistration_id="r-2"),
    )
    held(db, stays)
    change(db, events, {}, named=None)
    for wanted in (*OF_KIT, waits, stays):
        assert on_page(db, wanted) == [first, waits, stays], wanted


def test_an_unknown_event_is_on_the_record_too(db: Database) -> None:
    """What Relay does not know may be the very thing that somebody looks for."""
    first = processed(db, COMPLETE, "r-1", registration=KIT)
    given = incoming("lab_results.revoked", testregistration_id="LML-e23e2d")
    unknown = ledger_events.record_webhook(db, given, MONTH).id
    assert found(db, "r-1") == [first, unknown]
    assert "Relay does not know this event." in told(db, "r-1")


def test_many_names_are_no_question_too_long(db: Database) -> None:
    """An order of hundreds of kits has thousands of names, each spelt in several ways."""
    parts = [{"id": f"r-{n}", "trf_code": f"LML-{n:06x}"} for n in range(1500)]
    shipped = processed(db, SHIPPED, "o-1", order={**ORDER, "test_registrations": parts})
    late = posted(db, RESULTS, f"{1499:06x}".upper())
    assert found(db, "o-1") == [shipped, late]


def test_what_waits_says_since_when_how_often_and_when_next(db: Database) -> None:
    """On the record and at its top, with the reason; and so does one that was never tried."""
    processed(db, COMPLETE, "r-1", registration=KIT)
    results = posted(db, RESULTS, "LML-e23e2d")
    assert ", was not tried yet, and a worker will take it next." in told(db, "r-1")
    with db.write() as connection:
        for _ in range(2):
            ledger_events.put_back(connection, results, 600.0, "The lab did not answer.")
    row = only(db, events, id=results)
    at = [
        row[key].astimezone(ZoneInfo("Europe/London")).strftime("%d %b %Y %H:%M:%S")
        for key in ("received_at", "tried_at", "next_at")
    ]
    since = f"has waited since {at[0]}, was tried 2 times, the last time at {at[1]}"
    said = f"{since}, and will next be tried at {at[2]}."
    lines = told(db, "Ref-Ab").splitlines()
    assert lines[:2] == [NOT_ALL, f"{RESULTS} ({results}) {said}"]
    assert f"It {said}" in lines
    assert "Relay has not processed it yet. The lab did not answer." in lines


def test_what_is_held_says_so_with_its_case(db: Database) -> None:
    """Since when, how often it was tried, and that it is not tried again by itself."""
    processed(db, COMPLETE, "r-1", registration=KIT)
    results = posted(db, RESULTS, "E23E2D")
    held(db, results)
    record = told(db, "lml-e23e2d")
    assert record.startswith(f"{NOT_ALL}\n{RESULTS} ({results}) has been held since ")
    assert (
        ", was tried once, and will be tried again when a person asks for it. "
        "The lab does not know it." in record
    )
    assert "on the worklist: held." in record


def test_what_is_processed_again_says_so(db: Database) -> None:
    """It has not waited since it came: it was processed once."""
    first = processed(db, COMPLETE, "r-1", registration=KIT)
    change(db, events, {"id": first}, status="received", tries=0)
    assert "is to be processed again (the last time was at " in told(db, "r-1")


def test_the_desks_page_says_at_its_top_what_waits(inside: Any, db: Database) -> None:
    """A kit whose results are held is not one on which all is well, whatever was searched for."""
    processed(db, SHIPPED, "o-1", order=ORDER)
    processed(db, COMPLETE, "r-1", registration=KIT)
    assert NOT_ALL not in search(inside, "r-1")
    results, delivered = posted(db, RESULTS, "e23e2d"), posted(db, DELIVERED, "o-1")
    held(db, results)
    with db.write() as connection:
        ledger_events.put_back(connection, delivered, 600.0, "The lab did not answer.")
    for wanted in (*OF_KIT, *OF_ORDER, results, delivered):
        page = html.unescape(search(inside, wanted))
        top = page[page.index(NOT_ALL) : page.index('<ol class="timeline">')]
        assert f'<a href="#{results}">Results</a>: it has been held since ' in top, wanted
        assert f'<a href="#{delivered}">Delivered</a>: it has waited since ' in top
        for said in (f'id="{results}"', "The lab does not know it.", "The lab did not answer."):
            assert said in page
    assert press(inside, "/journeys", q="AB123456785GB").location == "/journey?kit=o-1"


def test_a_case_is_a_click_away(inside: Any, db: Database) -> None:
    """The kit's page leads to the case itself, not to a list of everybody's."""
    results = posted(db, RESULTS, "LML-e23e2d")
    held(db, results)
    link = f"/case/{only(db, cases)['id']}"
    assert f'href="{link}"' in search(inside, "LML-e23e2d")
    assert "Process it again" in inside.get(link).text


def test_a_kit_of_which_nothing_else_is_known_has_its_page(inside: Any, db: Database) -> None:
    """Found by its name, with what waits at the top."""
    results = posted(db, RESULTS, "LML-e23e2d")
    assert press(inside, "/journeys", q="e23e2d").location == f"/journey?kit={results}"
    assert NOT_ALL in html.unescape(search(inside, "LML-E23E2D"))


def test_spellings_are_what_people_write() -> None:
    """Letters, white space and the prefix; nothing comes of nothing."""
    assert {"LML-E23E2D", "lml-e23e2d", "LML-e23e2d", "E23E2D", "e23e2d"} <= kit_names.spellings(
        " lml-e23 e2d"
    )
    assert kit_names.spellings(" ") == {""}
