"""`python -m tools.chaos --kits 1000 --seed 1`: everything is broken at random; nothing is lost."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tools.chaos import ledger, oracle
from tools.chaos.faults import Faults
from tools.chaos.lab import Lab
from tools.chaos.privacy import Privacy
from tools.chaos.scenarios import Post
from tools.chaos.staff import Staff
from tools.chaos.stage import RULES, Stage
from tools.chaos.truth import Truth

SETTLE_SECONDS = 150.0  # longer than anything waits in a run
CALM_TIMES = 15  # looks without anything to do: late callbacks may still begin something
LEAST_SECONDS, KITS_A_SECOND = 25.0, 4.0
SHOWN = 20
HEADS = (
    "seed",
    "seconds",
    "faults",
    "acts",
    "posted",
    "answered 200",
    "owed",
    "overtaken",
    "held",
    "accepted",
    "twice",
    "by rule",
    "lost",
    "unknown",
    "wrong",
)


@dataclass
class Result:
    """One seed's row of the table, and what is wrong."""

    cells: list[object]
    problems: list[str]
    is_good: bool


def main() -> int:
    """Run each seed; 1 when anything was lost, twice, or wrong."""
    parser = argparse.ArgumentParser(prog="tools.chaos", description=__doc__)
    parser.add_argument("--kits", type=int, default=1000)
    parser.add_argument("--seed", type=int, action="append", help="may be given several times")
    chosen = parser.parse_args()
    results = []
    for seed in chosen.seed or [1]:
        results.append(run(seed, chosen.kits))
        print_table(results)
    return 0 if all(result.is_good for result in results) else 1


def run(seed: int, kits: int) -> Result:
    """One seed from an empty ledger to the verdict."""
    folder = Path(tempfile.mkdtemp(prefix=f"relay-chaos-{seed}-"))
    os.chmod(folder, 0o755)  # PostgreSQL's user has to get in
    started = time.monotonic()
    stage = Stage(seed, folder)
    try:
        result = _play(stage, seed, kits, started)
    finally:
        stage.close()
    if result.is_good:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        print("\n".join(f"  {line}" for line in result.problems))
        print(f"The processes' output and the ledger's files are in {folder}")
    return result


def _play(stage: Stage, seed: int, kits: int, started: float) -> Result:
    faults = Faults(stage, seed)
    lab = Lab(stage, seed, kits, max(LEAST_SECONDS, kits / KITS_A_SECOND))
    staff = Staff(stage.config(), seed)
    watch = _Watch(stage, seed, faults, lab, Privacy(lab.numbers))
    for thread in (watch, staff):
        thread.start()
    faults.start()
    lab.play()
    faults.stop()
    staff.is_calm = True
    left = _settle(stage)
    staff.stop()
    staff.close_rules()
    if held := _still_true(stage, lab):
        lab.post_again(held)
        left = _settle(stage)
    watch.stop()
    output = stage.output()
    kept, told = ledger.read(stage.postgresql.url), stage.standins.report()
    verdict = oracle.Oracle(RULES, kept, told, lab, staff.done, output).judge()
    for name, what in (("ledger", kept), ("providers", told), ("lab", lab.said)):
        (stage.folder / f"{name}.json").write_text(json.dumps(what, default=str), "utf-8")
    verdict.wrong += [f"never settled: {count} {what}" for what, count in left.items()]
    verdict.wrong += [f"in the output: {line}" for line in watch.privacy.found(output)]
    verdict.wrong += [f"in Redis: {line}" for line in watch.in_redis]
    verdict.wrong += [
        *stage.unasked,
        *(f"the harness broke: {what}" for what in [*faults.broken, *staff.broken]),
    ]
    verdict.wrong += [f"never answered 200: {post}" for post in lab.given_up]
    verdict.wrong += [f"answered {n}" for n in lab.answers if n not in (0, 200, 503)]
    verdict.wrong += [f"a fault of Relay's: {line}" for line in _broke(output)]
    cells: list[object] = [
        seed,
        round(time.monotonic() - started),
        len(faults.drawn),
        len(staff.done),
        lab.answers.total(),
        lab.answers[200],
        verdict.owed,
        verdict.overtaken,
        verdict.held,
        verdict.accepted,
        len(verdict.twice),
        verdict.twice_allowed,
        len(verdict.lost),
        verdict.unknown,
        len(verdict.wrong),
    ]
    problems = [
        f"{kind}: {what}"
        for kind in ("lost", "twice", "wrong")
        for what in getattr(verdict, kind)[:SHOWN]
    ]
    return Result(cells, problems, verdict.is_good)


def _still_true(stage: Stage, lab: Lab) -> list[Post]:
    """What is held though the lab's API says so too by now: the lab posts it once more."""
    truth = Truth(lab.said, lab.begun)
    held = [lab.taken[id_] for id_ in ledger.held(stage.postgresql.url) if id_ in lab.taken]
    return [post for post in held if post.thing and truth.is_lasting(post.step, post.thing)]


def _broke(output: str) -> list[str]:
    """Lines that tell of a fault of Relay's own: not of a ledger that was away, nor of a job whose
    traces Redis has lost, of which RQ complains.
    """
    lines = (line for line in output.splitlines() if ' broke"' in line or "Traceback" in line)
    others = ('"LedgerUnavailable"', '"logger": "rq.worker"')
    return [line[:600] for line in lines if not any(other in line for other in others)]


def _settle(stage: Stage) -> dict[str, int]:
    """Wait until nothing is left to do; what is left when nothing moves any more."""
    ends = time.monotonic() + SETTLE_SECONDS
    left: dict[str, int] = {}
    calm = 0
    while time.monotonic() < ends:
        before, left = left, ledger.unsettled(stage.postgresql.url)
        if left != before:
            ends = time.monotonic() + SETTLE_SECONDS
        calm = 0 if left else calm + 1
        if calm > CALM_TIMES:
            return {}
        time.sleep(0.5)
    return left


class _Watch(threading.Thread):
    """Says how far the run is, and looks into Redis."""

    def __init__(self, stage: Stage, seed: int, faults: Faults, lab: Lab, privacy: Privacy):
        super().__init__(daemon=True)
        self._stage, self._seed, self._faults, self._lab = stage, seed, faults, lab
        self._stopping = threading.Event()
        self.privacy = privacy
        self.in_redis: set[str] = set()

    def run(self) -> None:
        """Look every few seconds."""
        while not self._stopping.wait(3.0):
            self.in_redis |= set(self.privacy.found(self._stage.redis.kept()))
            now = ", ".join(filter(None, self._faults.now.values())) or "no fault"
            taken, all_ = len(self._lab.taken), len(self._lab.posts)
            print(
                f"seed {self._seed}: {taken} of {all_} posts taken; {now}{self._left()}", flush=True
            )

    def _left(self) -> str:
        try:
            left = ledger.unsettled(self._stage.postgresql.url)
        except psycopg.Error:
            return ""
        return "".join(f"; {count} {what}" for what, count in left.items())

    def stop(self) -> None:
        """Say no more."""
        self._stopping.set()
        self.join()


def print_table(results: list[Result]) -> None:
    """A row a seed."""
    rows = [list(HEADS), *([str(cell) for cell in result.cells] for result in results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
