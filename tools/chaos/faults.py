"""Everything that is broken or changed in a run, drawn from shuffled decks; each undoes itself."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import psycopg

from relay.fault_injection import CRASH_POINTS
from tools.chaos.edits import Edits
from tools.chaos.stage import WEB, WORKERS, Stage
from tools.chaos.standins import ACCEPTED, LAB, LAB_FAULTS, REFUSED, SENDGRID, TWILIO

CRASH_SECONDS = 6.0  # a failpoint that nothing passes within it is left
ALWAYS = {  # a little of everything, all the time
    LAB: dict.fromkeys(LAB_FAULTS, 0.003),
    TWILIO: dict.fromkeys((*ACCEPTED, *REFUSED[TWILIO]), 0.003),
    SENDGRID: dict.fromkeys((*ACCEPTED, *REFUSED[SENDGRID]), 0.003),
}
NO_FAULTS: dict[str, dict[str, float]] = {LAB: {}, TWILIO: {}, SENDGRID: {}}


class Faults:
    """Three decks: what is done to processes and servers, what the outside world does, and what is
    done to config.toml.
    """

    def __init__(self, stage: Stage, seed: int):
        self._stage = stage
        self._random = random.Random(seed)
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self.now: dict[str, str] = {}
        self.drawn: list[str] = []
        self.broken: list[str] = []

    def _inside(self) -> dict[str, Callable[[], None]]:
        return {
            "a worker killed": self._kill_one,
            "both workers killed": self._kill_both,
            "a gunicorn worker killed": self._kill_child,
            "web killed": self._kill_web,
            "SIGTERM to a worker": self._stop_one,
            "SIGTERM to all": self._stop_all,
            "Redis frozen": self._freeze_redis,
            "Redis killed": self._kill_redis,
            "Redis emptied": self._empty_redis,
            "PostgreSQL restarted": self._restart_postgresql,
            "PostgreSQL away": lambda: self._restart_postgresql(4.0),
            "events locked": lambda: self._lock("events"),
            "notifications locked": lambda: self._lock("notifications"),
            "PostgreSQL full": self._take_connections,
            **{f"crash at {point}": self._crashing(point) for point in CRASH_POINTS},
        }

    def _outside(self) -> dict[str, Callable[[], None]]:
        made: dict[str, Callable[[], None]] = {}
        for service, faults in (
            (LAB, (*LAB_FAULTS, "refuse")),
            (TWILIO, (*ACCEPTED, *REFUSED[TWILIO], "refuse")),
            (SENDGRID, (*ACCEPTED, *REFUSED[SENDGRID], "refuse")),
        ):
            for fault in faults:
                made[f"{service} {fault}"] = self._breaking(service, fault)
        return made

    def start(self) -> None:
        """Begin to break things."""
        for service, faults in ALWAYS.items():
            self._stage.standins.mode(service, faults)
        edits = Edits(self._stage.config_file, self._random, self._pause)
        decks = {"inside": self._inside(), "outside": self._outside(), "edits": edits.deck()}
        for name, deck in decks.items():
            drawn = random.Random(self._random.random())
            thread = threading.Thread(target=self._run, args=(name, deck, drawn), daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Break nothing more: what is broken now is mended."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        for service, faults in NO_FAULTS.items():
            self._stage.standins.mode(service, faults)
        self._stage.await_web()

    def _run(self, name: str, deck: dict[str, Callable[[], None]], drawn: random.Random) -> None:
        for fault in _forever(list(deck), drawn):
            if self._stopping.wait(drawn.uniform(0.2, 1.5)):
                return
            self.now[name] = fault
            self.drawn.append(fault)
            try:
                deck[fault]()
            except Exception as error:
                self.broken.append(f"{fault}: {type(error).__name__}: {error}")
            self.now[name] = ""

    def _pause(self, least: float, most: float) -> None:
        self._stopping.wait(self._random.uniform(least, most))

    def _kill_one(self) -> None:
        name = self._random.choice(WORKERS)
        self._stage.kill(name)
        self._pause(0.0, 2.0)
        self._stage.start(name)

    def _kill_both(self) -> None:
        for name in WORKERS:
            self._stage.kill(name)
        self._pause(0.0, 3.0)
        for name in WORKERS:
            self._stage.start(name)

    def _kill_child(self) -> None:
        self._stage.kill_child(WEB, self._random.randrange(4))

    def _kill_web(self) -> None:
        self._stage.kill(WEB)
        self._pause(0.0, 2.0)
        self._stage.start(WEB)
        self._stage.await_web()

    def _stop_one(self) -> None:
        name = self._random.choice(WORKERS)
        self._stage.terminate(name)
        self._stage.start(name)

    def _stop_all(self) -> None:
        self._stage.terminate(WEB, *WORKERS)
        for name in (WEB, *WORKERS):
            self._stage.start(name)
        self._stage.await_web()

    def _freeze_redis(self) -> None:
        self._stage.redis.signal(signal.SIGSTOP)
        self._pause(1.0, 4.0)
        self._stage.redis.signal(signal.SIGCONT)

    def _kill_redis(self) -> None:
        self._stage.redis.signal(signal.SIGKILL)
        self._pause(0.0, 4.0)
        self._stage.redis.start()

    def _empty_redis(self) -> None:
        for _ in range(5):
            self._stage.redis.client.flushall()
            self._pause(0.0, 0.5)

    def _restart_postgresql(self, most: float = 0.0) -> None:
        self._stage.postgresql.stop()
        self._pause(0.0, most)
        self._stage.postgresql.start()

    def _lock(self, table: str) -> None:
        with psycopg.connect(self._stage.postgresql.url) as connection:
            connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            self._pause(1.0, 4.0)

    def _take_connections(self) -> None:
        """Take every connection there is, and end some of Relay's, so that it needs new ones."""
        taken: list[psycopg.Connection] = []
        try:
            self._take(taken)
            if taken:
                taken[0].execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'relay' AND random() < 0.3"
                )
            self._take(taken)
            self._pause(1.0, 3.0)
        finally:
            for connection in taken:
                connection.close()

    def _take(self, taken: list[psycopg.Connection]) -> None:
        with suppress(psycopg.Error):
            while len(taken) < 80:
                taken.append(psycopg.connect(self._stage.postgresql.url, connect_timeout=2))

    def _crashing(self, point: str) -> Callable[[], None]:
        """A process is started that dies at a point; then it is started without."""
        in_web = point.startswith("intake.")

        def crash() -> None:
            names = (WEB,) if in_web else WORKERS
            for name in names:
                self._stage.kill(name)
            self._stage.start(names[0], RELAY_CRASH_AT=point)
            if in_web:
                self._pause(2.0, 3.0)  # gunicorn starts its children again, and they die again
            ends = time.monotonic() + CRASH_SECONDS
            while not in_web and self._stage.is_running(names[0]) and time.monotonic() < ends:
                time.sleep(0.05)
            for name in names:
                self._stage.start_anew(name)
            if in_web:
                self._stage.await_web()

        return crash

    def _breaking(self, service: str, fault: str) -> Callable[[], None]:
        """A service answers most requests in one wrong way for a while."""

        def break_() -> None:
            self._stage.standins.mode(service, {fault: self._random.choice((0.5, 0.9, 1.0))})
            self._pause(1.0, 4.0)
            self._stage.standins.mode(service, ALWAYS[service])

        return break_


def _forever(deck: list[str], drawn: random.Random) -> Iterator[str]:
    """Every card of a deck once, shuffled, again and again."""
    while True:
        drawn.shuffle(deck)
        yield from deck
