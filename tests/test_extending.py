"""docs/extending.md: what it says to add is all that has to be added."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twilio.request_validator import RequestValidator

from relay.ledger.database import Database
from relay.ledger.holds import suppressions
from tests.cli.conftest import make_own
from tests.conftest import ROOT, SECRET
from tests.processes.harness import Processes, RedisServer, eventually
from tests.rows import messages, suppress, unfinished
from tests.standins import LabStandIn, ProviderStandIn

PAGE = (ROOT / "docs" / "extending.md").read_text("utf-8")
BLOCK = re.compile(r"(.*?)^```(?:python|json|toml|jinja)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
PUBLIC = "https://relay.example.org"
TOKEN = "twilio-token"
# A rule for the second phone channel, by both of them.
BOTH = """
[rules.by-both]
event = "order.returned"
to = "customer"
channels = ["whatsapp", "sms"]
template = "by_both"
when = "order.order_number == 'both'"
"""
PHONE, EARLIER = "+447700900001", "+447700900002"
PRODUCT = ("relay", "templates", "app.py", "gunicorn.conf.py", "config.toml")


def recipes() -> list[tuple[str, str, str]]:
    """Each block of the page: the file it goes into, and the line it goes behind. With no line it
    is the whole file, or the end of one that is there.
    """
    made: list[tuple[str, str, str]] = []
    for before, block in BLOCK.findall(PAGE):
        place, _, anchor = before.rpartition("behind")
        paths = re.findall(r"`((?:relay|templates)/[\w/]+\.\w+|config\.toml)`", place or before)
        behind = re.search(r"`([^`]+)`", anchor) if place else None
        made.append((paths[-1] if paths else made[-1][0], behind[1] if behind else "", block))
    return made


def add(copy: Path, path: str, anchor: str, block: str) -> None:
    """Do to a copy what the page says."""
    file = copy / path
    if not anchor:
        file.parent.mkdir(exist_ok=True)
        with file.open("a", encoding="utf-8") as end:
            end.write(block)
        return
    lines = file.read_text("utf-8").splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if anchor in line)
    lines.insert(at + 1, block)
    file.write_text("".join(lines), "utf-8")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The product, and nothing of its tests, with all that the page adds."""
    made = tmp_path / "copy"
    made.mkdir()
    for name in PRODUCT:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, made / name, ignore=shutil.ignore_patterns("*.pyc"))
        else:
            shutil.copy(ROOT / name, made / name)
    for path, anchor, block in recipes():
        add(made, path, anchor, block)
    config = made / "config.toml"
    text = config.read_text("utf-8") + BOTH
    text = text.replace('send_window = "08:00-20:00"', 'send_window = "always"')
    sender = '[delivery]\nwhatsapp_from = "+447700900100"\n'
    config.write_text(text.replace("[delivery]\n", sender), "utf-8")
    make_own(config)
    for name in ("sms", "whatsapp"):
        add(made, f"templates/by_both/{name}.txt", "", "Your parcel came back to us.")
    return made


@pytest.fixture
def extended(
    copy: Path, tmp_path: Path, lab: LabStandIn, twilio: ProviderStandIn
) -> Iterator[Processes]:
    """The copy's processes on a ledger and a queue of their own, not started yet."""
    queue = RedisServer()
    environ = {
        "PYTHONPATH": str(copy),
        "RELAY_ENV": "production",
        "RELAY_DELIVERY": "live",
        "DATABASE_URL": f"sqlite:///{tmp_path}/relay.db",
        "REDIS_URL": queue.url,
        "LAB_API_URL": lab.url,
        "LAB_API_TOKEN": lab.token,
        "WEBHOOK_SECRET": SECRET,
        "METRICS_TOKEN": SECRET,
        "LETTERS_FILE": str(tmp_path / "letters.txt"),
        "PUBLIC_URL": PUBLIC,
        "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
        "TWILIO_AUTH_TOKEN": TOKEN,
        "TWILIO_API_URL": twilio.url,
    }
    made = Processes(environ, tmp_path, copy)
    yield made
    made.close()
    queue.close()


