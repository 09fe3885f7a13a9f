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
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from relay import fault_injection, logs, queue
from relay.config.check import load
from relay.config.loader import Config
from relay.config.reload import LOOK_SECONDS, SETTLED_SECONDS, ConfigReloader
from relay.config.settings import Settings, from_environment
from relay.errors import ConfigError, LedgerUnavailable
from relay.jobs.isolation import Broken, run_isolated
from relay.jobs.tasks import Jobs
from relay.ledger import workers
from relay.ledger.database import Database
from relay.ledger.editions import Shelf
from relay.ledger.worklist import cases
from relay.rules import alerts
from relay.worker.pump import THREADS, Pump

if TYPE_CHECKING:
    from redis import Redis

log = logs.get_logger("relay.worker")

SWEEP_SECONDS = 30.0
SETTLING_LOOKS = 3
CONFIG = "config.toml"
STOPPING = (signal.SIGTERM, signal.SIGINT)
TURN_SECONDS, ENDING_SECONDS = 30.0, 15.0  # that an RQ job takes on work, and lets it end
PURGE_SECONDS = 3600.0
PURGE_TURN = 10.0  # seconds: a worker that is silent for longer seems to have gone
NIGHT = range(1, 5)  # hours, where the clinic is, in which kits move to history
# A worker moves none until the release before, which would tell a late event's news again, is gone.
SETTLED_IN = 3600.0  # seconds


class Clock(threading.Thread):
    """Sweeps, and says that this worker is alive."""

    def __init__(self, jobs: Jobs, pump: Pump, living: ConfigReloader, name: str = ""):
        super().__init__(name="clock", daemon=True)
        self._jobs = jobs
        self._pump = pump
        self._living = living
        self._reported: object = "not yet"  # the fault of config.toml that staff know of
        self._stopping = threading.Event()
        self._worker = name or f"{socket.gethostname()}-{os.getpid()}"
        self._next_purge = 0.0
        self._next_move = time.monotonic() + SETTLED_IN
        self._moved_to: str | None = None  # the event up to which a night's move has come

    def run(self) -> None:
        """Tick until told to stop."""
        while not self._stopping.is_set():
            with suppress(Broken):
                self.tick()
            ends = time.monotonic() + fault_injection.hastened(SWEEP_SECONDS)
            while time.monotonic() < ends:  # what is published need not wait for a tick
                left = ends - time.monotonic()
                if self._stopping.wait(min(left, fault_injection.hastened(LOOK_SECONDS))):
                    break
                with suppress(Broken):
                    run_isolated({"config": self.reload_config})

    def tick(self) -> None:
        """Do all that is due every half minute. Raises Broken once every part has had its turn."""
        run_isolated(
            {
                "config": self.reload_config,
                "heartbeat": self._beat,
                "sweep": self._sweep,
                "retention": self._purge,
                "history": self._move_to_history,
            }
        )

    def _beat(self) -> None:
        with self._jobs.db.write() as connection:
            workers.beat(connection, self._worker)
            alive = workers.workers_alive(connection)
        self._pump.share(alive)

    def _sweep(self) -> None:
        self._jobs.sweep()
        with self._jobs.db.write() as connection:
            workers.swept(connection, self._worker)

    def _purge(self) -> None:
        started = time.monotonic()
        if started < self._next_purge:
            return
        self._jobs.purge(PURGE_TURN)
        if time.monotonic() - started < PURGE_TURN:  # else there is more for the next tick
            self._next_purge = started + PURGE_SECONDS

    def _is_night(self) -> bool:
        return datetime.now(self._jobs.config.clinic.timezone).hour in NIGHT

    def _move_to_history(self) -> None:
        if time.monotonic() < self._next_move or not self._is_night():
            return
        self._moved_to = self._jobs.move_to_history(PURGE_TURN, self._moved_to or "").after
        if self._moved_to is None:  # that was all
            self._next_move = time.monotonic() + PURGE_SECONDS

    def reload_config(self) -> None:
        """Go by config.toml as it is by now; tell staff where a change of it is wrong."""
        has_changed = self._living.look()
        for _ in range(SETTLING_LOOKS):  # an edit is in use within a minute, not a tick later
            if has_changed or not self._living.is_settling:
                break
            self._stopping.wait(SETTLED_SECONDS)
            has_changed = self._living.look()
        if has_changed:
            self._jobs = renewed(self._jobs, self._living.config)
            self._jobs.channels.load()
            self._pump.adopt(self._jobs)
        wrong, db = self._living.wrong, self._jobs.db
        if wrong is self._reported:
            return
        if wrong:
            lines = ", ".join(str(problem.line) for problem in wrong.problems if problem.line)
            reason = f"There are mistakes at line {lines}." if lines else "There are mistakes."
            if all(problem.warning for problem in wrong.problems):
                reason = str(wrong)
            policy, now = self._living.config.policy, datetime.now(UTC)
            about = alerts.case("config", CONFIG, CONFIG, reason, policy=policy, now=now)
            with db.write() as connection:
                cases.open_for_all(connection, about)
        else:
            with db.write() as connection:
                cases.close_settled(connection, "config", CONFIG, "It was put right.")
        self._reported = wrong

    def stop(self) -> None:
        """Tick no more, and say that this worker has gone."""
        self._stopping.set()
        try:
            with self._jobs.db.write() as connection:
                workers.stop_beating(connection, self._worker)
        except LedgerUnavailable:
            log.warning("could not sign off")


