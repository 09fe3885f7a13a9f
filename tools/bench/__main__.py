"""`python -m tools.bench`: measure, print a table, keep it as JSON and as a chart."""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from relay.dev import redis_server
from tools.bench import busy, desk, measure, scale, servers, size, soak, upgrade, what_if
from tools.bench.chart import draw
from tools.bench.measure import Bench, Figures, say

Row = dict[str, Any]


@dataclass(frozen=True)
class Goal:
    """One line of the table: a figure, what is wanted of it, and which way is better."""

    what: str
    part: str
    figure: str
    wanted: float
    at_least: bool
    unit: str = ""

    def is_met(self, value: float) -> bool:
        """Whether `value` is good enough."""
        return value >= self.wanted if self.at_least else value <= self.wanted


GOALS = (
    Goal("PostgreSQL intake / bare Flask, requests", "in_postgresql", "ratio", 0.35, True),
    Goal("PostgreSQL intake / bare Flask, p99", "in_postgresql", "p99_ratio", 2.0, False),
    Goal("burst of 1,000, 50 at a time, p99", "in_postgresql", "burst_p99", 500, False, "ms"),
    Goal("SQLite intake / bare Flask, requests", "in_sqlite", "ratio", 0.28, True),
    Goal("SQLite intake, p99", "in_sqlite", "relay_p99", 40, False, "ms"),
    Goal("way out, one worker", "out", "relay_rate", 60, True, "messages/s"),
    Goal("way out / RQ's default worker", "out", "ratio", 15, True),
    Goal("worker's memory", "out", "memory_mib", 150, False, "MiB"),
    Goal("worker's memory, texts and emails", "memory", "last_mib", 150, False, "MiB"),
    Goal("worker's memory after 5,000 of each / after 1,000", "memory", "growth", 1.1, False),
    Goal("SIGTERM under load, until it has gone", "stopping", "stop_seconds", 30, False, "s"),
    Goal("SIGTERM under load, lost or sent twice", "stopping", "lost_or_twice", 0, False),
    Goal("workers SIGKILLed, one back: sends again", "recovery", "killed_seconds", 180, False, "s"),
    Goal("Redis emptied: sends again", "recovery", "emptied_seconds", 120, False, "s"),
    Goal("POST to provider when idle, beyond the lab, p50", "idle", "p50", 50, False, "ms"),
    Goal("POST to provider when idle, beyond the lab, p99", "idle", "p99", 200, False, "ms"),
    Goal("web ready", "start", "web_seconds", 1.5, False, "s"),
    Goal("flask relay --help", "start", "help_seconds", 0.7, False, "s"),
    Goal(
        "what-if over 100,000 events, PostgreSQL", "what-if", "postgresql_seconds", 30, False, "s"
    ),
    Goal("what-if over 100,000 events, SQLite", "what-if", "sqlite_seconds", 30, False, "s"),
    Goal("accepting at 5,000,000 events / empty", "scale", "accept_ratio", 1.2, False),
    Goal("claiming at 5,000,000 events / empty", "scale", "claim_ratio", 1.2, False),
    Goal(
        "a message's statements at 5,000,000 events / empty", "scale", "message_ratio", 1.2, False
    ),
    Goal("sweep at 5,000,000 events", "scale", "sweep_ms", 100, False, "ms"),
    Goal("a claim of 24, 300,000 scheduled and 150,000 sent", "busy", "claim_ms", 10, False, "ms"),
    Goal("one of nothing then", "busy", "none_ms", 10, False, "ms"),
    Goal("way out then, one worker", "busy", "rate_1", 60, True, "messages/s"),
    Goal("two workers through PgBouncer / without", "busy", "pooled_ratio", 0.8, True),
    Goal("the desk's slowest page at 2,000,000 messages", "desk", "slowest_ms", 300, False, "ms"),
    Goal("queries of it that read a large table whole", "desk", "scans", 0, False),
    Goal("a finished kit in history, PostgreSQL", "size", "finished_bytes", 3000, False, "bytes"),
    Goal(
        "longest wait of a post in a deploy, 3,000,000 rows",
        "upgrade",
        "slowest_seconds",
        1,
        False,
        "s",
    ),
    Goal("soak, memory at the end / after a quarter", "soak", "memory_growth", 1.1, False),
    Goal("soak, connections and files, likewise", "soak", "connections_growth", 1.1, False),
    Goal("soak, lost or sent twice", "soak", "lost_or_twice", 0, False),
)


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="tools.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", help=" ".join([*MEASURES, *LONG]))
    parser.add_argument("--rounds", type=int, default=5, help="alternations of each pair")
    parser.add_argument("--events", type=int, help="rows for `scale` and `desk`, kits for `size`")
    parser.add_argument("--minutes", type=float, default=60, help="how long `soak` lasts")
    parser.add_argument("--keep", type=Path, help="folder for results.json and results.svg")
    chosen = parser.parse_args()
    parts = chosen.parts or list(MEASURES)
    told: dict[str, Figures] = {}
    with ExitStack() as stack:
        postgresql = stack.enter_context(servers.postgresql())
        redis = stack.enter_context(redis_server.redis())
        standins = stack.enter_context(servers.standins(0.05, 0.15))
        bench = Bench(postgresql, redis, standins)
        for part in parts:
            say(f"\n{part}")
            if part in LONG:
                told[part] = LONG[part](bench, chosen)
            else:
                told[part] = MEASURES[part](bench, chosen.rounds)
            if chosen.keep:  # at once: a later part may fail
                _keep(chosen.keep, {part: told[part]})
    _print(_rows(told))


