"""Drains the ledger: claims due work in batches, and keeps tens of calls in flight in threads.

Each provider sets how many may start a second: a token bucket, shared by all workers.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from relay import fault_injection
from relay.errors import LedgerUnavailable
from relay.jobs import erase, expire
from relay.jobs.watchdog import Watch
from relay.ledger.removal import erasures
from relay.logs import about, get_logger
from relay.rules.channels import CHANNELS
from relay.worker.token_bucket import TokenBucket

if TYPE_CHECKING:
    from relay.jobs.tasks import Jobs


log = get_logger("relay.pump")

POLL_SECONDS = 2.0
GATHER_SECONDS = 0.02  # one claim fills all slots that come free within this
STOP_SECONDS = 25.0  # the platform kills the process after 30
RARE = {
    "lapsed": 1,  # this work may have killed a worker: one at a time, so that it takes none with it
    "followups": 4,
    "lookups": 8,
    "watches": 2,
    "erasures": 1,
    "expiries": 2,
}
LONG = {"erasures"}  # may take minutes: at a stop, unfinished work is left to its lease
ASKING = {f"{channel}, asking": channel for channel in CHANNELS}
# Seconds until a lane that found nothing claims again: else half of all claims would find nothing.
# A channel's lane claims at once when an event has led to a message on it.
RESTS = {**dict.fromkeys((*RARE, *ASKING), POLL_SECONDS), **dict.fromkeys(CHANNELS, 0.2)}
THREADS = {"events": 32, **dict.fromkeys(CHANNELS, 24), **dict.fromkeys(ASKING, 16), **RARE}


@dataclass
class Lane:
    """One kind of work with its own threads, so that a slow provider holds up no other work."""

    name: str
    threads: int
    claim: Callable[[int], Sequence[Any]]
    work: Callable[[Any], Set[str] | None]
    wake: Callable[[Set[str]], None]
    rate: TokenBucket
    rest: float = 0.0  # seconds between a claim that found nothing and the next
    busy: int = 0
    _next: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _pool: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix=self.name)

    def fill(self, *, rested: bool = False) -> int:
        """Claim as many items as there are free threads and start them; return how many."""
        free = self.rate.allowed(self.threads - self.busy)
        if free <= 0 or (time.monotonic() < self._next and not rested):
            return 0
        self._next = time.monotonic() + self.rest  # set before: a wake-up meanwhile counts
        if claimed := self.claim(free):
            self._next = 0.0
        self.rate.take(len(claimed))
        with self._lock:
            self.busy += len(claimed)
        for item in claimed:
            self._pool.submit(self.run, item)
        return len(claimed)

    def run(self, item: Any) -> None:
        """Do one piece of work. Log any failure, so that it breaks nothing else."""
        led_to: Set[str] | None = None
        with about(getattr(item, "event_id", item.id)):
            try:
                led_to = self.work(item)
            except LedgerUnavailable:
                log.warning("ledger unavailable", lane=self.name, id=item.id)
            except Exception:
                log.exception("work broke", lane=self.name, id=item.id)
            finally:
                with self._lock:
                    self.busy -= 1
                self.wake(led_to or set())

    def rest_no_more(self) -> None:
        """Claim in the next round: there may be work."""
        self._next = 0.0

    def stop(self) -> None:
        """Take nothing more; work that is already claimed is still done."""
        self._pool.shutdown(wait=False)


def lane_work(jobs: Jobs) -> dict[str, tuple[Callable[..., Any], Callable[..., Set[str] | None]]]:
    """The claim and the work of each lane.

    A message that has to ask the lab first has its own lane, so a slow lab holds up no others.
    """
    watch = Watch(jobs.config, jobs.db, jobs.lab_breaker)
    return {
        "events": (jobs.lease_events, jobs.process),
        "lapsed": (jobs.lease_lapsed, jobs.process),
        **{name: (partial(jobs.claim, name), jobs.deliver) for name in CHANNELS},
        **{
            lane: (partial(jobs.claim, name, may_ask=True), jobs.deliver)
            for lane, name in ASKING.items()
        },
        "followups": (jobs.follow_ups.due, jobs.follow_ups.follow_up),
        "lookups": (jobs.reconciler.due, jobs.reconciler.reconcile),
        "watches": (watch.due, watch.look),
        "erasures": (
            partial(erasures.lease, jobs.db),
            partial(erase.forget, jobs.db, jobs.channels, jobs.config.policy),
        ),
        "expiries": (
            partial(expire.lease_expired, jobs.db, jobs.channels),
            partial(expire.delete_expired, jobs.db, jobs.channels),
        ),
    }


def buckets(jobs: Jobs) -> dict[str, TokenBucket]:
    """Channel → its limit of sends a second, which both of its lanes share."""
    return {name: TokenBucket(jobs.config.delivery.rates[name]) for name in CHANNELS}


class Pump:
    """Drains the ledger: events, each channel and each rarer kind of work have their own lanes."""

    def __init__(self, jobs: Jobs):
        self._due = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self.run, name="pump", daemon=True)
        rates, unlimited = buckets(jobs), TokenBucket(None)
        self.lanes = [
            Lane(
                name,
                THREADS[name],
                claim,
                work,
                self.wake,
                rates.get(ASKING.get(name, name), unlimited),
                rest=fault_injection.hastened(RESTS.get(name, 0.0)),
            )
            for name, (claim, work) in lane_work(jobs).items()
        ]
        senders = [lane for lane in self.lanes if lane.rate is not unlimited]
        turned = reversed(senders)
        self._turned = [next(turned) if lane in senders else lane for lane in self.lanes]

    def adopt(self, jobs: Jobs) -> None:
        """Work by another configuration from now on; work in flight ends by the old one."""
        found, rates = lane_work(jobs), buckets(jobs)
        for lane in self.lanes:
            lane.claim, lane.work = found[lane.name]
            new = rates.get(ASKING.get(lane.name, lane.name), lane.rate)
            if lane.rate.limit != new.limit:
                lane.rate = new

    def share(self, workers: int) -> None:
        """Set the number of workers that share the providers' limits."""
        for lane in self.lanes:
            lane.rate.share(workers)

    @property
    def busy(self) -> int:
        """How many items are in flight."""
        return sum(lane.busy for lane in self.lanes)

    def wake(self, lanes: Set[str] = frozenset(CHANNELS)) -> None:
        """Look at the ledger now, in these lanes even if they found nothing a moment ago."""
        for lane in self.lanes:
            if lane.name in lanes:
                lane.rest_no_more()
        self._due.set()

    def start(self) -> None:
        """Drain in the background until `stop` is called."""
        self._thread.start()

    def run(self) -> None:
        """Drain until `stop` is called."""
        while not self._stopping.is_set():
            self._due.clear()
            limited = self.rate_waits()
            if self.fill_lanes():
                self._stopping.wait(GATHER_SECONDS)
            else:
                self.wait_for_work(limited)

    def rate_waits(self) -> list[float]:
        """The seconds until each rate that is used up lets more through.

        Ask before filling the lanes: we would miss a rate that refills just after that.
        """
        return [wait for lane in self.lanes if (wait := lane.rate.wait())]

    def wait_for_work(self, limited: list[float]) -> None:
        """Wait for a wake-up, the next look at the ledger, or a rate that lets more through."""
        self._due.wait(min([fault_injection.hastened(POLL_SECONDS), *limited]))

    def fill_lanes(self, *, rested: bool = False) -> int:
        """Let each lane claim once; return how many items were started."""
        started = 0
        # Two lanes that share a limit take turns to come first.
        self.lanes, self._turned = self._turned, self.lanes
        for lane in self.lanes:
            try:
                started += lane.fill(rested=rested)
            except LedgerUnavailable as error:
                log.warning("ledger unavailable", lane=lane.name, reason=str(error))
            except Exception:
                log.exception("claim broke", lane=lane.name)
        return started

    def drain(self, seconds: float = math.inf) -> int:
        """Work until nothing is due and nothing is in flight, or for so many seconds. Return how
        much was started.
        """
        done, ends = 0, time.monotonic() + seconds
        while time.monotonic() < ends:
            self._due.clear()
            was_idle = not self.busy  # asked first: work that ends later may leave new rows
            limited = self.rate_waits()
            # While work is in flight, lanes that found nothing rest until it leads to more.
            done += (started := self.fill_lanes(rested=was_idle))
            if was_idle and not started and not limited:
                return done
            if not started:
                self.wait_for_work(limited)
        return done

    def stop(self, seconds: float = STOP_SECONDS) -> int:
        """Stop claiming and let work in flight end; return how many items did not end in time."""
        ends = time.monotonic() + seconds
        self._stopping.set()
        self.wake()
        if self._thread.is_alive():
            self._thread.join(seconds)  # what it is claiming is still started
        for lane in self.lanes:
            lane.stop()
        awaited = [lane for lane in self.lanes if lane.name not in LONG]
        while (left := sum(lane.busy for lane in awaited)) and time.monotonic() < ends:
            self._due.wait(0.1)
            self._due.clear()
        return left
