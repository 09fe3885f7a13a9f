"""What is measured. Each function alternates its baseline with Relay and returns figures."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from relay.config.settings import database_url
from relay.lab import events
from relay.ledger import events as ledger_events
from relay.ledger import migrate
from relay.ledger.audit import open_to_change
from relay.ledger.database import Database
from relay.ledger.schema import metadata
from tools.bench import baseline, servers
from tools.bench.load import bodies
from tools.bench.servers import ROOT, SECRET

Figures = dict[str, float]
say: Callable[[str], None] = lambda text: print(f"  {text}", file=sys.stderr, flush=True)  # noqa: E731


class Bench:
    """The servers that every measurement uses, and the environment Relay runs in."""

    def __init__(self, postgresql: str, redis: str, standins: str):
        self.postgresql, self.redis, self.standins = postgresql, redis, standins

    def environ(self, ledger: str, **more: str) -> dict[str, str]:
        """Relay's environment: production, live, on stand-ins."""
        return {
            "RELAY_ENV": "production",
            "RELAY_DELIVERY": "live",
            "RELAY_CONFIG": str(ROOT / "tools" / "bench" / "config.toml"),
            "DATABASE_URL": ledger,
            "REDIS_URL": self.redis,
            "WEBHOOK_SECRET": SECRET,
            "LAB_API_URL": self.standins,
            "LAB_API_TOKEN": "token",
            "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
            "TWILIO_AUTH_TOKEN": "token",
            "TWILIO_API_URL": self.standins,
            "SENDGRID_API_KEY": "SG.key",
            "SENDGRID_API_URL": self.standins,
            "LOG_LEVEL": "INFO",
            "WEB_CONCURRENCY": "2",
            **more,
        }


@contextmanager
def fresh_ledger(url: str) -> Iterator[Database]:
    """The ledger, migrated and emptied."""
    db = Database(database_url(url), patience=120)
    migrate.upgrade(db)
    with db.write() as connection:
        open_to_change(connection)
        for table in reversed(metadata.sorted_tables):
            connection.execute(table.delete())
    yield db
    db.close()


@contextmanager
def both_channels() -> Iterator[str]:
    """The bench's config.toml with each event told by email too."""
    written = (ROOT / "tools" / "bench" / "config.toml").read_text("utf-8")
    with tempfile.NamedTemporaryFile("w", suffix=".toml", encoding="utf-8") as file:
        file.write(written.replace('channels = ["sms"]', 'channels = ["sms", "email"]'))
        file.flush()
        yield file.name


def load(port: int, count: int, clients: int) -> dict[str, float]:
    """One round of the load generator."""
    command = [
        sys.executable,
        "-m",
        "tools.bench.load",
        str(port),
        str(count),
        str(clients),
        SECRET,
    ]
    told: dict[str, float] = json.loads(subprocess.check_output(command, cwd=ROOT, text=True))
    if told["failed"]:
        raise SystemExit(f"{told['failed']} posts were not answered 200")
    return {**told, "rate": told["requests"] / told["seconds"]}


def way_in(bench: Bench, ledger: str, rounds: int, count: int) -> Figures:
    """Relay's intake against bare Flask on the same gunicorn."""
    with ExitStack() as stack:
        db = stack.enter_context(fresh_ledger(ledger))
        ports = {"bare": servers.free_port(), "relay": servers.free_port()}
        environ = bench.environ(ledger, LOG_LEVEL="INFO")
        for name, app in (("bare", "tools.bench.bare:app"), ("relay", "app:app")):
            stack.enter_context(servers.gunicorn(app, environ, ports[name]))
            servers.await_http(
                f"http://127.0.0.1:{ports[name]}/" + ("readyz" if name == "bare" else "healthz")
            )
        for port in ports.values():
            load(port, 400, 8)
        told: dict[str, list[dict[str, float]]] = {"bare": [], "relay": []}
        for number in range(rounds):
            for name in ("bare", "relay"):
                told[name].append(load(ports[name], count, 8))
            bare, relay = told["bare"][-1], told["relay"][-1]
            say(
                f"round {number + 1} of {rounds}: bare {bare['rate']:.0f}/s p99 {bare['p99']:.1f},"
                f" Relay {relay['rate']:.0f}/s p99 {relay['p99']:.1f} ms"
            )
        burst = load(ports["relay"], 1000, 50)
        say(f"a burst of 1,000, 50 at a time: p99 {burst['p99']:.0f} ms, none failed")
        with db.read() as connection:
            kept = connection.execute(sa.text("SELECT count(*) FROM events")).scalar_one()
        expected = 400 + rounds * count + 1000
        if kept != expected:
            raise SystemExit(f"{kept} events are in the ledger, {expected} were posted")
    ratio = [r["rate"] / b["rate"] for b, r in zip(told["bare"], told["relay"], strict=True)]
    tail = [r["p99"] / b["p99"] for b, r in zip(told["bare"], told["relay"], strict=True)]
    return {
        "bare_rate": _median(told["bare"], "rate"),
        "relay_rate": _median(told["relay"], "rate"),
        "ratio": statistics.median(ratio),
        "bare_p99": _median(told["bare"], "p99"),
        "relay_p99": _median(told["relay"], "p99"),
        "p99_ratio": statistics.median(tail),
        "burst_p99": burst["p99"],
    }


