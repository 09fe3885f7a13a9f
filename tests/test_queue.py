"""relay/queue.py: the queue wakes workers, holds no data, and can hold nobody up."""

from __future__ import annotations

import json
import os
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from redis import Redis
from rq.job import Job
from rq.serializers import JSONSerializer

from relay import queue
from relay.config.settings import Settings
from relay.lab import samples
from relay.ledger.database import Database
from relay.ledger.schema import events
from relay.worker import process
from relay.worker.rq_listener import _ThreadWorker
from tests.conftest import SECRET


def until(condition: Callable[[], Any], seconds: float = 20) -> None:
    """Wait for a condition; failing is noticed, being slow is not."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it never came"
        time.sleep(0.005)


def work(redis: Redis) -> None:
    """What a worker does until the queue is empty."""
    waiting, name = [queue.rq_queue(redis)], os.urandom(4).hex()
    worker = _ThreadWorker(waiting, connection=redis, serializer=JSONSerializer, name=name)
    worker.work(burst=True, logging_level="WARNING")


def jobs(redis: Redis) -> list[Job]:
    """The jobs that wait."""
    return list(queue.rq_queue(redis).jobs)


@pytest.fixture
def woken() -> Iterator[list[str]]:
    """Words that wake-ups leave in this process."""
    told: list[str] = []
    process.on_wake(lambda: told.append("woken"))
    yield told
    process.on_wake(None)


def test_wake_up_reaches_a_worker(redis: Redis, woken: list[str]) -> None:
    """A wake-up is one job, and the worker that takes it is woken once."""
    assert queue.wake(redis) is True
    assert len(jobs(redis)) == 1
    work(redis)
    assert woken == ["woken"]
    assert jobs(redis) == []


def test_one_pending_wake_up_is_enough(redis: Redis, woken: list[str]) -> None:
    """While a wake-up waits no other is sent; after it was taken the next is."""
    assert [queue.wake(redis) for _ in range(5)] == [True, *[False] * 4]
    assert len(jobs(redis)) == 1
    work(redis)
    assert queue.wake(redis) is True
    work(redis)
    assert woken == ["woken", "woken"]


def test_what_is_committed_while_a_worker_looks_wakes_again(redis: Redis) -> None:
    """The mark is gone before the worker looks, so nothing can be committed unseen after it."""
    sent: list[bool] = []
    try:
        process.on_wake(lambda: sent.append(queue.wake(redis)) if not sent else None)
        queue.wake(redis)
        work(redis)
    finally:
        process.on_wake(None)
    assert sent == [True]


def test_no_wake_up_is_lost_in_a_race(redis: Redis, redis_server: str, woken: list[str]) -> None:
    """Many commit and wake while one drains: what was committed is seen, by wake-ups alone."""
    ledger: list[int] = []
    seen: list[int] = []
    done = threading.Event()

    def look() -> None:
        seen.extend(ledger[len(seen) :])
        time.sleep(0.02)  # as long as finding something takes

    def commit(number: int) -> None:
        time.sleep(number % 8 / 200)
        ledger.append(number)
        with Redis.from_url(redis_server) as connection:
            queue.wake(connection)

    def drain() -> None:
        with Redis.from_url(redis_server) as connection:
            while not done.is_set():
                work(connection)

    process.on_wake(look)
    with ThreadPoolExecutor(9) as pool:
        drained = pool.submit(drain)
        try:
            for start in range(0, 160, 8):
                list(pool.map(commit, range(start, start + 8)))
                until(lambda: len(seen) == len(ledger))
        finally:
            done.set()
        drained.result(timeout=60)
    assert sorted(seen) == list(range(160))


def test_lost_wake_up_holds_others_back_for_30_s_at_most(redis: Redis) -> None:
    """A job that Redis lost is replaced: its mark goes by itself."""
    queue.wake(redis)
    queue.rq_queue(redis).empty()
    assert 0 < redis.ttl(queue.PENDING) <= 30
    redis.delete(queue.PENDING)  # as Redis does then
    assert queue.wake(redis) is True


def test_emptied_redis_takes_the_next_wake_up(redis: Redis, woken: list[str]) -> None:
    """After FLUSHALL the next wake-up goes out and arrives."""
    queue.wake(redis)
    redis.flushdb()
    assert queue.wake(redis) is True
    work(redis)
    assert woken == ["woken"]


def test_job_holds_no_data(redis: Redis) -> None:
    """A job says that there is work and never what it is, and does not stay for ever."""
    queue.wake(redis)
    [job] = jobs(redis)
    assert (list(job.args), job.kwargs, job.meta, job.description) == ([], {}, {}, "wake-up")
    assert job.ttl
    assert job.failure_ttl


def test_redis_never_holds_anything_of_an_event(
    make_client: Callable[[Settings], Any], settings: Settings, redis_server: str, redis: Redis
) -> None:
    """After all example events were posted Redis knows neither their ids nor any word of them."""
    client = make_client(replace(settings, redis_url=redis_server))
    told = []
    for body in samples.webhooks():
        told += [client.post("/webhooks/lab", data=json.dumps(body)).json["id"], body["event"]]
        told += body["data"].values()
    until(lambda: jobs(redis))
    [job] = jobs(redis)
    held = repr([(key, redis.type(key), _value(redis, key)) for key in redis.keys("*")])
    assert job.id in held
    for text in (*told, SECRET):
        assert text not in held


def _value(redis: Redis, key: bytes) -> Any:
    """What a key holds, whatever its type; of a job, the call that it packs."""
    read: dict[bytes, Callable[[], Any]] = {
        b"hash": lambda: redis.hgetall(key),
        b"list": lambda: redis.lrange(key, 0, -1),
        b"set": lambda: redis.smembers(key),
        b"zset": lambda: redis.zrange(key, 0, -1),
        b"string": lambda: redis.get(key),
    }
    value = read[redis.type(key)]()
    packed = value.get(b"data") if isinstance(value, dict) else None
    return (value, zlib.decompress(packed)) if packed else value


def test_job_without_a_pump_does_the_work_itself(
    settings: Settings, client: Any, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a plain RQ worker a wake-up processes what is due there and then."""
    client.post("/webhooks/lab", data=json.dumps(samples.webhook("order.shipped")))
    for name, value in {
        "RELAY_ENV": "development",
        "DATABASE_URL": settings.database_url,
        "LAB_API_URL": settings.lab_api_url,
        "LAB_API_TOKEN": settings.lab_api_token,
        "RELAY_CONFIG": str(settings.config),
        "RELAY_TEMPLATES": str(settings.templates),
    }.items():
        monkeypatch.setenv(name, value)
    queue.drain()
    with db.read() as connection:
        assert connection.execute(sa.select(events.c.status)).scalar_one() == "processed"
