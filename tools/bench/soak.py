"""A steady load for an hour: memory, connections and open files of each process, by the minute."""

from __future__ import annotations

import os
import statistics
import time
import urllib.request
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from redis import Redis

from relay.ledger.database import Database
from tools.bench import servers
from tools.bench.load import bodies, request
from tools.bench.measure import Bench, Figures, both_channels, fresh_ledger, post, say
from tools.bench.servers import SECRET

A_SECOND = 10  # events; one of ten is posted twice
METRICS_TOKEN = "the-token-of-the-bench"
Sample = dict[str, float]


def soak(bench: Bench, minutes: float) -> Figures:
    """How much larger each figure is in the last quarter than in the second, and what was lost."""
    port = servers.free_port()
    with (
        both_channels() as config,
        fresh_ledger(bench.postgresql) as db,
        servers.gunicorn("app:app", _environ(bench, config), port) as web,
        servers.worker(_environ(bench, config)) as worker,
        Redis.from_url(bench.redis) as redis,
    ):
        servers.await_http(f"http://127.0.0.1:{port}/readyz")
        servers.get(f"{bench.standins}/reset")
        samples, posted = [], 0
        for minute in _minutes(minutes):
            posted += _load(port)
            _scrape(port)
            samples.append(_sample(db, redis, web.pid, worker.pid))
            told = ", ".join(f"{name} {value:.0f}" for name, value in samples[-1].items())
            say(f"minute {minute}: {posted:,} events; {told}")
        lost = _lost(bench, posted)
    return {
        "minutes": minutes,
        "events": posted,
        "lost_or_twice": lost,
        "memory_growth": max(_growth(samples, name) for name in ("web MiB", "worker MiB")),
        "connections_growth": max(
            _growth(samples, name)
            for name in ("web files", "worker files", "PostgreSQL connections", "Redis clients")
        ),
        **{f"last {name}": value for name, value in samples[-1].items()},
    }


def _environ(bench: Bench, config: str) -> dict[str, str]:
    return bench.environ(bench.postgresql, METRICS_TOKEN=METRICS_TOKEN, RELAY_CONFIG=config)


def _minutes(minutes: float) -> Iterator[int]:
    ends, number = time.monotonic() + minutes * 60, 0
    while time.monotonic() < ends:
        number += 1
        yield number


def _load(port: int) -> int:
    """A minute of posts, evenly; how many different events."""
    started, count = time.monotonic(), A_SECOND * 60
    for number, body in enumerate(islice(bodies(count), count)):
        time.sleep(max(0.0, started + number / A_SECOND - time.monotonic()))
        for _ in range(1 + (number % 10 == 0)):
            post(port, request("/webhooks/lab", port, SECRET, body))
    return count


def _scrape(port: int) -> None:
    """What a monitor asks each minute."""
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"}
    )
    with urllib.request.urlopen(asked, timeout=10) as answer:
        answer.read()
    servers.get(f"http://127.0.0.1:{port}/readyz")


def _sample(db: Database, redis: Any, web: int, worker: int) -> Sample:
    family = [web, *_children(web)]
    with db.read() as connection:
        asked = sa.text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        connections = connection.execute(asked).scalar_one()
    return {
        "web MiB": sum(servers.memory_mib(pid, "VmRSS") for pid in family),
        "worker MiB": servers.memory_mib(worker, "VmRSS"),
        "web files": sum(map(_files, family)),
        "worker files": _files(worker),
        "PostgreSQL connections": connections,
        "Redis clients": redis.info("clients")["connected_clients"],
        "Redis MiB": redis.info("memory")["used_memory"] / 2**20,
    }


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _files(pid: int) -> int:
    """Open files, sockets among them."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def _growth(samples: list[Sample], name: str) -> float:
    """The last quarter's median by the second's: the first is still warming up."""
    quarter = max(1, len(samples) // 4)
    values = [sample[name] for sample in samples]
    before, after = values[quarter : 2 * quarter] or values, values[-quarter:]
    return round(statistics.median(after) / statistics.median(before), 3)


def _lost(bench: Bench, posted: int) -> int:
    """Texts and emails that are not one for each event, once all had the time to go out."""
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        counts = servers.get(f"{bench.standins}/counts")
        if min(counts["sms"], counts["email"]) >= posted:
            break
        time.sleep(0.5)
    return sum(abs(int(counts[way]) - posted) for way in ("sms", "email"))
