"""What is done with an input: each of these makes an act, which says what Relay did, in a line."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from relay.ledger.schema import cases, events, notifications, pauses, receipts
from relay.messages import sms_segments
from relay.rules.statuses import RECEIVED
from tests.processes.harness import eventually
from tests.rows import change, only, rows
from tests.standins import Reply, twilio_list
from tools.reports.servers import guarded
from tools.reports.stage import INBOUND, MAIL, Row, Stage

Act = Callable[[Stage], str]
SAMPLE, RESULTS = "test_registration.sample_received", "lab_results.complete"
LANDLINE = "020 7946 0018"
# Lines of the config.toml that Relay runs on.
STAFF, ALLOW = 'sms = ["+447700900100"]', '# allow = ["you@example.org"]'
SENDER = '"Clinic, results <results@example.org>"'


def outcome(message: Row) -> str:
    """What became of a message: to whom it went, or why it went to nobody."""
    if message["status"] in ("sent", "delivered"):
        return f"{message['status']} to {message['address']}"
    return f"{message['status']}: {message['reason']}"


def again(stage: Stage, message: Row) -> Row:
    """A message as it stands now."""
    return only(stage.db, notifications, id=message["id"])


def retried(stage: Stage, event: str) -> str:
    """What becomes of an event's text, once the event is tried again, if it has to be."""
    change(stage.db, events, {"id": event, "status": RECEIVED}, next_at=datetime.now(UTC))
    return f"Then {outcome(stage.message(event, 'sms'))}"


def worded(stage: Stage, number: str) -> str:
    """The last text to a number, as Twilio got it, with its alphabet and its segments."""
    sent = [asked.form for asked in stage.twilio.accepted if asked.form["To"] == number]
    body = sent[-1]["Body"]
    size = sms_segments.size(body)
    return f"{body} ({size.alphabet}, {size.segments})"


def ordered(channel: str, **customer: Any) -> Act:
    """Somebody whom the lab writes so has ordered a kit."""
    return lambda stage: outcome(stage.sent(channel, **customer))


def numbered(id_: Any) -> Act:
    """The lab writes an order's id so."""

    def act(stage: Stage) -> str:
        event = stage.taken("order.shipped", {"order_id": stage.order(id_) and id_})
        return f"{outcome(stage.message(event, 'sms'))}, order {stage.event(event)['subject']!r}"

    return act


def greeted(name: str) -> Act:
    """Somebody of this first name has ordered a kit."""

    def act(stage: Stage) -> str:
        email = stage.sent("email", first_name=name)
        lines = email["content"]["text"].splitlines()
        hello = next(line for line in lines if line.startswith("Hello"))
        return f"{hello} {stage.command('explain', email['event_id'], about='first name')}"

    return act


def texted(name: str) -> Act:
    """Somebody of this first name gets the text that greets them."""

    def act(stage: Stage) -> str:
        event = stage.ordered("order.delivered", first_name=name)
        return worded(stage, stage.message(event, "sms")["address"])

    return act


def commanded(*words: str, about: str = "", **environ: str) -> Act:
    """Somebody types a command."""
    return lambda stage: stage.command(*words, about=about, **environ)


def checked(old: str, new: str, about: str = "") -> Act:
    """config.toml has one thing written so, and is checked."""

    def act(stage: Stage) -> str:
        path = stage.config((old, new))
        said = stage.command("check", "--offline", "--config", path, about=about or path)
        return said.replace(path, "config.toml")

    return act


def from_(sender: str) -> Act:
    """`email_from` is this, and somebody sends a test."""

    def act(stage: Stage) -> str:
        path = stage.config(_sender(sender))
        said = stage.command(
            "send-test", "kit-shipped", "--to", "ada@example.org", RELAY_CONFIG=path
        )
        return f"{said} {json.dumps(stage.sendgrid.accepted[-1].json['from'])}"

    return act


def refused_sender(sender: str) -> Act:
    """`email_from` is this, and the file is checked."""
    return checked(*_sender(sender), about="email_from")


def _sender(sender: str) -> tuple[str, str]:
    return SENDER, json.dumps(sender, ensure_ascii=False)


def short_name(name: str) -> Act:
    """The clinic has a shorter name for texts, and somebody sends a test."""

    def act(stage: Stage) -> str:
        path = stage.config(('# short_name = "Example"', f'short_name = "{name}"'))
        stage.command("send-test", "kit-shipped", "--to", "+447700900001", RELAY_CONFIG=path)
        return worded(stage, "+447700900001")

    return act


def saved(words: str, encoding: str = "utf-8") -> Act:
    """A template is saved so, and checked, and somebody sends a test."""

    def act(stage: Stage) -> str:
        folder = stage.templates("kit_shipped/sms.txt", words, encoding)
        by = {"RELAY_TEMPLATES": folder}
        said = stage.command("check", "--offline", about="kit_shipped/sms.txt", **by)
        stage.command("send-test", "kit-shipped", "--to", "+447700900002", **by)
        return f"{said.replace(folder + '/', '')} Sent: {worded(stage, '+447700900002')}"

    return act


