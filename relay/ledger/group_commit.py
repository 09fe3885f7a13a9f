"""Group commit: simultaneous writes of several threads share one statement and one commit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from relay.errors import LedgerUnavailable

Given = TypeVar("Given")
Got = TypeVar("Got")


class _Job(Generic[Given, Got]):
    """One thread's part. `woken` is released when it is done, or when it is its turn to lead."""

    def __init__(self, given: Given):
        self.given = given
        self.got: Got | None = None
        self.error: Exception | None = None
        self.leads = False
        self.woken = threading.Lock()
        self.woken.acquire()


class GroupCommit(Generic[Given, Got]):
    """Collects jobs that arrive while a batch is being written into the next batch.

    The first thread leads: it writes for all that wait, then hands over to the first of those that
    arrived meanwhile. None waits for others to join, so a single thread loses no time. `key` must
    be unique within a batch, and sorts it, so that two processes cannot deadlock.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Given]], Sequence[Got]],
        key: Callable[[Given], str],
        most: int,
        patience: float,
    ):
        self._work, self._key, self._most, self._patience = work, key, most, patience
        self._lock = threading.Lock()
        self._waiting: list[_Job[Given, Got]] = []
        self._is_led = False

    def run(self, given: Given) -> Got:
        """Return the result of `given`. Raises LedgerUnavailable, also after `patience` seconds."""
        job = _Job[Given, Got](given)
        with self._lock:
            self._waiting.append(job)
            job.leads, self._is_led = not self._is_led, True
        if not job.leads and not job.woken.acquire(timeout=self._patience):
            self._give_up(job)
        if job.leads:
            self._lead()
        if job.error:
            raise job.error
        return job.got  # type: ignore[return-value]  # set, since there was no error

    def _lead(self) -> None:
        """Write our own job, which is first, with others that wait; then hand over."""
        batch = self._batch()
        try:
            results = self._work([job.given for job in batch])
            for job, got in zip(batch, results, strict=True):
                job.got = got
        except Exception as error:
            if isinstance(error, LedgerUnavailable):
                with self._lock:  # the others would wait as long for the same answer
                    batch += self._waiting
                    self._waiting = []
            for job in batch:
                job.error = error
        finally:
            with self._lock:
                self._is_led = bool(self._waiting)
                if self._waiting:
                    self._waiting[0].leads = True
                    batch.append(self._waiting[0])
            for job in batch:
                job.woken.release()

    def _batch(self) -> list[_Job[Given, Got]]:
        batch: dict[str, _Job[Given, Got]] = {}
        with self._lock:
            for job in self._waiting:
                if len(batch) < self._most:
                    batch.setdefault(self._key(job.given), job)
            taken = set(batch.values())
            self._waiting = [job for job in self._waiting if job not in taken]
        return [batch[key] for key in sorted(batch)]

    def _give_up(self, job: _Job[Given, Got]) -> None:
        with self._lock:
            if not job.leads:
                job.error = LedgerUnavailable("the ledger is locked")
                if job in self._waiting:
                    self._waiting.remove(job)
                return
        job.woken.acquire()  # its turn came at this very moment: it is being woken
