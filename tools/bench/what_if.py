"""How long `flask relay what-if` takes over 100,000 past events, and how much memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from relay.dev import lab_simulator
from relay.lab.events import EVENTS
from relay.lab.facts import resource
from relay.ledger.database import Database
from relay.ledger.schema import events, journeys, notifications
from tools.bench.measure import Bench, Figures, fresh_ledger, say
from tools.bench.servers import ROOT

CHUNK = 5_000
# What config.toml sends of each step of a kit.
STEPS = {
    "order.shipped": ("kit-shipped", "customer", ("sms", "email")),
    "order.delivered": ("kit-delivered", "customer", ("sms",)),
    "test_registration.complete": ("kit-registered", "patient", ("email",)),
    "test_registration.sample_received": ("sample-received", "patient", ("sms",)),
    "lab_results.complete": ("results-ready", "patient", ("sms", "email")),
}
# An edit of each kind: another template, a channel less, a condition, a new rule that waits.
EDITS = {
    'template = "kit_shipped"': 'template = "kit_delivered"',
    "registration.status != 'cancelled'": "registration.status == 'fail'",
    'channels = ["email"]\ntemplate = "kit_registered"': 'channels = ["sms"]\ntemplate = "retest"',
}
REMINDER = """
[rules.reminder]
event = "order.delivered"
after = "2d"
unless = ["test_registration.sample_received"]
to = "customer"
channels = ["sms"]
template = "kit_delivered"
"""
Row = dict[str, Any]


def what_if(bench: Bench, count: int) -> Figures:
    """Seconds and MiB of the command, on PostgreSQL and on SQLite."""
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as folder:
        edited = Path(folder, "edited.toml")
        text = (ROOT / "config.toml").read_text("utf-8")
        for old, new in EDITS.items():
            text = text.replace(old, new)
        edited.write_text(text + REMINDER, "utf-8")
        told: Figures = {"events": count}
        ledgers = {"postgresql": bench.postgresql, "sqlite": f"sqlite:///{folder}/relay.db"}
        for name, url in ledgers.items():
            with fresh_ledger(url) as db:
                _fill(db, count)
            seconds, cpu, mebibytes = _run(bench.environ(url), edited, count)
            told |= {f"{name}_seconds": seconds, f"{name}_cpu": cpu, f"{name}_mib": mebibytes}
            say(f"{name}: {seconds:.1f} s, {cpu:.1f} s of CPU, {mebibytes:.0f} MiB")
    return told


def _run(environ: dict[str, str], edited: Path, count: int) -> tuple[float, float, float]:
    command = [sys.executable, "-m", "flask", "--app", "app", "relay", "what-if"]
    environ = {**os.environ, **environ, "RELAY_CONFIG": str(ROOT / "config.toml")}
    command += ["--config", str(edited)]
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=environ,
        text=True,
    )
    assert process.stdout
    output = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    if status or f"{count:,} events" not in output:
        raise SystemExit(f"what-if ended with {status}: {output}")
    say(output)
    seconds = time.perf_counter() - started
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def _fill(db: Database, count: int) -> None:
    made = _kits(count)
    while chunk := list(islice(made, CHUNK // len(STEPS))):
        with db.write() as connection:
            for table in (journeys, events, notifications):
                rows = [row for kit in chunk for row in kit[table]]
                connection.execute(table.insert(), rows)
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("ANALYZE"))


def _kits(count: int) -> Iterator[dict[sa.Table, list[Row]]]:
    """Kits with an event a step, spread over 29 days, and what was sent of each."""
    kits = count // len(STEPS)
    now = datetime.now(UTC).replace(hour=9, minute=0)
    for number in range(kits):
        order = lab_simulator.order(str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))))
        registration = lab_simulator.registration(order["test_registrations"][0]["id"])
        day, moment = divmod(number * 20, kits)  # of 20 days, all between 9 and 18 o'clock
        began = now - timedelta(days=29 - day) + timedelta(hours=9) * moment / kits
        yield _kit(order, registration, began)


def _kit(order: Row, registration: Row, began: datetime) -> dict[sa.Table, list[Row]]:
    facts = {
        "order": {"order": resource(order, "order"), "customer": order["customer"]},
        "registration": {
            "registration": resource(registration, "registration"),
            "patient": resource(lab_simulator.person(registration["patient_id"]), "patient"),
        },
    }
    subjects = {"order": order["id"], "registration": registration["id"]}
    made: dict[sa.Table, list[Row]] = {journeys: [], events: [], notifications: []}
    for name, id_ in subjects.items():
        known = order["id"] if name == "registration" else None
        row = {"subject": id_, "resource": name, "order_subject": known, "round": 0}
        made[journeys].append({**row, "created_at": began})
    for day, (event, (rule, role, channels)) in enumerate(STEPS.items()):
        kind, at = EVENTS[event], began + timedelta(days=2 * day)
        subject = subjects[kind.resource]
        event_id = f"evt_{int(at.timestamp() * 1000):012x}{uuid.uuid4().hex[:16]}"
        row = {"id": event_id, "name": event, "identity": event_id, "data": _data(event, subject)}
        row |= {"subject": subject, "facts": facts[kind.resource], "status": "processed"}
        made[events].append({**row, "received_at": at, "processed_at": at})
        for channel in channels:
            id_ = f"msg{event_id[3:]}{channel}"
            row = {"id": id_, "event_id": event_id, "rule": rule, "template": rule, "role": role}
            row |= {"channel": channel, "subject": subject, "address": "", "identity": id_}
            row |= {"template": rule.replace("-", "_"), "obligation": id_, "status": "delivered"}
            made[notifications].append({**row, "due_at": at, "created_at": at})
    return made


def _data(event: str, subject: str) -> Row:
    data: Row = {EVENTS[event].id_field: subject}
    if event == "test_registration.sample_received":
        data["sample_received_at"] = "2026-06-01T14:52:32+01:00"
    return data
