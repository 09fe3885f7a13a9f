"""The lab is away or refuses the token: one probe at a time asks it, and then all go on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from relay.jobs.circuit_breaker import LAB_FAILURES
from relay.jobs.tasks import Jobs
from relay.ledger.holds import pauses as ledger_pauses
from relay.ledger.holds.pauses import PROBES
from relay.ledger.schema import events, lab_pauses
from relay.ledger.worklist import cases
from tests.conftest import drain
from tests.jobs.conftest import DESK, HEAD, KIT, ORDER, RULES, STAFF, Clinic
from tests.rows import close_case, only, rows, time_passes
from tests.standins import Reply, Request

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
PROBE = (PROBES[0] + 1) * SECOND
LATE = RULES.replace('template = "kit"', 'template = "kit"\nafter = "2h"')
DOWN, NO_TOKEN = Reply(503), Reply(401, {"message": "Token is not valid."})


class Worker:
    """One worker process, that lives on while time passes."""

    def __init__(self, clinic: Clinic) -> None:
        self.clinic, self.jobs = clinic, clinic.jobs

    def work(self, after: timedelta = timedelta()) -> int:
        """Time passes, the clock ticks, and all that is due is done; how often the lab was asked
        meanwhile.
        """
        asked = len(self.clinic.lab.requests)
        time_passes(self.clinic.db, after)
        self.jobs.sweep()
        drain(self.jobs)
        return len(self.clinic.lab.requests) - asked


@pytest.fixture
def worker(clinic: Clinic) -> Worker:
    """A worker of a clinic whose staff hear of what needs them."""
    clinic.configure(staff=STAFF)
    return Worker(clinic)


def failing(*ids: str, reply: Reply = DOWN) -> Callable[[Request], Reply | None]:
    """The lab fails for these ids only."""
    return lambda request: reply if any(id_ in request.path for id_ in ids) else None


def one_by_one(jobs: Jobs, most: int = 50) -> list[str]:
    """Process events, one after the other, up to so many; their names in order."""
    done = []
    while len(done) < most and (leased := jobs.lease_events(1)):
        jobs.process(leased[0])
        done.append(leased[0].name)
    return done


def statuses(clinic: Clinic) -> set[str]:
    """The statuses of all events."""
    return {row["status"] for row in rows(clinic.db, events)}


def test_a_day_without_the_lab(worker: Worker) -> None:
    """It is asked by one probe at a time, staff are told once, and once it is back all go on at
    once, the urgent first; the case closes by itself.
    """
    clinic = worker.clinic
    clinic.lab.always(DOWN)
    clinic.orders(5)
    worker.work()
    for number in range(3):
        clinic.results(f"r-{number}")
    for _ in range(12):
        assert worker.work(2 * HOUR) == 1
    assert (clinic.worklist(), clinic.told()) == (["lab"], [("lab", DESK, "sent")])
    assert "since" in only(clinic.db, cases.cases)["reason"]
    assert statuses(clinic) == {"received"}
    clinic.lab.answers.clear()
    time_passes(clinic.db, timedelta(seconds=PROBES[-1]))
    assert len(one_by_one(worker.jobs, 1)) == 1  # the probe
    assert one_by_one(worker.jobs, 2) == ["lab_results.complete"] * 2
    worker.work()
    assert statuses(clinic) == {"processed"}
    sent = [row["status"] for row in clinic.messages() if row["channel"] == "sms"]
    assert sent == ["sent"] * 8
    closed = only(clinic.db, cases.cases)
    assert (closed["closed_by"], closed["note"]) == ("relay", ledger_pauses.ANSWERS)
    assert (clinic.worklist(), len(clinic.told())) == ([], 1)


def test_a_refused_token_is_told_at_once(worker: Worker) -> None:
    """The first 401 pauses the lab, the case says what to do, and nothing is ever held for it."""
    clinic = worker.clinic
    clinic.lab.always(NO_TOKEN)
    clinic.post()
    assert worker.work() == 1
    clinic.results()
    assert worker.work() == 0
    assert (clinic.worklist(), clinic.told()) == (["lab"], [("lab", DESK, "sent")])
    assert "(401). Ask the lab for a token" in only(clinic.db, cases.cases)["reason"]
    for _ in range(8):
        assert worker.work(12 * HOUR) == 1
    assert (statuses(clinic), len(clinic.told())) == ({"received"}, 1)
    clinic.lab.answers.clear()
    worker.work(6 * MINUTE)
    assert (statuses(clinic), clinic.worklist()) == ({"processed"}, [])


def test_its_case_counts_what_waits_for_it(worker: Worker) -> None:
    """The one case about the lab says how many events wait for it, also of those that come later,
    and keeps to one once nothing does.
    """
    clinic = worker.clinic
    clinic.lab.always(NO_TOKEN)
    clinic.orders(3)
    worker.work()
    assert counts(clinic) == [("lab", 3)]
    clinic.results()
    worker.work()
    assert counts(clinic) == [("lab", 4)]
    clinic.lab.answers.clear()
    worker.work(6 * MINUTE)
    assert counts(clinic) == [("lab", 1)]


def counts(clinic: Clinic) -> list[tuple[str, int]]:
    """Kind and count of each case, open or closed."""
    with clinic.db.read() as connection:
        listed = cases.open_cases(connection, with_closed=True)
    return [(case["kind"], case["count"]) for case in listed]


def test_retry_after_holds_for_all(worker: Worker) -> None:
    """One 429 that names ten minutes: nobody asks for ten minutes, and then one event does."""
    clinic = worker.clinic
    clinic.lab.always(Reply(429, headers={"Retry-After": "600"}))
    clinic.orders(6)
    assert one_by_one(worker.jobs) == ["order.shipped"]
    assert worker.work(595 * SECOND) == 0
    assert worker.work(10 * SECOND) == 1
    assert (worker.work(PROBE), worker.work(595 * SECOND)) == (0, 1)
    clinic.lab.answers.clear()
    worker.work(11 * MINUTE)
    assert statuses(clinic) == {"processed"}


def test_one_kits_trouble_does_not_pause_the_lab(worker: Worker) -> None:
    """A 500 for one id, while others are answered, is that event's own: never three in a row."""
    clinic = worker.clinic
    clinic.lab.answers.append(failing("o-0"))
    for number in range(LAB_FAILURES + 1):
        clinic.orders(1 + number)
        one_by_one(worker.jobs)
        time_passes(clinic.db, 20 * MINUTE)
    assert rows(clinic.db, lab_pauses) == []
    (bad,) = rows(clinic.db, events, status="received")
    assert bad["tries"] == LAB_FAILURES + 1


