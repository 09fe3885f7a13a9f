"""Canaries: what is about a person, or secret, stands in no log and nowhere in Redis."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import pytest
from redis import Redis, RedisError

from relay.ledger.database import Database
from tests.conftest import DATABASES, SECRET
from tests.processes.harness import Processes, RedisServer, eventually, order
from tests.rows import messages, unfinished
from tests.standins import LabStandIn, ProviderStandIn, Reply, twilio_error

pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("ledger_url", DATABASES[-1:], indirect=True),
]
PERSON = {
    "first_name": "Canarina",
    "last_name": "Kanarek",
    "email": "canary.bird@example.com",
    "phone_number": "+447700900123",
}
CANARIES = (
    "Canarina",
    "Kanarek",
    "canary.bird",
    "7700900123",
    "7700 900123",
    "Canary Wharf",
    "1987-06-05",
    "lab-desk@example.org",
)
SECRETS = (SECRET, "lab-token", "twilio-token", "SG.key", "c2VjcmV0", "wrong-canary-secret")
BAD_BODIES = (
    b"Canarina Kanarek, canary.bird@example.com",
    b'{"event": "order.shipped", "data": {"order_id": "", "Kanarek": "Canarina"}}',
    b'{"event": "order.shipped", "data": {"order_id": "canary.bird@example.com/+447700900123"}}',
    b'{"event": "order.shipped", "event": "Canarina", "data": {}}',
    b'{"Kanarek": "+447700900123"}',
    b"\xff Canarina",
)


class Watched(threading.Thread):
    """All that is said to a Redis, by MONITOR."""

    def __init__(self, url: str):
        super().__init__(daemon=True)
        self.said: list[str] = []
        self._client = Redis.from_url(url)
        self.ready = threading.Event()

    def run(self) -> None:
        """Listen until Redis ends."""
        try:
            with self._client.monitor() as monitor:
                self.ready.set()
                for command in monitor.listen():
                    self.said.append(command["command"])
        except RedisError:
            self._client.close()


@pytest.fixture
def watched(queue: RedisServer) -> Iterator[Watched]:
    """Redis, listened to from the start."""
    listener = Watched(queue.url)
    listener.start()
    listener.ready.wait(10)
    yield listener
    queue.close()
    listener.join(10)


def kept(client: Any) -> str:
    """Every key of a Redis with its value, whatever its type."""
    read = {
        b"string": client.get,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"hash": client.hgetall,
        b"stream": client.xrange,
    }
    return "\n".join(f"{key}: {read[client.type(key)](key)}" for key in client.keys("*"))


def canary_order(lab: LabStandIn, number: int) -> dict[str, Any]:
    """An order of the canary's; every field that may be about a person has one in it."""
    body = order()
    lab.change(
        "order",
        body["data"]["order_id"],
        customer={"id": f"c{number}", **PERSON},
        address={"line_1": "1 Canary Wharf", "name": "Canarina Kanarek"},
    )
    return body


def found(text: str) -> list[str]:
    """The canaries and secrets that stand in a text."""
    return [word for word in (*CANARIES, *SECRETS) if word in text]


