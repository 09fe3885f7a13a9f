"""Redis over TLS: a chain of its own making, as Heroku's, is trusted only when told to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from relay import queue
from relay.config.settings import Settings
from tests.servers import TLS, answers, redis_with
from tests.test_http_client_tls import tls
from tests.test_queue import until
from tools.bench.servers import free_port

__all__ = ["tls"]  # a fixture


@pytest.fixture
def self_signed(tls: object, tmp_path: Path) -> Iterator[str]:
    """The URL of a real Redis whose certificate nobody has signed."""
    port = free_port()
    with redis_with(tmp_path, "--port", "0", "--tls-port", str(port), *TLS) as process:
        url = f"rediss://localhost:{port}/0"
        untrusting = redis.Redis.from_url(url, ssl_cert_reqs=None, ssl_check_hostname=False)
        until(lambda: process.poll() is not None or answers(untrusting))
        if process.poll() is not None:
            pytest.skip("this Redis server was built without TLS")
        yield url


def test_a_self_signed_redis_is_trusted_only_when_told_to(
    self_signed: str, settings: Settings
) -> None:
    """REDIS_TLS_VERIFY=false takes Heroku's chain; the default refuses it."""
    strict = replace(settings, redis_url=self_signed)
    with pytest.raises(redis.ConnectionError, match="certificate"):
        queue.connect(strict, timeout=2).ping()
    assert queue.connect(replace(strict, redis_tls_verify=False), timeout=2).ping()
