"""The web process's worker: who sends slowly, or nothing, keeps nobody else waiting."""

from __future__ import annotations

import json
import logging
import os
import selectors
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gunicorn.config import Config
from hypothesis import given
from hypothesis import strategies as st

from relay.config.settings import Settings
from relay.web import gathering_worker
from relay.web.callbacks import LARGEST_BATCH, MAIL_SIGNATURE, MAIL_TIMESTAMP
from relay.web.gathering_worker import Arriving, EndlessHead, GatheringWorker
from tests.conftest import SECRET
from tests.test_webhooks import SHIPPED

FORM = b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
CHUNKED = FORM + b"Transfer-Encoding: chunked\r\n\r\n"
SLOW = {
    "nothing": b"",
    "a head": FORM,
    "a body": FORM + b"Content-Length: 100\r\n\r\npassword=",
    "chunks": CHUNKED + b"5\r\npassw\r\n5\r\no",
    "chunks that look like the last": CHUNKED + b"6\r\n\r\n0\r\n\r\n",
    "trailers": CHUNKED + b"0\r\nX: y\r\n",
    "a second request": HEALTH + b"\r\n" + FORM + b"Content-Length: 100\r\n\r\n",
    "its farewell": HEALTH + b"Connection: close\r\n\r\n",
}
NO_HTTP = "This is not a valid HTTP request."
Knock = Callable[..., socket.socket]


@pytest.fixture
def ledger_url(tmp_path: Path, sqlite_template: Path) -> str:
    """One database is enough: it is the wire that is looked at."""
    return f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'relay.db')}"


@pytest.fixture
def knock(settings: Settings, make_client: Callable[[Settings], Any]) -> Iterator[Knock]:
    """A worker with a single thread; `knock(b"…")` opens a connection and sends so much."""
    app = make_client(replace(settings, sendgrid_webhook_public_key="x")).application
    listener = socket.create_server(("127.0.0.1", 0))
    config = Config()
    config.set("threads", 1)
    log: Any = logging.getLogger("tests.worker")
    log.access = log.debug
    worker = GatheringWorker(1, os.getppid(), [listener], None, 30, config, log)
    worker.wsgi, worker.poller = app, selectors.DefaultSelector()
    worker.tpool = worker.get_thread_pool()
    worker.method_queue.init()
    running = threading.Thread(target=worker.run)
    running.start()
    opened: list[socket.socket] = []

    def knock(sent: bytes = b"") -> socket.socket:
        opened.append(socket.create_connection(listener.getsockname(), timeout=30))
        opened[-1].sendall(sent)
        return opened[-1]

    yield knock
    for one in opened:
        one.close()
    worker.handle_exit(0, None)
    running.join()
    worker.tmp.close()


def post(body: bytes, *headers: str) -> bytes:
    """A post of the lab's."""
    shown = (f"Authorization: Bearer {SECRET}", f"Content-Length: {len(body)}", *headers)
    head = "\r\n".join(("POST /webhooks/lab HTTP/1.1", "Host: x", *shown))
    return f"{head}\r\n\r\n".encode() + body


def answer(connection: socket.socket) -> tuple[int, Any]:
    """Status and body of the next answer on a connection."""
    with connection.makefile("rb", buffering=0) as file:
        status, length = int(file.readline().split()[1]), 0
        while (line := file.readline().strip()) != b"":
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        body = file.read(length)
    return status, json.loads(body) if body.startswith(b"{") else body


@pytest.mark.parametrize("sent", SLOW.values(), ids=SLOW)
def test_the_labs_post_is_answered_whoever_else_is_slow(knock: Knock, sent: bytes) -> None:
    """With one thread and five clients that keep the rest of their requests to themselves."""
    for _ in range(5):
        knock(sent)
    assert answer(knock(post(SHIPPED)))[1]["status"] == "accepted"


