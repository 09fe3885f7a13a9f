"""The desk's page about Relay itself, and that every page finds its rows by an index."""

from __future__ import annotations

import os
from typing import Any

import pytest
import sqlalchemy as sa

from relay.errors import Refused
from relay.ledger import events as ledger_events
from relay.ledger import workers
from relay.ledger.database import Database
from relay.ledger.holds import pauses
from relay.ledger.schema import REVISION, events
from relay.ledger.schema import notifications as messages
from relay.rules import model
from tests.desk import EMAIL, PHONE, kit, press, search
from tests.rows import (
    MONTH,
    beat,
    change,
    incoming,
    keep_refused,
    leased,
    of_revision,
    only,
    rows,
    suppress,
)
from tests.test_desk import desk, inside

__all__ = ["desk", "inside"]  # fixtures

FEW = ("pauses", "heartbeats", "alembic_version", "days")  # tables of some rows, read as a whole

PATHS = (
    "/",
    "/suppressions",
    "/system",
    "/audit",
    "/audit?before=b",
    "/worklist",
    "/worklist/refused",
    "/worklist/unknown",
    "/rule?name=kit-shipped&data=real",
)


def test_it_tells_in_words_what_is_down(inside: Any, db: Database) -> None:
    """Without a worker the page says so first; with one all works, and its sweep is told."""
    page = inside.get("/system").text
    assert "Something does not work." in page
    assert "No worker has been seen for 90 seconds." in page
    beat(db, "worker-1")
    assert "No sweep has run yet." in inside.get("/system").text
    with db.write() as connection:
        workers.swept(connection, "worker-1")
    page = inside.get("/system").text
    assert "Relay has everything it needs." in page
    assert "The last sweep was at <time" in page
    assert ">alive<" in page


def test_it_counts_what_waits(inside: Any, db: Database) -> None:
    """Events to process, messages due and for later, each with how long the oldest has waited."""
    text, email = kit(db)
    change(db, messages, {"id": text}, status="created")
    change(db, messages, {"id": email}, status="sending")
    leased(db, order_id="o-9")
    page = inside.get("/system").text
    for name, count in (("Events to process", 1), ("Messages due now", 1), ("Being sent", 1)):
        assert f"<dt>{name}</dt><dd>{count}</dd>" in page
    assert page.count("oldest: <time") == 2


def test_it_names_providers_and_versions(inside: Any, db: Database) -> None:
    """Why a channel is paused, how messages are delivered, and what all of it runs on."""
    kit(db)
    why = model.Pause("refused", "Twilio refuses our account (401).")
    with db.write() as connection:
        pauses.pause(connection, "sms", only(db, events)["id"], why)
    page = inside.get("/system").text
    for told in (why.reason, "paused</span>", "dry-run", REVISION, "no account set"):
        assert told in page
    assert ("SQLite" if db.is_sqlite else "PostgreSQL") in page


def test_a_newer_ledger_is_told_and_not_called_down(inside: Any, db: Database) -> None:
    """After a release was rolled back the page says which tables there are, and that they do."""
    beat(db, "worker-1")
    with of_revision(db, "9999"):
        page = inside.get("/system").text
    assert "Relay has everything it needs." in page
    assert f"9999 (this version works with {REVISION})" in page


@pytest.mark.skipif(not os.environ.get("TEST_DATABASE_URL"), reason="needs PostgreSQL")
def test_every_query_of_the_desk_has_its_index(inside: Any, db: Database) -> None:
    """PostgreSQL, told to read no table as a whole where it can help it, reads none."""
    if db.is_sqlite:
        pytest.skip("its plans are others")
    kit(db)
    suppress(db, "sms", PHONE, "STOP")
    engine, asked = inside.application.extensions["relay"].db.engine, {}

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked[statement] = parameters

    sa.event.listen(engine, "before_cursor_execute", note)
    late = ledger_events.record_webhook(db, incoming("order.delivered", order_id="O-1"), MONTH)
    for wanted in ("o-1", "O 1", late.id, "o-77", "smith", "Ng", PHONE, EMAIL):
        search(inside, wanted)
    press(inside, "/journey", kit="o-1")
    press(inside, "/suppressions", address=PHONE, act="lift", note="Asked.")
    press(inside, "/erasure", address=PHONE, act="ask")
    erased = press(inside, "/erasure", address=PHONE, act="erase", note="Asked.").location
    ledger_events.record_webhook(db, incoming("kit.lost", kit_id="7"), MONTH)
    post = keep_refused(db, b"{", Refused(400, "Not JSON."))
    press(inside, f"/worklist/refused/{post}", act="again")
    press(inside, f"/worklist/refused/{post}", act="aside", note="A test.")
    press(inside, "/worklist/unknown", act="acknowledge", name="kit.lost", note="A test.")
    for path in (*PATHS, erased):
        assert inside.get(path).status_code == 200
    plans = _plans(db, {said: given for said, given in asked.items() if said.startswith("SELECT")})
    assert len(plans) > 15
    assert {said: plan for said, plan in plans.items() if "Seq Scan" in plan} == {}


def _plans(db: Database, asked: dict[str, Any]) -> dict[str, str]:
    found = {}
    with db.read() as connection:
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        for said, given in asked.items():
            if not any(f"FROM {table}" in said for table in FEW):
                plan = connection.exec_driver_sql(f"EXPLAIN {said}", given).scalars()
                found[said] = "\n".join(plan)
    assert rows(db, events)
    return found
