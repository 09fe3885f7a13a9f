"""`python -m tests.stateful.simulate`: the machine's world, played by seeds instead of Hypothesis.

All of Relay runs in one thread, on SQLite, with the world's clock and wire. A seed draws what the
lab, the providers and people do, and where a process dies: at any crash point, at any moment. It
repeats to the letter: what is printed of it is a hash of all that it did and of all that went out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis.internal.conjecture.data import ConjectureData
from hypothesis.internal.conjecture.providers import HypothesisProvider

from relay import fault_injection
from relay.config.settings import Settings
from relay.ledger import attempts, database, migrate
from relay.ledger.database import Database
from tests.conftest import SECRET
from tests.stateful import clinic
from tests.stateful.clinic import Providers, Relay
from tests.stateful.faults import FAULTS
from tests.stateful.machine import RelayMachine
from tests.stateful.world import Clock

BEGAN = datetime(2026, 3, 2, 9, tzinfo=UTC)

ACTS = 40  # of a seed
CRASHES = 0.15  # of its acts; a flood and an outage are as likely together
# Where a single thread can die: the queue's own point needs one.
POINTS = [point for point in fault_injection.CRASH_POINTS if point != "queue.dequeued"]
FOUND_WITHIN = 100  # seeds


class Plain(HypothesisProvider):
    """Draws evenly: Hypothesis' own draws depend on what is imported."""

    def draw_boolean(self, p: float = 0.5) -> bool:
        """True as often as `p` says."""
        return self._random.random() < p

    def draw_integer(self, min_value: Any = None, max_value: Any = None, **_: Any) -> int:
        """Any of them."""
        return self._random.randint(min_value, max_value)


class _Then(type(datetime)):  # type: ignore[misc]
    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, datetime)


class Now:
    """The world's time, for Relay's processes and for the ledger: each look at it is a millisecond
    later. Ids are drawn by the seed.
    """

    def __init__(self) -> None:
        self.world, self.looks = Clock(), 0
        self.chance = random.Random()  # noqa: S311 - it has to repeat

    def read(self) -> datetime:
        """Now."""
        self.looks += 1
        return BEGAN + timedelta(seconds=self.world.now, milliseconds=self.looks)

    def strftime(self, _shown: str, moment: str, *later: str) -> str:
        """SQLite's function, as `relay.ledger.database.now` uses it."""
        at = self.read() if moment == "now" else datetime.fromisoformat(moment)
        for one in later:
            at += timedelta(seconds=float(one.removesuffix(" seconds")))
        return at.strftime("%Y-%m-%d %H:%M:%S.%f")

    def install(self, db: Database, patch: pytest.MonkeyPatch) -> None:
        """Let all of Relay go by it."""
        now, bits = self.read, self.chance.getrandbits

        class Then(datetime, metaclass=_Then):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:
                return now().astimezone(tz)

        for name, module in list(sys.modules.items()):
            is_ours = name.startswith(("relay.", "tests.stateful.")) and name != __name__
            if is_ours and vars(module).get("datetime") is datetime:
                patch.setattr(module, "datetime", Then)
        patch.setattr(database, "time_ns", lambda: int(now().timestamp() * 1000) * 1_000_000)
        patch.setattr(database, "secrets", SimpleNamespace(randbits=bits))
        drawn = SimpleNamespace(uuid4=lambda: uuid.UUID(int=bits(128), version=4))
        patch.setattr(attempts, "uuid", drawn)
        patch.setattr(clinic, "time_passes", lambda *_: None)  # the clock goes; no row is moved
        db.close()  # connections that are opened from now on have it
        sa.event.listen(db.engine, "connect", self._connect)

    def _connect(self, connection: Any, _record: Any) -> None:
        connection.create_function("strftime", -1, self.strftime)


class Crash(BaseException):
    """The process has died: nothing of Relay's catches it."""