def flask_relay(product: Processes, *words: str) -> str:
    """What a command prints, which ends well."""
    done = subprocess.run(
        [sys.executable, "-m", "flask", "relay", *words],
        cwd=product.root,
        env=product.environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def started(extended: Processes) -> Iterator[tuple[Processes, Database]]:
    """The same with web and worker, ready, on a ledger that `flask relay upgrade` has made."""
    flask_relay(extended, "upgrade")
    extended.start("web")
    extended.start("worker")
    eventually(extended.ready)
    db = Database(extended.environ["DATABASE_URL"])
    yield extended, db
    db.close()


def returned(
    product: Processes, lab: LabStandIn, id_: str, phone: str = PHONE, **order: Any
) -> None:
    """An order comes back, and the lab posts it twice."""
    customer = {"id": "c", "first_name": None, "last_name": "Smith", "email": None}
    customer["phone_number"] = phone
    lab.change("order", id_, **{"id": id_, "tracking_number": None, **order}, customer=customer)
    body = {"event": "order.returned", "data": {"order_id": id_}}
    assert [product.post(body).json()["status"] for _ in "12"] == ["accepted", "duplicate"]


def call_back(product: Processes, path: str, **form: str) -> None:
    """Twilio posts a form, signed."""
    path = path.partition("#")[0]  # the rest is for Twilio
    signature = RequestValidator(TOKEN).compute_signature(PUBLIC + path, form)
    headers = {"X-Twilio-Signature": signature, "X-Forwarded-Proto": "https"}
    assert product.tell(path, form, headers) == 200


def statuses(db: Database) -> list[tuple[str, str]]:
    """Every message's channel and status."""
    return [(row["channel"], row["status"]) for row in messages(db)]


def test_no_recipe_of_the_page_is_passed_over() -> None:
    """Each of its blocks is put into the copy."""
    assert len(recipes()) == len(re.findall(r"^```$", PAGE, re.MULTILINE))


@pytest.mark.slow
def test_commands_take_what_this_page_adds(extended: Processes) -> None:
    """With an event, a rule key and two channels, added as the page says and nowhere else, `check`
    finds nothing wrong, and `preview` shows the letter."""
    assert "is right" in flask_relay(extended, "check")
    assert "LETTER" in flask_relay(extended, "preview", "order-came-back")


@pytest.mark.slow
def test_a_letter_goes_out_once(
    started: tuple[Processes, Database], tmp_path: Path, lab: LabStandIn
) -> None:
    """Web and worker of the copy are ready, the event is taken, the key decides, the letter goes
    out by the new channel, once, and the metrics count it."""
    product, db = started
    returned(product, lab, "o-1", tracking_number="RM1")
    returned(product, lab, "o-2")
    eventually(lambda: statuses(db) == [("letter", "sent")])
    eventually(lambda: not unfinished(db))
    assert (tmp_path / "letters.txt").read_text("utf-8") == "Smith: Parcel RM1 came back to us.\n"
    assert 'relay_messages{channel="letter",status="sent"} 1.0' in product.read("/metrics")
    assert product.ready()


@pytest.mark.slow
def test_a_second_phone_channel_shares_what_is_the_numbers(
    started: tuple[Processes, Database], lab: LabStandIn, twilio: ProviderStandIn
) -> None:
    """WhatsApp goes to the number that texts go to, its receipt comes by the same callback, and a
    STOP on WhatsApp stops texts too, as a STOP from before there was WhatsApp stops WhatsApp."""
    product, db = started
    returned(product, lab, "o-1", order_number="both")
    eventually(lambda: sorted(statuses(db)) == [("sms", "sent"), ("whatsapp", "sent")])
    sent = {request.form["To"]: request.form for request in twilio.accepted}
    assert sent.keys() == {PHONE, f"whatsapp:{PHONE}"}
    address = sent[f"whatsapp:{PHONE}"]["StatusCallback"]
    call_back(product, address.removeprefix(PUBLIC), MessageSid="SM1", MessageStatus="read")
    assert sorted(statuses(db)) == [("sms", "sent"), ("whatsapp", "delivered")]
    stop = {"From": f"whatsapp:{PHONE}", "Body": "Stop", "MessageSid": "SM2"}
    call_back(product, "/callbacks/twilio/inbound", **stop)
    returned(product, lab, "o-2", order_number="both")
    suppress(db, "sms", EARLIER, suppressions.STOP)  # as the code without WhatsApp
    returned(product, lab, "o-3", EARLIER, order_number="both")
    stopped = [("sms", "cancelled"), ("sms", "cancelled")]
    stopped += [("whatsapp", "cancelled"), ("whatsapp", "cancelled")]
    eventually(lambda: [one for one in sorted(statuses(db)) if one[1] == "cancelled"] == stopped)
    assert len(twilio.accepted) == 2