def make_jobs(settings: Settings) -> tuple[ConfigReloader, Jobs]:
    """The configuration that a worker holds, and the work with all it needs. Raises ConfigError."""
    db = Database(settings.database_url, patience=10, connections=settings.database_connections)
    living = ConfigReloader(settings, load, Shelf(db, follows=True))
    living.look()  # for what was published, before the first message
    return living, Jobs(living.config, db, connections=sum(THREADS.values()))


def renewed(jobs: Jobs, config: Config) -> Jobs:
    """The same work by another configuration."""
    return Jobs(config, jobs.db, connections=sum(THREADS.values()))


_on_wake: Callable[[], None] | None = None


def on_wake(callback: Callable[[], None]) -> None:
    """Say what a wake-up does in this process."""
    global _on_wake  # noqa: PLW0603 - RQ calls a module's function
    _on_wake = callback


def drain() -> None:
    """The RQ job: the ledger has work. Without a pump in this process, do it here and now."""
    from rq import get_current_job

    fault_injection.crash_point("queue.dequeued")
    job = get_current_job()
    answer(job.connection if job else None)


def answer(connection: Redis | None) -> None:
    """Do what a wake-up asks for that has come by a connection, and wake again if that is not all.

    Raises ConfigError, LedgerUnavailable and RedisError.
    """
    if connection:
        connection.delete(queue.PENDING)
    if _on_wake:
        _on_wake()
    elif drain_here() and connection:
        queue.wake(connection)


def drain_here() -> bool:
    """Do what is due by the clock and by the ledger, in this process and for a while: for an RQ
    worker that has no pump. Whether there may be more.
    """
    ends = time.monotonic() + TURN_SECONDS
    settings = from_environment(os.environ)
    fault_injection.set_haste(settings.haste)
    living, jobs = make_jobs(settings)
    pump = Pump(jobs)
    try:
        # By the host's name: each job is a process of its own, and a worker that is alive is shown.
        Clock(jobs, pump, living, f"rq-{socket.gethostname()}").tick()
        pump.drain(ends - time.monotonic())
    finally:
        pump.stop(ENDING_SECONDS)
        jobs.db.close()
    return time.monotonic() >= ends


def main() -> int:
    """`python -m relay.worker`: run until SIGTERM or SIGINT."""
    try:
        settings = from_environment(os.environ)
        logs.set_up(settings.log_level)
        logs.report_to_sentry(settings.sentry_dsn, settings.name)
        fault_injection.arm_crash_point(settings.crash_at)
        fault_injection.set_haste(settings.haste)
        living, jobs = make_jobs(settings)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    # Blocked here and in every thread from now on, and waited for below: a handler that sets an
    # event could run while this thread holds that event's own lock.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    jobs.channels.load()
    pump = Pump(jobs)
    clock = Clock(jobs, pump, living)
    pump.start()
    clock.start()
    log.info("worker started", delivery=settings.delivery, threads=sum(THREADS.values()))
    if settings.redis_url:
        from relay.worker import rq_listener

        on_wake(pump.wake)
        rq_listener.start(settings)
    signal.sigwait(STOPPING)
    log.info("worker stopping", in_flight=pump.busy)
    left = pump.stop()
    clock.stop()
    log.info("worker stopped", in_flight=left)
    if held := living.config.held:
        held.let_go()
    # Threads that hang in a call must not hold the process: their claims lapse and are looked for.
    os._exit(0)
