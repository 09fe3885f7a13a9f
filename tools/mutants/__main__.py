"""`python -m tools.mutants [NAME…]`: runs every mutant of the modules in table.toml.

The tests that are about a module run once, in this process, and each line's tests are noted. Then
each mutant is put in the place of the module in a fork of this process, and its lines' tests run
there until one fails. Ends with 1 where a mutant lives that the table does not explain.
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import tomllib
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType, FunctionType, ModuleType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from tools.mutants.making import Mutant, mutants

ROOT = Path(__file__).parent.parent.parent
TABLE = Path(__file__).parent / "table.toml"
CACHED = type(cache(len))
MEMORY = Path("/dev/shm")
KILLED, LIVES, BROKEN = 0, 3, 4


class Run:
    """A plugin of pytest: instead of running its tests once it runs them for each mutant."""

    def __init__(self, row: dict[str, Any], only: str, at_once: int):
        self.path, self.row = ROOT / row["path"], row
        self.module = row["path"].removesuffix(".py").replace("/", ".")
        self.explained = {one["what"]: one["why"] for one in row.get("explained", ())}
        # What only PostgreSQL's tests can judge is left to a run that has them.
        self.left = () if os.environ.get("TEST_DATABASE_URL") else row.get("postgresql", ())
        self.only, self.at_once = only, at_once
        self.tests: dict[int, set[int]] = defaultdict(set)  # of a line, by their places
        self.seconds: Counter[int] = Counter()
        self.kills: Counter[int] = Counter()
        self.at_import = set[int]()  # lines that run when the module is imported
        self.lives: list[Mutant] = []
        self.count = 0

    def pytest_sessionstart(self) -> None:
        """Hypothesis draws the same every time, and does not look for the smallest example."""
        from hypothesis import Phase, settings  # pytest has to come first

        drawn = (Phase.explicit, Phase.generate)
        settings.register_profile(
            "mutants", database=None, derandomize=True, deadline=None, phases=drawn
        )
        settings.load_profile("mutants")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """All of it."""
        self.items = session.items
        source = self.path.read_text("utf-8")
        made = [*mutants(source)]
        with self.traced(self.at_import.add):
            run(sys.modules[self.module], source)
        self.lives = [one for one in made if one.what in self.only] if self.only else made
        self.count = len(self.lives)
        gc.freeze()  # what a fork does not touch it does not copy
        for tier in ("tests", "also"):
            self.tests.clear()
            for at, item in enumerate(self.items):
                if str(item.path.relative_to(ROOT)) in self.row.get(tier, ()):
                    self.trace(at)
            if self.tests:
                self.lives = [*self.survivors(self.lives, tier)]
        return True

    def survivors(self, made: Iterable[Mutant], tier: str) -> Iterator[Mutant]:
        """Those that no test fails, as they are found."""
        waiting, running = iter(made), dict[int, tuple[Mutant, int]]()
        while True:
            while len(running) < self.at_once and (one := next(waiting, None)):
                if found := self.chosen(one, tier):
                    pid, pipe = self.start(one, found)
                    running[pid] = one, pipe
                else:
                    yield self.lived(one, tier)
            if not running:
                return
            pid, status = os.wait()
            one, pipe = running.pop(pid)
            killer = os.read(pipe, 20)
            os.close(pipe)
            if os.WIFEXITED(status) and os.WEXITSTATUS(status) == LIVES:
                yield self.lived(one, tier)
            elif killer:
                self.kills[int(killer)] += 1
            elif os.WIFEXITED(status) and os.WEXITSTATUS(status) == BROKEN:
                raise pytest.UsageError(f"Could not be run: {one.what}")

    @contextmanager
    def traced(self, note: Callable[[int], object]) -> Iterator[None]:
        """Note each line of the module that is run."""
        path = str(self.path)

        def local(frame: FrameType, event: str, _: object) -> Any:
            if event == "line":
                note(frame.f_lineno)
            return local

        def by_file(frame: FrameType, _event: str, _: object) -> Any:
            if frame.f_code.co_filename != path:
                return None
            note(frame.f_lineno)
            return local

        threading.settrace(by_file)
        sys.settrace(by_file)
        try:
            yield
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]

    def trace(self, at: int) -> None:
        """Run a test as it is, and note which lines of the module it comes by."""
        forget()  # else only the first test would come by what a cached function calls
        began = time.monotonic()
        with self.traced(lambda line: self.tests[line].add(at)):
            reports = self.play(at, after=(at + 1) % len(self.items))
        self.seconds[at] = time.monotonic() - began  # type: ignore[assignment]
        if any(one.failed for one in reports):  # one that minds being watched, or a busy machine
            print(f"left out, since it fails without any mutant: {self.items[at].nodeid}")
            for found in self.tests.values():
                found.discard(at)

    def play(self, at: int, after: int) -> Sequence[pytest.TestReport]:
        """One test, knowing which comes after: fixtures that both share stay."""
        after = after if after != at else (at + 1) % len(self.items)
        return runtestprotocol(self.items[at], log=False, nextitem=self.items[after])

    def chosen(self, one: Mutant, tier: str) -> list[int]:
        """The tests that come by a mutant's lines: those that have killed others, the quick first.

        Of what runs once, at the start: all that are about the module.
        """
        if not one.function or self.at_import.intersection(one.lines):
            found = set[int]().union(*self.tests.values())
            if tier == "also":
                found = set()  # it would take them all
        else:
            found = set[int]().union(*(self.tests.get(line, set()) for line in one.lines))
        return sorted(found, key=lambda at: self.seconds[at] / (1 + self.kills[at]))

    def start(self, one: Mutant, found: list[int]) -> tuple[int, int]:
        """A fork with the mutant in the module's place, and where it says which test killed it."""
        reads, writes = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # threads of a session's fixtures do nothing of ours
            pid = os.fork()
        if pid:
            os.close(writes)
            return pid, reads
        try:
            if not os.environ.get("DEBUG"):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, 1)
                os.dup2(null, 2)
            slow = sum(self.seconds[at] for at in found)
            signal.alarm(int(20 + 10 * slow))  # one that does not end is killed
            kept = self.items[0].config._tmp_path_factory  # type: ignore[attr-defined]
            kept._basetemp = kept.mktemp("mutant")
            status = self.judge(one, found, writes)
            shutil.rmtree(kept._basetemp, ignore_errors=True)
            os._exit(status)
        except BaseException:
            os.write(2, traceback.format_exc().encode())
            os._exit(BROKEN)

    def judge(self, one: Mutant, found: list[int], writes: int) -> int:
        """In the fork: what becomes of the mutant."""
        try:
            made = run(sys.modules[self.module], one.source)
        except Exception:
            return KILLED  # Relay would not start
        graft(sys.modules[self.module], made)
        self.items[0].session._setupstate.teardown_exact(self.items[found[0]])
        for at, after in zip(found, [*found[1:], found[0]], strict=True):
            if any(report.failed for report in self.play(at, after)):
                os.write(writes, str(at).encode())
                return KILLED
        return LIVES

    def is_alive(self, one: Mutant) -> bool:
        """Whether nothing explains a survivor."""
        left = one.function in self.left or one.what in self.left
        return one.what not in self.explained and not left

    def lived(self, one: Mutant, tier: str) -> Mutant:
        """Say that no test of a tier has failed a mutant, unless the next one may."""
        if self.is_alive(one) and (tier == "also" or "also" not in self.row):
            where = f"{self.path.relative_to(ROOT)}:{one.lines.start}"
            print(f"{where}: {one.what}", flush=True)
        return one


