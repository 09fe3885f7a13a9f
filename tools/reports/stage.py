"""A running Relay between stand-ins, and what is done to it: post, tell, type a command."""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from click.testing import CliRunner
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twilio.request_validator import RequestValidator

from relay.cli import relay_group
from relay.dev import redis_server
from relay.lab.facts import EMAIL, MOBILE, PHONE
from relay.ledger import migrate
from relay.ledger.database import Database
from relay.ledger.holds import suppressions
from relay.ledger.schema import attempts, events, notifications
from relay.rules.statuses import RECEIVED, WAITING
from relay.web.callbacks import MAIL_SIGNATURE, MAIL_TIMESTAMP, SIGNATURE
from tests.processes.harness import eventually
from tests.rows import only, rows
from tests.standins import LabStandIn, ProviderStandIn, Reply, StandIn
from tools.bench import servers
from tools.bench.servers import ROOT

SECRET = "a-secret-of-the-lab"
TOKEN = "twilio-token"
PUBLIC = "https://relay.example"
SECONDS = 30.0  # that an answer may take
MAIL = "/callbacks/sendgrid"
STATUS, INBOUND = "/callbacks/twilio/status", "/callbacks/twilio/inbound"
# What stands in config.toml as shipped, and what these reports need there.
CHANGED = {
    'name = "Example Clinic"': 'name = "St Mary’s Clinic"',
    'phone = "020 7946 0000"': 'phone = "020 7946 0991"',
    "portal.example/results": "portal.example/read",
    'sms_from = "EXCLINIC"': 'sms_from = "STMARYS"',
    '"Example Clinic <results@example.org>"': '"Clinic, results <results@example.org>"',
    '"08:00-20:00"': '"always"',
    '# sms = ["+447700900100"]': 'sms = ["+447700900100"]',
}
GREETING = "{{ clinic.short_name }}: hello {{ recipient.first_name or 'there' }}, it’s “here” – …"
Row = dict[str, Any]


