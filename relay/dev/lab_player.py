"""Posts events as the lab does: duplicates, any order, and its own retry schedule, compressed."""

from __future__ import annotations

import json
import random
import time
import uuid
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from relay.http_client import HttpClient, NoAnswer

# The lab's documented delays between attempts, in minutes.
RETRY_MINUTES = (0, 5, 10, 30, 60, 240, 720, 1440, 2160, 2880, 4320)

NO_ANSWER = "---"


@dataclass(frozen=True)
class Post:
    """An attempt to post an event. `status` is the HTTP status, or why there was none."""

    event: str
    status: str
    answer: str
    given_up: bool = False

    @property
    def taken(self) -> bool:
        """Whether the lab will not post it again: exactly 200."""
        return self.status == "200"


def script(
    bodies: Sequence[dict[str, Any]],
    *,
    times: int = 1,
    shuffle: bool = False,
    seed: int | None = None,
    new_kit: bool = False,
) -> list[dict[str, Any]]:
    """The bodies to post, in order."""
    made = [body for body in bodies for _ in range(times)]
    if shuffle:
        random.Random(seed).shuffle(made)  # noqa: S311 - an order, not a secret
    return with_new_ids(made) if new_kit else made


def with_new_ids(bodies: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """These events about another kit: each id becomes a new one everywhere."""
    text = json.dumps(bodies)
    old = {value for body in bodies for key, value in body["data"].items() if key.endswith("_id")}
    for id_ in sorted(old, key=len, reverse=True):
        text = text.replace(id_, str(uuid.uuid4()))
    renamed: list[dict[str, Any]] = json.loads(text)
    return renamed


def play(
    bodies: Sequence[dict[str, Any]], url: str, secret: str = "", *, speed: float = 3600.0
) -> Iterator[Post]:
    """Post each body until it is accepted, or the schedule is used up; yield every attempt."""
    wire = HttpClient(connections=1)
    headers = {"Content-Type": "application/json", "User-Agent": "relay-simulator"}
    if secret:
        headers["Authorization"] = "Basic " + b64encode(f"lab:{secret}".encode()).decode()
    for body in bodies:
        for number, minutes in enumerate(RETRY_MINUTES, 1):
            time.sleep(minutes * 60 / speed)
            post = post_event(wire, url, headers, body, last=number == len(RETRY_MINUTES))
            yield post
            if post.taken:
                break


def post_event(
    wire: HttpClient, url: str, headers: dict[str, str], body: dict[str, Any], *, last: bool
) -> Post:
    """Post an event to the webhook; return the answer, or that there was none."""
    try:
        answer = wire.send("POST", url, headers, json.dumps(body).encode())
    except NoAnswer as error:
        return Post(body["event"], NO_ANSWER, str(error), given_up=last)
    words = " ".join(answer.body.decode("utf-8", "replace").split())[:200]
    return Post(body["event"], str(answer.status), words, given_up=last and answer.status != 200)
