"""daily_sms_limit: a cap on cost that keeps a share for what cannot wait until tomorrow."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from relay.lab.events import EVENTS, RESULTS, RETEST
from relay.ledger import attempts as ledger_attempts
from relay.ledger.database import Database
from relay.ledger.holds.allowances import Cap
from relay.ledger.schema import allowances, attempts
from relay.ledger.views import status, trail
from relay.rules.model import ALERT_URGENCY, DailyLimit, Ending
from relay.staff.explain import explain
from tests.jobs.conftest import DESK, HEAD, KIT, RULES, STAFF, Clinic
from tests.rows import at_once, change, close_case, notice, only, open_cases, planned, rows

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
UTC_ZONE = ZoneInfo("UTC")
RESULTS_URGENCY = EVENTS[RESULTS].urgency
URGENT_TEXTS = """
[rules.retest]
event = "test_registration.retest"
to = "patient"
channels = ["sms"]
template = "results"
"""
OTHER_KIT = "5a1e6a1e-0000-4000-8000-000000000001"
DESK_PHONE = "+447700900100"
TEXTED_STAFF = f'[staff.desk]\nsms = ["{DESK_PHONE}"]\n'


def limit(clinic: Clinic, most: int, staff: str = STAFF, hour: int = 12) -> None:
    """The clinic's limit on texts, from now on; it is past an hour of its day there."""
    ahead = (hour - datetime.now(UTC).hour) % 24
    ahead = ahead if ahead <= 12 else ahead - 24
    zone = f'timezone = "Etc/GMT{-ahead:+d}"'  # whose names have the sign the other way round
    head = HEAD.replace("[delivery]", f"{zone}\n[delivery]\ndaily_sms_limit = {most}")
    clinic.configure(RULES + URGENT_TEXTS, head=head, staff=staff)


def sent(clinic: Clinic) -> list[str]:
    """The rules of the texts that went out, in order of their names."""
    return sorted(row["rule"] for row in clinic.messages(channel="sms", status="sent"))


def said_of(clinic: Clinic, **where: str) -> str:
    """How `explain` says that a message stands which waits, while a worker is running."""
    jobs = clinic.jobs
    message = clinic.messages(status="created", **where)[0]["id"]
    with clinic.db.read() as connection:
        standing = status.blockers(connection, UTC_ZONE, jobs.config.delivery.daily_sms_limit)
        (found,) = trail.find(connection, message)
    return "\n".join(line for _, line in explain(found, UTC_ZONE, standing, str))


def test_shipping_news_leaves_room_for_results(clinic: Clinic) -> None:
    """A morning's shipping news uses up all of the limit but its last fifth; a retest and results
    still go out that day, and the rest of the news on the next.
    """
    limit(clinic, 10)
    clinic.orders(12)
    clinic.work()
    assert sent(clinic) == ["kit"] * 8
    clinic.post("test_registration.retest", testregistration_id=KIT, retest_testregistration_id="r")
    clinic.results(OTHER_KIT)
    clinic.work()
    assert sent(clinic) == ["kit"] * 8 + ["results", "retest"]
    clinic.work(DAY)
    assert sent(clinic) == ["kit"] * 12 + ["results", "retest"]


def test_its_case_counts_what_waits(clinic: Clinic) -> None:
    """The one case about the day's limit says how many messages wait for tomorrow."""
    limit(clinic, 10)
    clinic.orders(12)
    clinic.work()
    assert [(case["kind"], case["count"]) for case in open_cases(clinic.db)] == [("limit", 4)]


def test_each_message_says_which_limit_it_waits_for(clinic: Clinic) -> None:
    """News waits for the part that it may use; once all is used up, it and results wait for all."""
    limit(clinic, 5)
    clinic.orders(5)
    clinic.work()
    reached = "the day's limit of 5 texts has been reached"
    share = f"{reached}, but for the 1 kept for results, retests and alerts; more go out tomorrow"
    assert share in said_of(clinic, rule="kit")
    clinic.results(KIT)
    clinic.work()
    clinic.results(OTHER_KIT)
    clinic.work()
    assert sent(clinic) == ["kit"] * 4 + ["results"]
    for rule in ("kit", "results"):
        assert f"{reached}; more go out tomorrow" in said_of(clinic, rule=rule)


