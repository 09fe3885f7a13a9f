"""A small load generator: kept connections, prepared requests, every latency kept.

A process of its own (`python -m tools.bench.load`): it shares no interpreter with anybody.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Measured:
    """What a burst of requests came to. Latencies in ms."""

    requests: int
    seconds: float
    failed: int
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


def bodies(count: int) -> Iterator[bytes]:
    """`count` different order.shipped events."""
    for _ in range(count):
        id_ = str(uuid.uuid4())
        url = f"https://api.londonmedicallaboratory.com/api/order/{id_}"
        yield json.dumps({"event": "order.shipped", "data": {"order_id": id_, "url": url}}).encode()


def request(path: str, port: int, secret: str, body: bytes) -> bytes:
    """A whole POST, ready for the socket."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {secret}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _client(port: int, posts: list[bytes], latencies: list[float], failed: list[int]) -> None:
    connection = socket.create_connection(("127.0.0.1", port), 30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for post in posts:
        started = time.perf_counter()
        connection.sendall(post)
        answer = connection.recv(65536)
        while b"\r\n\r\n" not in answer or not _whole(answer):
            more = connection.recv(65536)
            if not more:
                break
            answer += more
        latencies.append((time.perf_counter() - started) * 1000)
        if not answer.startswith(b"HTTP/1.1 200"):
            failed.append(1)
        if b"close" in answer[:400].lower().split(b"connection:", 1)[-1][:8]:
            connection.close()
            connection = socket.create_connection(("127.0.0.1", port), 30)
    connection.close()


def _whole(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return len(body) >= int(line.split(b":", 1)[1])
    return True


def run(port: int, count: int, clients: int, secret: str) -> Measured:
    """`count` posts by `clients` at once."""
    posts = [request("/webhooks/lab", port, secret, body) for body in bodies(count)]
    latencies: list[float] = []
    failed: list[int] = []
    threads = [
        threading.Thread(target=_client, args=(port, posts[n::clients], latencies, failed))
        for n in range(clients)
    ]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    latencies.sort()
    p50, p99 = (latencies[int(len(latencies) * part)] for part in (0.5, 0.99))
    return Measured(count, seconds, len(failed), p50, p99)


if __name__ == "__main__":
    port, count, clients, secret = sys.argv[1:5]
    print(json.dumps(asdict(run(int(port), int(count), int(clients), secret))))
