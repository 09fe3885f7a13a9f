"""A Redis that has a password, and a certificate that nobody has signed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis

from tests.processes.harness import eventually
from tests.servers import TLS, answers, redis_with, write_certificate
from tools.bench.servers import free_port

PASSWORD = "right-password"


@contextmanager
def guarded() -> Iterator[tuple[int, int]]:
    """Its ports: in the clear, and over TLS."""
    plain, tls = free_port(), free_port()
    ports = ("--port", str(plain), "--tls-port", str(tls))
    with tempfile.TemporaryDirectory(prefix="relay-reports-") as made:
        folder = Path(made)
        write_certificate(folder)
        with redis_with(folder, *ports, "--requirepass", PASSWORD, *TLS):
            eventually(lambda: answers(Redis(port=plain, password=PASSWORD)))
            yield plain, tls
