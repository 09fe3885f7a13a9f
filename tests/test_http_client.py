"""One way out for every HTTP call: what counts as an answer, and what surely was not sent."""

from __future__ import annotations

import queue
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from relay import http_client
from relay.http_client import LARGEST_ANSWER, Answer, HttpClient, NoAnswer, TooLate, within
from tests.rows import at_once
from tests.standins import RawServer, Reply, StandIn

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"


@pytest.fixture
def other() -> Iterator[StandIn]:
    """The other side."""
    with StandIn() as standin:
        yield standin


def ask(url: str, deadline: float = 5) -> Answer:
    """What a GET with a secret brings."""
    return HttpClient(deadline=deadline).send("GET", url, {"Authorization": "Bearer secret"})


def test_an_answer_is_whole(other: StandIn) -> None:
    """Status, headers and body come back as they were sent, and the request as it was given."""
    other.always(Reply(201, b"\x00words", {"X-Message-Id": "1"}))
    sent = {"Authorization": "Bearer secret", "Content-Type": "text/plain"}
    answer = HttpClient().send("POST", f"{other.url}/a%2Fb?c=d", sent, b"body")
    assert (answer.status, answer.body, answer.headers["x-message-id"]) == (201, b"\x00words", "1")
    (request,) = other.requests
    assert (request.method, request.path, request.body) == ("POST", "/a%2Fb?c=d", b"body")
    assert sent.items() <= request.headers.items()


@pytest.mark.parametrize("status", [204, 301, 302, 303, 307, 308, 401, 404, 429, 500, 503])
def test_every_status_is_an_answer(other: StandIn, status: int) -> None:
    """No status raises, and none is tried again or followed here: the caller decides."""
    other.always(Reply(status, headers={"Location": f"{other.url}/elsewhere"}))
    assert ask(f"{other.url}/first").status == status
    assert [request.path for request in other.requests] == ["/first"]


class Clock:
    """A clock that stands still until a thread is frozen."""

    def __init__(self, patch: pytest.MonkeyPatch):
        self.now = 100.0
        patch.setattr(http_client, "awake", lambda: self.now)


@pytest.mark.parametrize("body", [None, b"body"])
def test_a_thread_that_was_frozen_for_too_long_asks_nothing(
    other: StandIn, monkeypatch: pytest.MonkeyPatch, body: bytes | None
) -> None:
    """Past its time no request is made, on a new connection or a kept one; later ones are."""
    clock, calls = Clock(monkeypatch), HttpClient()
    other.always(Reply(200))
    for path in ("/new", "/kept"):
        with within(60):
            clock.now += 61
            with pytest.raises(TooLate):
                calls.send("POST", other.url + path, {}, body)
        assert calls.send("POST", f"{other.url}/later", {}, body).status == 200
    assert [request.path for request in other.requests] == ["/later"] * 2


