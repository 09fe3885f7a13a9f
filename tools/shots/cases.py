"""Something of each kind on the worklist, about a kit of its own: its buttons do what they say."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from flask import Flask

from relay.lab import events, samples
from relay.lab.facts import Facts
from relay.ledger import events as ledger_events
from relay.ledger.database import Database
from relay.ledger.schema import events as stored
from relay.ledger.schema import notifications
from relay.ledger.worklist import cases, releases, replies
from relay.rules.alerts import NO_KIT
from relay.rules.model import Case, Notice, Plan
from relay.rules.replies import REPLY

# Kind of case, what has become of the message that it is about, and why.
KINDS = (
    ("unreached", "permanent-failure", "The number cannot be reached, and there is no email."),
    ("broken", "technical-failure", "kit_shipped/sms.txt: customer.first_name is empty."),
    ("held", "", "The lab's API did not give results within 3 days."),
    ("unknown", "unknown", "Twilio does not list it."),
    ("unknown", "unknown", "Twilio could not be asked for it."),
    ("release", "scheduled", "It is for the customer. If nobody stops it, it goes out in 2 days."),
    ("release", "scheduled", "It is for the customer. If nobody stops it, it goes out in 2 days."),
    ("missing", "", "The results have not come within 10 days of the sample."),
    ("mismatch", "", "3 patients of different names have this number."),
)
NAMES = ("Ada", "Ben", "Cleo", "Dev", "Eve", "Finn", "Gwen", "Hal", "Ivy")
REFUSED = (
    b'{"event": "order.shipped", "data": {"order_id": "", "name": "Jane Smith"}}',
    b'{"event": "order.shipped", "data": {"order_id": "7", "order_id": "8"}}',
)
UNKNOWN = ("kit.recalled", "order.returned")


def open_all(db: Database) -> None:
    """A case of each of KINDS, and a text."""
    for (kind, status, reason), name in zip(KINDS, NAMES, strict=True):
        _open(db, kind, status, reason, name)
    text = Case(REPLY, "", NO_KIT, "")
    with db.write() as connection:
        replies.keep(connection, "sms", "SM-1", "+447700900002", "Where is my kit?", text)


def post_all(app: Flask, secret: str) -> None:
    """Posts that are refused, one of them twice, and events whose names nobody knows."""
    client = app.test_client()
    known = [json.dumps({"event": name, "data": {"kit_id": "7"}}).encode() for name in UNKNOWN]
    for body in (*REFUSED, REFUSED[0], *known):
        client.post(f"/webhooks/lab/{secret}", data=body)


def _open(db: Database, kind: str, status: str, reason: str, name: str) -> None:
    kit = str(uuid.uuid5(uuid.NAMESPACE_URL, name))
    body = {"event": "order.shipped", "data": {"order_id": kit}}
    ledger_events.record_webhook(db, events.parse(json.dumps(body).encode()), timedelta(days=30))
    [event] = ledger_events.lease_events(db, 1)
    told = (_notice(kit),) if status else ()
    facts = Facts(order={"id": kit}, customer={"first_name": name, "last_name": "Hart"})
    if kind == "release":  # shown as it would be written
        told += (replace(_notice(kit), channel="email", address="hart@example.org"),)
        full = samples.full(name)
        order, customer = {**(full.order or {}), "id": kit}, {**(full.customer or {})}
        facts = Facts(order=order, customer={**customer, "last_name": "Hart"})
    with db.write() as connection:
        ids = ledger_events.plan_and_mark_processed(
            connection, event, facts, lambda _kit: Plan(told)
        )
    case = Case(kind, told[0].obligation if told else kit, kit, reason, event.id, (*ids, None)[0])
    with db.write() as connection:
        if kind == "release":
            releases.ask(connection, case)
        else:
            cases.open_case(connection, case)
        if ids:
            mine = notifications.update().where(notifications.c.id == ids[0])
            connection.execute(mine.values(status=status))
        if kind == "held":
            held = stored.update().where(stored.c.id == event.id)
            connection.execute(held.values(status="held", reason=reason))


def _notice(kit: str) -> Notice:
    return Notice(
        rule="kit-shipped",
        template="kit_shipped",
        role="customer",
        subject=kit,
        round=0,
        channel="sms",
        address="+447700900001",
        status="scheduled",
        reason="",
        due_at=datetime.now(UTC) + timedelta(days=2),
        urgency=0,
    )
