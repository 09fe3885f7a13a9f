"""The lab's part: every kit's steps, in any order, some twice, each posted until it is taken."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tools.chaos.kits import ROLES, STEPS, Kit
from tools.chaos.stage import Stage

POSTERS = 24
GIVE_UP_SECONDS = 300.0
SPREAD_SECONDS = 8.0  # from a kit's first step to its last


@dataclass(frozen=True, order=True)
class Post:
    """One webhook of the lab's, at its time; `together` of the same at once."""

    at: float
    kit: int
    step: str
    by_code: bool = False
    together: int = 1


@dataclass(frozen=True)
class Stop:
    """A person who wants no more texts, from this moment on."""

    number: str
    at: float


class Lab:
    """Posts, and keeps what was answered 200."""

    def __init__(self, stage: Stage, seed: int, kits: int, seconds: float):
        self._stage = stage
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._started = 0.0
        self.posts = sorted(post for number in range(kits) for post in self._posts(number, seconds))
        self.stopping = sorted(
            (self._random.uniform(0, seconds), Kit(number).phone(self._random.choice(ROLES)))
            for number in range(kits)
            if self._random.random() < 0.04
        )
        self.answers: Counter[int] = Counter()
        self.taken: dict[str, tuple[int, str]] = {}  # an event's id → kit and step
        self.stops: list[Stop] = []
        self.given_up: list[Post] = []

    def _posts(self, number: int, seconds: float) -> list[Post]:
        """A kit's five steps: half of the kits in order, half in any."""
        begins = self._random.uniform(0, max(1.0, seconds - SPREAD_SECONDS))
        times = sorted(begins + self._random.uniform(0, SPREAD_SECONDS) for _ in STEPS)
        if self._random.random() < 0.5:
            self._random.shuffle(times)
        made = []
        for at, step in zip(times, STEPS, strict=True):
            together = 10 if self._random.random() < 0.02 else 1
            made.append(Post(at, number, step, together=together))
            if self._random.random() < 0.1:
                later = at + self._random.uniform(0, 3)
                made.append(Post(later, number, step, by_code=self._random.random() < 0.5))
        return made

    def play(self) -> None:
        """Post everything at its time. Returns when all is taken."""
        self._started = time.monotonic()
        with ThreadPoolExecutor(POSTERS) as pool, ThreadPoolExecutor(1) as phones:
            phones.submit(self._stop_texts)
            for post in self.posts:
                time.sleep(max(0.0, self._started + post.at - time.monotonic()))
                for _ in range(post.together):
                    pool.submit(self._post, post)

    def _post(self, post: Post) -> None:
        body = Kit(post.kit).body(post.step, by_code=post.by_code)
        ends = time.monotonic() + GIVE_UP_SECONDS
        while time.monotonic() < ends:
            status, id_ = self._stage.post(json.dumps(body).encode())
            with self._lock:
                self.answers[status] += 1
                if status == 200:
                    self.taken[id_] = (post.kit, post.step)
                    return
            time.sleep(0.5)
        self.given_up.append(post)

    def _stop_texts(self) -> None:
        for at, number in self.stopping:
            time.sleep(max(0.0, self._started + at - time.monotonic()))
            while self._stage.text_in(number, "STOP") != 200:
                time.sleep(0.5)
            self.stops.append(Stop(number, time.time()))