@dataclass
class Stage:
    """Relay at `port`, what is beyond the wire, and Relay's ledger to look into."""

    folder: Path
    port: int
    environ: Mapping[str, str]
    lab: LabStandIn
    twilio: ProviderStandIn
    sendgrid: ProviderStandIn
    elsewhere: StandIn
    key: ec.EllipticCurvePrivateKey
    db: Database
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(200))

    def post(
        self, path: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """A POST to the address as it is written; the answer's status, and its body read."""
        shown = {"Content-Type": "application/json", **(headers or {})}
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        client.request("POST", path, body, shown)
        answer = client.getresponse()
        text = answer.read().decode()
        client.close()
        return answer.status, json.loads(text) if text.startswith("{") else text

    def webhook(self, event: str, data: Any, path: str = "/webhooks/lab") -> tuple[int, Any]:
        """The lab posts an event."""
        body = json.dumps({"event": event, "data": data}).encode()
        return self.post(path, body, {"Authorization": f"Bearer {SECRET}"})

    def taken(self, event: str, data: Any) -> str:
        """The id of an event that the lab posts, and that Relay takes."""
        status, answer = self.webhook(event, data)
        if status != 200:
            raise ValueError(f"{status}: {answer}")
        return str(answer["id"])

    def form(self, path: str, fields: Mapping[str, str], encoding: str = "utf-8") -> int:
        """Twilio posts a form; what it is answered with."""
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            SIGNATURE: RequestValidator(TOKEN).compute_signature(PUBLIC + path, fields),
        }
        return self.post(path, urlencode(fields, encoding=encoding).encode(), headers)[0]

    def text(self, body: str, number: str, path: str = INBOUND, encoding: str = "utf-8") -> int:
        """Somebody sends a text, and Twilio posts it; what it is answered with."""
        sid = f"SM{next(self.numbers):032x}"
        return self.form(path, {"MessageSid": sid, "From": number, "Body": body}, encoding)

    def mail(self, body: bytes, path: str = MAIL) -> int:
        """SendGrid posts a batch; what it is answered with."""
        at = str(int(time.time()))
        signature = self.key.sign(at.encode() + body, ec.ECDSA(hashes.SHA256()))
        signed = {MAIL_SIGNATURE: base64.b64encode(signature).decode(), MAIL_TIMESTAMP: at}
        return self.post(path, body, signed)[0]

    def reported(self, message: Row, word: str, **fields: Any) -> Row:
        """SendGrid's event about a message; fields that are None are left out."""
        named = {"relay_attempt": self.attempt(message), "sg_message_id": message["provider_id"]}
        said = {"email": message["address"], "timestamp": int(time.time()), "event": word}
        return {k: v for k, v in {**said, **named, **fields}.items() if v is not None}

    def tell(self, message: Row, word: str, path: str = MAIL, **fields: Any) -> int:
        """SendGrid tells one thing about an email; what it is answered with."""
        return self.mail(json.dumps([self.reported(message, word, **fields)]).encode(), path)

    def tell_of_text(self, message: Row, word: str, path: str = STATUS, **fields: str) -> int:
        """Twilio tells one thing about a text; what it is answered with."""
        told = {"MessageSid": message["provider_id"], "MessageStatus": word, **fields}
        return self.form(f"{path}?attempt={self.attempt(message)}", told)

    def attempt(self, message: Row) -> str:
        """The id of the last try to send a message."""
        tries = rows(self.db, attempts, notification_id=message["id"])
        return str(max(tries, key=lambda row: row["started_at"])["id"])

    def person(self, **fields: Any) -> Row:
        """Somebody whom nothing else is about, with some fields written otherwise."""
        number = next(self.numbers)
        surname = "Stone" + str(number).translate(str.maketrans("0123456789", "abcdefghij"))
        who = {"id": f"p-{number}", "first_name": "Ada", "last_name": surname}
        return {**who, EMAIL: f"ada{number}@example.org", PHONE: f"+447700900{number:03}", **fields}

    def order(self, id_: Any = None, **customer: Any) -> str:
        """The id of an order of somebody's, a new one by default."""
        id_ = str(id_ or f"o-{next(self.numbers)}").strip()
        who = self.person(**customer)
        self.lab.resources[f"/api/customer/{who['id']}"] = who
        self.lab.change("order", id_, customer=who, customer_id=who["id"])
        return id_

    def ordered(self, event: str = "order.shipped", **customer: Any) -> str:
        """The lab tells of somebody's new order; the event's id."""
        return self.taken(event, {"order_id": self.order(**customer)})

    def registered(self, **patient: Any) -> str:
        """The id of a registration of somebody's."""
        who, id_ = self.person(**patient), f"t-{next(self.numbers)}"
        own = {key: who[key] for key in ("first_name", "last_name", EMAIL)}
        self.lab.change("test_registration", id_, **own, **{MOBILE: who[PHONE]}, patient_id=None)
        return id_

    def event(self, id_: str) -> Row:
        """An event, once Relay has tried it."""

        def tried() -> Row | None:
            row = only(self.db, events, id=id_)
            return row if row["tries"] or row["status"] != RECEIVED else None

        return eventually(tried)

    def message(self, event_id: str, channel: str, rule: str = "") -> Row:
        """The message that an event led to on a channel, once it has gone as far as it goes now."""

        def found() -> Row | None:
            if only(self.db, events, id=event_id)["status"] == RECEIVED:
                return None
            for row in rows(self.db, notifications, event_id=event_id, channel=channel):
                if rule in ("", row["rule"]) and row["status"] not in (*WAITING, "sending"):
                    return row
            return None

        return eventually(found)

    def sent(self, channel: str, **customer: Any) -> Row:
        """The message about an order of somebody's."""
        return self.message(self.ordered(**customer), channel)

    def stopped(self, address: str) -> str:
        """Why an address gets nothing more, as the ledger has it; empty where it does."""
        with self.db.read() as connection:
            return ", ".join(row["source"] for row in suppressions.suppressed(connection, address))

    def command(self, *words: str, about: str = "", **environ: str) -> str:
        """What `flask relay …` prints: its lines with `about` in them."""
        env = {**self.environ, **environ}
        told = CliRunner().invoke(relay_group, words, env=env).output.splitlines()
        lines = [line.strip() for line in told if about in line and line.strip()]
        return " ".join(lines) or f"nothing is said of {about}."

    def config(self, *changes: tuple[str, str]) -> str:
        """The path of a config.toml beside the one in use, with these changes."""
        written = Path(self.environ["RELAY_CONFIG"]).read_text("utf-8")
        for old, new in changes:
            written = replaced(written, old, new)
        path = self.folder / f"config-{next(self.numbers)}.toml"
        path.write_text(written, "utf-8")
        return str(path)

    def templates(self, file: str, content: str, encoding: str = "utf-8") -> str:
        """The path of a folder of templates beside the one in use, with this file otherwise."""
        folder = self.folder / f"templates-{next(self.numbers)}"
        shutil.copytree(self.environ["RELAY_TEMPLATES"], folder)
        (folder / file).write_text(content, encoding)
        return str(folder)

    def log(self) -> str:
        """What the web process has printed."""
        return (self.folder / "web.log").read_text("utf-8")

    def once(self, path: str, *replies: Reply) -> None:
        """The lab's next answers at a path."""
        left = list(replies)
        self.lab.answers.append(
            lambda request: left.pop(0) if left and request.path.rstrip("/") == path else None
        )


