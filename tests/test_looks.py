"""Who looked at whom: each look leaves a trace, and can be asked for."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
import sqlalchemy as sa

from relay.config.loader import Config
from relay.config.settings import Settings
from relay.errors import LedgerUnavailable
from relay.ledger import audit as ledger_audit
from relay.ledger.database import Database
from relay.ledger.schema import audit, cases
from relay.staff import access, looks
from relay.staff.looks import Look
from tests.conftest import one_database
from tests.desk import EMAIL, PHONE, kit, leaks, press, search
from tests.rows import only, rows
from tests.test_desk import desk, inside
from tests.test_desk_editions import saved, started

__all__ = ["desk", "inside"]  # fixtures


def looked(db: Database) -> list[tuple[str, str]]:
    """What the trail has of looks, and at what."""
    wanted = {*looks.LOOKS, looks.FOUND}
    return [(row["action"], row["target"]) for row in rows(db, audit) if row["action"] in wanted]


@pytest.mark.parametrize(
    ("wanted", "way"), [(PHONE, "sms"), ("Smith", "name"), ("smi", "name"), (EMAIL, "email")]
)
def test_a_search_leaves_a_trace(wanted: str, way: str, inside: Any, db: Database) -> None:
    """By a number, a name or the beginning of one: who searched, how, and each kit that was shown;
    what was typed stands nowhere.
    """
    kit(db)
    search(inside, wanted)
    (first, target), found = looked(db)
    assert (first, target.split()[0]) == ("search", way)
    assert found == ("found", "o-1")
    assert leaks(f"{rows(db, audit)}") == []
    assert wanted not in f"{rows(db, audit)}"
    row = rows(db, audit, action="search")[0]
    assert row["session"].startswith("ses_")
    assert row["source"]


def test_opening_a_kit_and_looking_an_address_up_leave_one_too(inside: Any, db: Database) -> None:
    """Also where all that is shown is masked."""
    kit(db)
    inside.get("/journey?kit=o-1")
    press(inside, "/suppressions", address=PHONE)
    press(inside, "/erasure", address=PHONE, act="ask")
    (opened, stopped, erased) = looked(db)
    assert opened == ("open kit", "o-1")
    assert stopped == erased
    assert stopped[1].startswith("sms ")


def test_who_has_looked_at_me(inside: Any, settings: Settings, db: Database) -> None:
    """By an address and by a kit: each search that showed it, each look, each act, and who it was;
    nobody else's.
    """
    kit(db)
    kit(db, "John", "Doe", "o-2", address="+447700900002")
    search(inside, "Smith")
    press(inside, "/journey", kit="o-1")
    press(inside, "/journey", kit="o-2")
    press(inside, "/suppressions", address=PHONE, act="add", note="Asked.")
    with db.read() as connection:
        told = {
            written: [row["action"] for row in access.of(connection, settings, written) or ()]
            for written in (PHONE, "07700 900001", "o-1")
        }
        assert access.of(connection, settings, "nothing there") is None
    assert set(map(tuple, told.values())) == {("found", "reveal", "suppress")}
    page = press(inside, "/audit", about=PHONE).text
    for shown in ("3 lines about it", "Looked at masked details", "Saw it in a search"):
        assert shown in page
    assert leaks(page) == []


def test_the_trail_is_saved_as_csv(inside: Any, db: Database) -> None:
    """Every line, with who and from where; the download is a line of it."""
    kit(db)
    inside.get("/journey?kit=o-1")
    head, *lines = csv.reader(io.StringIO(inside.get("/audit.csv").text))
    assert head == [*access.FIELDS]
    assert [line[2] for line in lines] == ["login", "open kit", "access"]
    assert json.dumps(access.for_programs(rows(db, audit)[0]))


def test_the_trail_is_only_added_to(db: Database) -> None:
    """On PostgreSQL nothing but an erasure changes or deletes a line, not even by hand."""
    with db.write() as connection:
        ledger_audit.write_audit(connection, "admin", "login", "ses_1")
    if db.is_sqlite:
        pytest.skip("SQLite's file belongs to whoever may read it")
    for statement in (audit.update().values(actor="nobody"), audit.delete()):
        with pytest.raises((sa.exc.DBAPIError, LedgerUnavailable)), db.write() as connection:
            connection.execute(statement)
    assert only(db, audit)["actor"] == "admin"


def test_whoever_looks_at_very_many_is_told_of(db: Database, config: Config) -> None:
    """Past [desk] looks_per_hour a case says who it is, once an hour a person."""
    object.__setattr__(config.desk, "looks_per_hour", 3)
    for number in range(5):
        with db.write() as connection:
            looks.note(connection, config, "jane@example.org", Look("reveal", f"o-{number}"))
    case = only(db, cases)
    assert case["kind"] == "looks"
    assert "jane@example.org has looked at people's data more than 3 times" in case["reason"]


@one_database
def test_a_reason_is_asked_for_where_the_clinic_wants_it(
    inside: Any, db: Database, settings: Settings
) -> None:
    """With [desk] reveal_reason nothing is shown without one, and the trail has it."""
    text = settings.config.read_text("utf-8") + "\n[desk]\nreveal_reason = true\n"
    settings.config.write_text(text, "utf-8")
    inside.application.extensions["relay"].reloader.look()
    kit(db)
    page = press(inside, "/journey", kit="o-1").text
    assert "Write why you need to see it." in page
    assert 'name="reason"' in page
    assert leaks(page) == []
    assert PHONE in press(inside, "/journey", kit="o-1", reason="She called.").text
    assert only(db, audit, action="reveal")["detail"].endswith("She called.")


DIGITS = '[rules.digit-{0}]\nevent = "order.shipped"\nto = "customer"\nchannels = ["sms"]\n'
DIGITS += 'template = "kit_shipped"\nwhen = "customer.phone_number[12] == \'{0}\'"\n'


@one_database
def test_no_number_is_read_out_of_an_edits_counts(
    inside: Any, db: Database, settings: Settings
) -> None:
    """An edit whose conditions ask who people are is tried only by who may see names, and then it
    is a look like another.
    """
    kit(db)
    edit = settings.config.read_text("utf-8") + "".join(DIGITS.format(n) for n in range(10))
    path = started(inside)
    assert rows(db, audit, action="what-if") == []
    saved(inside, path, edit, "config.toml")
    assert only(db, audit, action="what-if")["detail"] == "10 conditions about people"
    with inside.session_transaction() as session:
        assert session
