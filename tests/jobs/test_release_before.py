"""Rows of the release before: it writes beside this one during a deploy, and what waits may be its.

It knows none of the columns that 0005 added. To be removed a release later.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from relay.ledger import attempts as ledger_attempts
from relay.ledger import audit as ledger_audit
from relay.ledger import events as ledger_events
from relay.ledger.database import Database
from relay.ledger.digests import items
from relay.ledger.holds import suppressions
from relay.ledger.removal import retention
from relay.ledger.schema import attempts, audit, cases, ended_sessions, inbound_texts, notifications
from relay.ledger.views import activity, daily_counts, kit_history, trail
from relay.ledger.worklist import cases as ledger_cases
from relay.ledger.worklist import unknown_events
from relay.rules.model import Case, Ending
from relay.rules.schedule import utc_now
from relay.staff.explain import is_kept, named
from tests.jobs.conftest import DESK, PHONE, STAFF, Clinic
from tests.jobs.test_alerts import WORDS
from tests.jobs.test_digests import DAYS, NIGHT, desk, item, replay_all, told
from tests.rows import (
    MONTH,
    as_the_release_before,
    case,
    change,
    claimed,
    incoming,
    leased,
    notice,
    only,
    planned,
    rows,
    time_passes,
)

__all__ = ["desk"]  # a fixture


def test_its_digest_tells_all_of_it_once(desk: Clinic) -> None:
    """A digest and its items that it has planned are claimed and rendered as what they are; what is
    processed meanwhile is told with them, and nothing is told twice.
    """
    desk.orders(2)
    desk.work()
    as_the_release_before(desk.db)
    desk.post(order_id="o-0")
    desk.post(order_id="late")
    replay_all(desk)
    assert desk.statuses() == [("email", "cancelled")] * 3 + [("email", "scheduled")]
    desk.work(NIGHT)
    assert told(desk) == [("desk", "[o-0][o-1][late]")]
    desk.work(DAYS)
    assert len(desk.sendgrid.accepted) == 1


def test_its_items_are_told_of_by_their_digest(desk: Clinic) -> None:
    """The journey has both; `what-if` counts an item as sent, and the digest not at all."""
    desk.orders(1)
    desk.work()
    as_the_release_before(desk.db)
    told_here = item(desk, "o-0")
    with desk.db.read() as connection:
        (found,) = trail.find(connection, told_here["event_id"])
        kits = kit_history.kits(connection, datetime.now(UTC) - timedelta(days=3))
        (history,) = kit_history.histories(connection, kits, ["order.shipped"])
    by_id = {row["id"]: row for row in found.messages}
    (digest,) = (row for row in found.messages if row["id"] != told_here["id"])
    assert by_id[told_here["id"]]["told_in"]["id"] == digest["id"]
    assert [one["id"] for one in digest["items"]] == [told_here["id"]]
    assert [row.status for event in history.events for row in event.rows] == ["sent"]


def test_what_it_takes_out_of_a_digest_is_a_message(desk: Clinic) -> None:
    """It moves items by `digest` alone, and leaves the rest as this release wrote it."""
    desk.orders(2)
    desk.work()
    for order, status in (("o-0", "created"), ("o-1", "cancelled")):
        mine = {"id": item(desk, order)["id"]}
        due_at = datetime.now(UTC) - timedelta(seconds=1)
        change(desk.db, notifications, mine, digest=None, status=status, due_at=due_at)
    (claim,) = ledger_attempts.claim(desk.db, "email", 10)
    assert claim.kind == "message"
    (digest,) = desk.messages(status="scheduled")
    with desk.db.read() as connection:
        assert items(connection, digest["id"]) == []
    replay_all(desk)
    assert item(desk, "o-1")["digest_id"] == digest["id"]


def test_its_alert_goes_out_with_its_words(clinic: Clinic) -> None:
    """What it has written to staff is sent as it is; where that fails nobody is told of it."""
    clinic.configure(staff=STAFF)
    words = {"subject": "Look", "text": "At the worklist.", "html": "<p>At the worklist.</p>"}
    how = {"channel": "email", "address": DESK, "role": "desk", "content": words}
    alert = notice(rule="relay:unreached", template="", key="cas_1", kind="alert", **how)
    (id_,) = planned(clinic.db, alert)
    as_the_release_before(clinic.db)
    with clinic.db.read() as connection:
        (row,), _ = activity.messages(connection, activity.Wanted(alerts=True), 50)
    assert named(row, WORDS.title) == "Somebody could not be reached"
    clinic.work()
    assert only(clinic.db, notifications, id=id_)["status"] == "sent"
    assert clinic.told() == []  # it is told by `kind` here, which is as the release before left it
    change(
        clinic.db, notifications, {"id": id_}, status="permanent-failure", follow_up_at=utc_now()
    )
    clinic.work()
    assert clinic.worklist() == []


def test_what_it_has_kept_counts_as_kept(db: Database) -> None:
    """Accepted by its dry-run delivery: not counted as sent, and nobody is asked to delete it."""
    claim = claimed(db, address=PHONE)
    ledger_attempts.begin(db, claim, {"text": "Hello"})
    kept = Ending("accepted", "sent", provider_id=f"dry-run-{claim.attempt_id}", is_kept=True)
    ledger_attempts.finish(db, claim, kept)
    for _ in range(2):
        now = datetime.now(UTC)
        (day,) = daily_counts.last_days(ZoneInfo("Europe/London"), now, 1)
        with db.read() as connection:
            (counted,) = daily_counts.count(connection, day, now).messages
            (found,) = trail.find(connection, claim.id)
        assert (counted.status, counted.out, counted.segments) == (daily_counts.KEPT, 0, 0)
        assert is_kept(found.messages[0])
        assert found.messages[0]["attempts"][0]["is_kept"]
        with db.write() as connection:
            assert retention.mark_for_deletion(connection, [claim.id]) == []
        as_the_release_before(db)


@pytest.mark.parametrize(("is_begun", "status"), [(True, "unknown"), (False, "created")])
def test_what_it_had_begun_may_have_gone_out(db: Database, is_begun: bool, status: str) -> None:
    """Its worker dies: what it had kept the words of is looked for, what not is sent again."""
    claim = claimed(db)
    if is_begun:
        assert ledger_attempts.begin(db, claim, {"text": "Hello"})
        assert only(db, attempts)["begun_at"] is not None
    as_the_release_before(db)
    time_passes(db, timedelta(minutes=2))
    assert ledger_attempts.lapse(db) == 1
    assert only(db, notifications)["status"] == status


def test_its_case_is_open_once(db: Database) -> None:
    """What it has opened is not opened beside it, and is closed by what settles it."""
    event = leased(db)
    about = case("held", event.id, event.id)
    _open(db, about)
    as_the_release_before(db, cases)
    assert not _open(db, about)
    with db.write() as connection:
        ledger_cases.close_settled(connection, "held", event.id, "It was replayed.")
    assert only(db, cases)["closed_by"] == "relay"
    assert _open(db, about)
    assert not _open(db, replace(about, reason="Again."))


def _open(db: Database, about: Case) -> bool:
    with db.write() as connection:
        return ledger_cases.open_case(connection, about)


def test_what_it_has_kept_in_the_audit_trail_counts(db: Database) -> None:
    """A session that it has ended, an event's name that somebody acknowledged there, and a text
    that it has seen: they are known here, and texts that came here are known there.
    """
    name, said = "kit.lost", "The lab said."
    with db.write() as connection:
        ledger_events.record(connection, incoming(name, kit_id="7"), MONTH)
        ledger_audit.write_audit(connection, "admin", "logout", "ses_1")
        ledger_audit.write_audit(connection, "admin", unknown_events.ACKNOWLEDGED, name, said)
    for _ in range(2):
        with db.write() as connection:
            ledger_audit.carry_over(connection)
    with db.read() as connection:
        assert unknown_events.count(connection) == 0
        (seen,) = unknown_events.acknowledged(connection)
    assert (seen["actor"], seen["note"]) == ("admin", said)
    assert [row["id"] for row in rows(db, ended_sessions)] == ["ses_1"]
    with db.write() as connection:
        assert suppressions.opt_out(connection, "sms", PHONE, "SM1")
    (mark,) = (row["id"] for row in rows(db, audit) if row["id"].startswith("txt_"))
    assert only(db, inbound_texts)["id"] == mark
    with db.write() as connection:
        connection.execute(inbound_texts.delete())
        suppressions.opt_in(connection, "sms", PHONE, "SM2")
        assert not suppressions.opt_out(connection, "sms", PHONE, "SM1")