def allowed(listed: str, to: str) -> Act:
    """Only one address is allowed, and somebody sends a test to it in other letters."""

    def act(stage: Stage) -> str:
        path = stage.config((ALLOW, f'allow = ["{listed}"]'))
        by = {"RELAY_CONFIG": path, "RELAY_DELIVERY": "allow-list"}
        return stage.command("send-test", "kit-shipped", "--to", to, **by)

    return act


def unreadable(body: Any, event: str = "order.shipped", path: str = "/api/order/{id}") -> Act:
    """The lab answers 200 with this once, and then as it should."""

    def act(stage: Stage) -> str:
        is_order = event == "order.shipped"
        id_ = stage.order(phone_number=None) if is_order else stage.registered()
        person = stage.lab.resources[f"/api/order/{id_}"]["customer"] if is_order else {}
        known = stage.person(**{**person, "phone_number": f"+447700900{next(stage.numbers)}"})
        stage.lab.resources[f"/api/customer/{known['id']}"] = known
        stage.once(path.format(id=id_, person=known["id"]), Reply(200, body))
        field = "order_id" if is_order else "testregistration_id"
        taken = stage.taken(event, {field: id_})
        first = stage.event(taken)
        return f"{first['status']}: {first['reason']} {retried(stage, taken)}"

    return act


def never_readable(body: Any) -> Act:
    """The lab answers 200 with this for the whole of `lab_patience`."""

    def act(stage: Stage) -> str:
        id_ = stage.order()
        stage.lab.resources[f"/api/order/{id_}"] = Reply(200, body)
        taken = stage.taken("order.shipped", {"order_id": id_})
        stage.event(taken)
        change(stage.db, events, {"id": taken}, next_at=datetime.now(UTC), tries=30)
        held = eventually(lambda: next(iter(rows(stage.db, events, id=taken, status="held")), None))
        found = rows(stage.db, cases, kind="held", closed_at=None)
        return f"held: {held['reason']} {len(found)} case"

    return act


def redirected(status: int, to: str) -> Act:
    """The lab leads an order's address on to another, once."""

    def act(stage: Stage) -> str:
        id_ = stage.order()
        path = f"/api/order/{id_}"
        where = to.format(lab=stage.lab.url, other=stage.elsewhere.url, path=path)
        stage.once(path, Reply(status, headers={"Location": where}))
        taken = stage.taken("order.shipped", {"order_id": id_})
        first, astray = stage.event(taken), len(stage.elsewhere.requests)
        said = f"{first['status']}: {first['reason']} {astray} requests went elsewhere."
        return f"{said} {retried(stage, taken)}"

    return act


def sample(channel: str = "sms", **data: Any) -> Act:
    """The lab tells of a sample, with these fields."""

    def act(stage: Stage) -> str:
        phone = {} if channel == "sms" else {"phone_number": LANDLINE}
        taken = stage.taken(SAMPLE, {"testregistration_id": stage.registered(**phone), **data})
        message = stage.message(taken, channel)
        dated = [line for line in message["content"].get("text", "").splitlines() if " on " in line]
        note = stage.command("explain", taken, about="The lab sent no")
        return " ".join([outcome(message), *(dated if channel == "email" else [note])])

    return act


def posted(event: str, data: Any) -> Act:
    """The lab posts what cannot be an event."""

    def act(stage: Stage) -> str:
        status, _ = stage.webhook(event, data)
        case = rows(stage.db, cases, kind="refused", closed_at=None)[-1]
        return f"{status}; a case: {case['reason']} ({case['count']})"

    return act


def knocked(path: str) -> Act:
    """The lab posts to this address."""

    def act(stage: Stage) -> str:
        status, answer = stage.webhook("order.shipped", {"order_id": stage.order()}, path)
        if status == 200:
            return f"{status}, {outcome(stage.message(answer['id'], 'sms'))}"
        lines = [line for line in stage.log().splitlines() if "no such door" in line]
        told = json.loads(lines[-1]) if lines else {}
        return f"{status}, in the log: {told.get('event')}, {told.get('path')}"

    return act


def slashed(path: str) -> Act:
    """A provider posts to this address."""

    def act(stage: Stage) -> str:
        message = stage.sent("email" if path.startswith(MAIL) else "sms")
        if path.startswith(MAIL):
            status = stage.tell(message, "delivered", path)
        elif path.startswith(INBOUND):
            status = stage.text("STOP", message["address"], path)
            return f"{status}, stopped by {stage.stopped(message['address'])}"
        else:
            status = stage.tell_of_text(message, "delivered", path)
        return f"{status}, {outcome(again(stage, message))}"

    return act


def stopped_then(address: str, written: str) -> Act:
    """Staff stop an address, and the lab writes it so."""

    def act(stage: Stage) -> str:
        said = stage.command("suppress", address)
        return f"{said} {outcome(stage.sent('email', email=written))}"

    return act


