"""TLS that breaks: before the request nothing was sent, after it nobody knows."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest

from relay import http_client
from relay.http_client import HttpClient, NoAnswer
from tests.servers import CERTIFICATE, KEY, write_certificate


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS with a certificate of its own making, and that certificate."""
    write_certificate(tmp_path)
    path, key_path = tmp_path / CERTIFICATE, tmp_path / KEY
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key_path)
    return context, path


@pytest.mark.parametrize("is_trusted", [False, True])
def test_tls_that_breaks_before_the_request_was_not_sent(
    tls: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch, is_trusted: bool
) -> None:
    """An unknown certificate stops the request; an error after the request leaves it open."""
    context, certificate = tls
    got: list[bytes] = []
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    http_client.tls.cache_clear()
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=_serve_tls, args=(listening, context, got))
    thread.start()
    with pytest.raises(NoAnswer) as caught:
        HttpClient().send("GET", f"https://localhost:{listening.getsockname()[1]}/", {})
    thread.join(10)
    listening.close()
    http_client.tls.cache_clear()
    assert caught.value.sent is is_trusted
    assert bool(got) is is_trusted


def _serve_tls(listening: socket.socket, context: ssl.SSLContext, got: list[bytes]) -> None:
    """Shake hands, read the request, and then answer what is not TLS."""
    plain, _ = listening.accept()
    with plain:
        try:
            secure = context.wrap_socket(plain, server_side=True)
        except OSError:
            return
        got.append(secure.recv(65536))
        with socket.socket(fileno=secure.detach()) as raw:
            raw.sendall(b"\x17\x03\x03\x00\x20" + b"x" * 32)
            raw.recv(65536)
