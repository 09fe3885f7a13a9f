"""Messages whose facts are old ask the lab first: in a lane of their own, once an event."""

from __future__ import annotations

import threading
from datetime import timedelta

from relay.ledger.schema import attempts, notifications
from relay.worker.pump import THREADS, Pump
from tests.conftest import drain
from tests.jobs.conftest import ORDER, RULES, Clinic
from tests.processes.harness import eventually
from tests.rows import change, rows, time_passes
from tests.standins import Reply

LATER = timedelta(hours=3)
LATE = RULES.replace('template = "kit"', 'template = "kit"\nafter = "2h"')
TWO_WAYS = LATE.replace('channels = ["sms"]\nfallback = ["email"]', 'channels = ["sms", "email"]')


def orders_asked(clinic: Clinic) -> int:
    """How often the lab was asked for the order."""
    return clinic.lab.paths.count(f"/api/order/{ORDER}")


def test_a_text_with_fresh_facts_passes_those_that_ask_a_slow_lab(clinic: Clinic) -> None:
    """More reminders are due than there are threads, and the lab hangs: results that came in a
    moment ago go out.
    """
    clinic.configure(LATE)
    clinic.orders(THREADS["sms"] + THREADS["sms, asking"])
    clinic.work()
    time_passes(clinic.db, LATER)
    silence = threading.Event()
    slow = Reply(503, wait_for=silence)
    clinic.lab.answers.append(lambda request: slow if "/order/o-" in request.path else None)
    pump = Pump(clinic.jobs)
    pump.start()
    try:
        eventually(lambda: len(clinic.lab.requests) >= THREADS["sms, asking"])
        clinic.results()
        eventually(lambda: len(clinic.twilio.accepted) == 1)
        assert "results are ready" in clinic.twilio.accepted[0].form["Body"]
    finally:
        silence.set()
        pump.stop()


def test_the_messages_of_an_event_ask_once_between_them(clinic: Clinic) -> None:
    """A text and an email about a kit are due at the same moment: one look at the lab does."""
    clinic.configure(TWO_WAYS)
    clinic.post()
    clinic.work()
    asked = orders_asked(clinic)
    clinic.work(LATER)
    assert clinic.statuses() == [("email", "sent"), ("sms", "sent")]
    assert orders_asked(clinic) == asked + 1


def test_a_message_for_later_waits_for_the_lab_from_the_start(clinic: Clinic) -> None:
    """Its facts will be old when it is due: no attempt is spent on finding that out."""
    clinic.configure(LATE)
    clinic.post()
    clinic.work()
    (row,) = clinic.messages()
    assert (row["status"], row["waits_for"]) == ("scheduled", "lab")
    clinic.work(LATER)
    assert [row["outcome"] for row in rows(clinic.db, attempts)] == ["accepted"]


def test_facts_that_turned_old_while_a_message_waited(clinic: Clinic) -> None:
    """A worker was away for an hour: what has changed at the lab since counts, and no try is
    used up.
    """
    clinic.post()
    jobs = clinic.jobs
    jobs.process(jobs.lease_events(1)[0])
    clinic.lab.change("order", ORDER, tracking_number="RM2")
    clinic.work(timedelta(hours=1))
    (row,) = clinic.messages()
    assert (row["status"], row["tries"]) == ("sent", 1)
    assert "RM2" in clinic.twilio.accepted[0].form["Body"]


def test_what_a_worker_has_heard_gets_old_too(clinic: Clinic) -> None:
    """The email is retried an hour after its text: the lab is asked again."""
    clinic.configure(TWO_WAYS)
    clinic.post()
    jobs = clinic.jobs
    drain(jobs)
    time_passes(clinic.db, LATER)
    clinic.sendgrid.always(Reply(503))
    drain(jobs)
    clinic.sendgrid.answers.clear()
    asked = orders_asked(clinic)
    time_passes(clinic.db, LATER)
    drain(jobs)
    assert clinic.statuses() == [("email", "sent"), ("sms", "sent")]
    assert orders_asked(clinic) == asked + 1


def test_only_failures_of_the_lab_count_towards_its_patience(clinic: Clinic) -> None:
    """A message that was sent back ten times for other reasons is not given up at the lab's first
    failure.
    """
    clinic.configure(LATE)
    clinic.post()
    clinic.work()
    change(clinic.db, notifications, {}, attempts=10)
    clinic.lab.once(Reply(503))
    clinic.work(LATER)
    (row,) = clinic.messages()
    assert (row["status"], row["waits_for"]) == ("created", "lab")
    clinic.work(LATER)
    assert clinic.statuses() == [("sms", "sent")]