def ours() -> list[ModuleType]:
    """The modules of Relay and of its tests."""
    return [it for name, it in sys.modules.items() if name.startswith(("relay", "tests"))]


def forget() -> None:
    """What functions have kept of their answers is made anew."""
    for value in [value for it in ours() for value in vars(it).values() if type(value) is CACHED]:
        value.cache_clear()


def run(module: ModuleType, source: str) -> dict[str, Any]:
    """What a changed source of a module makes."""
    made: dict[str, Any] = {"__name__": module.__name__, "__file__": module.__file__}
    exec(compile(source, str(module.__file__), "exec"), made)
    return made


def graft(module: ModuleType, made: dict[str, Any]) -> None:
    """Put what a changed source makes in the place of a module that others have imported from.

    Its functions and its classes' get the new code, and stay the same objects; other values are
    changed wherever they have been imported by their name.
    """
    old, modules = vars(module), ours()
    for name, new in made.items():
        was = old.get(name)
        if name.startswith("__") or was is new or isinstance(new, ModuleType):
            continue
        if isinstance(new, type):
            if new.__module__ == module.__name__:  # not one that it imports
                for key, one in vars(new).items():
                    regraft(vars(was).get(key), one)
        elif is_function(new):
            regraft(was, new)
        else:
            for it in modules:
                if vars(it).get(name, made) is was:
                    setattr(it, name, new)
    forget()


def is_function(it: object) -> bool:
    """Whether something is a function, cached or not."""
    return isinstance(getattr(it, "__wrapped__", it), FunctionType)


def regraft(was: Any, new: Any) -> None:
    """Give an old function, property or method the code and the defaults of a new one."""
    for name in ("__wrapped__", "__func__", "fget"):
        was, new = getattr(was, name, was), getattr(new, name, new)
    if isinstance(was, FunctionType) and isinstance(new, FunctionType):
        if was.__code__.co_freevars == new.__code__.co_freevars:
            was.__code__ = new.__code__
        was.__defaults__, was.__kwdefaults__ = new.__defaults__, new.__kwdefaults__


def main() -> int:
    """Run what the arguments name; 1 where a mutant lives that nobody has explained."""
    table = tomllib.loads(TABLE.read_text("utf-8"))
    parser = argparse.ArgumentParser(prog="python -m tools.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*table, []], help="modules; all of them")
    parser.add_argument("--only", type=Path, help="a file: only the mutants that it names")
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    only = given.only.read_text("utf-8") if given.only else ""
    alive = 0
    for name in given.names or table:
        began = time.monotonic()
        run = Run(table[name], only, given.at_once)
        how = ["-q", "-x", "--tb=no", "--no-header", "--no-summary", "-p", "no:cacheprovider"]
        with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
            how += ["-n", "0", "--basetemp", f"{folder}/tests"]
            how += [*table[name]["tests"], *table[name].get("also", ())]
            if pytest.main(how, plugins=[run]) not in (pytest.ExitCode.OK, 5):
                return 1
        new = [one for one in run.lives if run.is_alive(one)]
        explained = sum(one.what in run.explained for one in run.lives)
        alive += len(new)
        print(
            f"{name}: {run.count} mutants, {run.count - len(run.lives)} killed, "
            f"{explained} explained, {len(run.lives) - explained - len(new)} left to PostgreSQL, "
            f"{len(new)} alive, {time.monotonic() - began:.0f} s"
        )
    return 1 if alive else 0


if __name__ == "__main__":
    raise SystemExit(main())
