"""The worker process: an RQ worker that is woken, a pump that drains the ledger, and a clock.

RQ's own worker forks for each job and sends some five messages a second. Here a job only wakes the
pump, which claims what is due in batches and keeps tens of calls in flight in threads. The pump
looks by itself every few seconds, so a lost wake-up, or a lost Redis, costs seconds and no message.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from relay import logs, queue
from relay.channels import CHANNELS
from relay.config import Config
from relay.errors import ConfigError, LedgerUnavailable
from relay.jobs import Jobs
from relay.ledger import upkeep
from relay.ledger.database import Database
from relay.settings import from_environment
from relay.startup import load

log = logs.get_logger("relay.worker")

POLL_SECONDS = 2.0
GATHER_SECONDS = 0.02  # slots that come free within this are filled by one claim
SWEEP_SECONDS = 30.0
PURGE_SECONDS = 3600.0
STOP_SECONDS = 25.0  # the platform kills after 30
THREADS = {"events": 16, "sms": 24, "email": 24}


@dataclass
class Lane:
    """One kind of work with threads of its own, so that a slow provider holds up nobody else."""

    name: str
    threads: int
    claim: Callable[[int], Sequence[Any]]
    work: Callable[[Any], None]
    wake: Callable[[], None]
    busy: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _pool: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix=self.name)

    def fill(self) -> int:
        """Claim as much as there are free threads, and start it; how much that was."""
        free = self.threads - self.busy
        claimed = self.claim(free) if free else ()
        with self._lock:
            self.busy += len(claimed)
        for item in claimed:
            self._pool.submit(self._run, item)
        return len(claimed)

    def _run(self, item: Any) -> None:
        try:
            self.work(item)
        except LedgerUnavailable:
            log.warning("ledger unavailable", lane=self.name, id=item.id)
        except Exception:
            log.exception("work broke", lane=self.name, id=item.id)
        finally:
            with self._lock:
                self.busy -= 1
            self.wake()

    def stop(self) -> None:
        """Take nothing more; what was claimed is still done."""
        self._pool.shutdown(wait=False)


class Pump:
    """Drains the ledger: events and each channel in a lane of its own."""

    def __init__(self, jobs: Jobs):
        self._due = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pump", daemon=True)
        self.lanes = [
            Lane("events", THREADS["events"], jobs.lease_events, jobs.process, self.wake),
            *(self._channel_lane(jobs, channel) for channel in CHANNELS),
        ]

    def _channel_lane(self, jobs: Jobs, channel: str) -> Lane:
        def claim(limit: int) -> Sequence[Any]:
            return jobs.claim(channel, limit)

        return Lane(channel, THREADS[channel], claim, jobs.deliver, self.wake)

    @property
    def busy(self) -> int:
        """How much is in flight."""
        return sum(lane.busy for lane in self.lanes)

    def wake(self) -> None:
        """Look at the ledger now."""
        self._due.set()

    def start(self) -> None:
        """Drain in the background until told to stop."""
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._due.clear()
            if self._fill():
                self._stopping.wait(GATHER_SECONDS)
            else:
                self._due.wait(POLL_SECONDS)

    def _fill(self) -> int:
        """One round over the lanes; how much was started."""
        started = 0
        for lane in self.lanes:
            try:
                started += lane.fill()
            except LedgerUnavailable as error:
                log.warning("ledger unavailable", lane=lane.name, reason=str(error))
            except Exception:
                log.exception("claim broke", lane=lane.name)
        return started

    def drain(self) -> int:
        """Work until nothing is due and nothing is in flight; how much was done."""
        done = 0
        while True:
            self._due.clear()
            was_idle = not self.busy  # asked first: what ends after it may have left new rows
            done += (started := self._fill())
            if was_idle and not started:
                return done
            if not started:
                self._due.wait(POLL_SECONDS)

    def stop(self, seconds: float = STOP_SECONDS) -> int:
        """Claim no more and let what is in flight end; how much had not ended in time."""
        ends = time.monotonic() + seconds
        self._stopping.set()
        self.wake()
        if self._thread.is_alive():
            self._thread.join(seconds)  # a claim that is under way is still started
        for lane in self.lanes:
            lane.stop()
        while self.busy and time.monotonic() < ends:
            self._due.wait(0.1)
            self._due.clear()
        return self.busy


class Clock(threading.Thread):
    """Sweeps, and says that this worker is alive."""

    def __init__(self, jobs: Jobs):
        super().__init__(name="clock", daemon=True)
        self._jobs = jobs
        self._stopping = threading.Event()
        self._worker = f"{socket.gethostname()}-{os.getpid()}"
        self._next_purge = 0.0

    def run(self) -> None:
        """Tick until told to stop."""
        while not self._stopping.is_set():
            try:
                upkeep.beat(self._jobs.db, self._worker)
                self._jobs.sweep()
                if time.monotonic() >= self._next_purge:
                    self._next_purge = time.monotonic() + PURGE_SECONDS
                    self._jobs.purge()
            except LedgerUnavailable as error:
                log.warning("sweep failed", reason=str(error))
            except Exception:
                log.exception("sweep broke")
            self._stopping.wait(SWEEP_SECONDS)

    def stop(self) -> None:
        """Tick no more, and say that this worker has gone."""
        self._stopping.set()
        try:
            upkeep.stop_beating(self._jobs.db, self._worker)
        except LedgerUnavailable:
            log.warning("could not sign off")


def make_jobs(config: Config) -> Jobs:
    """The work with all it needs."""
    db = Database(config.settings.database_url, patience=10, connections=8)
    return Jobs(config, db, connections=sum(THREADS.values()))


def drain_here() -> int:
    """Do all that is due, in this process: for an RQ worker that has no pump."""
    jobs = make_jobs(load(from_environment(os.environ)))
    pump = Pump(jobs)
    try:
        return pump.drain()
    finally:
        pump.stop()
        jobs.db.close()


def main() -> int:
    """`python -m relay.worker`: run until SIGTERM or SIGINT."""
    try:
        settings = from_environment(os.environ)
        logs.set_up(settings.log_level)
        jobs = make_jobs(load(settings))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    jobs.exits.load()
    pump, clock = Pump(jobs), Clock(jobs)
    pump.start()
    clock.start()
    log.info("worker started", delivery=settings.delivery, threads=sum(THREADS.values()))
    if settings.redis_url:
        from relay import listener

        queue.on_wake(pump.wake)
        listener.start(settings)
    stopping.wait()
    log.info("worker stopping", in_flight=pump.busy)
    left = pump.stop()
    clock.stop()
    log.info("worker stopped", in_flight=left)
    # Threads that hang in a call must not hold the process: their claims lapse and are looked for.
    os._exit(0)


if __name__ == "__main__":
    raise SystemExit(main())
