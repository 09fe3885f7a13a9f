"""The queue only wakes workers: an RQ job says that the ledger has work, not which work.

One wake-up is enough for any number of rows, so we send no other while one is pending. The job
removes the mark before it looks at the ledger: a commit after that sends a new wake-up.
"""

from __future__ import annotations

import threading
from importlib import import_module
from typing import TYPE_CHECKING

from relay.config.settings import Settings
from relay.errors import meaning
from relay.logs import get_logger

if TYPE_CHECKING:
    from redis import Redis
    from rq import Queue
    from rq.job import Job

log = get_logger("relay.queue")

NAME = "relay"
PENDING = "relay:wake-up-pending"
PENDING_SECONDS = 30  # a wake-up that Redis has lost holds others back for this long at most
GATHER_SECONDS = 0.05  # events that come within this share a wake-up
# Even without new events: so that later work is done where no worker has a clock (`rq worker`).
AGAIN_SECONDS = 30.0
# The last release's workers can find this name too; "relay.worker.process.drain" from the next on.
JOB = "relay.queue.drain"
JOB_SECONDS = 60  # after which RQ ends it; it should take 45 at most
UNREAD = "relay.queue.unread"
NOT_PICKLES = (
    "Relay's jobs are JSON, and this worker reads pickles. What was due is done all the same. Start"
    " it as `rq worker --job-class relay.worker.rq_listener.WakeUp relay`."
)

# Part of an error from Redis or the network → what it means, and what to write.
_MEANINGS = {
    "certificate_verify_failed": "nobody that Relay trusts has signed its certificate. Where that"
    " is known, as at Heroku, set REDIS_TLS_VERIFY=false",
    "wrong_version_number": "it does not speak TLS. Write redis:// for rediss://",
    "handshake operation timed out": "it does not speak TLS. Write redis:// for rediss://",
    "record layer failure": "it does not speak TLS. Write redis:// for rediss://",
    "invalid username-password": "it refuses the user or the password that REDIS_URL has",
    "invalid password": "it refuses the password that REDIS_URL has",
    "already authenticated": "it wants a password. Write redis://:password@host:6379/0",
    "authentication required": "it wants a password. Write redis://:password@host:6379/0",
    "nopermission": "its user may not do what Relay needs: allow it all commands",
    "db index is out of range": "it has no database of that number. Write /0 behind the port",
    "readonly": "it is a replica that takes no writes. Name the primary in REDIS_URL",
    "outofmemory": "its memory is full",
    "misconf": "it cannot write to its disk",
    "getaddrinfo": "there is no host of that name",
    "name or service not known": "there is no host of that name",
    "refused": "nothing answers at the host and port that REDIS_URL has",
    "timed out": "it does not answer in time",
    "timeout": "it does not answer in time",
    "closed by server": "it hangs up. If it speaks TLS only, write rediss:// for redis://",
    "reset by peer": "it hangs up. If it speaks TLS only, write rediss:// for redis://",
}


def why_not(error: Exception) -> str:
    """Why Relay cannot use Redis, and what to write instead; without its address or password."""
    return meaning(error, _MEANINGS)


def connect(settings: Settings, *, timeout: float | None) -> Redis:
    """A connection that gives up soon: by default redis-py waits a minute for a hanging Redis."""
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    tls = {}
    if settings.redis_url.startswith("rediss://") and not settings.redis_tls_verify:
        tls = {"ssl_cert_reqs": None, "ssl_check_hostname": False}
    connection: Redis = Redis.from_url(
        settings.redis_url,
        socket_timeout=timeout,
        socket_connect_timeout=1,
        retry=Retry(NoBackoff(), 0),
        **tls,
    )
    return connection


def rq_queue(connection: Redis) -> Queue:
    """The only queue: a worker on two can lose a job."""
    from rq import Queue
    from rq.serializers import JSONSerializer

    return Queue(NAME, connection=connection, serializer=JSONSerializer)


def wake(connection: Redis) -> bool:
    """Send a wake-up unless one is pending; return whether it was sent. Raises RedisError."""
    if not connection.set(PENDING, "1", nx=True, ex=PENDING_SECONDS):
        return False
    from rq import Callback

    rq_queue(connection).enqueue(
        JOB,
        description="wake-up",
        result_ttl=0,
        failure_ttl=3600,
        ttl=600,
        job_timeout=JOB_SECONDS,
        on_failure=Callback(UNREAD, JOB_SECONDS),
    )
    return True


def drain() -> None:
    """The wake-up's former name: remove it a release after 0.2.0.

    Jobs in Redis have it, and the last release's workers know only this name. The job itself is
    `relay.worker.process.drain`; this module enqueues it by name and imports no worker.
    """
    import_module("relay.worker.process").drain()


def unread(job: Job, connection: Redis, kind: type[Exception], *_error: object) -> None:
    """RQ calls this when a job has failed. A worker that reads pickles cannot read ours: it still
    does the work, and the error kept with the job says what to type. Raises RuntimeError.
    """
    from rq.exceptions import DeserializationError

    if issubclass(kind, DeserializationError):
        import_module("relay.worker.process").answer(connection)
        raise RuntimeError(NOT_PICKLES)


class Waker:
    """Wakes workers from its own thread, so that Redis can never hold up the answer to the lab."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._due = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def wake(self) -> None:
        """Ask for a wake-up soon. Returns at once, and never fails."""
        if not self._settings.redis_url:
            return  # development without a queue: workers look by themselves
        self._due.set()
        if self._thread is None:
            with self._lock:
                if self._thread is None:  # started here, since gunicorn forks after loading
                    self._thread = threading.Thread(target=self._run, name="waker", daemon=True)
                    self._thread.start()

    def _run(self) -> None:
        from redis.exceptions import RedisError

        connection, pause = connect(self._settings, timeout=1), threading.Event()
        while True:
            self._due.wait(AGAIN_SECONDS)
            self._due.clear()
            try:
                wake(connection)
            except (RedisError, OSError) as error:
                # A worker's clock finds the rows; the event is safe in the ledger.
                log.warning("wake-up failed", error=type(error).__name__, reason=why_not(error))
            pause.wait(GATHER_SECONDS)