class Simulation:
    """One seed's run. Raises AssertionError where a promise is broken."""

    def __init__(self, relay: Relay, now: Now, seed: int) -> None:
        now.chance.seed(seed)
        self.relay, self.random, self.machine = relay, now.chance, RelayMachine(relay)
        now.world, now.looks = self.machine.lab.clock, 0
        self.trace: list[Any] = []
        self._crash: tuple[str, int] | None = None  # at which point, and after how many times

    def run(self) -> str:
        """Play it; a hash of all that happened."""
        for first in self.machine.setup_state().initializers:
            self.act(first)
        for _ in range(ACTS):
            self.disturb()
            free = [one for one in self.machine.rules if self._may(one)]
            self.act(self.random.choice(free))
            self.machine.promises_are_kept()
        self._crash = None
        self.machine.teardown()
        out = [(one.at, one.channel, one.address, one.text) for one in self.machine.providers.sent]
        shown = sorted(
            (row["rule"], row["subject"], row["channel"], row["status"], row["reason"])
            for row in self.relay.shown().messages
        )
        told = json.dumps([self.trace, out, shown], default=str)
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    def _may(self, rule: Any) -> bool:
        return all(holds(self.machine) for holds in rule.preconditions)

    def act(self, rule: Any) -> None:
        """One act of the machine's, with what the seed draws for it."""
        drawn = ConjectureData(random=self.random, provider=Plain)
        given = {name: drawn.draw(from_) for name, from_ in rule.arguments.items()}
        self.trace.append((rule.function.__name__, given))
        self.alive(lambda: rule.function(self.machine, **given))

    def disturb(self) -> None:
        """Now and then something else goes wrong."""
        chance, world = self.random.random(), self.machine
        self._crash = None
        if chance < CRASHES:
            self._crash = self.random.choice(POINTS), self.random.randrange(3)
            self.trace.append(self._crash)
        elif chance < 1.2 * CRASHES:
            world.lab.down = self.random.randrange(5, 40)
            self.trace.append(("outage", world.lab.down))
        elif chance < 1.4 * CRASHES:
            fate = self.random.choice([one for one in Providers.FATES if one != "opted out"])
            world.providers.fates[self.random.choice(["sms", "email"])] = [fate] * 8
            self.trace.append(("a provider is away", fate))
        elif chance < 2 * CRASHES and world.oracle.posts:
            post = self.random.choice(world.oracle.posts)
            self.trace.append(("flood", post.event))
            for _ in range(10):
                self.alive(lambda: world.repeat(post))

    def crash_point(self, name: str) -> None:
        """Die here, where the seed says so."""
        if self._crash and self._crash[0] == name:
            point, left = self._crash
            self._crash = (point, left - 1) if left else None
            if not left:
                self.trace.append(("died", name))
                raise Crash

    def alive(self, work: Callable[[], object]) -> None:
        """Work until the process dies; then another takes its place, and knows the ledger alone.
        SendGrid tells of what it has, as always.
        """
        try:
            work()
        except Crash:
            self.relay._made.clear()
            self.machine.oracle.learn()
            for sent in self.machine.providers.sent:
                if sent.taken and sent.channel == "email" and not sent.told:
                    self.relay.tell(sent, "processed")

    def posted(self, *given: Any) -> str:
        """The lab posts until it is answered."""
        try:
            return Relay.post(self.relay, *given)
        except Crash:
            return Relay.post(self.relay, *given)


def play(relay: Relay, now: Now, seed: int) -> str:
    """Run a seed; its hash."""
    with pytest.MonkeyPatch.context() as patch:
        relay._made.clear()
        relay.desk = relay.desk.application.test_client()
        run = Simulation(relay, now, seed)
        patch.setattr(fault_injection, "crash_point", run.crash_point)
        patch.setattr(relay, "post", run.posted)
        return run.run()


@contextmanager
def product() -> Iterator[tuple[Relay, Now]]:
    """Relay on an empty ledger in memory, without chance."""
    shm = Path("/dev/shm")  # noqa: S108 - a folder of its own in it
    with (
        tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("relay.jobs.backoff.random.uniform", lambda least, _most: least)
        patch.setattr("relay.ledger.views.daily_counts.keep", lambda *_: None)
        patch.setattr("relay.ledger.audit.carry_over", lambda *_: None)
        settings = Settings(
            database_url=f"sqlite:///{folder}/relay.db",
            webhook_secrets=(SECRET,),
            development=True,
            config=Path(folder) / "config.toml",
            admin_password="letmein",
            secret_key="tests",
        )
        db = Database(settings.database_url)
        migrate.upgrade(db)
        relay, now = Relay(settings, db, Path(folder) / "words"), Now()
        now.install(db, patch)
        yield relay, now
        db.close()


def seeds_until_found(relay: Relay, now: Now, name: str, first: int) -> int | None:
    """How many seeds it takes, from `first` on, until a planted fault is found."""
    with pytest.MonkeyPatch.context() as patch:
        FAULTS[name].plant(patch)
        for tried in range(FOUND_WITHIN):
            try:
                play(relay, now, first + tried)
            except AssertionError as error:
                if "broke" in str(error):
                    raise
                return tried + 1
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Play seeds, a line each; with --faults plant each fault and say how many seeds find it."""
    parser = argparse.ArgumentParser(prog="tests.stateful.simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3, help="for each fault")
    parser.add_argument("--faults", nargs="*", metavar="NAME", help="all, where none is named")
    told = parser.parse_args(arguments)
    began, broken = time.monotonic(), 0
    with product() as stage:
        if told.faults is not None:
            for name in told.faults or sorted(FAULTS):
                if FAULTS[name].database == "sqlite":
                    took = [
                        seeds_until_found(*stage, name, run * 10_000 + 1)
                        for run in range(told.runs)
                    ]
                    median = statistics.median(one or float("inf") for one in took)
                    print(f"{median:>6g}  {name}", flush=True)
                    broken += None in took
        else:
            for seed in range(told.first, told.first + told.seeds):
                try:
                    print(f"{seed:>6} {play(*stage, seed)}", flush=True)
                except AssertionError as error:
                    broken += 1
                    print(f"{seed:>6} BROKEN {error}", flush=True)
    print(f"{time.monotonic() - began:.0f} s, {broken} broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
