"""gunicorn's threaded worker, changed to get a request only when all of it has arrived.

gunicorn reads a request in the thread that answers it, and lingers in its main loop over each
connection that it ends: a few clients that send slowly, or nothing, or do not hang up, can keep
the lab's posts waiting for as long as they like. Here the poller waits in both cases: it has no
threads to lose, and it gives up in time.
"""

from __future__ import annotations

import re
import selectors
import socket
import struct
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any

from gunicorn.http import errors, get_parser
from gunicorn.http.errors import ParseException
from gunicorn.workers.gthread import TConn, ThreadWorker

from relay.web.callbacks import LARGEST_BATCH

ARRIVES_SECONDS = 10.0  # from a request's first byte, or a connection's beginning, to its last
LINGERS_SECONDS = 2.0  # for a client to hang up after its answer
TAKES_SECONDS = 10  # for a client to take some of its answer
_READS_SECONDS = 1  # for anything that gunicorn reads after that
LARGEST_HEAD = 64 * 1024
LARGEST = LARGEST_BATCH + LARGEST_HEAD  # any more is cut off, and the reader refuses it
_PATIENCE = {socket.SO_SNDTIMEO: TAKES_SECONDS, socket.SO_RCVTIMEO: _READS_SECONDS}
MOST_HELD = 16 * LARGEST  # bytes, of all requests that are arriving

_OURS = (errors.InvalidResponseHeader, errors.InvalidResponseHeaderName)
_STATUSES = {
    errors.LimitRequestLine: HTTPStatus(414),  # it has another name before Python 3.13
    errors.LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    errors.ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
    errors.UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,
}
_CHUNKED = re.compile(rb"^transfer-encoding[ \t]*:", re.I | re.M)
_LENGTH = re.compile(rb"^content-length[ \t]*:[ \t]*0*(\d+)[ \t]*\r$", re.I | re.M)
_WAITS = re.compile(rb"^expect[ \t]*:[ \t]*100-continue[ \t]*\r$", re.I | re.M)
_CHUNK = re.compile(rb"[0-9a-fA-F]{1,15}")
_LONGEST_CHUNK_LINE = 8192
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class EndlessHead(Exception):
    """The head is longer than Relay reads."""


class Arriving:
    """The part of a request that has arrived, scanned once: sending byte by byte costs no more."""

    def __init__(self, data: bytes = b""):
        self.data = bytearray(data)
        self.waits = False  # for our "100 Continue", before it sends its body
        self._has_head = False
        self._seen = 0  # where to go on looking: for the head's end, later for the next chunk
        self._ends: int | None = None  # the end of a body whose length is known

    def is_whole(self) -> bool:
        """Whether all that would be read has arrived; also true of anything that is not a request,
        which gunicorn refuses. Raises EndlessHead.
        """
        if not self._has_head and not self._find_head():
            return False
        if self.is_cut:
            return True
        return self._has_chunks() if self._ends is None else len(self.data) >= self._ends

    @property
    def is_cut(self) -> bool:
        """Whether it is longer than Relay accepts."""
        return len(self.data) >= LARGEST or (self._ends or 0) > LARGEST

    def _find_head(self) -> bool:
        end = self.data.find(b"\r\n\r\n", max(0, self._seen - 3), LARGEST_HEAD)
        if end < 0:
            if len(self.data) >= LARGEST_HEAD:
                raise EndlessHead
            self._seen = len(self.data)
            return False
        head, self._seen, self._has_head = self.data[: end + 2], end + 4, True
        self.waits = bool(_WAITS.search(head))
        if not _CHUNKED.search(head):
            length = _LENGTH.search(head)
            self._ends = self._seen + (int(length[1][:18]) if length else 0)
        return True

    def _has_chunks(self) -> bool:
        """Whether all chunks are there, or a bad one, which gunicorn refuses. Scans each once."""
        data = self.data
        while self._seen < len(data):
            line = data.find(b"\r\n", self._seen, self._seen + _LONGEST_CHUNK_LINE)
            if line < 0:
                return len(data) - self._seen > _LONGEST_CHUNK_LINE
            size = data[self._seen : line].partition(b";")[0].strip()
            if not _CHUNK.fullmatch(size):
                return True
            if not (length := int(size, 16)):  # the last one, and perhaps trailers
                return data.find(b"\r\n\r\n", line) >= 0
            if line + length + 4 > len(data):
                return False
            self._seen = line + length + 4
        return False


