"""Group commit: several writes in one transaction. Each is kept or fails by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from relay.errors import LedgerUnavailable
from relay.ledger.group_commit import GroupCommit

PATIENCE = 10.0


class Written:
    """The work: keeps each batch; waits at a gate when told to; fails when told to."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()
        self.error: Exception | None = None

    def __call__(self, given: Sequence[str]) -> list[str]:
        """Each with an exclamation mark."""
        self.batches.append(list(given))
        self.begun.set()
        assert self.gate.wait(PATIENCE)
        if self.error:
            raise self.error
        return [f"{one}!" for one in given]


@pytest.fixture
def written() -> Written:
    return Written()


def made(written: Written, most: int = 8, patience: float = PATIENCE) -> GroupCommit[str, str]:
    """What gathers for `written`."""
    return GroupCommit(written, lambda given: given, most, patience)


@contextmanager
def gathered(
    written: Written, waiting: list[str], together: GroupCommit[str, str] | None = None
) -> Iterator[list[Future[str]]]:
    """The first of `waiting` is being written while the others come in; let go at the end."""
    together = together or made(written)
    written.gate.clear()
    with ThreadPoolExecutor(len(waiting)) as pool:
        futures = [pool.submit(together.run, waiting[0])]
        assert written.begun.wait(PATIENCE)
        futures += [pool.submit(together.run, one) for one in waiting[1:]]
        await_(lambda: len(together._waiting) == len(waiting) - 1)
        yield futures
        written.gate.set()


def await_(condition: Callable[[], bool]) -> None:
    """Until `condition` holds."""
    pause = threading.Event()
    for _ in range(1000):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it never came true")


def test_one_alone_is_written_at_once(written: Written) -> None:
    """Nobody waits for company."""
    together = made(written)
    assert [together.run("a"), together.run("b")] == ["a!", "b!"]
    assert written.batches == [["a"], ["b"]]


def test_what_comes_meanwhile_is_one_batch(written: Written) -> None:
    """Those who come during a write share the next one, in the order of their keys."""
    with gathered(written, ["a", "d", "c", "b"]) as futures:
        pass
    assert [future.result() for future in futures] == ["a!", "d!", "c!", "b!"]
    assert written.batches == [["a"], ["b", "c", "d"]]


def test_a_key_stands_in_a_batch_once(written: Written) -> None:
    """The same again is written in the batch after: one statement cannot change a row twice."""
    with gathered(written, ["a", "b", "b", "b"]) as futures:
        pass
    assert [future.result() for future in futures] == ["a!", "b!", "b!", "b!"]
    assert written.batches == [["a"], ["b"], ["b"], ["b"]]


def test_a_batch_has_an_end(written: Written) -> None:
    """No batch is larger than it may be; the rest is written after it."""
    with gathered(written, ["a", "b", "c", "d", "e"], made(written, most=3)) as futures:
        pass
    assert [future.result() for future in futures] == ["a!", "b!", "c!", "d!", "e!"]
    assert [len(batch) for batch in written.batches] == [1, 3, 1]


def test_all_who_wait_hear_that_the_ledger_is_away(written: Written) -> None:
    """Nobody waits for the same failure again; the next to come tries anew."""
    written.error = LedgerUnavailable("it is away")
    together = made(written)
    with gathered(written, ["a", "b", "c"], together) as futures:
        pass
    assert [str(future.exception()) for future in futures] == ["it is away"] * 3
    assert written.batches == [["a"]]
    written.error = None
    assert together.run("d") == "d!"


def test_another_failure_is_told_to_its_batch_alone(written: Written) -> None:
    """A fault of ours fails those it was about; who came meanwhile is written."""
    written.error = ValueError("a fault")
    with gathered(written, ["a", "b"]) as futures:
        written.gate.set()
        assert isinstance(futures[0].exception(PATIENCE), ValueError)
    assert isinstance(futures[1].exception(), ValueError)
    assert written.batches == [["a"], ["b"]]


def test_nobody_waits_for_ever(written: Written) -> None:
    """Who has waited its patience is told that the ledger is locked, and is not written later."""
    with gathered(written, ["a", "b"], made(written, patience=0.05)) as futures:
        assert isinstance(futures[1].exception(PATIENCE), LedgerUnavailable)
    assert futures[0].result() == "a!"
    assert written.batches == [["a"]]


def test_everybody_gets_their_own(written: Written) -> None:
    """Thousands of calls by many threads: each gets its own answer, and each was written once."""
    together = made(written)

    def run(thread: int) -> bool:
        wanted = [f"{thread}-{n}" for n in range(200)]
        return [together.run(one) for one in wanted] == [f"{one}!" for one in wanted]

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(run, range(16)))
    flat = [one for batch in written.batches for one in batch]
    assert len(flat) == len(set(flat)) == 16 * 200
