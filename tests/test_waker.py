"""relay/queue.py's Waker: whatever Redis does, whoever asks for a wake-up goes on at once."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from redis import Redis
from redis.exceptions import RedisError

from relay import queue
from relay.config.settings import Settings
from relay.dev import redis_server as dev_redis_server
from relay.queue import Waker
from tests.test_queue import jobs, until, woken, work

__all__ = ["woken"]  # a fixture


@pytest.fixture(params=["refuses", "hangs"])
def deaf(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a Redis that refuses connections, or takes them and never says a word."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if request.param == "hangs":
            server.listen(16)
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


def test_waker_is_never_held_up_by_redis(deaf: str, settings: Settings) -> None:
    """With Redis down or hanging asking for a wake-up returns at once, each of a hundred times."""
    waker = Waker(replace(settings, redis_url=deaf))
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(lambda: [waker.wake() for _ in range(100)])
        assert asked.result(timeout=20) == [None] * 100


def test_direct_wake_up_tells_when_redis_is_away(deaf: str, settings: Settings) -> None:
    """`wake` itself fails at once and by its name, so that whoever calls it can go on."""
    away = replace(settings, redis_url=deaf)
    with queue.connect(away, timeout=0.2) as connection, pytest.raises(RedisError):
        queue.wake(connection)


def test_waker_wakes_from_many_threads(
    redis: Redis, redis_server: str, settings: Settings, woken: list[str]
) -> None:
    """Whoever asks, and however many at once, a wake-up goes out."""
    waker = Waker(replace(settings, redis_url=redis_server))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: waker.wake(), range(200)))
    until(lambda: jobs(redis))
    assert len(jobs(redis)) == 1
    work(redis)
    waker.wake()
    until(lambda: jobs(redis))
    work(redis)
    assert len(woken) >= 2


def test_waker_goes_on_after_redis_was_away(settings: Settings) -> None:
    """After a failed wake-up the next one goes out once Redis takes writes again."""
    with dev_redis_server.redis() as url, Redis.from_url(url) as connection:
        waker = Waker(replace(settings, redis_url=url))
        connection.config_set("maxmemory", "1")
        waker.wake()
        until(lambda: connection.info("errorstats").get("errorstat_OOM"))
        connection.config_set("maxmemory", "0")
        assert jobs(connection) == []
        waker.wake()
        until(lambda: jobs(connection))


def test_without_redis_nobody_is_woken(settings: Settings) -> None:
    """In development without a queue workers look for themselves: no thread, no error."""
    before = set(threading.enumerate())
    Waker(settings).wake()
    assert set(threading.enumerate()) == before
