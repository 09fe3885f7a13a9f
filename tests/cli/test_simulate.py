"""`flask relay simulate`: plays the lab."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator

import pytest

from relay.dev import lab_player
from relay.lab import samples
from relay.lab.events import EVENTS
from tests.cli.conftest import Run
from tests.conftest import DATABASES, SECRET
from tests.standins import Reply, Request, StandIn

pytestmark = pytest.mark.parametrize("ledger_url", DATABASES[:1], indirect=True)

FAST = ("--speed", "100000000")  # the lab's eleven attempts in a hundredth of a second


@pytest.fixture
def relay_standin() -> Iterator[StandIn]:
    """A Relay that takes everything."""
    with StandIn() as standin:
        standin.answers.append(lambda _request: Reply(200, {"status": "accepted"}))
        yield standin


@pytest.fixture
def url(relay_standin: StandIn) -> str:
    """Where to post."""
    return f"{relay_standin.url}/webhooks/lab"


def posted(standin: StandIn) -> list[str]:
    """The events that came, in order."""
    return [request.json["event"] for request in standin.requests]


def test_it_posts_the_examples(relay: Run, relay_standin: StandIn, url: str) -> None:
    """All seven example payloads are posted as the lab posts them, with the secret."""
    result = relay("simulate", "--url", url)
    assert result.exit_code == 0
    assert [request.json for request in relay_standin.requests] == samples.webhooks()
    assert {request.path for request in relay_standin.requests} == {"/webhooks/lab"}
    for request in relay_standin.requests:
        assert request.headers["Content-Type"] == "application/json"
        scheme, _, coded = request.headers["Authorization"].partition(" ")
        assert (scheme, b64decode(coded).decode().partition(":")[2]) == ("Basic", SECRET)
    assert sorted(line.split()[1] for line in result.stdout.splitlines()) == sorted(EVENTS)


def test_this_machines_own_web_process_is_meant(relay: Run, relay_standin: StandIn) -> None:
    """Without `--url` it posts to the port that PORT names."""
    port = relay_standin.url.rpartition(":")[2]
    assert relay("simulate", "order.shipped", PORT=port).exit_code == 0
    assert posted(relay_standin) == ["order.shipped"]


def test_only_the_named_events_are_posted(relay: Run, relay_standin: StandIn, url: str) -> None:
    """`simulate A B` posts A and B."""
    relay("simulate", "order.shipped", "lab_results.complete", "--url", url)
    assert sorted(posted(relay_standin)) == ["lab_results.complete", "order.shipped"]


def test_duplicates_on_request(relay: Run, relay_standin: StandIn, url: str) -> None:
    """`--times 3` posts the very same body three times."""
    relay("simulate", "order.shipped", "--times", "3", "--url", url)
    assert len(relay_standin.requests) == 3
    assert len({request.body for request in relay_standin.requests}) == 1


def test_disorder_on_request(relay: Run, relay_standin: StandIn, url: str) -> None:
    """`--shuffle` posts in another order, and with the same `--seed` in the same one."""
    for _ in range(2):
        relay("simulate", "--shuffle", "--seed", "4", "--url", url)
    first, second = posted(relay_standin)[:7], posted(relay_standin)[7:]
    assert first == second
    assert first != [body["event"] for body in samples.webhooks()]
    assert sorted(first) == sorted(EVENTS)


def test_a_new_kit_is_no_duplicate(relay: Run, relay_standin: StandIn, url: str) -> None:
    """`--new-kit` gives new ids, the same one wherever the example has the same."""
    relay("simulate", "--new-kit", "--url", url)
    old, new = (
        [body["data"].get("testregistration_id") for body in bodies]
        for bodies in (samples.webhooks(), [r.json for r in relay_standin.requests])
    )
    assert not {id_ for id_ in old if id_} & {id_ for id_ in new if id_}
    assert len(set(old)) == len(set(new)) == len(set(zip(old, new, strict=True)))


@pytest.mark.parametrize("refusal", [503, 201, 302, 204, 401])
def test_what_is_not_taken_is_posted_again(
    relay: Run, relay_standin: StandIn, url: str, refusal: int
) -> None:
    """Anything but exactly 200 is posted again until it is 200."""
    replies = [Reply(refusal), Reply(refusal)]

    def answer(_request: Request) -> Reply | None:
        return replies.pop() if replies else None

    relay_standin.answers.insert(0, answer)
    result = relay("simulate", "order.shipped", "--url", url, *FAST)
    assert result.exit_code == 0
    shown = [line.split()[0] for line in result.stdout.splitlines()]
    assert shown == [str(refusal), str(refusal), "200"]
    assert len({request.body for request in relay_standin.requests}) == 1


def test_the_lab_gives_up_in_the_end(relay: Run, relay_standin: StandIn, url: str) -> None:
    """After the lab's last attempt the loss is told, with exit code 1."""
    relay_standin.always(Reply(503))
    result = relay("simulate", "order.shipped", "--url", url, *FAST)
    assert result.exit_code == 1
    assert len(relay_standin.requests) == len(lab_player.RETRY_MINUTES) == 11
    assert (
        result.stderr == "error: Relay did not accept 1 events, and the lab has given up on them.\n"
    )


def test_nobody_there_is_told(relay: Run) -> None:
    """Where no web process is up it says so at once, with what to do, and without the secret."""
    result = relay("simulate", "--url", "http://127.0.0.1:1/webhooks/lab/the-secret")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "error: nobody answers at http://127.0.0.1:1/webhooks/lab/[secret]." in result.stderr
    assert "make run" in result.stderr


def test_a_relay_that_goes_away_is_posted_to_again(
    relay: Run, relay_standin: StandIn, url: str
) -> None:
    """Once Relay has answered, a post without an answer is a line, and comes again."""
    replies = [Reply(hang_up=True), Reply(hang_up=True), Reply(200, {})]
    relay_standin.answers.insert(0, lambda _request: replies.pop() if replies else None)
    result = relay("simulate", "order.shipped", "order.delivered", "--url", url, *FAST)
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["200", "---", "---", "200"]


def test_an_unknown_event_is_refused(relay: Run, relay_standin: StandIn, url: str) -> None:
    """An event that the lab never sends is an error that offers the nearest; nothing is posted."""
    result = relay("simulate", "order.shiped", "--url", url)
    assert result.exit_code == 1
    assert 'order.shiped: there is no such event. Did you mean "order.shipped"?' in (result.stderr)
    assert relay_standin.requests == []


def test_what_is_printed_shows_the_answer(relay: Run, relay_standin: StandIn, url: str) -> None:
    """Each line has the status, the event and what Relay answered; the secret is not shown."""
    result = relay("simulate", "order.shipped", "--url", url)
    status, event, answer = result.stdout.split(maxsplit=2)
    assert (status, event, json.loads(answer)) == ("200", "order.shipped", {"status": "accepted"})
    assert SECRET not in result.output
