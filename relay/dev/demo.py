"""`make demo` and `make run`: everything on this machine, started together and stopped together."""

from __future__ import annotations

import json
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
from relay.dev.lab_simulator import create_simulator
from relay.errors import RelayError
from relay.http_client import HttpClient, NoAnswer
from relay.lab import samples
from relay.ledger import migrate
from relay.ledger.database import Database
from relay.ledger.views import queries

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# The demo takes only these from its environment: nothing else in it may send, or report, anything.
_FOR_THE_DEMO = (
    "PATH",
    "LD_LIBRARY_PATH",
    "HOME",
    "TMPDIR",
    "LANG",
    "TZ",
    "PORT",
    "PYTHONUNBUFFERED",
)
READY_SECONDS = 30
STOP_SECONDS = 28
SHOWN_SECONDS = 60
LOOK_SECONDS = 0.3
WEB = (sys.executable, "-m", "gunicorn", "app:app")
WORKER = (sys.executable, "-m", "relay.worker")
Processes = Mapping[str, subprocess.Popen[bytes]]


def main(arguments: list[str]) -> int:
    """Start, wait, stop. SIGTERM and SIGHUP work like Ctrl-C."""
    if arguments not in (["demo"], ["run"]):
        print("usage: python -m relay.dev demo|run", file=sys.stderr)
        return 2
    for number in _STOPPING:
        signal.signal(number, interrupt_once)
    try:
        with ExitStack() as stack:
            try:
                (demo if arguments == ["demo"] else run)(stack)
            except RelayError as error:
                print(f"{error}\nStopping …", file=sys.stderr, flush=True)
                return 1
    except KeyboardInterrupt:
        print("Stopped.")
    return 0


def interrupt_once(_number: int, _frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt on the first stop signal, and ignore any later ones."""
    for number in _STOPPING:  # once is enough: a second Ctrl-C must not interrupt the stop
        signal.signal(number, signal.SIG_IGN)
    print("\nStopping …", flush=True)
    raise KeyboardInterrupt


def demo(stack: ExitStack) -> None:
    """Play the example events on embedded defaults, ignoring the environment: nothing is sent."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relay-demo-")))
    environ = {
        **{name: os.environ[name] for name in _FOR_THE_DEMO if name in os.environ},
        "RELAY_ENV": "development",
        "RELAY_DELIVERY": "dry-run",
        "RELAY_CONFIG": str(always_open(Path("config.toml"), folder / "config.toml")),
        "DATABASE_URL": f"sqlite:///{folder}/relay.db",
        "WEBHOOK_SECRET": "demo",
        "LOG_LEVEL": "WARNING",
    }
    environ, processes = start_services(stack, environ)
    url = f"http://127.0.0.1:{environ['PORT']}"
    db = Database(environ["DATABASE_URL"])
    stack.callback(db.close)
    print("The lab posts its example events. Delivery is dry-run: nothing leaves this machine.\n")
    for post in lab_player.play(samples.webhooks(), f"{url}/webhooks/lab", "demo"):
        print(f"  {post.event:<38} {post.status}  {post.answer}")
    shown: set[str] = set()
    ends = time.monotonic() + SHOWN_SECONDS
    while show(db, shown) and time.monotonic() < ends:
        fail_if_ended(processes)
        time.sleep(0.1)
    print(f"\n{len(shown)} messages. (In the demo it is always time to send.)")
    print("\nPost an event of your own, and its messages appear here:")
    body = json.dumps({"event": "order.shipped", "data": {"order_id": "my-order"}})
    print(f"  curl -u lab:demo -d '{body}' {url}/webhooks/lab")
    say_where(url, environ)
    while True:
        fail_if_ended(processes)
        show(db, shown)
        time.sleep(LOOK_SECONDS)


def run(stack: ExitStack) -> None:
    """Run web and worker on the environment's services; embed only those that it does not name."""
    environ, processes = start_services(stack, {"RELAY_ENV": "development", **os.environ})
    url = f"http://127.0.0.1:{environ['PORT']}"
    print(f"The lab posts to {url}/webhooks/lab")
    say_where(url, environ)
    while True:
        fail_if_ended(processes)
        time.sleep(LOOK_SECONDS)