@pytest.mark.parametrize("kind", [kind for kind in SLOW if kind != "a second request"])
def test_what_does_not_come_is_given_up(
    knock: Knock, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request has a deadline, head and body together, and a client that does not hang up too."""
    is_farewell = kind == "its farewell"
    limit = "LINGERS_SECONDS" if is_farewell else "ARRIVES_SECONDS"
    monkeypatch.setattr(gathering_worker, limit, 0.0)
    slow = knock(SLOW[kind])
    assert not is_farewell or answer(slow)[0] == 200
    assert slow.recv(1) == b""


def test_a_request_may_come_byte_by_byte(knock: Knock) -> None:
    """A slow line is no attack: within its time a request comes as it likes, and another after it
    on the same connection.
    """
    connection = knock()
    for byte in post(SHIPPED):
        connection.sendall(bytes((byte,)))
    assert answer(connection)[1]["status"] == "accepted"
    connection.sendall(post(SHIPPED) + HEALTH + b"\r\n")
    assert answer(connection)[1]["status"] == "duplicate"
    assert answer(connection) == (200, {"status": "ok"})


def test_a_client_that_asks_first_is_told_to_go_on(knock: Knock) -> None:
    """Curl sends no large body before it has heard 100."""
    head, _, body = post(SHIPPED, "Expect: 100-continue").partition(b"\r\n\r\n")
    connection = knock(head + b"\r\n\r\n")
    assert connection.recv(100) == gathering_worker.CONTINUE
    connection.sendall(body)
    assert connection.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 100"


@pytest.mark.parametrize("size", [b"-1", b"zz", b"", b"+5", b"0x5", b"5 5", b"\xff"])
@pytest.mark.parametrize("path", [b"/login", b"/webhooks/lab"])
def test_a_chunk_of_no_size_is_refused(knock: Knock, size: bytes, path: bytes) -> None:
    """400, with or without a secret, and not a fault of ours; so is a body that is cut off."""
    shown = b"\r\nAuthorization: Bearer " + SECRET.encode() + b"\r\nHost"
    head = CHUNKED.replace(b"/login", path).replace(b"\r\nHost", shown)
    assert answer(knock(head + size + b"\r\nhello\r\n0\r\n\r\n"))[0] == 400


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: %d\r\n\r\n" % (LARGEST_BATCH * 2),
        b"Content-Length: 99999999999999999999999\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nffffffff\r\n" + b"x" * (LARGEST_BATCH + 70_000),
    ],
)
def test_what_is_more_than_anybody_takes_is_not_waited_for(knock: Knock, body: bytes) -> None:
    """413, or 400 for a length that is none, while the client still has more to send."""
    shown = f"{MAIL_SIGNATURE}: x\r\n{MAIL_TIMESTAMP}: 1\r\n".encode()
    head = b"POST /callbacks/sendgrid HTTP/1.1\r\nHost: x\r\n" + shown
    assert answer(knock(head + body))[0] in (400, 413)
    assert answer(knock(post(SHIPPED)))[0] == 200


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"Authorization Bearer %s", 400),
        (b"Authorization: Bearer %s\x01", 400),
        (b"Expect: %s", 417),
        (b"Content-Length: %s", 400),
        (b"X: " + b"a" * 9_000 + b"%s", 431),
    ],
)
def test_what_is_no_http_is_not_said_again(
    knock: Knock, line: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A header that is malformed may be the one with the secret: neither the answer nor the log has
    it, nor the visitor's address.
    """
    connection = knock(
        b"POST /webhooks/lab/s3cret HTTP/1.1\r\nHost: x\r\n" + line % b"s3cret" + b"\r\n\r\n"
    )
    assert answer(connection) == (status, {"error": NO_HTTP, "status": "error"})
    assert "Request refused: " in caplog.text
    assert "s3cret" not in caplog.text
    assert "127.0.0.1" not in caplog.text


def test_whoever_keeps_us_waiting_for_longest_makes_room(
    knock: Knock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When requests that arrive take too much memory the oldest goes, and the lab's is taken."""
    monkeypatch.setattr(gathering_worker, "MOST_HELD", 1_000)
    oldest = knock(FORM + b"Content-Length: 2000\r\n\r\n" + b"x" * 1_500)
    knock(SLOW["a body"])
    assert answer(knock(post(SHIPPED)))[0] == 200
    assert oldest.recv(1) == b""


REQUESTS = [
    post(SHIPPED),
    HEALTH + b"\r\n",
    CHUNKED + b"5;a=b\r\nhello\r\n1\r\n \r\n0\r\n\r\n",
    CHUNKED + b"0\r\nX: y\r\n\r\n",
    FORM + b"content-length :  3  \r\n\r\nabc",
]


@given(request=st.sampled_from(REQUESTS), cuts=st.sets(st.integers(1, 300)))
def test_a_request_is_whole_with_its_last_byte(request: bytes, cuts: set[int]) -> None:
    """However it is cut up it is whole when all of it is there, and not before."""
    arriving = Arriving()
    ends = [*sorted(cut for cut in cuts if cut < len(request)), len(request)]
    for begins, end in zip([0, *ends], ends, strict=False):
        arriving.data += request[begins:end]
        assert arriving.is_whole() == (end == len(request))


def test_a_head_without_an_end_is_given_up() -> None:
    """Before it takes much memory, and each byte is looked at once."""
    arriving = Arriving(HEALTH)
    while len(arriving.data) < gathering_worker.LARGEST_HEAD:
        assert not arriving.is_whole()
        arriving.data += b"X-Header: more\r\n"
    with pytest.raises(EndlessHead):
        arriving.is_whole()