def _median(rows: list[dict[str, float]], key: str) -> float:
    return statistics.median(row[key] for row in rows)


def fill_tables(
    db: Database, statements: Sequence[str], count: int, at_once: int, besides: Sequence[str] = ()
) -> None:
    """Run statements over the numbers up to `count`, some at a time, then those `besides`."""
    for first in range(1, count + 1, at_once):
        last = min(first + at_once - 1, count)
        with db.engine.begin() as connection:
            connection.execute(sa.text("SET LOCAL synchronous_commit = off"))
            for statement in statements:
                given = {"first": first, "last": last, "all": count}
                connection.execute(sa.text(statement), given)
        say(f"{last:,} of {count:,} events")
    with db.engine.begin() as connection:
        for statement in besides:
            connection.execute(sa.text(statement))
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("VACUUM ANALYZE"))


def fill(db: Database, count: int) -> list[str]:
    """Events that wait in the ledger; their ids."""
    from datetime import timedelta

    made = []
    with db.write() as connection:
        for body in bodies(count):
            incoming = events.parse(body)
            made.append(ledger_events.record(connection, incoming, timedelta(days=30)).id)
    return made


def await_sent(bench: Bench, count: int, seconds: float) -> Mapping[str, Any]:
    """The stand-ins' counts once so many texts have arrived; ends the run after `seconds`."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        counts: Mapping[str, Any] = servers.get(f"{bench.standins}/counts")
        if counts["sms"] >= count:
            return counts
        time.sleep(0.1)
    raise SystemExit(f"only {counts['sms']} of {count} messages were sent in {seconds:.0f} s")


def rate(counts: Mapping[str, Any]) -> float:
    """Messages a second between the first and the last that arrived."""
    arrivals = counts["arrivals"]
    return float((len(arrivals) - 1) / (arrivals[-1] - arrivals[0]))


def way_out(bench: Bench, rounds: int, count: int, baseline_count: int) -> Figures:
    """Relay's one worker process against RQ's default worker on the same jobs."""
    told: dict[str, list[float]] = {"rq": [], "relay": [], "memory": [], "connections": []}
    environ = bench.environ(bench.postgresql)
    for number in range(rounds):
        with fresh_ledger(bench.postgresql) as db:
            servers.get(f"{bench.standins}/reset")
            baseline.enqueue(bench.redis, fill(db, baseline_count))
            command = [sys.executable, "-m", "tools.bench.baseline"]
            with servers.process(command, environ):
                counts = await_sent(bench, baseline_count, 120)
            told["rq"].append(rate(counts))
        with fresh_ledger(bench.postgresql) as db:
            servers.get(f"{bench.standins}/reset")
            fill(db, count)
            with servers.worker(environ) as process:
                counts = await_sent(bench, count, 120)
                told["memory"].append(servers.memory_mib(process.pid))
            told["relay"].append(rate(counts))
            told["connections"].append(counts["connections"])
        say(
            f"round {number + 1} of {rounds}: RQ's worker {told['rq'][-1]:.1f}/s,"
            f" Relay {told['relay'][-1]:.0f}/s, {told['memory'][-1]:.0f} MiB,"
            f" {counts['connections']} connections"
        )
    pairs = zip(told["rq"], told["relay"], strict=True)
    return {
        "rq_rate": statistics.median(told["rq"]),
        "relay_rate": statistics.median(told["relay"]),
        "ratio": statistics.median(relay / rq for rq, relay in pairs),
        "memory_mib": max(told["memory"]),
        "connections": max(told["connections"]),
    }


def stopping(bench: Bench, rounds: int, count: int) -> Figures:
    """SIGTERM in the midst of a backlog: seconds until the worker has gone, and what was lost."""
    environ, took, wrong = bench.environ(bench.postgresql), [], 0
    for number in range(rounds):
        with fresh_ledger(bench.postgresql) as db:
            servers.get(f"{bench.standins}/reset")
            fill(db, count)
            with servers.worker(environ) as process:
                before = await_sent(bench, count // 4, 120)
                process.terminate()
                started = time.perf_counter()
                process.wait(30)
                took.append(time.perf_counter() - started)
            with servers.worker(environ):
                await_sent(bench, count, 120)
                _await_settled(db, count)
            wrong += abs(servers.get(f"{bench.standins}/counts")["sms"] - count)
        say(
            f"round {number + 1} of {rounds}: told to stop after {before['sms']} of {count},"
            f" gone in {took[-1]:.2f} s; {wrong} lost or sent twice"
        )
    return {"stop_seconds": max(took), "lost_or_twice": wrong}


def _await_settled(db: Database, count: int) -> None:
    """Until the ledger says that all of it was sent."""
    query = sa.text("SELECT count(*) FROM notifications WHERE status = 'sent'")
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        with db.read() as connection:
            if connection.execute(query).scalar_one() == count:
                return
        time.sleep(0.1)
    raise SystemExit(f"the ledger does not say that all {count} were sent")


def recovery(bench: Bench, count: int) -> Figures:
    """Seconds until it sends again: the only worker SIGKILLed and replaced, and Redis emptied."""
    from redis import Redis

    from tools.bench.load import request

    environ, port = bench.environ(bench.postgresql), servers.free_port()
    with fresh_ledger(bench.postgresql) as db:
        servers.get(f"{bench.standins}/reset")
        fill(db, count)
        with servers.worker(environ) as process:
            await_sent(bench, count // 4, 120)
            process.kill()
            process.wait()
        time.sleep(1)  # the stand-ins answer what was in flight
        before, started = servers.get(f"{bench.standins}/counts")["sms"], time.time()
        with servers.worker(environ):
            killed = await_sent(bench, before + 1, 180)["arrivals"][-1] - started
    with (
        fresh_ledger(bench.postgresql),
        servers.gunicorn("app:app", environ, port),
        servers.worker(environ),
        Redis.from_url(bench.redis) as redis,
    ):
        servers.await_http(f"http://127.0.0.1:{port}/readyz")
        servers.get(f"{bench.standins}/reset")
        redis.flushall()
        started = time.time()
        post(port, request("/webhooks/lab", port, SECRET, next(iter(bodies(1)))))
        emptied = await_sent(bench, 1, 120)["arrivals"][-1] - started
    say(f"sends again {killed:.1f} s after a SIGKILL, {emptied:.1f} s after Redis was emptied")
    return {"killed_seconds": killed, "emptied_seconds": emptied}


def memory(bench: Bench, count: int) -> Figures:
    """The worker's memory after a thousand texts and as many emails, and after many more."""
    with both_channels() as config, fresh_ledger(bench.postgresql) as db:
        servers.get(f"{bench.standins}/reset")
        fill(db, count)
        told = []
        environ = bench.environ(bench.postgresql, RELAY_CONFIG=config)
        with servers.worker(environ) as process:
            for sent in range(1000, count + 1, 1000):
                await_sent(bench, sent, 240)
                told.append(servers.memory_mib(process.pid))
                say(f"{sent:,} texts and as many emails: {told[-1]:.1f} MiB")
    return {"first_mib": told[0], "last_mib": told[-1], "growth": told[-1] / told[0]}


