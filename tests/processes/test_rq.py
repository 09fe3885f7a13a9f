"""`rq worker`, what somebody types who knows RQ: it does Relay's work, and nothing else."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tracemalloc
import zlib
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from rq import Queue
from rq.job import Job, JobStatus
from rq.registry import StartedJobRegistry
from rq.serializers import JSONSerializer, PickleSerializer

from relay import queue
from relay.config.settings import Settings
from relay.ledger import events
from relay.ledger.database import Database
from relay.ledger.schema import events as stored
from relay.ledger.schema import heartbeats, notifications
from relay.worker import process, rq_listener
from tests.conftest import ROOT, one_database
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


@cache  # some seconds of work
def gigabyte() -> bytes:
    """A gigabyte of zeros, packed into a few megabytes."""
    return zlib.compress(bytes(1 << 30), 1)


def forge(redis: Redis, mark: Path) -> None:
    """Put into Redis what would leave the mark if anything ran it: jobs that name a function, as
    JSON and as a pickle; one that a worker seems to have left, with a callback; a pickle beside the
    job; a bomb that unpacks to a gigabyte.
    """

    class Touch:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {mark}",)

    touch = ("subprocess.getoutput", [f"touch {mark}"])
    for serializer in (JSONSerializer, PickleSerializer):
        Queue(queue.NAME, redis, serializer=serializer).enqueue(*touch)
    left = Job.create(*touch, connection=redis, origin=queue.NAME, status=JobStatus.STARTED)
    meant = Queue(queue.NAME, redis).enqueue(*touch)
    for job in (left, meant):
        job.save()
        named = f"{__name__}.{leave_mark.__name__}"
        names = {f"{kind}_callback_name": named for kind in ("success", "failure", "stopped")}
        packed = {"meta": pickle.dumps(Touch()), "result": pickle.dumps(Touch())}
        redis.hset(job.key, mapping={**names, **packed})
    bomb = Queue(queue.NAME, redis).enqueue(*touch)
    redis.hset(bomb.key, "data", gigabyte())
    redis.set(f"marked:{left.id}", str(mark))
    redis.zadd(StartedJobRegistry(queue.NAME, redis).key, {f"{left.id}:1": 1})


def leave_mark(job: Job, connection: Redis, *_: object) -> None:
    """A callback that Redis may name."""
    Path(connection.get(f"marked:{job.id}").decode()).touch()


def test_nothing_but_relays_own_function_is_run_from_the_queue(
    redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who can write to Redis can name any function and callback, and send anything to be unpacked:
    the worker wakes and does nothing of it. Nor does it stop where Redis tells
    it to.
    """
    woken: list[int] = []
    monkeypatch.setattr(process, "_on_wake", lambda: woken.append(1))
    monkeypatch.setattr(os, "kill", lambda *_: woken.append(99))
    forge(redis, tmp_path / "mark")
    worker = rq_listener.worker(redis)
    worker.handle_payload({"data": b'{"command": "shutdown"}'})
    tracemalloc.start()
    worker.work(burst=True)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert set(woken) == {1}
    assert not (tmp_path / "mark").exists()
    assert most < 1 << 27


@one_database
def test_rqs_own_command_runs_nothing_else_either(
    redis: Redis, redis_server: str, environ: dict[str, str], tmp_path: Path
) -> None:
    """With Relay's job class, and RQ's pickles as they are by default."""
    forge(redis, tmp_path / "mark")
    rq_worker(environ, redis_server, *OURS)
    assert not (tmp_path / "mark").exists()
