"""A worker that is asked to stop, and one that is killed, with messages on the wire."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial

import pytest

from relay.ledger.database import Database, now
from relay.ledger.schema import attempts, notifications
from tests.conftest import DATABASES
from tests.processes.conftest import Statuses
from tests.processes.harness import Processes, eventually, order
from tests.rows import messages, unfinished
from tests.standins import ProviderStandIn, Reply, Request

pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("ledger_url", DATABASES[-1:], indirect=True),
]


@pytest.fixture
def gate(twilio: ProviderStandIn) -> Iterator[threading.Event]:
    """Twilio accepts and keeps silent until this is set."""
    opened = threading.Event()

    def slowly(request: Request) -> Reply:
        reply = twilio.default(request)
        reply.wait_for = opened
        return reply

    twilio.answers.append(slowly)
    yield opened
    opened.set()


def test_sigterm_loses_nothing(
    processes: Processes, gate: threading.Event, twilio: ProviderStandIn, texts: Statuses
) -> None:
    """A worker told to stop ends what is in flight and leaves the rest: each is sent once."""
    processes.start("web")
    worker = processes.start("worker")
    eventually(processes.ready)
    for _ in range(40):  # more than it can have in flight
        assert processes.post(order()).status == 200
    eventually(lambda: "created" in texts() and len(texts()) == 40 and len(twilio.accepted) > 5)
    worker.send_signal(signal.SIGTERM)
    eventually(lambda: "worker stopping" in processes.output())
    gate.set()
    assert worker.wait(30) == 0
    settled = texts()
    assert settled == ["created"] * (40 - len(twilio.accepted)) + ["sent"] * len(twilio.accepted)
    assert "created" in settled
    processes.start("worker")
    eventually(lambda: texts() == ["sent"] * 40)
    assert len(twilio.requests) == 40


def test_a_second_sigterm_changes_nothing(
    processes: Processes, gate: threading.Event, twilio: ProviderStandIn, texts: Statuses
) -> None:
    """The platform signals every process, some twice: what is in flight still ends well."""
    processes.start("web")
    worker = processes.start("worker")
    eventually(processes.ready)
    assert processes.post(order()).status == 200
    eventually(lambda: twilio.accepted)
    worker.send_signal(signal.SIGTERM)
    eventually(lambda: "worker stopping" in processes.output())
    worker.send_signal(signal.SIGTERM)
    worker.send_signal(signal.SIGINT)
    gate.set()
    assert worker.wait(30) == 0
    assert texts() == ["sent"]


def test_a_killed_workers_message_is_never_sent_twice(
    processes: Processes,
    gate: threading.Event,
    twilio: ProviderStandIn,
    sendgrid: ProviderStandIn,
    db: Database,
    texts: Statuses,
) -> None:
    """What a worker had on the wire when it was killed becomes unknown; all else goes on."""
    processes.start("web")
    worker = processes.start("worker")
    eventually(processes.ready)
    assert processes.post(order()).status == 200
    eventually(lambda: twilio.accepted and sendgrid.accepted and unfinished(db) == 1)
    worker.kill()
    worker.wait()
    gate.set()
    assert texts() == ["sending"]
    with db.write() as connection:  # the lease is a minute; we do not wait for it
        lost = notifications.c.status == "sending"
        connection.execute(notifications.update().where(lost).values(lease_until=now(-1)))
    processes.start("worker")
    eventually(lambda: texts() == ["unknown"])
    assert processes.post(order()).status == 200
    eventually(lambda: texts() == ["sent", "unknown"])
    assert len(twilio.requests) == 2
    with db.read() as connection:
        query = attempts.select().where(attempts.c.channel == "sms")
        outcomes = sorted(row.outcome for row in connection.execute(query))
    assert outcomes == ["accepted", "unknown"]


def test_thirty_sends_in_flight_at_a_kill(
    processes: Processes,
    twilio: ProviderStandIn,
    sendgrid: ProviderStandIn,
    db: Database,
) -> None:
    """A worker killed at full concurrency: nothing is lost, and nothing is blindly sent twice."""
    opened, kits = threading.Event(), 40
    for provider in (twilio, sendgrid):
        provider.answers.append(partial(_silently, provider, opened))
    processes.start("web")
    worker = processes.start("worker")
    eventually(processes.ready)
    for _ in range(kits):
        assert processes.post(order()).status == 200
    eventually(lambda: len(twilio.accepted) >= 15 and len(sendgrid.accepted) >= 15)
    eventually(lambda: len(messages(db, limit=1000)) == 2 * kits)
    worker.kill()
    worker.wait()
    opened.set()
    with db.write() as connection:  # the lease is a minute; we do not wait for it
        lost = notifications.c.status == "sending"
        left = connection.execute(
            notifications.update()
            .where(lost)
            .values(lease_until=now(-1))
            .returning(notifications.c.content)
        )
        # What was claimed and has no words yet was not on the wire: it is simply sent later.
        killed = sum(row.content is not None for row in left)
    assert killed >= 30
    processes.start("worker")
    eventually(lambda: unfinished(db) == 0)
    told = Counter(row["status"] for row in messages(db, limit=1000))
    assert told == {"sent": 2 * kits - killed, "unknown": killed}
    assert len(twilio.accepted) <= kits
    assert len(sendgrid.accepted) <= kits


def _silently(provider: ProviderStandIn, opened: threading.Event, request: Request) -> Reply:
    reply = provider.default(request)
    reply.wait_for = opened
    return reply


def test_web_stops_on_sigterm(processes: Processes) -> None:
    """The web process ends within 30 s of a SIGTERM, with 0."""
    web = processes.start("web")
    processes.start("worker")
    eventually(processes.ready)
    web.send_signal(signal.SIGTERM)
    assert web.wait(30) == 0