def test_staff_hear_of_each_limit_once_a_day(clinic: Clinic) -> None:
    """That news waits, and then that results wait too: one alert each, also if a case is closed."""
    limit(clinic, 5)
    clinic.orders(6)
    clinic.work()
    (case,) = open_cases(clinic.db)
    assert case["reason"] == "daily_sms_limit is 5, with 1 kept for results, retests and alerts."
    assert close_case(clinic.db, case["id"], "anna")
    clinic.results(KIT)
    clinic.results(OTHER_KIT)
    for _ in range(2):
        clinic.work(HOUR)
    (case,) = open_cases(clinic.db)
    assert case["reason"] == "daily_sms_limit is 5. Results and retests wait too."
    assert clinic.told() == [("limit", DESK, "sent")] * 2


def test_no_alert_waits_for_the_limit(clinic: Clinic) -> None:
    """Staff who have only phones are texted that the limit is reached, though it is reached. That
    text counts, so nothing else goes out for it.
    """
    limit(clinic, 2, TEXTED_STAFF)
    clinic.orders(2)
    clinic.work()
    clinic.results()
    for _ in range(2):
        clinic.work()
    assert clinic.told() == [("limit", DESK_PHONE, "sent")]
    assert sent(clinic) == ["kit", "kit", "relay:limit"]
    assert len(rows(clinic.db, attempts, channel="sms")) == 3


@pytest.mark.parametrize(
    ("most", "news", "urgent"),
    [(1, 1, 1), (2, 2, 2), (4, 4, 4), (5, 4, 5), (9, 8, 9), (10, 8, 10), (2000, 1600, 2000)],
)
def test_the_last_fifth_is_for_urgent_messages(most: int, news: int, urgent: int) -> None:
    """A limit below five is too small to share: it is one limit for all but alerts."""
    assert DailyLimit(most).reach(EVENTS["order.shipped"].urgency) == news
    assert DailyLimit(most).reach(EVENTS["test_registration.sample_received"].urgency) == news
    assert DailyLimit(most).reach(EVENTS[RETEST].urgency) == urgent
    assert DailyLimit(most).reach(RESULTS_URGENCY) == urgent
    assert DailyLimit(most, spent=most + 1).lets_through(ALERT_URGENCY)
    assert "kept" not in DailyLimit(most).reason(RESULTS_URGENCY)
    assert ("kept" in DailyLimit(most).reason(0)) == (news < urgent)


def test_a_claim_of_all_kinds_takes_the_urgent_and_no_more_than_their_share(db: Database) -> None:
    """One claim: each alert, results up to the limit, news up to its part; all of them count."""
    planned(
        db,
        *(notice(subject=f"news-{number}") for number in range(9)),
        *(notice(subject=f"results-{number}", urgency=RESULTS_URGENCY) for number in range(3)),
        *(notice(subject=f"alert-{number}", urgency=ALERT_URGENCY) for number in range(2)),
    )
    cap = Cap(10, datetime.now(UTC) - HOUR)
    took = [claim.subject.partition("-")[0] for claim in ledger_attempts.claim(db, "sms", 24, cap)]
    assert took == ["alert"] * 2 + ["results"] * 3 + ["news"] * 3
    assert ledger_attempts.claim(db, "sms", 24, cap) == []


@pytest.mark.parametrize(("urgency", "most"), [(0, 8), (RESULTS_URGENCY, 10), (ALERT_URGENCY, 30)])
def test_workers_at_once_pass_no_limit(
    urgency: int, most: int, ledger_url: str, db: Database
) -> None:
    """Four workers that claim at the same moment take no more than the limit together."""
    planned(db, *(notice(subject=f"o-{number}", urgency=urgency) for number in range(30)))
    workers = [Database(ledger_url, patience=20) for _ in range(4)]
    cap = Cap(10, datetime.now(UTC) - HOUR)
    claims = at_once(lambda n: ledger_attempts.claim(workers[n], "sms", 8, cap), 4)
    assert sum(map(len, claims)) == most
    assert len(rows(db, attempts)) == most
    for worker in workers:
        worker.close()


def test_a_limit_that_is_edited_counts_at_once(clinic: Clinic) -> None:
    """A higher one lets more through the same day, and staff hear when that is reached as well; a
    lower one takes nothing back, and lets nothing more through.
    """
    limit(clinic, 2)
    clinic.orders(6)
    clinic.work()
    assert sent(clinic) == ["kit"] * 2
    limit(clinic, 5)
    clinic.work()
    assert sent(clinic) == ["kit"] * 4
    assert [case["reason"][:20] for case in open_cases(clinic.db)] == [
        "daily_sms_limit is 2",
        "daily_sms_limit is 5",
    ]
    limit(clinic, 3)
    clinic.results()
    clinic.work()
    assert sent(clinic) == ["kit"] * 4
    assert open_cases(clinic.db)[-1]["reason"].startswith("daily_sms_limit is 3.")


