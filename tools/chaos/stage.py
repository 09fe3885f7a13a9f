"""Relay as the Procfile starts it, between servers and stand-ins: what a run is played on."""

from __future__ import annotations

import base64
import os
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import urllib3
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twilio.request_validator import RequestValidator

from relay.config.loader import Config, load
from relay.config.settings import from_environment
from tools.bench.servers import ROOT, free_port
from tools.chaos import words
from tools.chaos.servers import PostgreSQL, RedisServer, StandInProcess

PROCFILE = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
CONFIG = Path(__file__).with_name("config.toml")
RULES: dict[str, Any] = tomllib.loads(CONFIG.read_text("utf-8"))["rules"]
SECRET, TOKEN, LAB_TOKEN = "lab-secret", "twilio-token", "lab-token"
HASTE = 30  # a lease lasts two seconds, a look comes after four
WEB, WORKERS = "web", ("worker-1", "worker-2")
STOP_SECONDS = 45.0


class Stage:
    """All processes of one run."""

    def __init__(self, seed: int, folder: Path):
        self.folder = folder
        self.config_file, self._templates = folder / CONFIG.name, folder / "templates"
        self.config_file.write_bytes(CONFIG.read_bytes())
        words.write(self._templates, RULES)
        key = ec.generate_private_key(ec.SECP256R1())
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        told = {"public_url": self.url, "twilio_token": TOKEN, "sendgrid_key": _private(key)}
        self.postgresql = PostgreSQL(folder)
        self.redis = RedisServer(folder)
        self.standins = StandInProcess(seed, told, folder / "standins.out")
        self._environ = self._environment(port, _public(key))
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._starts = 0
        self._http = urllib3.PoolManager(maxsize=32, retries=False)
        self.unasked: list[str] = []  # processes that ended without our doing
        command = [sys.executable, "-m", "flask", "relay", "upgrade"]
        subprocess.run(command, check=True, cwd=ROOT, env=self._environ, stdout=subprocess.DEVNULL)
        for name in (WEB, *WORKERS):
            self.start(name)
        self.await_web()

    def _environment(self, port: int, public_key: str) -> dict[str, str]:
        urls = self.standins.urls
        bin_ = str(Path(sys.executable).parent)
        return {
            **{"PATH": f"{bin_}:{os.environ['PATH']}", "HOME": str(self.folder)},
            **{"PORT": str(port), "WEB_CONCURRENCY": "2", "PUBLIC_URL": self.url},
            **{"RELAY_ENV": "development", "RELAY_DELIVERY": "live", "RELAY_HASTE": str(HASTE)},
            **{"RELAY_CONFIG": str(self.config_file), "RELAY_TEMPLATES": str(self._templates)},
            **{"LOG_LEVEL": "INFO"},
            **{"DATABASE_URL": self.postgresql.url, "REDIS_URL": self.redis.url},
            **{"LAB_API_URL": urls["lab"], "LAB_API_TOKEN": LAB_TOKEN, "WEBHOOK_SECRET": SECRET},
            **{"TWILIO_ACCOUNT_SID": "AC" + "0" * 32, "TWILIO_AUTH_TOKEN": TOKEN},
            **{"TWILIO_API_URL": urls["twilio"], "SENDGRID_API_KEY": "SG.key"},
            **{"SENDGRID_API_URL": urls["sendgrid"], "SENDGRID_WEBHOOK_PUBLIC_KEY": public_key},
        }

    def config(self) -> Config:
        """The configuration as Relay's processes read it."""
        return load(from_environment(self._environ))

    def start(self, name: str, **more: str) -> None:
        """Start `web` or a worker, in a process group of its own."""
        self._starts += 1
        path = self.folder / f"{name}-{self._starts:03}.out"
        with path.open("wb") as output:
            self._running[name] = subprocess.Popen(
                shlex.split(PROCFILE[name.partition("-")[0]]),
                cwd=ROOT,
                env={**self._environ, **more},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def is_running(self, name: str) -> bool:
        """Whether a process has not ended."""
        return self._running[name].poll() is None

    def kill(self, name: str) -> None:
        """Kill a process and its children."""
        self._note(name)
        with suppress(ProcessLookupError):
            os.killpg(self._running[name].pid, signal.SIGKILL)
        self._running[name].wait()

    def kill_child(self, name: str, which: int) -> None:
        """Kill one of a process's children: a gunicorn worker."""
        pid = self._running[name].pid
        with suppress(OSError, ProcessLookupError):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            if children:
                os.kill(int(children[which % len(children)]), signal.SIGKILL)

    def terminate(self, *names: str) -> None:
        """Ask processes to stop, all at once, and wait for them."""
        for name in names:
            self._note(name)
            self._running[name].terminate()
        ends = time.monotonic() + STOP_SECONDS
        for name in names:
            try:
                self._running[name].wait(max(0.1, ends - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.unasked.append(f"{name} did not stop within {STOP_SECONDS:.0f} s of a SIGTERM")
                self.kill(name)

    def _note(self, name: str) -> None:
        if (code := self._running[name].poll()) is not None:
            self.unasked.append(f"{name} had ended by itself with {code}")

    def start_anew(self, name: str) -> None:
        """Start again what was meant to end, whether it has or not."""
        if self.is_running(name):
            self.kill(name)
        self.start(name)

    def await_web(self, seconds: float = 30.0) -> None:
        """Wait until the web process serves."""
        ends = time.monotonic() + seconds
        while self._answer("GET", "/healthz", 2.0) != 200:
            if time.monotonic() > ends:
                raise RuntimeError("the web process does not serve")
            time.sleep(0.05)

    def _answer(self, method: str, path: str, timeout: float, **what: Any) -> int:
        try:
            found = self._http.request(method, self.url + path, timeout=timeout, **what)
            return int(found.status)
        except urllib3.exceptions.HTTPError:
            return 0

    def post(self, body: bytes) -> tuple[int, str]:
        """Post a webhook as the lab does; the answer's status, 0 for none, and the event's id."""
        headers = {"Authorization": f"Bearer {SECRET}"}
        try:
            found = self._http.request(
                "POST", f"{self.url}/webhooks/lab", body=body, headers=headers, timeout=10.0
            )
            return found.status, str(found.json()["id"]) if found.status == 200 else ""
        except (urllib3.exceptions.HTTPError, ValueError):
            return 0, ""

    def text_in(self, number: str, word: str) -> int:
        """A text from a person, as Twilio hands it on."""
        text_id = f"SM{uuid4().hex}"
        form: Mapping[str, str] = {"From": number, "Body": word, "MessageSid": text_id}
        path = "/callbacks/twilio/inbound"
        signature = RequestValidator(TOKEN).compute_signature(self.url + path, form)
        headers = {"X-Twilio-Signature": signature}
        return self._answer("POST", path, 5.0, fields=form, headers=headers, encode_multipart=False)

    def output(self) -> str:
        """All that Relay's processes have printed."""
        paths = [p for p in sorted(self.folder.glob("w*.out"))]
        return "".join(path.read_text("utf-8", errors="replace") for path in paths)

    def close(self) -> None:
        """Stop everything."""
        self._http.clear()
        for process in self._running.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.standins.close()
        self.redis.close()
        self.postgresql.close()


def _private(key: ec.EllipticCurvePrivateKey) -> str:
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(*pem, serialization.NoEncryption()).decode()


def _public(key: ec.EllipticCurvePrivateKey) -> str:
    der = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return base64.b64encode(key.public_key().public_bytes(*der)).decode()