def start_services(
    stack: ExitStack, environ: Mapping[str, str]
) -> tuple[dict[str, str], Processes]:
    """Start missing services, then web and worker; return their environment, and both processes."""
    print("Starting web and worker …", flush=True)
    is_development = environ["RELAY_ENV"] == "development"
    host = "127.0.0.1" if is_development else "0.0.0.0"
    door = stack.enter_context(listening(host, environ.get("PORT", "")))
    environ = {**environ, "PORT": str(door.getsockname()[1])}
    if is_development:
        if not environ.get("REDIS_URL"):
            environ["REDIS_URL"] = stack.enter_context(redis_server.redis())
        if not environ.get("LAB_API_URL"):
            url = stack.enter_context(serving(create_simulator("simulator")))
            environ |= {"LAB_API_URL": url, "LAB_API_TOKEN": "simulator"}
    db = Database(database_url(environ.get("DATABASE_URL", "")), patience=10)
    migrate.upgrade(db)
    db.close()
    web = (*WEB, "--bind", f"fd://{door.fileno()}")
    processes = {
        "web": stack.enter_context(child_process(web, environ, door.fileno())),
        "worker": stack.enter_context(child_process(WORKER, environ)),
    }
    for process in processes.values():
        stack.callback(process.terminate)  # terminate all first: they stop in parallel
    await_ready(f"http://127.0.0.1:{environ['PORT']}/readyz", processes)
    return environ, processes


def listening(host: str, port: str) -> socket.socket:
    """The socket for web, ours from here on: on `port`, else 8000, else any. Raises RelayError."""
    for number in (port,) if port else (8000, 0):
        door = socket.socket()
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind((host, int(number)))
            door.listen(2048)
        except (OSError, OverflowError, ValueError):
            door.close()
            continue
        return door
    raise RelayError(
        f"Relay cannot listen on port {port}: another program, perhaps another Relay, may use it. "
        "Stop that one, or choose another port, as in: PORT=8321 make demo"
    )


def always_open(source: Path, target: Path) -> Path:
    """Copy config.toml so that it is always time to send: a demo at night shows everything."""
    window = r'(?m)^(send_window\s*=\s*)(?:"[^"]*"|\[[^]]*\])'
    opened = re.sub(window, r'\1"always"', source.read_text("utf-8"))
    target.write_text(opened, "utf-8")
    return target


@contextmanager
def serving(app: Any, tls: Any = None) -> Iterator[str]:
    """Serve a WSGI app silently in a thread; yield its URL. `tls` is werkzeug's `ssl_context`."""
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log_request(self, *_: object) -> None:
            """Log no requests."""

    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet, ssl_context=tls)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


@contextmanager
def child_process(
    command: tuple[str, ...], environ: Mapping[str, str], *passed: int
) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a child in its own session: Ctrl-C reaches only us, and we stop it in good order."""
    process = subprocess.Popen(  # noqa: S603 - ours
        command, env=environ, start_new_session=True, pass_fds=passed
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def await_ready(url: str, processes: Processes) -> None:
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


def fail_if_ended(processes: Processes) -> None:
    """Raise RelayError if any of the processes has ended."""
    for name, process in processes.items():
        if process.poll() is not None:
            code = process.returncode
            raise RelayError(f"{name} has ended with {code}; what it said stands above.")


def show(db: Database, shown: set[str]) -> bool:
    """Print each message that has ended and is not in `shown`; return whether any work is left."""
    with db.read() as connection:
        is_busy, found = queries.unfinished(connection), queries.messages(connection, limit=1000)
    for row in found:
        if row["id"] not in shown and row["status"] not in ("created", "sending"):
            shown.add(row["id"])
            print_notification(row)
    return bool(is_busy)


def print_notification(row: Mapping[str, Any]) -> None:
    """Print a notification: its rule, recipient, status and text."""
    print(f"\n{'-' * 72}\n{row['event']}, rule {row['rule']}: {row['channel']} to the {row['to']}")
    print(f"to: {row['address']}\nstatus: {row['status']} {row['reason']}".rstrip())
    content = row["content"] or {}
    if "subject" in content:
        print(f"subject: {content['subject']}")
    print(f"\n{content.get('text', '')}", flush=True)


def say_where(url: str, environ: Mapping[str, str]) -> None:
    """Print where the desk is, and how to stop."""
    is_set = environ.get("ADMIN_PASSWORD") or environ.get("ADMIN_PASSWORD_HASH")
    shown = "the one in the environment" if is_set else "development"
    print(f"\nThe admin desk: {url}/   password: {shown}")
    print("Ctrl-C stops everything.", flush=True)
