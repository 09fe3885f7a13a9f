"""A Redis that has a password, and a certificate that nobody has signed."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from relay.dev import redis_server
from tools.bench.servers import free_port
from tools.reports.stage import eventually

PASSWORD = "right-password"


@contextmanager
def guarded() -> Iterator[tuple[int, int]]:
    """Its ports: in the clear, and over TLS."""
    plain, tls = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="relay-reports-") as folder:
        write_certificate(Path(folder))
        words = ["--port", str(plain), "--tls-port", str(tls), "--requirepass", PASSWORD]
        files = ["--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem"]
        command = [redis_server.server(), *words, *files, "--tls-auth-clients", "no", "--save", ""]
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
        try:
            eventually(lambda: answers(plain))
            yield plain, tls
        finally:
            process.terminate()
            process.wait()


def answers(port: int) -> bool:
    """Whether the server listens by now."""
    with redis.Redis(port=port, password=PASSWORD) as client:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False


def write_certificate(folder: Path) -> None:
    """Write cert.pem and key.pem, for localhost, by itself."""
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
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(secret)
