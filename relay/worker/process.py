"""The worker process: an RQ worker that takes wake-ups, a pump that drains the ledger, a clock.

RQ's own worker forks for each job and sends some five messages a second. Here a job only wakes the
pump, which claims due work in batches and keeps tens of calls in flight in threads. The pump also
looks every few seconds, so a lost wake-up, or a lost Redis, costs seconds and no message.
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
TURN_SECONDS, ENDING_SECONDS = 30.0, 15.0  # for which an RQ job starts work, and lets it end
PURGE_SECONDS = 3600.0
PURGE_TURN = 10.0  # seconds: a worker that is silent for longer looks dead
NIGHT = range(1, 5)  # hours of the clinic's clock at which kits move to history
# A new worker waits this long: workers of the last release would repeat a late event's messages.
SETTLED_IN = 3600.0  # seconds


class Clock(threading.Thread):
    """A thread that sweeps, and records that this worker is alive."""

    def __init__(self, jobs: Jobs, pump: Pump, living: ConfigReloader, name: str = ""):
        super().__init__(name="clock", daemon=True)
        self._jobs = jobs
        self._pump = pump
        self._living = living
        self._reported: object = "not yet"  # the faults in config.toml that staff know about
        self._stopping = threading.Event()
        self._worker = name or f"{socket.gethostname()}-{os.getpid()}"
        self._next_purge = 0.0
        self._next_move = time.monotonic() + SETTLED_IN
        self._moved_to: str | None = None  # the last event that tonight's move has reached

    def run(self) -> None:
        """Tick until `stop` is called."""
        while not self._stopping.is_set():
            with suppress(Broken):
                self.tick()
            ends = time.monotonic() + fault_injection.hastened(SWEEP_SECONDS)
            while time.monotonic() < ends:  # a published edition need not wait for a tick
                left = ends - time.monotonic()
                if self._stopping.wait(min(left, fault_injection.hastened(LOOK_SECONDS))):
                    break
                with suppress(Broken):
                    run_isolated({"config": self.reload_config})

    def tick(self) -> None:
        """Do the work of every half minute. Raises Broken once every part has had its turn."""
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
        if time.monotonic() - started < PURGE_TURN:  # else the next tick has more to do
            self._next_purge = started + PURGE_SECONDS

    def _is_night(self) -> bool:
        return datetime.now(self._jobs.config.clinic.timezone).hour in NIGHT

    def _move_to_history(self) -> None:
        if time.monotonic() < self._next_move or not self._is_night():
            return
        self._moved_to = self._jobs.move_to_history(PURGE_TURN, self._moved_to or "").after
        if self._moved_to is None:  # nothing is left to move
            self._next_move = time.monotonic() + PURGE_SECONDS

    def reload_config(self) -> None:
        """Use config.toml as it is now; open a case for staff if a change to it is wrong."""
        has_changed = self._living.look()
        for _ in range(SETTLING_LOOKS):  # so that an edit is in use within a minute
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
        """Stop ticking, and record that this worker has gone."""
        self._stopping.set()
        try:
            with self._jobs.db.write() as connection:
                workers.stop_beating(connection, self._worker)
        except LedgerUnavailable:
            log.warning("could not sign off")


def make_jobs(settings: Settings) -> tuple[ConfigReloader, Jobs]:
    """A worker's configuration, and its jobs with all that they need. Raises ConfigError."""
    db = Database(settings.database_url, patience=10, connections=settings.database_connections)
    living = ConfigReloader(settings, load, Shelf(db, follows=True))
    living.look()  # a published edition must be in use before the first message
    return living, Jobs(living.config, db, connections=sum(THREADS.values()))


def renewed(jobs: Jobs, config: Config) -> Jobs:
    """The jobs, with another configuration."""
    return Jobs(config, jobs.db, connections=sum(THREADS.values()))


_on_wake: Callable[[], None] | None = None


def on_wake(callback: Callable[[], None]) -> None:
    """Set what a wake-up does in this process."""
    global _on_wake  # noqa: PLW0603 - RQ calls a module's function
    _on_wake = callback


def drain() -> None:
    """The RQ job: the ledger has work. Without a pump in this process, do it here at once."""
    from rq import get_current_job

    fault_injection.crash_point("queue.dequeued")
    job = get_current_job()
    answer(job.connection if job else None)


def answer(connection: Redis | None) -> None:
    """Act on a wake-up that came by a connection, and send another if there may be more work.

    Raises ConfigError, LedgerUnavailable and RedisError.
    """
    if connection:
        connection.delete(queue.PENDING)
    if _on_wake:
        _on_wake()
    elif drain_here() and connection:
        queue.wake(connection)


def drain_here() -> bool:
    """Do the clock's work and the ledger's in this process for a while, for an RQ worker that has
    no pump. Return whether there may be more.
    """
    ends = time.monotonic() + TURN_SECONDS
    settings = from_environment(os.environ)
    fault_injection.set_haste(settings.haste)
    living, jobs = make_jobs(settings)
    pump = Pump(jobs)
    try:
        # Named after the host: each job has its own process, and the desk shows one live worker.
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
    # We block the signals here and in all later threads, and wait for them below: a handler that
    # sets an event could run while this thread holds that event's own lock.
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
    # Threads that hang in a call must not keep the process: their claims lapse, and are looked up.
    os._exit(0)
