"""`make demo` and `make run`: everything on this machine, started together and stopped together."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from relay.config.settings import database_url
from relay.dev import lab_player, redis_server
from relay.errors import RelayError
from relay.http_client import HttpClient, NoAnswer
from relay.lab import samples
from relay.ledger import migrate
from relay.ledger.database import Database
from relay.ledger.views import queries

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_NOT_FOR_THE_DEMO = ("TWILIO_", "SENDGRID_", "REDIS_", "LAB_API_", "RELAY_", "DYNO", "ADMIN_")
READY_SECONDS = 30
STOP_SECONDS = 28
SHOWN_SECONDS = 60
PROCESSES = {
    "web": (sys.executable, "-m", "gunicorn", "app:app"),
    "worker": (sys.executable, "-m", "relay.worker"),
}


def main(arguments: list[str]) -> int:
    """Start, wait, stop. SIGTERM and SIGHUP do as Ctrl-C does."""
    if arguments not in (["demo"], ["run"]):
        print("usage: python -m relay.dev demo|run", file=sys.stderr)
        return 2
    for number in _STOPPING:
        signal.signal(number, interrupt_once)
    try:
        with ExitStack() as stack:
            (demo if arguments == ["demo"] else run)(stack)
    except KeyboardInterrupt:
        print("\nStopped.")
    except RelayError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def interrupt_once(_number: int, _frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt on the first stop signal, and ignore any later ones."""
    for number in _STOPPING:  # once is enough: a second Ctrl-C must not cut the stopping short
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def demo(stack: ExitStack) -> None:
    """The example events on embedded defaults, whatever the environment names: nothing is sent."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relay-demo-")))
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_NOT_FOR_THE_DEMO)}
    environ = {
        **kept,
        "RELAY_ENV": "development",
        "RELAY_DELIVERY": "dry-run",
        "RELAY_CONFIG": str(always_open(Path("config.toml"), folder / "config.toml")),
        "DATABASE_URL": f"sqlite:///{folder}/relay.db",
        "WEBHOOK_SECRET": "demo",
        "LOG_LEVEL": "WARNING",
    }
    environ = start_services(stack, environ)
    url = f"http://127.0.0.1:{environ['PORT']}"
    db = Database(environ["DATABASE_URL"])
    stack.callback(db.close)
    print("The lab posts its example events. Delivery is dry-run: nothing leaves this machine.\n")
    for post in lab_player.play(samples.webhooks(), f"{url}/webhooks/lab", "demo"):
        print(f"  {post.event:<38} {post.status}  {post.answer}")
    shown = show(db)
    print(f"\n{shown} messages. (In the demo it is always time to send.)")
    stay(url, environ)


def run(stack: ExitStack) -> None:
    """Web and worker on what the environment names; only what it leaves out is embedded."""
    environ = start_services(
        stack, {**os.environ, "RELAY_ENV": os.environ.get("RELAY_ENV", "development")}
    )
    print(f"The lab posts to http://127.0.0.1:{environ['PORT']}/webhooks/lab")
    stay(f"http://127.0.0.1:{environ['PORT']}", environ)


def start_services(stack: ExitStack, environ: Mapping[str, str]) -> dict[str, str]:
    """Start what is missing, then web and worker; the environment they run in."""
    environ = {**environ, "PORT": environ.get("PORT") or str(free_port())}
    if environ["RELAY_ENV"] == "development":
        if not environ.get("REDIS_URL"):
            environ["REDIS_URL"] = stack.enter_context(redis_server.redis())
        if not environ.get("LAB_API_URL"):
            environ |= {"LAB_API_URL": stack.enter_context(lab()), "LAB_API_TOKEN": "simulator"}
    db = Database(database_url(environ.get("DATABASE_URL", "")), patience=10)
    migrate.upgrade(db)
    db.close()
    processes = {
        name: stack.enter_context(child_process(command, environ))
        for name, command in PROCESSES.items()
    }
    await_ready(f"http://127.0.0.1:{environ['PORT']}/readyz", processes)
    return environ


def free_port() -> int:
    """8000 if it is free, else any that is."""
    for port in (8000, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise AssertionError("port 0 is always free")


def always_open(source: Path, target: Path) -> Path:
    """A copy of config.toml in which it is always time to send: a demo at night shows all."""
    window = r'(?m)^(send_window\s*=\s*)(?:"[^"]*"|\[[^]]*\])'
    opened = re.sub(window, r'\1"always"', source.read_text("utf-8"))
    target.write_text(opened, "utf-8")
    return target


@contextmanager
def lab() -> Iterator[str]:
    """The lab's stand-in, in a thread; its URL."""
    from relay.dev.lab_simulator import create_simulator

    with serving(create_simulator("simulator")) as url:
        yield url


@contextmanager
def serving(app: Any, tls: Any = None) -> Iterator[str]:
    """A WSGI app on a port of this machine, in a thread, silent; its URL. `tls` is werkzeug's
    `ssl_context`.
    """
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log_request(self, *_: object) -> None:
            """Its requests are no news here."""

    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet, ssl_context=tls)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


@contextmanager
def child_process(
    command: tuple[str, ...], environ: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A child in a session of its own: Ctrl-C reaches us alone, and we stop it in good order."""
    process = subprocess.Popen(command, env=environ, start_new_session=True)  # noqa: S603 - ours
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def await_ready(url: str, processes: Mapping[str, subprocess.Popen[bytes]]) -> None:
    """Wait until the URL answers 200; raise RelayError if a process ends or time runs out."""
    wire, ends, last = HttpClient(connections=1, deadline=2), time.monotonic() + READY_SECONDS, ""
    while time.monotonic() < ends:
        fail_if_ended(processes)
        try:
            answer = wire.send("GET", url, {})
            if answer.status == 200:
                return
            last = answer.body.decode()
        except NoAnswer:
            pass
        time.sleep(0.05)
    raise RelayError(f"Relay did not become ready: {last}")


def fail_if_ended(processes: Mapping[str, subprocess.Popen[bytes]]) -> None:
    """Raise RelayError if any of the processes has ended."""
    for name, process in processes.items():
        if process.poll() is not None:
            raise RelayError(f"{name} has ended with {process.returncode}.")


def show(db: Database) -> int:
    """Print each message once it has ended, until nothing is left to do; how many there were."""
    shown: set[str] = set()
    ends = time.monotonic() + SHOWN_SECONDS
    while time.monotonic() < ends:
        with db.read() as connection:
            busy, found = queries.unfinished(connection), queries.messages(connection, limit=1000)
        for row in found:
            if row["id"] not in shown and row["status"] not in ("created", "sending"):
                shown.add(row["id"])
                print_notification(row)
        if not busy:
            break
        time.sleep(0.1)
    return len(shown)


def print_notification(row: Mapping[str, Any]) -> None:
    """Print a notification: its rule, recipient, status and text."""
    print(f"\n{'-' * 72}\n{row['event']}, rule {row['rule']}: {row['channel']} to the {row['to']}")
    print(f"to: {row['address']}\nstatus: {row['status']} {row['reason']}".rstrip())
    content = row["content"] or {}
    if "subject" in content:
        print(f"subject: {content['subject']}")
    print(f"\n{content.get('text', '')}")


def stay(url: str, environ: Mapping[str, str]) -> None:
    """Say where the desk is and wait for Ctrl-C."""
    is_set = environ.get("ADMIN_PASSWORD") or environ.get("ADMIN_PASSWORD_HASH")
    shown = "the one in the environment" if is_set else "development"
    print(f"\nThe admin desk: {url}/   password: {shown}")
    print("Ctrl-C stops everything.", flush=True)
    signal.pause()