class GatheringWorker(ThreadWorker):  # type: ignore[misc]
    """The worker class that gunicorn.conf.py names."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._waiting: dict[TConn, float] = {}  # → until when; the oldest first
        self._held = 0  # bytes of requests that are arriving
        # A quarter stays free: gunicorn accepts no connection when all are taken.
        self.max_keepalived = self.worker_connections // 2
        self._comfortable = self.worker_connections * 3 // 4

    def enqueue_req(self, conn: TConn) -> None:
        """Gather a connection's next request, then have a thread answer it."""
        if self.cfg.is_ssl:  # we would read TLS here
            super().enqueue_req(conn)
            return
        if conn.parser is None:
            for option, seconds in _PATIENCE.items():
                conn.sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", seconds, 0))
            conn.parser, conn.data_ready = get_parser(self.cfg, conn.sock, conn.client), True
        conn.arriving = Arriving(conn.parser.unreader.take_buffered())
        self._held += len(conn.arriving.data)
        self._wait(conn, ARRIVES_SECONDS, self._gather)

    def finish_request(self, conn: TConn, done: Future[Any]) -> None:
        """After an answer, go on to the connection's next request, or end it."""
        is_over = done.cancelled() or not (done.exception() or done.result())
        if self.cfg.is_ssl or not is_over:
            super().finish_request(conn, done)
            return
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(conn)
        else:
            self._wait(conn, LINGERS_SECONDS, self._hear_out)

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """Tell client and log that it is not HTTP, but quote none of it: it may be a secret."""
        if not isinstance(exc, ParseException) or isinstance(exc, _OURS):
            super().handle_error(req, client, addr, exc)
            return
        status = next((code for kind, code in _STATUSES.items() if isinstance(exc, kind)), 400)
        self.log.warning("Request refused: %s", type(exc).__name__)
        body = b'{"error":"This is no HTTP that Relay can read.","status":"error"}\n'
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nConnection: close\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        with suppress(OSError):
            client.send(head.encode() + body)

    def murder_pending(self) -> None:
        """Close connections that have had long enough; gunicorn calls this each second."""
        now = time.monotonic()
        for conn in [one for one, until in self._waiting.items() if until < now]:
            self._drop(conn)

    def _gather(self, conn: TConn) -> None:
        arriving = conn.arriving
        if not arriving.is_whole():
            more = conn.sock.recv(LARGEST_HEAD)
            arriving.data += more
            self._held += len(more)
            if not more:
                self._drop(conn)
                return
            if not arriving.is_whole():
                if arriving.waits:
                    conn.sock.send(CONTINUE)
                    arriving.waits = False
                return
        if arriving.is_cut:  # the thread finds an end, and does not wait for more
            conn.sock.shutdown(socket.SHUT_RD)
        self._leave(conn)
        conn.parser.unreader.unread(bytes(arriving.data))
        super().enqueue_req(conn)

    def _hear_out(self, conn: TConn) -> None:
        if not conn.sock.recv(LARGEST_HEAD):
            self._drop(conn)

    def _wait(self, conn: TConn, seconds: float, look: Callable[[TConn], None]) -> None:
        """Look at a connection now, and whenever something arrives."""
        self._make_room()
        conn.sock.setblocking(False)
        self._waiting[conn] = time.monotonic() + seconds
        self._look(conn, look)
        if conn in self._waiting:
            look_again = partial(self._look, conn, look)
            self.poller.register(conn.sock, selectors.EVENT_READ, look_again)

    def _look(self, conn: TConn, look: Callable[[TConn], None], _socket: Any = None) -> None:
        try:
            look(conn)
        except BlockingIOError:
            pass  # nothing yet
        except (OSError, EndlessHead):
            self._drop(conn)

    def _make_room(self) -> None:
        """Drop the connections that have waited longest, before new ones are shut out."""
        while self._waiting and (self.nr_conns > self._comfortable or self._held > MOST_HELD):
            self._drop(next(iter(self._waiting)))

    def _leave(self, conn: TConn) -> None:
        del self._waiting[conn]
        with suppress(KeyError):  # it arrived whole
            self.poller.unregister(conn.sock)
        self._held -= len(conn.arriving.data) if conn.arriving else 0
        conn.arriving = None

    def _drop(self, conn: TConn) -> None:
        if conn in self._waiting:
            self._leave(conn)
        self.nr_conns -= 1
        conn.close()