def test_one_kits_trouble_at_night_keeps_no_other_waiting(worker: Worker) -> None:
    """Where nobody else has asked meanwhile it does pause the lab; the next kit is the next probe,
    and has it go on.
    """
    clinic = worker.clinic
    clinic.lab.answers.append(failing("o-0"))
    clinic.orders(1)
    for _ in range(LAB_FAILURES):
        worker.work(2 * MINUTE)
    assert len(rows(clinic.db, lab_pauses)) == 1
    clinic.post()
    worker.work(PROBE)
    assert rows(clinic.db, lab_pauses) == []
    assert only(clinic.db, events, named=ORDER)["status"] == "processed"


@pytest.mark.parametrize("reply", [Reply(404), Reply(204), Reply(200, [])])
def test_a_contradiction_is_an_answer(worker: Worker, reply: Reply) -> None:
    """404, 204 and a record of another shape are no failures of the lab, but about one kit: they
    begin its row anew, and end its pause.
    """
    clinic = worker.clinic
    clinic.lab.answers.append(failing("o-2", "o-5", reply=reply))
    clinic.lab.answers.append(lambda _: DOWN)
    clinic.orders(5)
    assert len(one_by_one(worker.jobs)) == 5
    assert rows(clinic.db, lab_pauses) == []
    clinic.post("order.shipped", order_id="o-9")
    clinic.post("order.shipped", order_id="o-5")
    assert len(one_by_one(worker.jobs)) == 1
    assert len(rows(clinic.db, lab_pauses)) == 1
    time_passes(clinic.db, PROBE)
    one_by_one(worker.jobs, 1)
    assert rows(clinic.db, lab_pauses) == []


def test_a_probe_may_die_with_its_worker(worker: Worker) -> None:
    """Another event asks when the next probe is due, and the dead worker's own comes back."""
    clinic = worker.clinic
    clinic.lab.always(NO_TOKEN)
    clinic.orders(3)
    worker.work()
    time_passes(clinic.db, PROBE)
    (lost,) = worker.jobs.lease_events(5)
    assert worker.jobs.lease_events(5) == []
    clinic.lab.answers.clear()
    time_passes(clinic.db, PROBES[1] * SECOND)
    (probe,) = Worker(clinic).jobs.lease_events(5)
    assert probe.id != lost.id
    worker.work(PROBES[2] * SECOND)
    worker.work(2 * MINUTE)
    assert statuses(clinic) == {"processed"}


