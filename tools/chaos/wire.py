"""HTTP by hand, for stand-ins that have to break it: asyncio, kept connections, odd answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

HANG_SECONDS = 12.0  # longer than Relay waits for an answer


@dataclass(frozen=True)
class Request:
    """A request as it came."""

    method: str
    target: str
    body: bytes

    @property
    def path(self) -> str:
        """The path alone."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """The target's query."""
        return {key: values[0] for key, values in parse_qs(urlsplit(self.target).query).items()}

    @property
    def form(self) -> dict[str, str]:
        """A form's fields."""
        return {key: values[0] for key, values in parse_qs(self.body.decode()).items()}


@dataclass(frozen=True)
class Reply:
    """An answer. `how` it is given: whole, `hang` (not at all), `drip` or `hang-up`."""

    status: int = 200
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)
    how: str = ""
    after: float = 0.0

    def raw(self) -> bytes:
        """All of it."""
        content = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        lines = [f"HTTP/1.1 {self.status} Answer", "Content-Type: application/json"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.status != 204:
            lines.append(f"Content-Length: {len(content)}")
        return "\r\n".join([*lines, "", ""]).encode() + content


Answer = Callable[[Request], Awaitable[Reply]]


class Door:
    """A server at one port, which may be shut and opened again at the same one."""

    def __init__(self, answer: Answer):
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def open(self) -> None:
        """Take connections."""
        if self._server is None:
            self._server = await asyncio.start_server(
                self._serve, "127.0.0.1", self.port, backlog=512
            )
            self.port = self._server.sockets[0].getsockname()[1]

    def shut(self) -> None:
        """Refuse connections, and drop those that there are."""
        if self._server:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError, RuntimeError):
            while request := await _read(reader):
                if not await _write(writer, await self._answer(request)):
                    break
        self._writers.discard(writer)
        writer.close()


async def _read(reader: asyncio.StreamReader) -> Request | None:
    if not (line := await reader.readline()):
        return None
    method, target, _ = line.decode().split(" ", 2)
    length = 0
    while (header := await reader.readline()) not in (b"\r\n", b""):
        name, _, value = header.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return Request(method, target, await reader.readexactly(length))


async def _write(writer: asyncio.StreamWriter, reply: Reply) -> bool:
    """Answer; whether the connection is still good."""
    await asyncio.sleep(reply.after)
    if reply.how == "hang-up":
        return False
    if reply.how == "hang":
        await asyncio.sleep(HANG_SECONDS)
        return False
    if reply.how == "drip":
        for byte in reply.raw()[:30]:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(HANG_SECONDS / 30)
        return False
    writer.write(reply.raw())
    await writer.drain()
    return True


async def post(url: str, body: bytes, headers: dict[str, str], seconds: float = 15.0) -> int:
    """Post something; the answer's status, 0 where there is none."""
    parts = urlsplit(url)
    lines = [f"POST {parts.path}{'?' * bool(parts.query)}{parts.query} HTTP/1.1"]
    lines += [f"Host: {parts.netloc}", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer = None
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            line = await reader.readline()
            return int(line.split()[1]) if line else 0
    except (OSError, TimeoutError):
        return 0
    finally:
        if writer:
            writer.close()