def test_no_canary_is_logged_or_queued(
    processes: Processes,
    watched: Watched,
    queue: RedisServer,
    lab: LabStandIn,
    twilio: ProviderStandIn,
    sendgrid: ProviderStandIn,
    db: Database,
) -> None:
    """At DEBUG, with the access log on, through every kind of failure: no person and no secret."""
    processes.environ |= {"LOG_LEVEL": "DEBUG", "GUNICORN_CMD_ARGS": "--access-logfile -"}
    said = f"The number {PERSON['phone_number']} of {PERSON['last_name']} is wrong."
    twilio.once(
        Reply(400, {"code": 21211, "message": said, "status": 400}),
        Reply(500, {"m": said}),
        Reply(hang_up=True),
        twilio_error(429, 20429),
        Reply(201, said.encode()),
    )
    wrong = {"errors": [{"message": said, "field": PERSON["email"]}]}
    sendgrid.once(Reply(400, wrong), Reply(500, wrong), Reply(hang_up=True), Reply(202, b"{"))
    processes.start("web")
    processes.start("worker")
    eventually(processes.ready)
    for number in range(8):
        path = f"/webhooks/lab/{SECRET}" if number % 2 else "/webhooks/lab"
        body = canary_order(lab, number)
        if number == 7:
            lab.resources[f"/api/order/{body['data']['order_id']}"] = Reply(500, {"m": said})
        assert processes.post(body, path).status == 200
    for body in BAD_BODIES:
        for path in ("/webhooks/lab", f"/webhooks/lab/{SECRET}"):
            assert processes.post(body, path).status in (400, 422)
    assert processes.post({"event": "Canarina.Kanarek", "data": PERSON}).status == 200
    unknown = processes.post(order(), "/webhooks/lab/wrong-canary-secret", Authorization="")
    assert unknown.status == 401
    eventually(lambda: len(messages(db)) == 15 and "event put back" in processes.output())
    eventually(lambda: {"sent", "unknown", "permanent-failure"} == statuses(db))
    eventually(lambda: any("rq:queue:relay" in command for command in watched.said))
    assert found(processes.output()) == []
    assert "/webhooks/lab/[secret]" in processes.output()
    assert found("\n".join(watched.said)) == []
    assert found(kept(queue.client)) == []
    delivered = b"".join(r.body for r in (*twilio.requests, *sendgrid.requests)).decode()
    assert "Canarina" in delivered
    assert "canary.bird" in delivered
    assert "7700900123" in delivered
    processes.close()
    assert found(processes.output()) == []


def statuses(db: Database) -> set[str]:
    """The statuses that notifications have now."""
    return {row["status"] for row in messages(db)}


def test_no_access_log_prints_the_path_secret(processes: Processes) -> None:
    """However the path is written and whatever format is asked for: no secret, and JSON."""
    more = '--access-logformat "%(r)s %(U)s %(q)s %(f)s %({path_info}e)s"'
    processes.environ |= {"GUNICORN_CMD_ARGS": f"--access-logfile - {more}"}
    processes.start("web")
    eventually(lambda: processes.ready("/healthz"))
    paths = [
        f"/webhooks/lab/{SECRET}",
        f"/webhooks/lab/{SECRET}/",
        f"//webhooks/lab/{SECRET}",
        f"/webhooks/lab/{SECRET}?again={SECRET}",
        f"/webhooks/lab%2F{SECRET}",
        f"/%77ebhooks/lab/{SECRET}",
        f"/webhooks//lab/{SECRET}",
        f"/{SECRET}",
        f"/webhooks/lab/{SECRET.replace('-', '%2D')}",
        f"/x?{SECRET.replace('-', '%2D')}",
    ]
    for path in paths:
        referer = f"https://lab.example/webhooks/lab/{SECRET}"
        assert processes.post(order(), path, Referer=referer).status in (200, 401, 404, 405), path
    eventually(lambda: len(access_lines(processes)) == len(paths))
    assert SECRET not in unquote(processes.output())


def access_lines(processes: Processes) -> list[dict[str, Any]]:
    """The access log's lines, but for those of our own asking. All that is printed is JSON."""
    lines = [json.loads(line) for line in processes.output().splitlines()]
    return [li for li in lines if li["event"] == "request" and li["path"] != "/healthz"]


def test_json_logs(running: Processes, db: Database) -> None:
    """In a pipe every line that web and worker print is a JSON object with a level and a time."""
    assert running.post(order()).status == 200
    eventually(lambda: messages(db) and not unfinished(db))
    running.close()
    lines = [json.loads(line) for line in running.output().splitlines()]
    assert all({"event", "level", "timestamp"} <= set(line) for line in lines)
    assert {"webhook accepted", "event processed", "message sent"} <= {li["event"] for li in lines}
