"""A real Redis with settings of its own, and a certificate that nobody has signed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis import Redis, RedisError

from relay.dev import redis_server

CERTIFICATE, KEY = "cert.pem", "key.pem"
TLS = ("--tls-cert-file", CERTIFICATE, "--tls-key-file", KEY, "--tls-auth-clients", "no")


@contextmanager
def redis_with(folder: Path, *settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Redis that is starting in a folder, and keeps nothing there."""
    command = [redis_server.server(), *settings, "--save", ""]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def answers(client: Redis) -> bool:
    """Whether a Redis listens by now, and lets this client in."""
    try:
        return bool(client.ping())
    except RedisError:
        return False


def write_certificate(folder: Path) -> None:
    """Write a certificate for localhost, signed by itself, and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(*form, serialization.NoEncryption())
    (folder / CERTIFICATE).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / KEY).write_bytes(secret)