def latency(bench: Bench, count: int) -> Figures:
    """From the lab's POST to the provider's call on an idle system, less the lab's latency."""
    from tools.bench.load import request

    environ, port = bench.environ(bench.postgresql), servers.free_port()
    lab_ms = 2 * 50.0
    with (
        fresh_ledger(bench.postgresql),
        servers.gunicorn("app:app", environ, port),
        servers.worker(environ),
    ):
        servers.await_http(f"http://127.0.0.1:{port}/readyz")
        servers.get(f"{bench.standins}/reset")
        beyond = []
        for number, body in enumerate(bodies(count), 1):
            time.sleep(0.15)
            started = time.time()
            post(port, request("/webhooks/lab", port, SECRET, body))
            counts = await_sent(bench, number, 30)
            if number > 3:  # the first ones import what the worker had not needed before
                beyond.append((counts["arrivals"][-1] - started) * 1000 - lab_ms)
        beyond.sort()
    say(f"{len(beyond)} events: p50 {beyond[len(beyond) // 2]:.0f} ms beyond the lab's latency")
    return {"p50": beyond[len(beyond) // 2], "p99": beyond[int(len(beyond) * 0.99)]}


def post(port: int, whole: bytes) -> None:
    """Send a request as it is, on a connection of its own; it has to be answered 200."""
    import socket

    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(whole)
        if not connection.recv(4096).startswith(b"HTTP/1.1 200"):
            raise SystemExit("a post was not answered 200")


def start(bench: Bench, rounds: int) -> Figures:
    """How long until the web process serves, and until `--help` has ended."""
    ready, shown = [], []
    environ = bench.environ(bench.postgresql)
    for _ in range(rounds):
        port = servers.free_port()
        started = time.perf_counter()
        with servers.gunicorn("app:app", environ, port):
            servers.await_http(f"http://127.0.0.1:{port}/healthz")
            ready.append(time.perf_counter() - started)
        started = time.perf_counter()
        command = [str(Path(sys.executable).with_name("flask")), "relay", "--help"]
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        shown.append(time.perf_counter() - started)
    say(
        f"web ready in {statistics.median(ready):.2f} s, --help in {statistics.median(shown):.2f} s"
    )
    return {"web_seconds": statistics.median(ready), "help_seconds": statistics.median(shown)}
