"""Judges an edition within limits: somebody may send one that is made to use up the machine.

A web process has another one judge it, `python -m relay.staff.judging`, which may be ended.
"""

from __future__ import annotations

import json
import pickle
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from relay.config import check, edition_files
from relay.config.edition_files import CONFIG
from relay.config.loader import load
from relay.config.settings import Settings
from relay.errors import ConfigError, Problem
from relay.rules.edition import Content, digest

_MEMORY = 64 * 2**20
_PATIENCE_SECONDS = 30  # for a busy machine: the time of the work itself has its own limit
_NO_END = "it takes too long or too much memory to judge: a loop or a text in it has no end."
TOO_MUCH = [Problem(_NO_END, CONFIG)]


class TooMuch(BaseException):
    """Not an Exception: code that catches a template's own errors must not catch it."""


def judge(files: Content, settings: Settings) -> list[Problem]:
    """Return all problems of an edition, by the names of its files; some are only warnings."""
    _held, used = edition_files.laid_out(files, settings)
    try:
        return edition_files.as_admins_know(check.problems(load(used)), used)
    except ConfigError as error:
        return edition_files.as_admins_know(error.problems, used)
    except (MemoryError, RecursionError):
        return TOO_MUCH


def within_limits(files: Content, settings: Settings) -> list[Problem]:
    """Judge within some seconds and 64 MB, else return TOO_MUCH. For the main thread only."""

    def end(*_: object) -> NoReturn:
        raise TooMuch

    rules = files.get(CONFIG, "").count("[rules.")
    before = signal.signal(signal.SIGVTALRM, end)
    signal.setitimer(signal.ITIMER_VIRTUAL, min(1 + rules / 10, 10))
    before_it = resource.getrlimit(resource.RLIMIT_AS)
    limit_memory(_MEMORY)
    try:
        return judge(files, settings)
    except TooMuch:
        return TOO_MUCH
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, before_it)


def limit_memory(more: int) -> None:
    """Let this process's memory grow by `more` bytes. On Linux only."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, hard))


def run_apart(module: str, given: object, seconds: float) -> bytes:
    """The output of `python -m module` for pickled input. Raises SubprocessError and OSError."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", module],
        input=pickle.dumps(given),
        capture_output=True,
        timeout=seconds,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    return done.stdout


def apart(files: Content, settings: Settings) -> Sequence[Problem]:
    """The problems of an edition, judged in a separate process, in about a second; recent results
    are remembered.
    """
    mark = digest(files)
    if mark not in _judged:
        while len(_judged) >= _KEPT:
            _judged.pop(next(iter(_judged)), None)
        _judged[mark] = _by_a_process(files, settings)
    return _judged[mark]


_judged: dict[str, Sequence[Problem]] = {}
_KEPT = 50


def _by_a_process(files: Content, settings: Settings) -> Sequence[Problem]:
    try:
        judged = run_apart(__name__, (files, settings), _PATIENCE_SECONDS)
    except (subprocess.SubprocessError, OSError):
        return TOO_MUCH
    return [Problem(**one) for one in json.loads(judged.splitlines()[-1])]


def main() -> None:
    """Judge the edition on standard input; print the problems as the last line of output."""
    files, settings = pickle.load(sys.stdin.buffer)  # noqa: S301
    found = within_limits(files, settings)
    print(json.dumps([asdict(problem) for problem in found]))


if __name__ == "__main__":
    main()