def test_the_day_turns_at_midnight_where_the_clinic_is(clinic: Clinic) -> None:
    """It is between one and two in the morning there: texts of half an hour ago are today's, those
    of three hours ago are not, whatever day it is in UTC.
    """
    limit(clinic, 2, hour=1)
    clinic.orders(4)
    clinic.work()
    clinic.work(HOUR / 2)
    assert sent(clinic) == ["kit"] * 2
    clinic.work(3 * HOUR)
    assert sent(clinic) == ["kit"] * 4


def said_to(db: Database, work: Callable[[], Any]) -> list[str]:
    """The statements that some work runs."""
    said: list[str] = []

    def keep(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        said.append(statement)

    sa.event.listen(db.engine, "before_cursor_execute", keep)
    work()
    sa.event.remove(db.engine, "before_cursor_execute", keep)
    return [statement for statement in said if not statement.startswith("BEGIN")]


def test_no_claim_counts_the_day(db: Database) -> None:
    """The first claim of a day counts it, and each adds to that. While nothing is due nobody asks
    for the limit.
    """
    cap = Cap(100, datetime.now(UTC) - HOUR)
    planned(db, *(notice(subject=f"o-{number}") for number in range(9)))
    said = [said_to(db, lambda: ledger_attempts.claim(db, "sms", 3, cap)) for _ in range(4)]
    counts = [sum("count(" in statement for statement in claim) for claim in said]
    assert counts == [1, 0, 0, 0]
    assert len(rows(db, attempts)) == 9
    assert len(said[-1]) == 1


def test_a_reached_limit_is_counted_once_a_minute(db: Database) -> None:
    """While texts wait for the next day, a place that became free is found within a minute; at once
    where a text that was on its way is rejected.
    """
    planned(db, *(notice(subject=f"o-{number}") for number in range(8)))
    cap = Cap(4, datetime.now(UTC) - HOUR)

    def claim() -> list[ledger_attempts.Claim]:
        return ledger_attempts.claim(db, "sms", 10, cap)

    def counts() -> list[int]:
        said = [said_to(db, claim) for _ in range(3)]
        return [sum("count(" in statement for statement in one) for one in said]

    took = claim()
    assert len(took) == 4
    assert counts() == [1, 1, 1]  # any of the four may yet be rejected
    ledger_attempts.finish(db, took[0], Ending("rejected", "permanent-failure", "No."))
    (instead,) = claim()
    for one in (*took[1:], instead):
        ledger_attempts.finish(db, one, Ending("accepted", "sent", provider_id=one.id))
    assert counts() == [1, 0, 0]
    change(db, attempts, {"notification_id": took[1].id}, outcome="rejected")
    assert claim() == []
    change(db, allowances, {}, counted_at=datetime.now(UTC) - timedelta(minutes=2))
    assert len(claim()) == 1


def test_what_the_release_before_has_sent_counts_where_the_limit_is_reached(db: Database) -> None:
    """During a deploy workers of the release before send beside us and add nothing to our row: the
    limit is passed by what they send, and by no more.
    """
    planned(db, *(notice(subject=f"o-{number}", urgency=RESULTS_URGENCY) for number in range(20)))
    cap = Cap(10, datetime.now(UTC) - HOUR)
    assert len(ledger_attempts.claim(db, "sms", 4, cap)) == 4
    (theirs,) = ledger_attempts.claim(db, "sms", 1)
    with db.write() as connection:
        given = {"notification_id": theirs.id, "channel": "sms", "outcome": "accepted"}
        for number in range(3):
            moment = datetime.now(UTC)
            row = attempts.insert().values(id=f"theirs-{number}", started_at=moment, **given)
            connection.execute(row)
    assert len(ledger_attempts.claim(db, "sms", 4, cap)) == 4
    assert len(ledger_attempts.claim(db, "sms", 4, cap)) == 2
    for _ in range(2):
        assert ledger_attempts.claim(db, "sms", 4, cap) == []


def test_a_new_day_begins_with_what_was_sent_in_it(db: Database) -> None:
    """The row is one of a channel, not of a day: another midnight is counted from the start."""
    planned(db, *(notice(subject=f"o-{number}", urgency=RESULTS_URGENCY) for number in range(9)))
    today = datetime.now(UTC) - HOUR
    assert len(ledger_attempts.claim(db, "sms", 4, Cap(6, today))) == 4
    assert len(ledger_attempts.claim(db, "sms", 4, Cap(6, today - HOUR))) == 2
    assert only(db, allowances, channel="sms")["used"] == 6
    assert len(ledger_attempts.claim(db, "sms", 4, Cap(2, today + 2 * HOUR))) == 2
