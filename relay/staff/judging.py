"""Judges an edition within limits: what is sent to be published may be made to take all there is.

A web process has it judged by another, `python -m relay.staff.judging`, which may be ended.
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
_PATIENCE_SECONDS = 30  # of a busy machine: the time that the work itself takes is limited apart
_NO_END = "it takes too long or too much memory to judge: a loop or a text in it has no end."
TOO_MUCH = [Problem(_NO_END, CONFIG)]


class TooMuch(BaseException):
    """No Exception: a template's own errors are caught, and this is none."""


def judge(files: Content, settings: Settings) -> list[Problem]:
    """All that is wrong with an edition, by the names of its files; some are only warnings."""
    _held, used = edition_files.laid_out(files, settings)
    try:
        return edition_files.as_admins_know(check.problems(load(used)), used)
    except ConfigError as error:
        return edition_files.as_admins_know(error.problems, used)
    except (MemoryError, RecursionError):
        return TOO_MUCH


def within_limits(files: Content, settings: Settings) -> list[Problem]:
    """The same within some seconds and 64 MB, else TOO_MUCH. For the main thread only."""

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
    """Let this process take so many bytes more than it has. On Linux only."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, hard))


def run_apart(module: str, given: object, seconds: float) -> bytes:
    """What `python -m module` prints for pickled input. Raises SubprocessError and OSError."""
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
    """What is wrong with an edition, judged by a process of its own, for about a second; what was
    judged last is known still.
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
    """Judge what comes on standard input; the problems go to standard output, as its last line."""
    files, settings = pickle.load(sys.stdin.buffer)  # noqa: S301
    found = within_limits(files, settings)
    print(json.dumps([asdict(problem) for problem in found]))


if __name__ == "__main__":
    main()
