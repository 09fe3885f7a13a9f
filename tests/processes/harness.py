"""Starts and stops what the Procfile names, and a Redis that may be frozen or killed."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import urllib3
from redis import ConnectionError, Redis

from relay.dev import redis_server
from relay.lab import samples
from tests.conftest import ROOT, SECRET
from tools.bench.servers import free_port

T = TypeVar("T")
PROCFILE = dict(
    line.split(": ", 1) for line in (ROOT / "Procfile").read_text("utf-8").splitlines() if line
)


def eventually(found: Callable[[], T], seconds: float = 30.0) -> T:
    """What `found` gives, as soon as it is true; asked often, for `seconds` at most."""
    ends = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < ends, f"never came true: last {value!r}"
        time.sleep(0.02)
    return value


def order(id_: str = "") -> dict[str, Any]:
    """The lab's order.shipped about one kit, a new one by default."""
    data = samples.webhook("order.shipped")["data"]
    return {"event": "order.shipped", "data": {**data, "order_id": id_ or str(uuid.uuid4())}}


class RedisServer:
    """A Redis of one's own on a socket, that keeps nothing, as small plans do."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="relay-test-redis-")  # a socket's path is short
        self._socket = Path(self._folder, "redis.sock")
        self.url = f"unix://{self._socket}"
        self.client = Redis.from_url(self.url)
        self.start()

    def start(self) -> None:
        """Start it, empty."""
        self._socket.unlink(missing_ok=True)
        options = ["--port", "0", "--unixsocket", str(self._socket), "--save", ""]
        self._process = subprocess.Popen(
            [redis_server.server(), *options, "--dir", self._folder], stdout=subprocess.DEVNULL
        )
        eventually(self._listens)

    def _listens(self) -> bool:
        try:
            return bool(self.client.ping())
        except ConnectionError:
            return False

    def signal(self, number: signal.Signals) -> None:
        """Freeze it, wake it, or kill it."""
        self._process.send_signal(number)
        if number == signal.SIGKILL:
            self._process.wait()

    def close(self) -> None:
        """Stop it, frozen or not."""
        self.client.close()
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


class Processes:
    """Web and workers as the Procfile starts them, on one environment, from the code in `root`."""

    def __init__(self, environ: Mapping[str, str], folder: Path, root: Path = ROOT):
        bin_ = str(Path(sys.executable).parent)
        self.port = free_port()
        self.environ = {
            **{"PATH": f"{bin_}:{os.environ['PATH']}", "HOME": str(folder)},
            **{"PORT": str(self.port), "WEB_CONCURRENCY": "1", **environ},
        }
        self._folder = folder
        self.root = root
        self._all: list[subprocess.Popen[bytes]] = []
        self._http = urllib3.PoolManager(maxsize=16, retries=False)
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """Start `web` or `worker`, in a process group of its own."""
        path = self._folder / f"{name}-{len(self._all)}.out"
        with path.open("wb") as output:
            process = subprocess.Popen(
                shlex.split(PROCFILE[name]),
                cwd=self.root,
                env=self.environ,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._all.append(process)
        return process

    def ready(self, path: str = "/readyz") -> bool:
        """Whether /readyz (or /healthz: web alone) says so."""
        try:
            return self._http.request("GET", self.url + path, timeout=5).status == 200
        except urllib3.exceptions.HTTPError:
            alive = [process for process in self._all if process.poll() is None]
            assert len(alive) == len(self._all), self.output()
            return False

    def ask(self, path: str) -> Any:
        """What a GET answers, as JSON."""
        return self._http.request("GET", self.url + path, timeout=10).json()

    def read(self, path: str) -> str:
        """A GET's answer, as text."""
        shown = {"Authorization": f"Bearer {SECRET}"}
        return self._http.request("GET", self.url + path, headers=shown, timeout=10).data.decode()

    def tell(self, path: str, fields: Mapping[str, str], headers: Mapping[str, str]) -> int:
        """Post a form as Twilio does; the answer's status."""
        return self._http.request_encode_body(
            "POST", self.url + path, fields, headers, encode_multipart=False
        ).status

    def forget(self, process: subprocess.Popen[bytes]) -> None:
        """A process that was stopped on purpose need not be alive."""
        self._all.remove(process)

    def post(
        self, body: Any, path: str = "/webhooks/lab", timeout: float = 10, **headers: str
    ) -> urllib3.BaseHTTPResponse:
        """Post a webhook as the lab does. Raises when there is no answer within `timeout`."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Authorization": f"Bearer {SECRET}", **headers}
        return self._http.request(
            "POST", self.url + path, body=raw, headers=sent, timeout=urllib3.Timeout(total=timeout)
        )

    def output(self) -> str:
        """All that any process has printed."""
        files = sorted(self._folder.glob("*.out"))
        return "".join(path.read_text("utf-8", errors="replace") for path in files)

    def close(self) -> None:
        """Stop everything that still runs; what does not stop by itself is killed, and told."""
        self._http.clear()
        running = [process for process in self._all if process.poll() is None]
        for process in running:
            process.terminate()
        try:
            for process in running:
                process.wait(30)
        finally:
            for process in running:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