@contextmanager
def running() -> Iterator[Stage]:
    """A live Relay, as the Procfile starts it, in a temporary folder."""
    key = ec.generate_private_key(ec.SECP256R1())
    with (
        tempfile.TemporaryDirectory(prefix="relay-reports-") as name,
        LabStandIn("lab-token") as lab,
        ProviderStandIn.twilio() as twilio,
        ProviderStandIn.sendgrid() as sendgrid,
        StandIn() as elsewhere,
        redis_server.redis() as redis,
    ):
        folder, port = Path(name), servers.free_port()
        environ = {
            **os.environ,
            **files(folder),
            "RELAY_ENV": "production",
            "RELAY_DELIVERY": "live",
            "DATABASE_URL": f"sqlite:///{folder / 'relay.db'}",
            "REDIS_URL": redis,
            "WEBHOOK_SECRET": SECRET,
            "LAB_API_URL": lab.url,
            "LAB_API_TOKEN": lab.token,
            "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
            "TWILIO_AUTH_TOKEN": TOKEN,
            "TWILIO_API_URL": twilio.url,
            "SENDGRID_API_KEY": "SG.key",
            "SENDGRID_API_URL": sendgrid.url,
            "SENDGRID_WEBHOOK_PUBLIC_KEY": public(key),
            "PUBLIC_URL": PUBLIC,
            "PORT": str(port),
            "WEB_CONCURRENCY": "1",
        }
        db = Database(environ["DATABASE_URL"], patience=10)
        migrate.upgrade(db)
        standins = (lab, twilio, sendgrid, elsewhere)
        web = logged(folder / "web.log", "gunicorn", "app:app", environ=environ)
        with web, servers.worker(environ):
            servers.await_http(f"http://127.0.0.1:{port}/readyz")
            yield Stage(folder, port, environ, *standins, key, db)
        db.close()


def files(folder: Path) -> dict[str, str]:
    """The shipped config.toml and templates, copied and changed for these reports."""
    config, templates = folder / "config.toml", folder / "templates"
    written = (ROOT / "config.toml").read_text("utf-8")
    for old, new in CHANGED.items():
        written = replaced(written, old, new)
    config.write_text(written, "utf-8")
    shutil.copytree(ROOT / "templates", templates)
    (templates / "kit_delivered/sms.txt").write_text(GREETING, "utf-8")
    return {"RELAY_CONFIG": str(config), "RELAY_TEMPLATES": str(templates)}


def replaced(text: str, old: str, new: str) -> str:
    """The text with `new` for the first `old`, which has to be there."""
    if old not in text:
        raise ValueError(f"config.toml has no {old}")
    return text.replace(old, new, 1)


def public(key: ec.EllipticCurvePrivateKey) -> str:
    """A key as SendGrid shows it: base64 of its DER form."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    der = key.public_key().public_bytes(serialization.Encoding.DER, form)
    return base64.b64encode(der).decode()


@contextmanager
def logged(path: Path, *command: str, environ: Mapping[str, str]) -> Iterator[None]:
    """A process of ours whose output goes to a file."""
    with path.open("wb") as file:
        words = [sys.executable, "-m", *command]
        process = subprocess.Popen(words, env=environ, cwd=ROOT, stdout=file, stderr=file)
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)
