"""The baseline of the way out: RQ's default worker, an RQ job an event, everything preloaded.

`python -m tools.bench.baseline` works until the queue is empty. The job does what Relay's worker
does for one event: two lab calls, rules, claim, render, send, record.
"""

from __future__ import annotations

import os
import sys

from redis import Redis
from rq import Queue, Worker
from rq.serializers import JSONSerializer

from relay.config.check import load
from relay.config.settings import from_environment
from relay.jobs.tasks import Jobs
from relay.ledger import events
from relay.ledger.database import Database

QUEUE = "bench-baseline"
_jobs: Jobs | None = None


def _preload() -> Jobs:
    settings = from_environment(os.environ)
    jobs = Jobs(load(settings), Database(settings.database_url, connections=2))
    jobs.channels.load()
    return jobs


def send(event_id: str) -> None:
    """Process one event and deliver what it leads to."""
    assert _jobs
    _jobs.db.engine.dispose(close=False)  # the parent's connections are not ours after the fork
    with _jobs.db.read() as connection:
        event = events.get_event(connection, event_id)
    assert event
    _jobs.process(event)
    for claim in _jobs.claim("sms", 10):
        _jobs.deliver(claim)


def enqueue(redis_url: str, ids: list[str]) -> None:
    """A job for each event."""
    queue = Queue(QUEUE, connection=Redis.from_url(redis_url), serializer=JSONSerializer)
    for id_ in ids:
        queue.enqueue("tools.bench.baseline.send", id_, description="send", result_ttl=0)


if __name__ == "__main__":
    # RQ imports the job by its name: the module it finds must be this one, preloaded.
    sys.modules["tools.bench.baseline"] = sys.modules[__name__]
    _jobs = _preload()
    connection = Redis.from_url(os.environ["REDIS_URL"])
    queue = Queue(QUEUE, connection=connection, serializer=JSONSerializer)
    Worker([queue], connection=connection, serializer=JSONSerializer).work(
        burst=True, logging_level="ERROR"
    )
