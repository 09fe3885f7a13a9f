"""Real servers for a bench run, in temporary folders: PostgreSQL, Redis, gunicorn, workers."""

from __future__ import annotations

import atexit
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
SECRET = "the-secret-of-the-bench"


def free_port() -> int:
    """A port for a server that is about to start.

    On Linux nobody else is given it until we end: it stays bound, and a bound socket that does not
    listen does not stop a server with SO_REUSEADDR from listening there.
    """
    probe = socket.socket()
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    probe.bind(("127.0.0.1", 0))
    port = int(probe.getsockname()[1])
    if sys.platform == "linux":
        atexit.register(probe.close)
    else:
        probe.close()
    return port


@contextmanager
def process(
    command: Sequence[str], environ: Mapping[str, str], quiet: bool = True, folder: Path = ROOT
) -> Iterator[subprocess.Popen[str]]:
    """A process of ours, stopped at the end."""
    sink = subprocess.DEVNULL if quiet else None
    started = subprocess.Popen(
        command,
        env={**os.environ, **environ},
        cwd=folder,
        stdout=subprocess.PIPE if not quiet else sink,
        stderr=sink,
        text=True,
        start_new_session=True,
    )
    try:
        yield started
    finally:
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()
        if started.stdout:
            started.stdout.close()


@contextmanager
def postgresql() -> Iterator[str]:
    """A fresh PostgreSQL; its URL. BENCH_DATABASE_URL names another."""
    if url := os.environ.get("BENCH_DATABASE_URL"):
        yield url
        return
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin")) or [
        str(Path(shutil.which("initdb") or "initdb").parent)
    ]
    binaries, port = Path(found[-1]), free_port()
    with tempfile.TemporaryDirectory(prefix="relay-bench-pg-") as folder:
        os.chmod(folder, 0o755)
        data = Path(folder, "data")
        data.mkdir(mode=0o700)
        as_user: list[str] = []
        if os.getuid() == 0:
            shutil.chown(data, "postgres")
            as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        subprocess.run(
            [*as_user, binaries / "initdb", "-D", data, "-A", "trust", "-U", "relay"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd="/",
        )
        server = subprocess.Popen(
            [
                *as_user,
                binaries / "postgres",
                "-D",
                data,
                "-p",
                str(port),
                "-k",
                data,
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "shared_buffers=256MB",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )
        try:
            command = [binaries / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "relay"]
            for _ in range(100):
                made = subprocess.run([*command, "relay"], stderr=subprocess.DEVNULL, check=False)
                if made.returncode == 0:
                    break
                time.sleep(0.1)
            yield f"postgresql://relay@127.0.0.1:{port}/relay"
        finally:
            server.send_signal(signal.SIGINT)
            server.wait()


@contextmanager
def standins(lab: float, provider: float) -> Iterator[str]:
    """The lab and the providers; their URL."""
    command = [sys.executable, "-m", "tools.bench.standins", str(lab), str(provider)]
    with process(command, {}, quiet=False) as started:
        assert started.stdout
        yield f"http://127.0.0.1:{started.stdout.readline().strip()}"


def get(url: str) -> Any:
    """A JSON answer."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.loads(answer.read())


def await_http(url: str, seconds: float = 30) -> float:
    """Seconds until `url` answers 200."""
    started = time.perf_counter()
    while True:
        try:
            get(url)
            return time.perf_counter() - started
        except OSError:
            if time.perf_counter() - started > seconds:
                raise
            time.sleep(0.01)


def gunicorn(app: str, environ: Mapping[str, str], port: int, folder: Path = ROOT) -> Any:
    """The web process as the Procfile starts it."""
    command = [sys.executable, "-m", "gunicorn", app]
    return process(command, {**environ, "PORT": str(port)}, folder=folder)


def worker(environ: Mapping[str, str], folder: Path = ROOT) -> Any:
    """The worker as the Procfile starts it."""
    return process([sys.executable, "-m", "relay.worker"], environ, folder=folder)


def memory_mib(pid: int, what: str = "VmHWM") -> float:
    """Resident memory of a process, in MiB: the most there was, or VmRSS as it is now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) / 1024
    return 0.0
