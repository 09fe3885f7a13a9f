"""RQ's worker as one of our threads: it takes wake-ups from Redis, for as long as Redis is up."""

from __future__ import annotations

import threading

from redis import Redis
from rq import Queue, SimpleWorker
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.timeouts import TimerDeathPenalty

from relay import queue
from relay.config.settings import Settings
from relay.logs import get_logger

log = get_logger("relay.listener")

# RQ asks Redis again this often (less 15 s), so it notices a hanging Redis within this time.
TTL_SECONDS = 30
AGAIN_SECONDS = 1.0


# The fields of a job in Redis that we read: its times, origin and status, and how long it is kept.
_READ = (b"created_at", b"enqueued_at", b"failure_ttl", b"origin", b"result_ttl", b"status")


class WakeUp(Job):
    """A job of our queue. Whatever Redis says about it, it runs only Relay's own function."""

    success_callback = failure_callback = stopped_callback = None

    def restore(self, raw_data: dict[bytes, bytes]) -> None:
        """Unpack nothing: RQ would import modules that Redis names, and read its pickles."""
        super().restore({b"data": b"", **{k: v for k, v in raw_data.items() if k in _READ}})

    def _deserialize_data(self) -> None:
        """Make any job a wake-up."""
        self._func_name, self._instance = queue.JOB, None
        self._args, self._kwargs = (), {}


class _ThreadWorker(SimpleWorker):
    """A worker outside the main thread, which alone may use SIGALRM and signal handlers."""

    death_penalty_class = TimerDeathPenalty

    def _install_signal_handlers(self) -> None:
        """Install none: the process handles signals itself."""

    def handle_payload(self, message: object) -> None:
        """Ignore commands from Redis: RQ would end the process for one."""


def worker(connection: Redis) -> SimpleWorker:
    """RQ's worker on the one queue, which it also cleans up with our job class."""
    return _ThreadWorker(
        [Queue(queue.NAME, connection, serializer=JSONSerializer, job_class=WakeUp)],
        connection=connection,
        serializer=JSONSerializer,
        job_class=WakeUp,
        worker_ttl=TTL_SECONDS,
    )


def start(settings: Settings) -> threading.Thread:
    """Listen in the background until the process ends."""
    thread = threading.Thread(target=listen, args=(settings,), name="rq", daemon=True)
    thread.start()
    return thread


def listen(settings: Settings) -> None:
    """Take wake-ups from Redis for ever, and connect again whenever that fails."""
    pause = threading.Event()
    while True:
        try:
            worker(queue.connect(settings, timeout=None)).work(logging_level="WARNING")
        except Exception as error:  # the pump goes on without it
            log.warning("queue lost", error=type(error).__name__, reason=queue.why_not(error))
        pause.wait(AGAIN_SECONDS)
