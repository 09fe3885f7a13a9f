"""Redis over TLS: a chain of its own making, as Heroku's, is trusted only when told to."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from relay import queue
from relay.config.settings import Settings
from relay.dev import redis_server
from tests.test_http_client_tls import tls
from tests.test_queue import until

__all__ = ["tls"]  # a fixture


@pytest.fixture
def self_signed(tls: object, tmp_path: Path) -> Iterator[str]:
    """The URL of a real Redis whose certificate nobody has signed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    files = ["--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem", "--tls-auth-clients", "no"]
    process = subprocess.Popen(
        [redis_server.server(), "--port", "0", "--tls-port", str(port), *files, "--save", ""],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
    )
    try:
        url = f"rediss://localhost:{port}/0"
        untrusting = redis.Redis.from_url(url, ssl_cert_reqs=None, ssl_check_hostname=False)
        until(lambda: process.poll() is not None or _answers(untrusting))
        if process.poll() is not None:
            pytest.skip("this Redis server was built without TLS")
        yield url
    finally:
        process.terminate()
        process.wait()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def test_a_self_signed_redis_is_trusted_only_when_told_to(
    self_signed: str, settings: Settings
) -> None:
    """REDIS_TLS_VERIFY=false takes Heroku's chain; the default refuses it."""
    strict = replace(settings, redis_url=self_signed)
    with pytest.raises(redis.ConnectionError, match="certificate"):
        queue.connect(strict, timeout=2).ping()
    assert queue.connect(replace(strict, redis_tls_verify=False), timeout=2).ping()
