"""docs/protocol: the model and relay/ speak of the same statements, and the model is searched."""

from __future__ import annotations

import importlib
import re
import shutil
from datetime import timedelta

import pytest
import sqlalchemy as sa

from relay.ledger import attempts, followups, receipts, replay, unknown_attempts
from relay.ledger.database import Database
from relay.ledger.schema import notifications
from relay.rules.receipts import Receipt
from tests.conftest import ROOT
from tests.rows import looked, time_passes, unknown
from tools import model

PAGE = (ROOT / "docs/protocol/README.md").read_text("utf-8")
MODEL = (ROOT / "docs/protocol/message.pml").read_text("utf-8")
ROWS = {
    cells[2].strip(" `"): [re.findall("`(.+?)`", cell) for cell in (cells[1], *cells[3:5])]
    for cells in (line.split("|") for line in PAGE.splitlines())
    if len(cells) == 6 and cells[1].startswith(" `")
}
SAID = {name: [*own, *others] for name, (_, own, others) in ROWS.items() if own or others}


def test_each_statement_of_the_model_is_on_the_page() -> None:
    """The page has each `inline` of the model's statements, in their order, and no other."""
    statements = MODEL.partition("/* ---- statements")[2].partition("/* ---- who runs")[0]
    named = [name for labels, *_ in ROWS.values() for name in labels]
    assert named == re.findall(r"^inline (\w+)\(", statements, re.MULTILINE)


@pytest.mark.parametrize("name", ROWS)
def test_each_function_of_the_page_is_there(name: str) -> None:
    """Whose statement an `inline` is: a function, or a method, of relay/."""
    found: object = importlib.import_module("relay")
    for part in name.split("."):
        if not hasattr(found, part):
            importlib.import_module(f"{found.__name__}.{part}")  # type: ignore[attr-defined]
        found = getattr(found, part)
    assert callable(found)


@pytest.fixture
def sql(db: Database) -> set[str]:
    """What runs for a message that is claimed, begun, looked for, given up and failed."""
    ran: set[str] = {db.prepared(attempts._beginning)._sql} if not db.is_sqlite else set()
    sa.event.listen(db.engine, "before_cursor_execute", lambda *call: ran.add(call[2]))
    first = unknown(db)
    look = looked(db)
    with db.write() as connection:
        unknown_attempts.look_later(connection, look, 0.0)
    look = looked(db)
    with db.write() as connection:
        unknown_attempts.give_up_unknown(connection, look, "Not found.", None)
        replay.decide_unknown(connection, notifications.c.id == first.id, send=True)
    attempts.claim(db, "sms", 1)
    time_passes(db, timedelta(hours=1))
    attempts.lapse(db)
    receipts.record(db, "sms", [Receipt("sent", "sent", first.attempt_id, "SM1")])
    time_passes(db, timedelta(days=9))
    receipts.give_up(db)
    (item,) = followups.lease_follow_ups(db, 1)
    with db.write() as connection:
        followups.try_again(connection, item, 0.0)
        followups.finish_follow_up(connection, item, (), None, None)
    return {re.sub(r"\s+", " ", one) for one in ran}


def test_what_a_statement_asks_is_in_its_sql(sql: set[str]) -> None:
    """The conditions that the page gives a statement are together in one that the database runs."""
    for name, said in SAID.items():
        wanted = [re.sub(r":\w+", r"(\\?|%\\(\\w+\\)s(::\\w+)?)", re.escape(one)) for one in said]
        assert any(all(re.search(one, ran) for one in wanted) for ran in sql), name


@pytest.mark.skipif(not shutil.which("spin"), reason="Spin is not installed")
def test_a_mutant_of_the_model_is_found() -> None:
    """`make model` tells a broken promise from one that is kept: here by its quickest search."""
    (quickest,) = [one for one in model.searches() if one.name.startswith("NO_FOLLOW_UP")]
    assert model.run(quickest)
