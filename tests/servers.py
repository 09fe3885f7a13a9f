"""A real Redis or PgBouncer with settings of its own, and a certificate that nobody has signed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis import Redis, RedisError

from relay.dev import redis_server
from tests.processes.harness import eventually
from tools.bench.servers import free_port

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


PGBOUNCER = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
_POOLING = """
[databases]
relay = {server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
max_client_conn = 500
pool_mode = transaction
default_pool_size = {sessions}
{more}
"""


@contextmanager
def pgbouncer(url: str, sessions: int, more: str = "") -> Iterator[str]:
    """The address of a ledger through a PgBouncer of its own, which keeps so many `sessions`."""
    found, port = sa.make_url(url), free_port()
    parts = {"host": found.host, "port": found.port, "dbname": found.database}
    parts |= {"user": found.username, "password": found.password}
    server = " ".join(f"{name}={value}" for name, value in parts.items() if value)
    if os.getuid() == 0:
        more += "user = nobody\n"  # it refuses to be root
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pgbouncer.ini")
        written = _POOLING.format(server=server, port=port, sessions=sessions, more=more)
        path.write_text(written, "utf-8")
        process = subprocess.Popen([str(PGBOUNCER), "-q", str(path)])
        through = f"postgresql://relay@127.0.0.1:{port}/relay"
        try:
            eventually(lambda: _selects(through))
            yield through.replace("postgresql://", "postgresql+psycopg://")
        finally:
            process.terminate()
            process.wait()


def _selects(url: str) -> bool:
    try:
        with psycopg.connect(url) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.Error:
        return False


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
