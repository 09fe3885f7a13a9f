"""The lab and both providers with set latencies, in one process: `python -m tools.bench.standins`.

Prints its port; `GET /counts` tells how often each was called, how many connections were opened,
and when the last send came in.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from relay.dev import lab_simulator

LAB_SECONDS = 0.05
PROVIDER_SECONDS = 0.15


class StandIns:
    """Counts and answers."""

    def __init__(self, lab: float, provider: float) -> None:
        self.delays = {"lab": lab, "provider": provider}
        self.counts = {"lab": 0, "sms": 0, "email": 0, "connections": 0}
        self.arrivals: list[float] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, kept until the other side closes it."""
        counted = False
        try:
            while line := await reader.readline():
                method, path, _ = line.decode().split(" ", 2)
                if not counted and path not in ("/counts", "/reset"):
                    counted = True
                    self.counts["connections"] += 1
                length = 0
                while (header := await reader.readline()) not in (b"\r\n", b""):
                    name, _, value = header.partition(b":")
                    if name.lower() == b"content-length":
                        length = int(value)
                if length:
                    await reader.readexactly(length)
                writer.write(await self._answer(method, path))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, method: str, path: str) -> bytes:
        if path == "/counts":
            return _http(200, {**self.counts, "arrivals": self.arrivals[-2000:]})
        if path == "/reset":
            self.counts |= dict.fromkeys(self.counts, 0)
            self.arrivals.clear()
            return _http(200, {})
        if method == "GET":
            self.counts["lab"] += 1
            await asyncio.sleep(self.delays["lab"])
            return _http(200, _resource(path))
        self.arrivals.append(time.time())
        await asyncio.sleep(self.delays["provider"])
        if "Messages" in path:
            self.counts["sms"] += 1
            return _http(201, {"sid": f"SM{self.counts['sms']:032x}", "status": "queued"})
        self.counts["email"] += 1
        return _http(202, None, f"X-Message-Id: m{self.counts['email']}\r\n")


def _resource(path: str) -> Any:
    parts = path.strip("/").split("/")
    if parts[-1] == "lab_results":
        return []
    if parts[1] == "order":
        order = lab_simulator.order(parts[2])
        return {**order, "customer": {"id": order["customer_id"]}}  # so that there is a second call
    if parts[1] == "test_registration":
        return lab_simulator.registration(parts[2])
    return lab_simulator.person(parts[2])


def _http(status: int, body: Any, extra: str = "") -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    head = f"HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\n{extra}"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


async def main(lab: float, provider: float) -> None:
    """Serve until killed."""
    standins = StandIns(lab, provider)
    server = await asyncio.start_server(standins.serve, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    given = [float(value) for value in sys.argv[1:3]] or [LAB_SECONDS, PROVIDER_SECONDS]
    asyncio.run(main(*given))