def _in_sqlite(bench: Bench, rounds: int) -> Figures:
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as folder:
        return measure.way_in(bench, f"sqlite:///{folder}/relay.db", rounds, 4000)


MEASURES: dict[str, Callable[[Bench, int], Figures]] = {
    "in_postgresql": lambda bench, rounds: measure.way_in(bench, bench.postgresql, rounds, 4000),
    "in_sqlite": _in_sqlite,
    "out": lambda bench, rounds: measure.way_out(bench, rounds, 1000, 40),
    "memory": lambda bench, _: measure.memory(bench, 5000),
    "stopping": lambda bench, _: measure.stopping(bench, 2, 600),
    "recovery": lambda bench, _: measure.recovery(bench, 300),
    "idle": lambda bench, _: measure.latency(bench, 60),
    "start": measure.start,
    "what-if": lambda bench, _: what_if.what_if(bench, 100_000),
}
# Only if they are asked for.
LONG: dict[str, Callable[[Bench, argparse.Namespace], Figures]] = {
    "scale": lambda bench, chosen: scale.growth(bench, chosen.events or 5_000_000),
    "desk": lambda bench, chosen: desk.desk(bench, chosen.events or 1_000_000),
    "size": lambda bench, chosen: size.size(bench, chosen.events or 10_000),
    "busy": lambda bench, _: busy.busy(bench),
    "upgrade": lambda bench, chosen: upgrade.upgrade(bench, chosen.events or 3_000_000),
    "soak": lambda bench, chosen: soak.soak(bench, chosen.minutes),
}


def _rows(told: Mapping[str, Figures]) -> list[Row]:
    """Each goal of which there is a figure."""
    return [
        {
            "what": goal.what,
            "value": told[goal.part][goal.figure],
            "wanted": goal.wanted,
            "at_least": goal.at_least,
            "unit": goal.unit,
            "met": goal.is_met(told[goal.part][goal.figure]),
        }
        for goal in GOALS
        if goal.part in told
    ]


def _print(rows: list[Row]) -> None:
    print(f"\n{'':<52} {'measured':>12} {'wanted':>14}")
    for row in rows:
        word = "met" if row["met"] else "MISSED"
        wanted = f"{'≥' if row['at_least'] else '≤'} {row['wanted']:g} {row['unit']}"
        print(f"{row['what']:<52} {row['value']:>12.2f} {wanted:>14}  {word}")


def _keep(folder: Path, told: Mapping[str, Figures]) -> None:
    """Add figures to those of the parts that were measured before, each with its date."""
    folder.mkdir(parents=True, exist_ok=True)
    path, today = folder / "results.json", datetime.now(UTC).date().isoformat()
    before = json.loads(path.read_text("utf-8")) if path.exists() else {}
    about = {"date": today, "python": platform.python_version(), "cores": os.cpu_count()}
    figures = before.get("figures", {}) | told
    dates = before.get("dates", {}) | dict.fromkeys(told, today)
    kept = {"about": about, "dates": dates, "figures": figures, "goals": _rows(figures)}
    path.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
    (folder / "results.svg").write_text(draw(kept["goals"], about), "utf-8")
    say(f"kept in {folder}")


if __name__ == "__main__":
    main()