def after(*told: dict[str, Any], capitals: bool = False) -> Act:
    """SendGrid tells of an email; what became of it, and of the next one to that address."""

    def act(stage: Stage) -> str:
        first = stage.sent("email")
        now = int(time.time())
        for number, fields in enumerate(told):
            stage.tell(first, **{"timestamp": now + number, **fields})
        address = first["address"].title() if capitals else first["address"]
        next_ = outcome(stage.sent("email", email=address))
        return f"{outcome(again(stage, first))} The next: {next_}"

    return act


def said_of(stage: Stage, message: Row) -> str:
    """The provider's words about a message that have been kept, and what became of it."""
    kept = rows(stage.db, receipts, attempt_id=stage.attempt(message))
    return f"{', '.join(row['word'] for row in kept)}: {outcome(again(stage, message))}"


def told(**fields: Any) -> Act:
    """SendGrid tells one thing of an email, and then that it has arrived."""

    def act(stage: Stage) -> str:
        email = stage.sent("email")
        stage.tell(email, **fields)
        stage.tell(
            email, "delivered", relay_attempt=fields.get("relay_attempt", stage.attempt(email))
        )
        return said_of(stage, email)

    return act


def batch(odd: bytes) -> Act:
    """SendGrid tells of two emails in a batch, and a mail server has answered with these bytes."""

    def act(stage: Stage) -> str:
        one, other = stage.sent("email"), stage.sent("email")
        first = json.dumps(stage.reported(one, "delivered", response="RESPONSE")).encode()
        second = json.dumps(stage.reported(other, "delivered")).encode()
        status = stage.mail(b"[" + first.replace(b"RESPONSE", odd) + b"," + second + b"]")
        return f"{status}, {said_of(stage, one)}, {said_of(stage, other)}"

    return act


def heard(body: str, encoding: str = "utf-8") -> Act:
    """Somebody texts this; what becomes of the next text to them."""

    def act(stage: Stage) -> str:
        number = stage.sent("sms")["address"]
        status = stage.text(body, number, encoding=encoding)
        return f"{status}, {outcome(stage.sent('sms', phone_number=number))}"

    return act


def forgotten(asked: str, **customer: Any) -> Act:
    """Somebody whom the lab writes so is forgotten, by any of their names."""

    def act(stage: Stage) -> str:
        order = stage.order(**customer)
        stage.message(stage.taken("order.shipped", {"order_id": order}), "sms")
        who = stage.lab.resources[f"/api/order/{order}"]["customer"]
        return stage.command(
            "forget", asked.format(order=order, **who), "--yes", about="nothing is"
        )

    return act


def redis_at(url: str, **environ: str) -> Act:
    """`check`, with a Redis that has a password and a certificate of its own making."""

    def act(stage: Stage) -> str:
        with guarded() as (plain, tls):
            where = url.format(plain=plain, tls=tls)
            return stage.command("check", about="REDIS_URL", REDIS_URL=where, **environ)

    return act


def callback_lost() -> Act:
    """No callback of a text has come for 72 hours, and Twilio has it as delivered."""

    def act(stage: Stage) -> str:
        text = stage.sent("sms")
        asked = next(one for one in stage.twilio.accepted if one.form["To"] == text["address"])
        overrides = asked.form["StatusCallback"].partition("#")[2]
        path = asked.path.replace("/Messages.json", f"/Messages/{text['provider_id']}.json")

        def answer(request: Any) -> Reply | None:
            if request.method != "GET" or text["provider_id"] not in request.path:
                return None
            body = twilio_list(request, stage.twilio.accepted).body
            return Reply(200, {**body, "status": "delivered"})

        stage.twilio.answers.append(answer)
        overdue = datetime.now(UTC) - timedelta(minutes=1)
        change(stage.db, notifications, {"id": text["id"]}, receipt_by=overdue)
        eventually(lambda: again(stage, text)["status"] != "sent")
        looks = sum(one.path == path and one.method == "GET" for one in stage.twilio.requests)
        return f"#{overrides}; Twilio was asked {looks} time, {outcome(again(stage, text))}"

    return act


def accused(channel: str, word: str, **fields: str) -> Act:
    """The provider tells of a message that our account is to blame; later it arrives."""

    def act(stage: Stage) -> str:
        tell = stage.tell if channel == "email" else stage.tell_of_text
        first = stage.sent(channel)
        tell(first, word, **fields)
        (pause,) = eventually(lambda: rows(stage.db, pauses, channel=channel))
        opened = rows(stage.db, cases, kind="paused", subject=channel, closed_at=None)
        alerts = rows(stage.db, notifications, case_id=opened[0]["id"])
        change(stage.db, pauses, {"channel": channel}, until=datetime.now(UTC))
        (second,) = eventually(
            lambda: rows(stage.db, notifications, id=first["id"], status="sent", attempts=2)
        )
        tell(second, "delivered")
        return (
            f"{len(opened)} case, {len(alerts)} alert: {pause['reason']} Sent again: "
            f"{outcome(again(stage, first))}, {len(rows(stage.db, pauses))} paused"
        )

    return act
