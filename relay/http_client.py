"""The one client for all HTTP calls: kept connections, timeouts, no redirects, no surprises."""

from __future__ import annotations

import http.client
import io
import math
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any

import certifi
import urllib3
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import port_by_scheme
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
    SSLError,
)
from urllib3.util import parse_url

from relay.errors import RelayError

LARGEST_ANSWER = 1 << 20


@dataclass(frozen=True)
class Answer:
    """A complete response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait before another try, if the other side says so."""
        value = self.headers.get("Retry-After", "").strip()
        if value.isascii() and value.isdigit():
            return float(value)
        try:
            return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
        except (ValueError, OverflowError):
            return None


class TooLate(RelayError):
    """The time for writing a request is over: it was certainly not made."""


_ends: ContextVar[float] = ContextVar("ends", default=math.inf)
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # Linux's other clock stops in sleep


def awake() -> float:
    """Seconds by a clock that also runs while this process, or the whole machine, is suspended."""
    return time.clock_gettime(_CLOCK)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Give this thread so many seconds from now to finish writing its requests: after that they
    raise TooLate.
    """
    token = _ends.set(awake() + seconds)
    try:
        yield
    finally:
        _ends.reset(token)


class InTime(http.client.HTTPConnection):
    """A connection that looks at the clock before each write: the last write completes a request,
    and connecting may have taken long.
    """

    def send(self, data: Any) -> None:
        """Write a part of a request. Raises TooLate if the time is over."""
        if self.sock is None:
            self.connect()
        if awake() > _ends.get():
            raise TooLate("it came too late to be sent")
        super().send(data)


class NoAnswer(RelayError):
    """No readable answer. `sent` is False if the request certainly never reached the other side."""

    def __init__(self, reason: str, *, sent: bool):
        super().__init__(reason)
        self.sent = sent


class _Raw(io.RawIOBase):
    """A socket's data until a deadline: it cuts off a server that sends its answer in drips."""

    def __init__(self, inner: io.RawIOBase, sock: socket.socket, seconds: float):
        self._inner = inner
        self._socket = sock
        self._ends = time.monotonic() + seconds
        self._patience = sock.gettimeout()

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read what has arrived. Raises TimeoutError at the deadline."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer came too slowly")
        self._socket.settimeout(left)
        return self._inner.readinto(buffer)

    def close(self) -> None:
        """Close the inner stream, and give the socket its timeout back, since it may be kept."""
        with suppress(OSError):
            self._socket.settimeout(self._patience)
        self._inner.close()
        super().close()


def pools(deadline: float) -> dict[str, type[HTTPConnectionPool]]:
    """urllib3's pools, with one deadline in seconds for reading an answer's head and body."""

    class Response(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any):
            super().__init__(sock, *args, **kwargs)
            self.fp = io.BufferedReader(_Raw(self.fp.detach(), sock, deadline))

    class Plain(InTime, HTTPConnection):
        response_class = Response

    class Tls(InTime, HTTPSConnection):
        response_class = Response

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls = Tls

    return {"http": PlainPool, "https": TlsPool}


class HttpClient:
    """A thread-safe pool of connections. `deadline` is in seconds, for a whole answer."""

    def __init__(self, *, connections: int = 32, deadline: float = 10.0):
        self._pool = urllib3.PoolManager(
            num_pools=8,
            maxsize=connections,
            retries=False,
            timeout=urllib3.Timeout(connect=3.0, read=deadline),
            ssl_context=tls(),
        )
        self._pool.pool_classes_by_scheme = pools(deadline)

    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> Answer:
        """Make one request. Raises NoAnswer or TooLate. A redirect is returned like any answer."""
        try:
            response = self._pool.request(
                method, url, body=body, headers=headers, redirect=False, preload_content=False
            )
        except (ConnectTimeoutError, NewConnectionError, NameResolutionError) as error:
            raise NoAnswer(_reason(error), sent=False) from error
        except SSLError as error:  # TLS may also fail after the request has gone out
            untrusted = isinstance(error.args[0], ssl.SSLCertVerificationError)
            raise NoAnswer(_reason(error), sent=not untrusted) from error
        except HTTPError as error:
            raise NoAnswer(_reason(error), sent=True) from error
        try:
            return Answer(response.status, response.headers, self._body(response))
        except (HTTPError, OSError) as error:
            raise NoAnswer(_reason(error), sent=True) from error

    @staticmethod
    def _body(response: urllib3.BaseHTTPResponse) -> bytes:
        """The whole body. Raises NoAnswer if it is too long."""
        body = bytearray()
        while chunk := response.read1(65536, decode_content=False):
            body += chunk
            if len(body) > LARGEST_ANSWER:
                response.close()
                raise NoAnswer("the answer was too long", sent=True)
        response.release_conn()
        return bytes(body)


def origin(url: str) -> str:
    """Scheme, host and port of an http address as a client would use them; empty if it is not one,
    or has a password in it.
    """
    try:
        parts = parse_url(url)
    except LocationParseError:
        return ""
    if parts.scheme not in port_by_scheme or not parts.host or parts.auth or "\\" in url:
        return ""
    port = parts.port or port_by_scheme[parts.scheme]
    return f"{parts.scheme}://{parts.host}" + f":{port}" * (port != port_by_scheme[parts.scheme])


def _reason(error: Exception) -> str:
    """An error's kind, since its text may hold a URL with somebody's number in it."""
    return type(error).__name__


@cache
def tls() -> ssl.SSLContext:
    """A TLS context that trusts the system's certificates and certifi's."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context
