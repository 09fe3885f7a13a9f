"""RQ's worker as a thread of ours: it takes wake-ups from Redis, for as long as Redis is there."""

from __future__ import annotations

import threading
from typing import Any

from rq import SimpleWorker
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.timeouts import TimerDeathPenalty

from relay import queue
from relay.config.settings import Settings
from relay.logs import get_logger

log = get_logger("relay.listener")

# RQ asks Redis again this often (less 15 s), so a hanging Redis is noticed within it.
TTL_SECONDS = 30
AGAIN_SECONDS = 1.0


class WakeUp(Job):
    """A job of our queue. Whatever Redis says of it, nothing is run but Relay's own function."""

    success_callback = failure_callback = stopped_callback = None

    def _deserialize_data(self) -> None:
        """Read nothing of what Redis has: RQ would import and call whatever it names."""
        self._func_name, self._instance = queue.JOB, None
        self._args, self._kwargs = (), {}

    def send_webhooks(self, *_: Any, **__: Any) -> None:
        """Call no address that Redis names."""


class _ThreadWorker(SimpleWorker):
    """SIGALRM and signal handlers belong to the main thread."""

    death_penalty_class = TimerDeathPenalty

    def _install_signal_handlers(self) -> None:
        """The process's own handlers stop everything."""


def start(settings: Settings) -> threading.Thread:
    """Listen in the background until the process ends."""
    thread = threading.Thread(target=listen, args=(settings,), name="rq", daemon=True)
    thread.start()
    return thread


def listen(settings: Settings) -> None:
    """Take wake-ups from Redis for ever, and connect again when that breaks off."""
    pause = threading.Event()
    while True:
        try:
            connection = queue.connect(settings, timeout=None)
            worker = _ThreadWorker(
                [queue.rq_queue(connection)],
                connection=connection,
                serializer=JSONSerializer,
                job_class=WakeUp,
                worker_ttl=TTL_SECONDS,
            )
            worker.work(logging_level="WARNING")
        except Exception as error:  # the pump goes on without it
            log.warning("queue lost", error=type(error).__name__, reason=queue.why_not(error))
        pause.wait(AGAIN_SECONDS)
