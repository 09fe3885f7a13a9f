"""The lab's part: what its API says changes, and it posts; each post until it is taken."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tools.chaos.kits import Thing
from tools.chaos.scenarios import Change, Family, Post, families
from tools.chaos.stage import Stage

POSTERS = 24
GIVE_UP_SECONDS = 300.0


@dataclass(frozen=True)
class Stop:
    """A person who wants no more texts, from this moment on."""

    number: str
    at: float


@dataclass(frozen=True)
class Said:
    """What the lab's API said of something, from this moment on."""

    at: float
    path: str
    fields: dict[str, Any]


class Lab:
    """Posts, and keeps what was answered 200; changes what the API says, and keeps when."""

    def __init__(self, stage: Stage, seed: int, kits: int, seconds: float):
        self._stage = stage
        self._lock = threading.Lock()
        self._started = 0.0
        self.families: list[Family] = families(seed, kits, seconds)
        self.posts = [post for family in self.families for post in family.posts]
        self._changes = [change for family in self.families for change in family.changes]
        draw = random.Random(seed)
        people = sorted(
            {order.customer for family in self.families for order in family.orders}
            | {
                kit.patient
                for family in self.families
                for kits in family.orders.values()
                for kit in kits
            }
        )
        self.numbers = [person.phone for person in people]
        self.stopping = sorted(
            (draw.uniform(0, seconds), person.phone) for person in people if draw.random() < 0.02
        )
        self.answers: Counter[int] = Counter()
        self.taken: dict[str, Post] = {}  # by an event's id
        self.begun: dict[tuple[str, Thing | None], float] = {}  # since when a step is posted
        self.said: list[Said] = []
        self.stops: list[Stop] = []
        self.given_up: list[Post] = []

    def play(self) -> None:
        """Let everything happen at its time. Returns when all is taken."""
        self._say([change for change in self._changes if not change.at])
        self._started = time.monotonic()
        later = [change for change in self._changes if change.at]
        moments: list[Post | Change] = [*later, *self.posts]
        with ThreadPoolExecutor(POSTERS) as pool, ThreadPoolExecutor(1) as phones:
            phones.submit(self._stop_texts)
            for moment in sorted(moments, key=lambda moment: moment.at):
                time.sleep(max(0.0, self._started + moment.at - time.monotonic()))
                if isinstance(moment, Change):
                    self._say([moment])
                    continue
                for _ in range(moment.together):
                    pool.submit(self._post, moment)

    def post_again(self, posts: Iterable[Post]) -> None:
        """Post something once more, now."""
        for post in posts:
            self._post(post)

    def _say(self, changes: Iterable[Change]) -> None:
        """Let the API say something else from now on; it is said when the stand-in has answered."""
        told = [(change.path, change.fields) for change in changes]
        at = time.time()
        self._stage.standins.change(told)
        self.said += [Said(at, path, fields) for path, fields in told]

    def _post(self, post: Post) -> None:
        content = json.dumps({"event": post.step, "data": post.data}).encode()
        with self._lock:
            self.begun.setdefault((post.step, post.thing), time.time())
        ends = time.monotonic() + GIVE_UP_SECONDS
        while time.monotonic() < ends:
            status, id_ = self._stage.post(content)
            with self._lock:
                self.answers[status] += 1
                if status == 200:
                    self.taken.setdefault(id_, post)
                    return
            time.sleep(0.5)
        self.given_up.append(post)

    def _stop_texts(self) -> None:
        for at, number in self.stopping:
            time.sleep(max(0.0, self._started + at - time.monotonic()))
            while self._stage.text_in(number, "STOP") != 200:
                time.sleep(0.5)
            self.stops.append(Stop(number, time.time()))
