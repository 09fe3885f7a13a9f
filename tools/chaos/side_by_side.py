"""`python -m tools.chaos.side_by_side COMMIT`: a deploy from COMMIT to this code, both at work.

The version before makes the ledger and works; this one's release phase migrates it; then both take
each event and both workers send; then the version before is told to stop. Each kit gets one text.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path

import psycopg

from relay.dev import redis_server
from tools.bench import servers
from tools.bench.load import bodies, request
from tools.bench.measure import Bench, post, say
from tools.bench.servers import ROOT, SECRET

SETTLE_SECONDS = 60.0
WRONG = """
SELECT (SELECT count(*) FROM events WHERE status <> 'processed'),
       (SELECT count(*) FROM notifications WHERE status <> 'sent'),
       (SELECT count(*) FROM attempts WHERE outcome <> 'accepted')
"""


def main() -> int:
    """Deploy, and say what came of it; 1 when anything was lost, twice, or not sent."""
    parser = argparse.ArgumentParser(prog="tools.chaos.side_by_side", description=__doc__)
    parser.add_argument("commit", help="the version that is replaced")
    parser.add_argument("--events", type=int, default=200, help="in each of the four phases")
    chosen = parser.parse_args()
    with ExitStack() as stack:
        old = stack.enter_context(_checkout(chosen.commit))
        standins = stack.enter_context(servers.standins(0.05, 0.15))
        ledger = stack.enter_context(servers.postgresql())
        bench = Bench(ledger, stack.enter_context(redis_server.redis()), standins)
        posted = _deploy(bench, old, chosen.events)
        found = _settled(bench, posted)
    say(f"{posted} events, {found} texts")
    return found != posted


def _deploy(bench: Bench, old: Path, count: int) -> int:
    """Play a deploy; how many different events were posted."""
    environ = bench.environ(bench.postgresql)
    made = bodies(4 * count)
    with ExitStack() as new_ones, ExitStack() as old_ones:
        _upgrade(environ, old)
        ports = [_start(old_ones, environ, old)]
        _post(ports, made, count, "the version before alone")
        load = threading.Thread(target=_post, args=(ports[:], made, count, "while it is migrated"))
        load.start()
        _upgrade(environ, ROOT)
        ports.append(_start(new_ones, environ, ROOT))
        load.join()
        _post(ports, made, count, "each event to both versions")
        old_ones.close()
        say("the version before has stopped")
        _post(ports[1:], made, count, "this version alone")
        _await(bench, 4 * count)
    return 4 * count


def _start(stack: ExitStack, environ: Mapping[str, str], folder: Path) -> int:
    port = servers.free_port()
    stack.enter_context(servers.gunicorn("app:app", environ, port, folder))
    stack.enter_context(servers.worker(environ, folder))
    servers.await_http(f"http://127.0.0.1:{port}/healthz")
    return port


def _upgrade(environ: Mapping[str, str], folder: Path) -> None:
    command = [sys.executable, "-m", "flask", "relay", "upgrade"]
    with servers.process(command, environ, folder=folder) as upgrade:
        if upgrade.wait(60):
            raise SystemExit(f"the release phase of {folder} failed")


def _post(ports: list[int], made: Iterator[bytes], count: int, phase: str) -> None:
    for body in islice(made, count):
        for port in ports:
            post(port, request("/webhooks/lab", port, SECRET, body))
        time.sleep(0.02)  # spread over the migration and the others' work
    say(f"{count} events, {phase}")


def _await(bench: Bench, count: int) -> None:
    ends = time.monotonic() + SETTLE_SECONDS
    while servers.get(f"{bench.standins}/counts")["sms"] < count and time.monotonic() < ends:
        time.sleep(0.2)
    time.sleep(2)  # one too many would come by now


def _settled(bench: Bench, posted: int) -> int:
    """How many texts there were. Ends with 1 where the ledger says that something is not well."""
    with psycopg.connect(bench.postgresql) as connection:
        row = connection.execute(WRONG).fetchone()
        kept = connection.execute("SELECT count(*) FROM events").fetchone()
    if row != (0, 0, 0) or kept != (posted,):
        raise SystemExit(f"not processed, not sent, not accepted: {row}; events: {kept}")
    return int(servers.get(f"{bench.standins}/counts")["sms"])


@contextmanager
def _checkout(commit: str) -> Iterator[Path]:
    """The files of a commit, in a folder of their own."""
    with tempfile.TemporaryDirectory(prefix="relay-before-") as folder:
        archive = subprocess.run(
            ["git", "archive", commit], cwd=ROOT, check=True, stdout=subprocess.PIPE
        )
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        yield Path(folder)


if __name__ == "__main__":
    raise SystemExit(main())
