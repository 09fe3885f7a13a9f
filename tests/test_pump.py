"""The pump: tens of calls in flight, and nobody held up by somebody else's trouble."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relay.config.settings import Settings
from relay.jobs.tasks import Jobs
from relay.ledger.database import Database
from relay.ledger.removal import erasures
from relay.worker import pump as pump_module
from relay.worker.pump import THREADS, Pump
from relay.worker.token_bucket import TokenBucket
from tests.processes.harness import eventually, order
from tests.rows import messages
from tests.standins import ProviderStandIn, Reply

Post = Callable[[int], None]


@pytest.fixture
def pump(live: Settings, make_jobs: Callable[[Settings], Jobs]) -> Iterator[Pump]:
    """A pump that delivers to the stand-ins, not started yet."""
    made = Pump(make_jobs(live))
    yield made
    made.stop()


@pytest.fixture
def post(client: Any) -> Post:
    """Posts that many orders; the default rules text and email each customer."""

    def many(count: int) -> None:
        for _ in range(count):
            assert client.post("/webhooks/lab", json=order()).status_code == 200

    return many


@pytest.fixture
def silence() -> Iterator[threading.Event]:
    """While it lasts, whoever waits for it gets no answer."""
    ended = threading.Event()
    yield ended
    ended.set()


def test_a_silent_provider_holds_up_only_its_channel(
    pump: Pump,
    post: Post,
    twilio: ProviderStandIn,
    sendgrid: ProviderStandIn,
    silence: threading.Event,
) -> None:
    """With every SMS call hanging, all emails still go out; the texts follow when it ends."""
    twilio.answers.append(lambda request: replace(twilio.default(request), wait_for=silence))
    count = THREADS["sms"] + 6
    post(count)
    pump.start()
    eventually(lambda: len(sendgrid.accepted) == count)
    eventually(lambda: len(twilio.accepted) == THREADS["sms"])
    silence.set()
    eventually(lambda: len(twilio.accepted) == count)


def test_one_silent_recipient_holds_up_nobody(
    pump: Pump, post: Post, twilio: ProviderStandIn, silence: threading.Event
) -> None:
    """One call that hangs costs one thread: the other messages pass it."""
    twilio.once(Reply(201, {"sid": "SM1"}, wait_for=silence))
    post(20)
    pump.start()
    eventually(lambda: len(twilio.accepted) == 19)
    assert len(twilio.requests) == 20


def test_a_rate_is_kept_and_everything_goes_out(
    live: Settings,
    config_file: Path,
    make_jobs: Callable[[Settings], Jobs],
    post: Post,
    db: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At 20 texts a second ten texts are claimed a few at a time, and all of them in the end."""
    text = config_file.read_text("utf-8")
    config_file.write_text(
        text.replace("\n[delivery]", "\n[delivery]\nsms_per_second = 20"), "utf-8"
    )
    jobs = make_jobs(live)
    claims: list[int] = []
    claim = jobs.claim
    monkeypatch.setattr(jobs, "claim", lambda *args: _counted(claims, claim(*args), args[0]))
    post(10)
    pump = Pump(jobs)
    pump.drain()
    pump.stop()
    assert [row["status"] for row in messages(db) if row["channel"] == "sms"] == ["sent"] * 10
    assert max(claims) <= 2
    assert sum(claims) == 10


def _counted(claims: list[int], claimed: list[Any], channel: str) -> list[Any]:
    if channel == "sms":
        claims.append(len(claimed))
    return claimed


def test_a_rate_that_refills_while_the_other_lanes_are_looked_at_is_not_taken_for_no_work(
    live: Settings,
    make_jobs: Callable[[Settings], Jobs],
    post: Post,
    db: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A text that its rate held back is still sent, though the rate had refilled when asked."""
    monkeypatch.setattr(pump_module, "POLL_SECONDS", 0.01)
    jobs = make_jobs(live)
    claim, seconds = jobs.claim, [0.0]

    def claimed(channel: str, *args: Any) -> Any:
        if channel == "email" and not pump.busy:  # the lane after the texts: time has passed
            seconds[0] += 1
        return claim(channel, *args)

    monkeypatch.setattr(jobs, "claim", claimed)
    post(3)
    pump = Pump(jobs)
    next(lane for lane in pump.lanes if lane.name == "sms").rate = TokenBucket(
        1, lambda: seconds[0]
    )
    pump.drain()
    pump.stop()
    assert {row["status"] for row in messages(db)} == {"sent"}


def test_a_lost_wake_up_costs_one_look(
    pump: Pump, post: Post, twilio: ProviderStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody wakes the pump, and it finds the rows by itself."""
    monkeypatch.setattr(pump_module, "POLL_SECONDS", 0.05)
    pump.start()
    post(1)
    eventually(lambda: len(twilio.accepted) == 1)


def test_a_stopped_pump_claims_no_more_and_ends_what_it_has(
    pump: Pump, post: Post, twilio: ProviderStandIn, db: Database, silence: threading.Event
) -> None:
    """Stopped with every thread in a call: each call ends well, and the rest stay for others."""
    twilio.answers.append(lambda request: replace(twilio.default(request), wait_for=silence))
    count = THREADS["sms"] + 6
    post(count)
    pump.start()
    eventually(lambda: len(twilio.accepted) == THREADS["sms"])
    threading.Timer(0.2, silence.set).start()
    assert pump.stop() == 0
    statuses = [row["status"] for row in messages(db) if row["channel"] == "sms"]
    assert sorted(statuses) == ["created"] * 6 + ["sent"] * THREADS["sms"]


def test_an_erasure_does_not_hold_up_a_stop(
    pump: Pump, db: Database, silence: threading.Event
) -> None:
    """It may take minutes, so it is left to its lease: the platform kills soon after it asks."""
    erasures.ask(db, "sms", "+447700900001", target="sms m", actor="admin", note="")
    (lane,) = (lane for lane in pump.lanes if lane.name == "erasures")
    lane.work = lambda _asked: silence.wait(20)
    pump.start()
    eventually(lambda: lane.busy == 1)
    began = time.monotonic()
    assert pump.stop() == 0
    assert (lane.busy, time.monotonic() - began < 10) == (1, True)