def test_a_request_is_not_made_whole_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frozen while connecting, or between a request's head and its body, a thread leaves it at
    that: without its body nobody takes it for a request.
    """
    came: queue.Queue[bytes] = queue.Queue()

    def keep(connection: socket.socket) -> None:
        whole = b""
        while part := connection.recv(65536):
            whole += part
        came.put(whole)

    with RawServer(keep) as server:
        for looks in (1, 2):  # at the clock, before it is frozen
            told = iter([100.0] * looks)
            monkeypatch.setattr(http_client, "awake", lambda told=told: next(told, 161.0))
            with within(60), pytest.raises(TooLate):
                HttpClient().send("POST", server.url, {}, b"body")
            assert came.get(timeout=10) == b""  # behind its head, if that came


def test_connections_are_kept() -> None:
    """Calls one after the other share a connection."""
    ports: set[int] = set()
    calls = HttpClient(connections=4)
    with RawServer(lambda connection: _keep_answering(connection, ports)) as server:
        for _ in range(20):
            assert calls.send("GET", server.url, {}).body == b"ok"
    assert len(ports) == 1


def _keep_answering(connection: socket.socket, ports: set[int]) -> None:
    ports.add(connection.getpeername()[1])
    while True:
        connection.sendall(HEAD + b"Content-Length: 2\r\n\r\nok")
        if not connection.recv(65536):
            return


def test_threads_get_their_own_answers(other: StandIn) -> None:
    """Many threads on one pool never read each other's answer, also beyond the pool's size."""
    other.answers.append(lambda request: Reply(200, request.path.encode()))
    calls = HttpClient(connections=2)

    def work(number: int) -> list[bytes]:
        return [calls.send("GET", f"{other.url}/{number}-{n}", {}).body for n in range(10)]

    assert at_once(work, 8) == [[f"/{n}-{m}".encode() for m in range(10)] for n in range(8)]


def test_a_chunked_answer_is_read() -> None:
    """An answer of unknown length is whole once its last chunk has come."""

    def serve(connection: socket.socket) -> None:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for chunk in (b"one ", b"two"):
            connection.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        connection.sendall(b"0\r\n\r\n")

    with RawServer(serve) as server:
        assert ask(server.url).body == b"one two"


def hang_up(connection: socket.socket) -> None:
    """Say nothing."""


def garbage(connection: socket.socket) -> None:
    """Speak something else."""
    connection.sendall(b"220 mail.example.org ESMTP\r\n\r\n")


def cut_short(connection: socket.socket) -> None:
    """Announce more than is sent."""
    connection.sendall(HEAD + b"Content-Length: 100\r\n\r\nok")


def cut_chunk(connection: socket.socket) -> None:
    """Stop within a chunk."""
    connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n10\r\nok")


def huge(connection: socket.socket) -> None:
    """Never end."""
    connection.sendall(HEAD + b"\r\n")
    while True:
        connection.sendall(b"x" * 65536)


def too_long(connection: socket.socket) -> None:
    """Send just one byte more than is taken."""
    size = LARGEST_ANSWER + 1
    connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % size + b"x" * size)


def dripping(connection: socket.socket) -> None:
    """Send a byte now and then."""
    connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\n")
    while True:
        connection.sendall(b"x")
        time.sleep(0.05)


def silent(connection: socket.socket) -> None:
    """Wait for the other side to give up."""
    connection.recv(1)


def dripping_head(connection: socket.socket) -> None:
    """Send the head a byte now and then, for a while."""
    for byte in HEAD:
        connection.sendall(bytes([byte]))
        time.sleep(0.02)
    connection.sendall(b"Content-Length: 0\r\n\r\n")


@pytest.mark.parametrize(
    "serve",
    [hang_up, garbage, cut_short, cut_chunk, huge, too_long, dripping, silent],
    ids=lambda serve: serve.__name__,
)
def test_what_is_no_answer_may_have_been_taken(serve: Callable[[socket.socket], None]) -> None:
    """Once the request has gone out, whatever goes wrong leaves open whether it was taken."""
    with RawServer(serve) as server, pytest.raises(NoAnswer) as caught:
        ask(f"{server.url}/+447700900001", deadline=0.5)
    assert caught.value.sent
    assert "447700900001" not in str(caught.value)


def test_a_head_that_drips_past_the_deadline_is_no_answer() -> None:
    """The deadline is a whole call's: status line and headers are within it too (fault 31)."""
    with RawServer(dripping_head) as server, pytest.raises(NoAnswer):
        ask(server.url, deadline=0.3)


def test_the_largest_answer_is_taken() -> None:
    """The limit itself is still an answer."""

    def serve(connection: socket.socket) -> None:
        head = b"Content-Length: %d\r\n\r\n" % LARGEST_ANSWER
        connection.sendall(HEAD + head + b"x" * LARGEST_ANSWER)

    with RawServer(serve) as server:
        assert len(ask(server.url).body) == LARGEST_ANSWER


@pytest.mark.parametrize("host", ["127.0.0.1:1", "no-such-host.invalid"])
def test_what_never_left_was_not_sent(host: str) -> None:
    """A refused connection or a name that nobody knows is surely not sent, and told without URL."""
    with pytest.raises(NoAnswer) as caught:
        ask(f"http://{host}/+447700900001")
    assert not caught.value.sent
    assert "447700900001" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        *((bad, None) for bad in ("", "soon", "-5", "1.5", "²", "99 Foo 99999 07:28:00 GMT")),
        ("Wed, 21 Oct 2015 07:28:00 +99999999999999999999", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, expected: float | None) -> None:
    """Seconds, or a date that has passed; anything else is as if it was not there."""
    assert Answer(429, {"Retry-After": value}, b"").retry_after == expected


def test_retry_after_may_be_a_date_to_come() -> None:
    """A date is as many seconds from now as there are until then."""
    date = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    assert Answer(429, {"Retry-After": date}, b"").retry_after == pytest.approx(3600, abs=60)
