"""The desk's audit trail: what was done, by whom, page by page, in words."""

from __future__ import annotations

import re
from typing import Any

import pytest

from relay.ledger import audit as ledger_audit
from relay.ledger.database import Database
from relay.ledger.holds import suppressions
from relay.ledger.worklist import unknown_events
from relay.staff import case_acts, test_send
from relay.web.desk import auth, system
from tests.conftest import ROOT
from tests.desk import PHONE, kit, leaks, press
from tests.test_desk import desk, inside

__all__ = ["desk", "inside"]  # fixtures


def test_it_tells_who_did_what_the_newest_first(
    inside: Any, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page at a time, each line once, down to the first; nobody's details stand in it."""
    kit(db)
    press(inside, "/journey", kit="o-1")
    press(inside, "/suppressions", address=PHONE, act="add", note="<b>Asked.")
    with db.write() as connection:
        ledger_audit.write_audit(connection, "cli", "something new", "", "3 of 3")
    monkeypatch.setattr(system, "AT_ONCE", 2)
    pages = [inside.get("/audit").text]
    while older := re.search(r'href="(/audit\?before=[^"]+)" rel="next"', pages[-1]):
        pages.append(inside.get(older[1]).text)
    assert [re.findall(r"<td>(\w[^<]*)</td><td>(?=<code>|</td>)", page) for page in pages] == [
        ["something new", "Stopped an address"],
        ["Looked at masked details", "Logged in"],
    ]
    assert "&lt;b&gt;Asked." in pages[0]
    assert [leaks(page) for page in pages] == [[], []]
    assert "Nothing older." in inside.get("/audit?before=a%00").text


def test_marks_of_texts_are_nobodys_acts(inside: Any, db: Database) -> None:
    """However many people have sent STOP, the trail has what staff did."""
    for number in range(60):
        with db.write() as connection:
            suppressions.opt_out(connection, "sms", PHONE, f"SM{number}")
    page = inside.get("/audit").text
    assert "Logged in" in page
    assert "STOP" not in page


def test_every_act_has_its_words() -> None:
    """Whatever Relay writes into the trail is told in an admin's words."""
    source = "".join(path.read_text("utf-8") for path in (ROOT / "relay").rglob("*.py"))
    by = r'(?:write_audit(?:_in)?\(\s*[^,]+, [^,]+, |my_act\()"([^"]+)"'
    written = set(re.findall(by, source))
    acts = {f"case {act}" for act in case_acts.DOING} | {"case open", ledger_audit.RESEND}
    named = {
        auth.LOGOUT,
        ledger_audit.LOGIN_REFUSED,
        test_send.SEND_TEST,
        unknown_events.ACKNOWLEDGED,
        "reveal",
    }
    assert len(written) > 7
    assert (written | acts | named) - set(ledger_audit.ACT_WORDS) == set()
