"""Relay as a clinic runs it, in this process: its web, its worker, its desk; its config and edits.

Only what is beyond the wire is ours. A message's words say which template made them and what they
are about, so that the oracle reads them as their reader would.
"""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import structlog

from relay.channels import sendgrid, twilio
from relay.config.loader import load
from relay.config.settings import Settings
from relay.http_client import Answer, NoAnswer
from relay.jobs.circuit_breaker import CircuitBreaker
from relay.jobs.tasks import Jobs
from relay.ledger import receipts, replay
from relay.ledger.attempts import Claim
from relay.ledger.audit import NotDone
from relay.ledger.database import Database
from relay.ledger.holds import suppressions
from relay.ledger.schema import metadata
from relay.ledger.views import activity, queries
from relay.ledger.views.activity import Wanted
from relay.ledger.worklist import cases
from relay.rules.channels import CHANNELS
from relay.rules.statuses import WAITING
from relay.staff import case_acts, send_again
from relay.web import create_app
from tests.conftest import ROOT, SECRET
from tests.rows import empty, suppress, time_passes
from tests.stateful.world import (
    DELIVERED,
    RECEIVED,
    REGISTERED,
    RESULTS,
    RETEST,
    SHIPPED,
    Clock,
    Lab,
)

DESK, DESK_PHONE = "desk@example.org", "+447700900100"
HEAD = f"""
[clinic]
name = "Example Clinic"
phone = "020 7946 0000"
[delivery]
sms_from = "EXCLINIC"
email_from = "results@example.org"
send_window = "always"
lab_patience = "1m"
[staff.desk]
email = ["{DESK}"]
sms = ["{DESK_PHONE}"]
"""
TICK = 30.0  # seconds between two sweeps
SHIPPED_RULES = tomllib.loads((ROOT / "config.toml").read_text("utf-8"))["rules"]
READABLE = SHIPPED_RULES["results-ready"]["when"]  # the shipped rule's own condition
FOR_STAFF = SHIPPED_RULES["desk-results"]["when"]


@dataclass(frozen=True)
class RuleText:
    """A rule of the clinic's config.toml."""

    event: str
    to: str
    channels: tuple[str, ...]
    fallback: tuple[str, ...] = ()
    more: str = ""
    unless: tuple[str, ...] = ()
    edits: tuple[str, ...] = ()  # what an admin may do to it, besides what is done to any

    @property
    def is_for_staff(self) -> bool:
        """Whether it writes to the clinic's own people."""
        return self.to == "desk"


SMS, EMAIL = ("sms",), ("email",)
RULES = {
    "shipped": RuleText(SHIPPED, "customer", SMS, EMAIL),
    "delivered": RuleText(DELIVERED, "customer", ("sms", "email")),
    "reminder": RuleText(
        DELIVERED,
        "customer",
        SMS,
        more=f'after = "10d"\nunless = ["{RECEIVED}", "{RESULTS}"]',
        unless=(RECEIVED, RESULTS),
    ),
    "registered": RuleText(REGISTERED, "customer", SMS, edits=("to",)),
    "received": RuleText(RECEIVED, "patient", SMS, EMAIL, edits=("to",)),
    "results": RuleText(RESULTS, "patient", SMS, EMAIL, f'when = "{READABLE}"'),
    "doctor": RuleText(RESULTS, "patient", EMAIL, more='hold = "48h"'),
    "desk-results": RuleText(RESULTS, "desk", EMAIL, more=f'when = "{FOR_STAFF}"'),
    "retest": RuleText(RETEST, "patient", SMS),
    "desk-retest": RuleText(RETEST, "desk", EMAIL),
}
EDITS = ("renamed", "template", "channels", "off", "to")
NEW_NAME, NEW_WORDS = "-b", "-v2"
_WORDS = {
    SHIPPED: "order={{ order.id }}",
    DELIVERED: "order={{ order.id }}",
    REGISTERED: "kit={{ registration.id }} of={{ order.id or '' }}",
    RETEST: "kit={{ registration.id }} new={{ event.retest_testregistration_id }}",
}


