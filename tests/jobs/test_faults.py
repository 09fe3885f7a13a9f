"""One fault is one case, whatever it hits, and staff get one alert of a kind in a quarter of an
hour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from relay.config.loader import load
from relay.ledger.database import Database
from relay.ledger.schema import attempts, notifications
from relay.ledger.worklist import cases
from relay.rules import alerts
from relay.rules.model import Case
from relay.staff import case_acts
from tests.jobs.conftest import DESK, HEAD, RULES, STAFF, Clinic
from tests.rows import at_once, change, close_case, open_cases, replay_event, rows
from tests.standins import Reply, twilio_error

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
KITS = 12
ALONE = RULES.replace('fallback = ["email"]\n', "")  # texts alone
HOLE = "Kit {{ order.carrier }}"  # which is null


def told(clinic: Clinic) -> list[tuple[str, str]]:
    """Kind and status of each alert."""
    return [(kind, status) for kind, _, status in clinic.told()]


def counted(clinic: Clinic) -> list[tuple[str, int]]:
    """Kind and count of each open case."""
    return [(case["kind"], case["count"]) for case in open_cases(clinic.db)]


def act(clinic: Clinic, case: Mapping[str, Any], what: str) -> str:
    """Somebody does something about a case."""
    config = load(clinic.settings)
    with clinic.db.write() as connection:
        return case_acts.see_to(connection, config, case, what, by="anna", note="Seen to.")


def broken(clinic: Clinic, rules: str = ALONE) -> None:
    """A template with a hole has hit a dozen kits."""
    clinic.configure(rules, staff=STAFF)
    (clinic.settings.templates / "kit/sms.txt").write_text(HOLE, "utf-8")
    clinic.orders(KITS)
    for number in range(KITS):
        clinic.lab.change("order", f"o-{number}", carrier=None)
    clinic.work()


def mended(clinic: Clinic) -> None:
    """Somebody has put the template right."""
    (clinic.settings.templates / "kit/sms.txt").write_text("Your kit", "utf-8")


@pytest.mark.parametrize("rules", [ALONE, RULES], ids=["alone", "with a fallback"])
def test_a_broken_template_is_one_case(clinic: Clinic, rules: str) -> None:
    """However many kits it hits, and also where another way reaches them: one case with their
    number, one alert.
    """
    broken(clinic, rules)
    clinic.work(HOUR)
    assert (counted(clinic), told(clinic)) == ([("broken", KITS)], [("broken", "sent")])
    (case,) = open_cases(clinic.db)
    assert "carrier" in case["reason"]


def test_all_that_a_fault_has_hit_goes_again(clinic: Clinic) -> None:
    """The template put right, one press sends all, and the case is closed."""
    broken(clinic)
    mended(clinic)
    (case,) = open_cases(clinic.db)
    assert act(clinic, case, "resend") == f"Relay is sending {KITS} messages again."
    clinic.work()
    clinic.work(HOUR)
    assert len(clinic.twilio.accepted) == KITS
    assert counted(clinic) == []


def test_a_fault_that_is_still_there_is_a_case_again(clinic: Clinic) -> None:
    """Pressed too soon, it is told anew, a quarter of an hour after the first alert."""
    broken(clinic)
    (case,) = open_cases(clinic.db)
    act(clinic, case, "resend")
    clinic.work()
    assert (counted(clinic), told(clinic)[1:]) == ([("broken", KITS)], [("broken", "scheduled")])
    clinic.work(15 * MINUTE)
    assert told(clinic) == [("broken", "sent")] * 2


def test_a_case_closes_by_itself_once_nothing_is_left_in_it(clinic: Clinic) -> None:
    """What has gone again in another way leaves it; with the last one it closes."""
    broken(clinic)
    mended(clinic)
    first, *others = [row["event_id"] for row in clinic.messages(rule="kit")]
    replay_event(clinic.db, first)
    clinic.work()
    clinic.work()
    assert counted(clinic) == [("broken", KITS - 1)]
    for event_id in others:
        replay_event(clinic.db, event_id)
    clinic.work()
    clinic.work()
    assert counted(clinic) == []
    (closed,) = rows(clinic.db, cases.cases)
    assert closed["closed_by"] == "relay"


def test_two_faults_are_two_cases(clinic: Clinic) -> None:
    """Another template, another case; one alert tells of both."""
    broken(clinic)
    (clinic.settings.templates / "results/sms.txt").write_text("{{ patient.nickname }}", "utf-8")
    clinic.results()
    clinic.work()
    assert sorted(counted(clinic)) == [("broken", 1), ("broken", KITS)]


def test_receipts_that_never_come_are_one_case(clinic: Clinic) -> None:
    """A dozen texts of which nobody tells whether they arrived: one case, one alert. One that
    arrives late leaves it.
    """
    clinic.settings = replace(clinic.settings, public_url="https://relay.example")
    clinic.configure(ALONE, staff=STAFF)
    clinic.orders(KITS)
    clinic.work()
    clinic.work(3 * DAY + MINUTE)
    clinic.work(HOUR)
    assert (counted(clinic), told(clinic)) == ([("unconfirmed", KITS)], [("unconfirmed", "sent")])
    for attempt in rows(clinic.db, attempts, channel="sms")[1:]:
        clinic.tell_of(attempt["id"], "delivered")
    clinic.work()
    assert counted(clinic) == [("unconfirmed", 1)]
    (case,) = open_cases(clinic.db)
    assert act(clinic, case, "close") == "Closed."


@pytest.mark.parametrize(("what", "status"), [("send", "created"), ("believe", "sent")])
def test_a_provider_that_cannot_be_asked_is_one_case(
    clinic: Clinic, what: str, status: str
) -> None:
    """What became of a dozen texts nobody can find out: one case, and one word settles all."""
    clinic.configure(ALONE, staff=STAFF)
    clinic.twilio.answers.append(
        lambda request: Reply(503) if request.method == "POST" else Reply(401)
    )
    clinic.orders(4)
    clinic.work()
    for _ in range(4):
        clinic.work(2 * HOUR)
    assert (counted(clinic), told(clinic)) == ([("unknown", 4)], [("unknown", "sent")])
    (case,) = open_cases(clinic.db)
    act(clinic, case, what)
    assert [row["status"] for row in clinic.messages(rule="kit")] == [status] * 4
    assert counted(clinic) == []


@pytest.mark.parametrize(
    "code",
    [20003, 21212, 21603, 21606, 21659, 21660, 21661, 21703, 21704, 21705, 21712, 30002],
)
def test_a_code_that_blames_us_pauses_the_channel(clinic: Clinic, code: int) -> None:
    """Our sender or account: every text is kept, and one case with one alert counts them."""
    clinic.configure(ALONE, staff=STAFF)
    clinic.twilio.always(twilio_error(400, code))
    clinic.orders(3)
    clinic.work()
    assert [row["status"] for row in clinic.messages(rule="kit")] == ["created"] * 3
    assert (counted(clinic), told(clinic)) == ([("paused", 3)], [("paused", "sent")])


def test_five_refused_alike_blame_our_account(clinic: Clinic) -> None:
    """A code that is in no table, for one recipient after the other: from the fifth on the texts
    are kept, a worker after the other finds that so, and all go once it is put right.
    """
    clinic.configure(ALONE, staff=STAFF)
    clinic.twilio.always(twilio_error(400, 29999))
    clinic.orders(20)
    jobs = clinic.jobs
    for event in jobs.lease_events(50):
        jobs.process(event)
    while claims := jobs.claim("sms", 1):
        jobs.deliver(claims[0])
    statuses = [row["status"] for row in clinic.messages(rule="kit")]
    assert (statuses.count("permanent-failure"), statuses.count("created")) == (4, 16)
    for _ in range(3):
        clinic.work(6 * MINUTE)  # each time another worker
    statuses = [row["status"] for row in clinic.messages(rule="kit")]
    assert (statuses.count("permanent-failure"), statuses.count("created")) == (4, 16)
    clinic.twilio.answers.clear()
    clinic.work(6 * MINUTE)
    clinic.work(MINUTE)
    assert len(clinic.twilio.accepted) == 16
    assert {case["kind"] for case in open_cases(clinic.db)} == {"unreached"}


def a_case(clinic: Clinic, kind: str, key: str) -> Case:
    """A case with its alerts, about an event that came in."""
    policy, now = load(clinic.settings).policy, datetime.now(UTC)
    return alerts.case(kind, key, key, "Why.", policy=policy, now=now, event_id=clinic.post())


def opened(clinic: Clinic, kind: str, *keys: str) -> list[str]:
    """Cases of a kind have opened, one after the other; their ids."""
    for key in keys:
        about = a_case(clinic, kind, key)
        with clinic.db.write() as connection:
            assert cases.open_case(connection, about)
    return [str(case["id"]) for case in open_cases(clinic.db) if case["subject"] in keys]


@pytest.fixture
def staffed(clinic: Clinic) -> Clinic:
    """A clinic whose staff are mailed, and whose rules make no message."""
    clinic.configure(RULES.replace("order.shipped", "order.delivered"), HEAD, STAFF)
    return clinic


def subjects(clinic: Clinic) -> list[str]:
    """What the alerts that have gone out say in their bodies, in order."""
    return [mail.json["content"][0]["value"] for mail in clinic.sendgrid.accepted]


def test_the_alerts_of_a_quarter_of_an_hour_are_one(staffed: Clinic) -> None:
    """The first goes at once. Of what opens after it one alert tells when the time is over, and how
    many there are; after that none is left untold.
    """
    opened(staffed, "held", "k-1")
    staffed.work()
    opened(staffed, "held", "k-2", "k-3", "k-4")
    staffed.work(14 * MINUTE)
    assert told(staffed) == [("held", "sent"), ("held", "scheduled")]
    staffed.work(MINUTE + timedelta(seconds=1))
    assert told(staffed) == [("held", "sent")] * 2
    assert "kit k-2" in subjects(staffed)[1]
    assert "3 more cases of this kind are on the worklist" in subjects(staffed)[1]
    staffed.work(DAY)
    assert len(told(staffed)) == 2


def test_an_alert_waits_for_none_of_long_ago(staffed: Clinic) -> None:
    """A quarter of an hour after the last one, or of another kind, it goes at once."""
    opened(staffed, "held", "k-1")
    staffed.work()
    staffed.work(16 * MINUTE)
    opened(staffed, "held", "k-2")
    opened(staffed, "unknown", "k-3")
    staffed.work()
    assert told(staffed) == [("held", "sent")] * 2 + [("unknown", "sent")]


def test_what_is_closed_by_then_is_not_told_late(staffed: Clinic) -> None:
    """Of what staff have closed no alert comes; what is still open is told instead of it."""
    opened(staffed, "held", "k-1")
    staffed.work()
    late = opened(staffed, "held", "k-2", "k-3")
    close_case(staffed.db, late[0], "anna", "Seen.")
    staffed.work(16 * MINUTE)
    assert len(subjects(staffed)) == 2
    assert "kit k-3" in subjects(staffed)[1]
    (later,) = opened(staffed, "held", "k-4")
    close_case(staffed.db, later, "anna", "Seen.")
    staffed.work(16 * MINUTE)
    assert told(staffed)[2:] == [("held", "cancelled")]
    opened(staffed, "held", "k-5")
    staffed.work()
    assert len(subjects(staffed)) == 3


def test_two_workers_at_once_send_one_alert(staffed: Clinic) -> None:
    """Cases that open at the same moment in several processes are one alert."""
    about = [a_case(staffed, "held", f"k-{number}") for number in range(4)]
    workers = [Database(staffed.db.url.render_as_string(hide_password=False)) for _ in about]

    def open_one(number: int) -> None:
        with workers[number].write() as connection:
            cases.open_case(connection, about[number])

    at_once(open_one, len(about))
    for worker in workers:
        worker.close()
    assert len(open_cases(staffed.db)) == len(about)
    assert len(rows(staffed.db, notifications, rule="relay:held")) == 1


def test_a_fault_that_several_workers_find_is_one_case(staffed: Clinic) -> None:
    """Nobody is lost in the count, and each message says in which case it is."""
    for number in range(8):
        staffed.post("order.delivered", order_id=f"o-{number}")
    staffed.work()
    ids = [row["id"] for row in staffed.messages() if row["rule"] == "kit"]
    change(staffed.db, notifications, {}, status="technical-failure", address="+447700900001")
    about = replace(a_case(staffed, "broken", "k"), is_fault=True)

    def open_one(number: int) -> None:
        with staffed.db.write() as connection:
            cases.open_case(connection, replace(about, notification_id=ids[number]))

    at_once(open_one, len(ids))
    (case,) = open_cases(staffed.db)
    assert case["count"] == len(ids) == 8
    assert {row["case_id"] for row in staffed.messages(rule="kit")} == {case["id"]}
    staffed.jobs.sweep()
    assert counted(staffed) == [("broken", 8)]


def test_alerts_of_two_channels_are_of_one_kind(staffed: Clinic) -> None:
    """Both providers refuse us within a quarter of an hour: one alert now, and one later where that
    is still so.
    """
    opened(staffed, "paused", "sms")
    staffed.work()
    opened(staffed, "paused", "email")
    staffed.work()
    assert told(staffed) == [("paused", "sent"), ("paused", "scheduled")]
    assert {address for _, address, _ in staffed.told()} == {DESK}