def test_the_labs_absence_uses_up_no_patience(worker: Worker) -> None:
    """lab_patience = "1m", and the lab is away for days: no event is held, no try is counted."""
    clinic = worker.clinic
    clinic.configure(head=HEAD + 'lab_patience = "1m"\n', staff=STAFF)
    worker.jobs = clinic.jobs
    clinic.lab.always(NO_TOKEN)
    clinic.post()
    for _ in range(6):
        worker.work(12 * HOUR)
    row = only(clinic.db, events)
    assert (row["status"], row["tries"]) == ("received", 0)
    clinic.lab.answers.clear()
    worker.work(12 * HOUR)
    assert statuses(clinic) == {"processed"}


def test_messages_wait_for_the_lab_too(worker: Worker) -> None:
    """What has to ask the lab before it goes out waits, uses up no tries, and goes on with all; one
    of them asks while there is no event to do it.
    """
    clinic = worker.clinic
    clinic.configure(LATE, staff=STAFF)
    worker.jobs = clinic.jobs
    clinic.orders(4)
    worker.work()
    clinic.lab.always(NO_TOKEN)
    assert worker.work(3 * HOUR) <= 4
    for _ in range(10):
        assert worker.work(12 * HOUR) == 1
    waiting = clinic.messages(rule="kit")
    assert {(row["status"], row["tries"], row["waits_for"]) for row in waiting} == {
        ("created", 0, "lab")
    }
    assert len(clinic.told()) == 1
    clinic.lab.answers.clear()
    worker.work(6 * MINUTE)
    assert [row["status"] for row in clinic.messages(rule="kit")] == ["sent"] * 4
    assert clinic.worklist() == []


def test_a_message_that_waits_too_late_is_found(worker: Worker) -> None:
    """The lab was back before a worker had put the message by: the next sweep lets it go on."""
    clinic = worker.clinic
    clinic.configure(LATE, staff=STAFF)
    worker.jobs = clinic.jobs
    clinic.post()
    worker.work()
    clinic.lab.always(NO_TOKEN)
    worker.work(3 * HOUR)
    assert clinic.messages(rule="kit")[0]["waits_for"] == "lab"
    with clinic.db.write() as connection:
        connection.execute(lab_pauses.delete())
    clinic.lab.answers.clear()
    worker.work()
    assert clinic.messages(rule="kit")[0]["status"] == "sent"


def test_a_message_alone_is_given_up_after_lab_patience(worker: Worker) -> None:
    """A lab that fails for one message's kit only uses up none of its tries; in the end staff get a
    case.
    """
    clinic = worker.clinic
    clinic.configure(LATE, head=HEAD + 'lab_patience = "1m"\n', staff=STAFF)
    worker.jobs = clinic.jobs
    clinic.post()
    worker.work()
    clinic.lab.answers.append(failing(ORDER))
    for after in (3 * HOUR, MINUTE):
        worker.work(after)
        (row,) = clinic.messages(rule="kit")
        assert (row["status"], row["tries"]) == ("created", 0)
        clinic.results(f"r-{after.seconds}")  # the lab answers for others
        worker.work()
    worker.work(MINUTE)
    row = clinic.messages(rule="kit", channel="sms")[0]
    assert (row["status"], rows(clinic.db, lab_pauses)) == ("temporary-failure", [])


def test_a_lab_that_is_away_is_told_after_a_quarter_of_an_hour(worker: Worker) -> None:
    """A short absence is nobody's to see to. A case that staff close is not opened again."""
    clinic = worker.clinic
    clinic.lab.always(Reply(hang_up=True))
    clinic.orders(LAB_FAILURES)
    worker.work()
    worker.work(14 * MINUTE)
    assert clinic.worklist() == []
    worker.work(2 * MINUTE)
    assert (clinic.worklist(), len(clinic.told())) == (["lab"], 1)
    close_case(clinic.db, only(clinic.db, cases.cases)["id"], "jane@example.org")
    worker.work(HOUR)
    assert (clinic.worklist(), len(clinic.told())) == ([], 1)


def test_a_token_that_is_refused_now_and_then_is_one_alert(worker: Worker) -> None:
    """Whatever comes and goes within a quarter of an hour is told once."""
    clinic = worker.clinic
    for _ in range(4):
        clinic.lab.once(NO_TOKEN)
        clinic.results(KIT)
        clinic.orders(1)
        worker.work()
        worker.work(PROBE)
    assert len(clinic.told()) == 1