def rule_text(name: str, edit: str = "", template: str = "") -> str:
    """A rule as it stands in config.toml after an edit."""
    one = RULES[name]
    channels, fallback, to = one.channels, one.fallback, one.to
    if edit == "channels":
        channels, fallback = (("email",), ()) if channels == SMS else (SMS, fallback)
    if edit == "to":
        to = "patient" if to == "customer" else "customer"
    called = name + (NEW_NAME if edit == "renamed" else "")
    words = called + (NEW_WORDS if edit == "template" else "")
    lines = [
        f"[rules.{called}]",
        f'event = "{one.event}"',
        f'to = "{to}"',
        f"channels = {json.dumps(channels)}",
        f'template = "{template or words}"',
        *([f"fallback = {json.dumps(fallback)}"] if fallback and fallback != channels else []),
        *([one.more] if one.more else []),
        *(["enabled = false"] if edit == "off" else []),
    ]
    return "\n".join(lines) + "\n"


def write_templates(folder: Path) -> None:
    """A folder of words for each rule by each of its names, old and new, and the alerts'."""
    shutil.copytree(ROOT / "templates" / "alerts", folder / "alerts")
    for shared in (ROOT / "templates").glob("*.*"):
        shutil.copy(shared, folder)
    for name, one in RULES.items():
        about = _WORDS.get(one.event, "kit={{ registration.id }}")
        for words in (name, name + NEW_NAME, name + NEW_WORDS):
            place = folder / words
            place.mkdir(parents=True)
            text = f"{words} {about} to={{{{ recipient.first_name or 'staff' }}}}"
            (place / "sms.txt").write_text(text, "utf-8")
            (place / "subject.txt").write_text("News", "utf-8")
            (place / "email.txt").write_text(text, "utf-8")
            (place / "email.html").write_text(f"<p>{text}</p>", "utf-8")


@dataclass
class Sent:
    """A message as a provider was given it."""

    at: float
    channel: str
    address: str
    text: str
    attempt: str
    sid: str = ""
    taken: bool = False  # the provider has it
    failed: bool = False  # and has told that it did not arrive
    delivered: bool = False
    lost: bool = False  # its provider's answer never came
    is_repeat: bool = False  # a person wanted it once more
    told: list[str] = field(default_factory=list)  # the receipts that it has sent


class Providers:
    """Twilio and SendGrid at the wire. `fates` are what becomes of the next sends of a channel."""

    FATES = ("busy", "refused", "lost", "broken", "account", "opted out")

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.sent: list[Sent] = []
        self.fates: dict[str, list[str]] = {"sms": [], "email": []}
        self.opted_out: set[tuple[str, str]] = set()
        self.watch: Callable[[Sent], None] = lambda _sent: None  # sees each as it is handed over

    def send(self, sent: Sent) -> Answer:
        """Take a message, or do with it as its fate is."""
        fates = self.fates[sent.channel]
        fate = fates.pop(0) if fates else ""
        sent.taken, sent.lost = fate in ("", "lost"), fate == "lost"
        self.sent.append(sent)
        sent.sid = f"SM{len(self.sent):032x}" if sent.channel == "sms" else f"sg-{len(self.sent)}"
        self.watch(sent)
        if fate == "lost":
            raise NoAnswer("ReadTimeoutError", sent=True)
        if fate:
            if fate == "opted out":
                self.opted_out.add((sent.channel, sent.address))
            return self._refusal(sent.channel, fate)
        if sent.channel == "email":
            return Answer(202, {"X-Message-Id": sent.sid}, b"")
        return _json(201, self._text(sent))

    @staticmethod
    def _refusal(channel: str, fate: str) -> Answer:
        status, code = {
            "busy": (429, 20429),
            "refused": (400, 21614),
            "broken": (500, 20500),
            "account": (401, 20003),
            "opted out": (400, 21610),
        }[fate]
        return _json(status, {"code": code, "message": "No.", "status": status})

    def texts_to(self, address: str) -> Answer:
        """Twilio's list of texts to a number."""
        found = [self._text(one) for one in self.sent if one.taken and one.address == address]
        uri = "/2010-04-01/Accounts/AC/Messages.json"
        page = {"messages": found[::-1], "page": 0, "page_size": 100, "next_page_uri": None}
        return _json(200, {**page, "uri": uri, "first_page_uri": uri, "start": 0})

    def text(self, path: str) -> Answer:
        """Twilio's record of one text."""
        found = [
            one for one in self.sent if one.taken and path.endswith(f"/Messages/{one.sid}.json")
        ]
        return _json(200, self._text(found[0])) if found else _json(404, {})

    def _text(self, sent: Sent) -> dict[str, Any]:
        ago = timedelta(seconds=self.clock.now - sent.at)
        date = format_datetime(datetime.now(UTC) - ago)
        return {
            "sid": sent.sid,
            "to": sent.address,
            "body": sent.text,
            "status": "delivered" if sent.delivered else "sent",
            "direction": "outbound-api",
            "error_code": None,
            "date_created": date,
            "date_sent": date,
        }


