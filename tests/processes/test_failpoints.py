"""A process that dies at any point of the pipeline: the event still ends in exactly one message."""

from __future__ import annotations

import signal
import uuid
from typing import Any

import pytest
import urllib3

from relay.fault_injection import CRASH_POINTS
from relay.lab import samples
from relay.ledger.database import Database
from relay.ledger.schema import events
from tests.conftest import DATABASES
from tests.processes.harness import Processes, eventually
from tests.rows import messages, rows, unfinished
from tests.standins import ProviderStandIn, Reply, twilio_error

pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("ledger_url", DATABASES[-1:], indirect=True),
]
# One of each kind is in `make test`, the others in `make test-long`.
ALWAYS = ("intake.after-commit", "event.before-commit", "message.after-send")
EACH = [
    pytest.param(point, marks=() if point in ALWAYS else pytest.mark.long) for point in CRASH_POINTS
]
HASTE = "60"  # leases, looks and retries come in seconds


def delivered() -> dict[str, Any]:
    """An event whose rule sends one text, or else one email."""
    data = samples.webhook("order.delivered")["data"]
    return {"event": "order.delivered", "data": {**data, "order_id": str(uuid.uuid4())}}


def prepare(point: str, twilio: ProviderStandIn) -> None:
    """Let Twilio do what brings a message to a point that most do not pass."""
    stage = point.partition(".")[0]
    if stage == "lookup":
        twilio.lost.append(Reply(500, {"message": "Accepted, and lost."}))
    elif stage == "followup":
        twilio.once(twilio_error(400, 21211))


@pytest.mark.parametrize("point", EACH)
def test_a_crash_costs_no_message_and_sends_none_twice(
    point: str,
    processes: Processes,
    twilio: ProviderStandIn,
    sendgrid: ProviderStandIn,
    db: Database,
) -> None:
    """The process is killed there, started again, and the one message goes out once."""
    prepare(point, twilio)
    processes.environ |= {"RELAY_ENV": "development", "RELAY_HASTE": HASTE}
    in_web, body = point.startswith("intake."), delivered()
    plain = dict(processes.environ)
    if in_web:
        crash_web(processes, point, body)
    else:
        crash_worker(processes, point, body)
    processes.environ = plain
    processes.start("web" if in_web else "worker")
    if in_web:  # no 200: the lab posts again
        eventually(lambda: taken(processes, body))
    eventually(lambda: [row["status"] for row in messages(db)][-1:] == ["sent"], 60)
    assert [event["status"] for event in rows(db, events)] == ["processed"]
    assert unfinished(db) == 0
    assert len(twilio.accepted) + len(sendgrid.accepted) == 1


def crash_web(processes: Processes, point: str, body: Any) -> None:
    """Post to a web process that dies of it, and stop what gunicorn starts in its place."""
    processes.start("worker")
    processes.environ |= {"RELAY_CRASH_AT": point}
    web = processes.start("web")
    eventually(lambda: processes.ready("/healthz"))
    with pytest.raises(urllib3.exceptions.HTTPError):
        processes.post(body)
    web.send_signal(signal.SIGTERM)
    assert web.wait(30) == 0


def crash_worker(processes: Processes, point: str, body: Any) -> None:
    """Give a worker an event of which it dies."""
    processes.start("web")
    eventually(lambda: processes.ready("/healthz"))
    processes.environ |= {"RELAY_CRASH_AT": point}
    worker = processes.start("worker")
    assert processes.post(body).status == 200
    assert worker.wait(60) == -signal.SIGKILL


def taken(processes: Processes, body: Any) -> bool:
    """Whether a post is answered 200."""
    try:
        return processes.post(body).status == 200
    except urllib3.exceptions.HTTPError:
        return False
