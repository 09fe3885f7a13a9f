"""The servers of a run: PostgreSQL and Redis that may be killed, and the stand-ins' process."""

from __future__ import annotations

import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
import urllib3
from redis import Redis
from redis.exceptions import RedisError

from relay.dev import redis_server
from tools.bench.servers import ROOT, free_port

START_SECONDS = 30.0


class PostgreSQL:
    """A server of our own, which can be restarted on its data."""

    def __init__(self, folder: Path):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
        self._binaries = Path(found[-1] if found else Path(shutil.which("initdb") or "x").parent)
        self._data = folder / "data"
        self._port = free_port()
        self._as_user: list[str] = []
        self._data.mkdir(mode=0o700)
        if os.getuid() == 0:  # PostgreSQL does not run as root
            shutil.chown(self._data, "postgres")
            self._as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        initdb = [*self._as_user, str(self._binaries / "initdb"), "-D", str(self._data)]
        subprocess.run(
            [*initdb, "-A", "trust", "-U", "relay"], check=True, stdout=subprocess.DEVNULL, cwd="/"
        )
        self.url = self._url("relay")
        self.start()
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE relay")

    def _url(self, database: str) -> str:
        return f"postgresql://relay@127.0.0.1:{self._port}/{database}"

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        data = str(self._data)
        command = [*self._as_user, str(self._binaries / "postgres"), "-D", data]
        command += ["-p", str(self._port), "-k", data, "-c", "listen_addresses=127.0.0.1"]
        # A killed process loses nothing of what the system has: no need to wait for the disk.
        command += ["-c", "max_connections=60", "-c", "fsync=off"]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
        )
        ends = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(self._url("postgres"), connect_timeout=2).close()
                return
            except psycopg.Error:
                if time.monotonic() > ends:
                    raise
                time.sleep(0.05)

    def stop(self) -> None:
        """Stop it as `pg_ctl -m immediate` does: what is not committed is lost."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait()

    def close(self) -> None:
        """Stop it for good."""
        self.stop()


class RedisServer:
    """A Redis of our own on a socket, that keeps nothing, as small plans do."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._socket = folder / "redis.sock"
        self.url = f"unix://{self._socket}"
        self.client = Redis.from_url(self.url, socket_timeout=2)
        self.start()

    def start(self) -> None:
        """Start it, empty."""
        self._socket.unlink(missing_ok=True)
        command = [redis_server.server(), "--port", "0", "--unixsocket", str(self._socket)]
        command += ["--save", "", "--dir", str(self._folder)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while not self._socket.exists():
            time.sleep(0.01)

    def signal(self, number: signal.Signals) -> None:
        """Freeze it, wake it, or kill it."""
        self._process.send_signal(number)
        if number == signal.SIGKILL:
            self._process.wait()

    def kept(self) -> str:
        """Every key with its value; empty while it does not answer."""
        read: dict[bytes, Any] = {
            b"string": self.client.get,
            b"list": lambda key: self.client.lrange(key, 0, -1),
            b"set": self.client.smembers,
            b"zset": lambda key: self.client.zrange(key, 0, -1, withscores=True),
            b"hash": self.client.hgetall,
            b"stream": self.client.xrange,
        }
        try:
            kinds = {key: self.client.type(key) for key in self.client.keys("*")}
            return "\n".join(f"{k!r}: {read[t](k)}" for k, t in kinds.items() if t in read)
        except (RedisError, OSError):
            return ""

    def close(self) -> None:
        """Stop it, frozen or not."""
        self.client.close()
        self._process.kill()
        self._process.wait()


class StandInProcess:
    """The stand-ins, and how they are told what to break."""

    def __init__(self, seed: int, told: dict[str, str], output: Path):
        with output.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tools.chaos.standins", str(seed)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(told).encode() + b"\n")
        self._process.stdin.flush()
        ports = json.loads(self._process.stdout.readline())
        self.urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        self._http = urllib3.PoolManager(retries=False, timeout=30)

    def mode(self, service: str, faults: dict[str, float]) -> None:
        """Say how likely a request to a service meets which fault. `refuse` shuts its door."""
        body = json.dumps({service: faults}).encode()
        self._http.request("POST", f"{self.urls['control']}/mode", body=body)

    def change(self, told: list[tuple[str, dict[str, Any]]]) -> None:
        """Let the lab's API say other things from now on, by path and fields."""
        body = json.dumps(told).encode()
        self._http.request("POST", f"{self.urls['control']}/change", body=body)

    def report(self) -> dict[str, Any]:
        """What they accepted, refused and told."""
        found: dict[str, Any] = self._http.request("GET", f"{self.urls['control']}/report").json()
        return found

    def close(self) -> None:
        """Stop them."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