def _json(status: int, body: Any) -> Answer:
    return Answer(status, {"Content-Type": "application/json"}, json.dumps(body).encode())


class Wire:
    """What Relay takes for the internet: the lab's API and both providers, by their addresses."""

    lab: Lab
    providers: Providers

    def begin(self, lab: Lab, providers: Providers) -> None:
        """Another world."""
        self.lab, self.providers = lab, providers

    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> Answer:
        """One request."""
        parts = urlsplit(url)
        if parts.netloc == "lab.example":
            status, content = self.lab.answer(parts.path)
            return Answer(status, {"Content-Type": "application/json"}, content)
        if parts.netloc == "api.sendgrid.com":
            return self._mail(json.loads(body or b""))
        if method == "GET":
            to = parse_qs(parts.query).get("To")
            return self.providers.texts_to(to[0]) if to else self.providers.text(parts.path)
        form = {key: values[0] for key, values in parse_qs((body or b"").decode()).items()}
        called_back = parse_qs(urlsplit(form["StatusCallback"]).query)
        attempt = called_back["attempt"][0]
        return self._handed_over("sms", form["To"], form["Body"], attempt)

    def _mail(self, mail: dict[str, Any]) -> Answer:
        address = mail["personalizations"][0]["to"][0]["email"]
        (text,) = [one["value"] for one in mail["content"] if one["type"] == "text/plain"]
        attempt = mail["personalizations"][0]["custom_args"]["relay_attempt"]
        return self._handed_over("email", address, text, attempt)

    def _handed_over(self, channel: str, address: str, text: str, attempt: str) -> Answer:
        at = self.providers.clock.now
        return self.providers.send(Sent(at, channel, address, text.strip(), attempt))


@dataclass(frozen=True)
class Shown:
    """What Relay shows: `list --json`, its events, its worklist and what was closed."""

    messages: Sequence[Mapping[str, Any]]
    events: Mapping[str, Mapping[str, Any]]
    cases: Sequence[Mapping[str, Any]]
    closed: Sequence[Mapping[str, Any]]


