"""`rq worker`, what somebody types who knows RQ: it does Relay's work, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from redis import Redis
from rq.job import Job
from rq.serializers import JSONSerializer

from relay import queue
from relay.config.settings import Settings
from relay.ledger import events
from relay.ledger.database import Database
from relay.ledger.schema import events as stored
from relay.ledger.schema import heartbeats, notifications
from relay.worker import process
from relay.worker.rq_listener import WakeUp
from tests.conftest import ROOT
from tests.rows import MONTH, claimed, incoming, only, rows, time_passes

EVENTS = 10
OURS = ("--job-class", "relay.worker.rq_listener.WakeUp")
JSON, PICKLES = ("--serializer", "json"), ()


@pytest.fixture
def environ(settings: Settings, redis_server: str) -> dict[str, str]:
    """The environment of a worker."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "RELAY_ENV": "development",
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": redis_server,
        "LAB_API_URL": settings.lab_api_url,
        "LAB_API_TOKEN": settings.lab_api_token,
        "RELAY_CONFIG": str(settings.config),
        "RELAY_TEMPLATES": str(settings.templates),
    }


def rq_worker(environ: dict[str, str], redis: str, *options: str) -> str:
    """Run RQ's own command until the queue is empty; what it prints."""
    command = [str(Path(sys.executable).with_name("rq")), "worker", "--burst", "--url", redis]
    ran = subprocess.run(
        [*command, *options, queue.NAME],
        env=environ,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout + ran.stderr


@pytest.mark.parametrize("options", [OURS, JSON, PICKLES], ids=["ours", "json", "pickles"])
def test_ten_events_become_their_messages(
    options: tuple[str, ...], db: Database, redis: Redis, redis_server: str, environ: dict[str, str]
) -> None:
    """The real command, as it stands in the docs, without our job class, and as RQ is by default:
    that one says what to type, and no wake-up is lost.
    """
    for number in range(EVENTS):
        events.record_webhook(db, incoming("order.shipped", order_id=f"o-{number}"), MONTH)
    queue.wake(redis)
    said = rq_worker(environ, redis_server, *options)
    assert [row["status"] for row in rows(db, stored)] == ["processed"] * EVENTS
    made = rows(db, notifications)
    assert {row["event_id"] for row in made} == {row["id"] for row in rows(db, stored)}
    assert {row["status"] for row in made} == {"sent"}
    assert (queue.NOT_PICKLES in said) == (options == PICKLES)
    assert redis.exists(queue.PENDING) == 0
    assert len(rows(db, heartbeats)) == 1


def test_what_is_due_later_is_seen_to_by_the_next_job(
    db: Database, redis: Redis, redis_server: str, environ: dict[str, str]
) -> None:
    """A job does the clock's work too: a claim whose worker has gone is taken up. The web wakes one
    every half a minute.
    """
    claim = claimed(db)
    time_passes(db, timedelta(minutes=2))
    queue.wake(redis)
    rq_worker(environ, redis_server, *OURS)
    assert only(db, notifications, id=claim.id)["status"] in ("sent", "cancelled")


def test_a_job_works_for_a_while_and_enqueues_itself(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While there is more another wake-up follows; when all is done none does."""
    for more in (False, True):
        monkeypatch.setattr(process, "drain_here", lambda more=more: more)
        process.answer(redis)
        assert queue.rq_queue(redis).count == more
    assert process.TURN_SECONDS + process.ENDING_SECONDS <= 45 < queue.JOB_SECONDS


def test_nothing_but_relays_own_function_is_run_from_the_queue(redis: Redis) -> None:
    """Who can write to Redis can name any function, callback or address: none of it is used."""
    job = Job.create(
        "os.system", ["true"], connection=redis, serializer=JSONSerializer, on_failure=None
    )
    job.save()
    redis.hset(job.key, mapping={"failure_callback_name": "os.abort"})
    read = WakeUp.fetch(job.id, connection=redis, serializer=JSONSerializer)
    assert (read.func_name, list(read.args), read.kwargs) == (queue.JOB, [], {})
    assert read.func is queue.drain
    assert (read.success_callback, read.failure_callback, read.stopped_callback) == (None,) * 3
