"""However often the lab posts and whatever happens to the queue: one message."""

from __future__ import annotations

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from relay.ledger.database import Database
from relay.ledger.views import activity
from relay.queue import PENDING, PENDING_SECONDS
from tests.conftest import DATABASES
from tests.processes.conftest import Statuses
from tests.processes.harness import Processes, RedisServer, eventually, order
from tests.rows import messages, unfinished
from tests.standins import ProviderStandIn

pytestmark = [
    pytest.mark.usefixtures("two_web_processes"),
    pytest.mark.slow,
    pytest.mark.parametrize("ledger_url", DATABASES[-1:], indirect=True),
]


def test_ten_identical_posts_at_once(
    running: Processes, db: Database, twilio: ProviderStandIn, sendgrid: ProviderStandIn
) -> None:
    """Ten identical posts in one moment give ten 200s, one event, one message a channel."""
    body, together = order(), Barrier(10)

    def post(_number: int) -> tuple[int, dict[str, str]]:
        together.wait()
        answer = running.post(body)
        return answer.status, json.loads(answer.data)

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(post, range(10)))
    assert [status for status, _ in answers] == [200] * 10
    words = sorted(told["status"] for _, told in answers)
    assert words == ["accepted"] + ["duplicate"] * 9
    assert len({told["id"] for _, told in answers}) == 1
    eventually(lambda: messages(db) and not unfinished(db))
    with db.read() as connection:
        events, _ = activity.posted(connection, activity.Wanted(), 50)
    assert [(event["id"], event["duplicates"]) for event in events] == [(answers[0][1]["id"], 9)]
    assert (len(twilio.accepted), len(sendgrid.accepted)) == (1, 1)
    assert (len(twilio.requests), len(sendgrid.requests)) == (1, 1)


@pytest.mark.parametrize(
    ("stop", "back", "seconds"),
    [(signal.SIGSTOP, signal.SIGCONT, 2), (signal.SIGKILL, None, 1)],
    ids=["hangs", "refuses"],
)
def test_a_lost_redis_is_not_the_labs_problem(
    running: Processes,
    queue: RedisServer,
    twilio: ProviderStandIn,
    texts: Statuses,
    stop: signal.Signals,
    back: signal.Signals | None,
    seconds: float,
) -> None:
    """With Redis hanging (refusing) a post is answered 200 within 2 s (1 s), and goes out later."""
    queue.signal(stop)
    for _ in range(5):  # each worker process of the web, and once it has noticed
        assert running.post(order(), timeout=seconds).status == 200
    if back:
        queue.signal(back)
    else:
        queue.start()
    eventually(lambda: texts() == ["sent"] * 5)
    assert len(twilio.accepted) == 5
    eventually(running.ready)
    assert running.post(order()).status == 200
    eventually(lambda: len(twilio.accepted) == 6)
    eventually(lambda: not queue.client.exists(PENDING), PENDING_SECONDS - 5)  # taken, not expired


def test_a_queue_that_loses_everything(
    running: Processes, queue: RedisServer, twilio: ProviderStandIn, texts: Statuses
) -> None:
    """FLUSHALL in mid-flow loses no message and sends none twice."""
    for number in range(30):
        assert running.post(order()).status == 200
        if number % 5 == 4:
            queue.client.flushall()
    eventually(lambda: texts() == ["sent"] * 30)
    assert len(twilio.requests) == 30