class _Living:
    """The configuration that the web goes by: the worker's."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    @property
    def config(self) -> Any:
        return self._relay.jobs.config


class Relay:
    """The product on one ledger."""

    def __init__(self, settings: Settings, db: Database, folder: Path) -> None:
        self.db = db
        write_templates(folder)
        self.settings = replace(
            settings,
            delivery="live",
            templates=folder,
            public_url="https://relay.example",
            lab_api_url="https://lab.example",
            lab_api_token="lab-token",
            twilio_account_sid="AC" + "0" * 32,
            twilio_auth_token="twilio-token",
            sendgrid_api_key="SG.key",
        )
        self.edits: dict[str, str] = {}  # what an admin has done to rules
        self.settings.config.write_text(self.text(), "utf-8")
        app = create_app(self.settings)
        app.config["WTF_CSRF_ENABLED"] = False
        app.extensions["csrf"].protect = lambda: None  # no page is loaded before its button
        web = app.extensions["relay"]
        web.db.close()
        app.extensions["relay"] = replace(web, reloader=_Living(self), db=db)
        self.errors: list[str] = []
        structlog.configure(processors=[self._hear])
        self._lab_door, self.desk = app.test_client(), app.test_client()
        self._lab_door.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {SECRET}"
        self._made: dict[Any, Jobs] = {}  # by what config.toml and the environment say
        self.has_account = True
        self.wire = Wire()
        self.in_hand: list[Claim] = []
        with db.write() as connection:
            connection.execute(metadata.tables["login_failures"].delete())

    def _hear(self, _logger: Any, _method: str, said: Any) -> Any:
        if said.get("exc_info"):
            self.errors.append(str(said["event"]))
        raise structlog.DropEvent

    def begin(self, lab: Lab, providers: Providers) -> None:
        """An empty ledger, and another world beyond the wire."""
        empty(self.db)
        self.wire.begin(lab, providers)
        self.edits, self.has_account = {}, True
        for jobs in self._made.values():
            jobs._messages._breaker = CircuitBreaker(jobs.config.policy)
            jobs.lab_breaker._failures = 0
        self.errors.clear()
        self.in_hand.clear()

    # The configuration

    def text(self) -> str:
        """config.toml as it is now."""
        return HEAD + "".join(rule_text(name, self.edits.get(name, "")) for name in RULES)

    @property
    def jobs(self) -> Jobs:
        """The worker's work, by the configuration and the environment as they are now."""
        key = (tuple(sorted(self.edits.items())), self.has_account)
        if key not in self._made:
            self.settings.config.write_text(self.text(), "utf-8")
            token = "twilio-token" if self.has_account else ""
            by = replace(self.settings, twilio_auth_token=token)
            made = Jobs(load(by), self.db)
            made.lab._wire = self.wire
            made.channels._wire = self.wire
            self._made[key] = made
        return self._made[key]

    # The worker

    def work(self, seconds: float = 0.0) -> None:
        """Time passes, the clock ticks, and the worker does all that is due."""
        self.pass_time(seconds)
        if seconds >= TICK:
            self.jobs.sweep()
        self.drain()

    def pass_time(self, seconds: float) -> None:
        """Time passes, and nobody does anything."""
        if seconds:
            time_passes(self.db, timedelta(seconds=seconds))
            self.wire.lab.clock.now += seconds

    def drain(self) -> None:
        """Do all that is due, one after the other."""
        jobs = self.jobs
        is_idle = False
        while not is_idle:
            is_idle = True
            for event in sorted([*jobs.lease_events(10), *jobs.lease_lapsed(10)], key=_name):
                is_idle = False
                jobs.process(event)
            for channel, may_ask in product(CHANNELS, (False, True)):
                for claim in sorted(jobs.claim(channel, 10, may_ask=may_ask), key=_name):
                    is_idle = False
                    jobs.deliver(claim)
            if not is_idle:
                continue
            for look in sorted(jobs.reconciler.due(10), key=_name):
                is_idle = False
                jobs.reconciler.reconcile(look)
            for item in sorted(jobs.follow_ups.due(10), key=_name):
                is_idle = False
                jobs.follow_ups.follow_up(item)

    def take_in_hand(self, channel: str, count: int) -> None:
        """A worker processes events, claims messages and is slow."""
        for event in sorted(self.jobs.lease_events(10), key=_name):
            self.jobs.process(event)
        self.in_hand += self.jobs.claim(channel, count)
        self.in_hand += self.jobs.claim(channel, count, may_ask=True)

    def go_on(self) -> None:
        """The slow worker goes on."""
        while self.in_hand:
            self.jobs.deliver(self.in_hand.pop(0))

    # The lab, the providers and the staff

    def post(self, event: str, data: Mapping[str, Any]) -> str:
        """The lab posts a webhook; the id that it is answered."""
        body = json.dumps({"event": event, "data": data})
        answer = self._lab_door.post("/webhooks/lab", data=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json["id"])

    def tell(self, sent: Sent, word: str, code: int = 0) -> None:
        """A provider tells what became of a message."""
        if sent.channel == "sms":
            form = {"MessageSid": sent.sid, "MessageStatus": word, "ErrorCode": str(code or "")}
            told = twilio.parse_receipts(form, sent.attempt)
        else:
            event = {"event": word, "relay_attempt": sent.attempt, "sg_message_id": f"{sent.sid}.x"}
            event |= {"timestamp": 1_700_000_000 + len(sent.told), "reason": "Bounced Address"}
            told = sendgrid.parse_receipts([event])
        sent.told.append(word)
        receipts.record(self.db, sent.channel, told)

    def suppress(self, channel: str, address: str) -> None:
        """Somebody writes STOP."""
        suppress(self.db, channel, address, "STOP")

    def unsuppress(self, channel: str, address: str) -> None:
        """Staff let an address get messages again."""
        with self.db.write() as connection:
            suppressions.unsuppress(connection, channel, address)

    def cases(self, kind: str = "") -> Sequence[Mapping[str, Any]]:
        """The worklist, or one kind of case."""
        with self.db.read() as connection:
            return cases.open_cases(connection, kind)

    def acts(self, case: Mapping[str, Any]) -> list[str]:
        """The buttons of a case."""
        return sorted(case_acts.acts_of(case["kind"]))

    def waits(self, message: str) -> bool:
        """Whether a message waits."""
        with self.db.read() as connection:
            listed = queries.notifications_where(connection, queries.Filter())
            return any(row["id"] == message and row["status"] in WAITING for row in listed)

    def press(self, case_id: str, act: str) -> None:
        """Somebody of the staff does something about a case, on the desk."""
        answer = self.desk.post(f"/worklist/{case_id}", data={"act": act, "note": "Seen to."})
        if "/login" in answer.headers.get("Location", ""):
            answer = self.desk.post("/login", data={"password": self.settings.admin_password})
            assert answer.status_code == 302, answer.text
            answer = self.desk.post(f"/worklist/{case_id}", data={"act": act, "note": "Seen to."})
        assert answer.status_code == 302, answer.text
        assert "/login" not in answer.headers["Location"]

    def send_again(self, message: str) -> bool:
        """`flask relay resend MESSAGE`; whether that can be."""
        try:
            with self.db.write() as connection:
                config = self.jobs.config
                send_again.send_again(connection, config, message, by="desk", note="Wrong number.")
        except NotDone:
            return False
        return True

    def replay(self, id_: str) -> bool:
        """`flask relay replay ID`."""
        with self.db.write() as connection:
            if id_.startswith("evt"):
                return replay.replay_event(connection, id_)
            return replay.replay_notification(connection, id_)

    def replay_failed(self) -> list[str]:
        """`flask relay replay --failed`; what it named."""
        with self.db.read() as connection:
            ids = replay.ids_to_replay(connection, "held") + replay.failed_ids(connection)
        for id_ in ids:
            self.replay(id_)
        return ids

    def processed(self) -> set[str]:
        """The events that Relay has processed."""
        with self.db.read() as connection:
            listed, _ = activity.posted(connection, Wanted(), 1000)
        return {row["id"] for row in listed if row["status"] == "processed"}

    def shown(self) -> Shown:
        """What Relay shows of all this."""
        with self.db.read() as connection:
            messages = list(queries.notifications_where(connection, queries.Filter()))
            listed, _ = activity.posted(connection, Wanted(), 1000)
            open_, closed = cases.open_cases(connection), cases.closed_cases(connection, 1000)
        return Shown(messages, {row["id"]: row for row in listed}, open_, closed)


def _name(item: Any) -> tuple[str, ...]:
    """What a row is called from run to run: ids are random, and rows come in any order."""
    parts = ("event_name", "rule", "subject", "name", "channel", "address")
    return (*tuple(str(getattr(item, part, "")) for part in parts), str(getattr(item, "data", "")))


_ABOUT = re.compile(r"(\S+) (.*)to=(\S+)")


@dataclass(frozen=True)
class Words:
    """A message's words: the rule's name, whether it is the new template, and what they are of."""

    template: str
    names: Mapping[str, str]
    reader: str

    @property
    def rule(self) -> str:
        """The name of the rule, as it was when it made the words."""
        return self.template.removesuffix(NEW_WORDS)


def read(text: str) -> Words | None:
    """A message's words; None for an alert of Relay's own."""
    found = _ABOUT.fullmatch(text)
    if not found or found[1].removesuffix(NEW_WORDS).removesuffix(NEW_NAME) not in RULES:
        return None
    return Words(found[1], dict(part.split("=", 1) for part in found[2].split()), found[3])
