"""A clinic that sends for real, to stand-ins: events come in, the worker works, time passes."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from relay.config.loader import load
from relay.config.settings import Settings
from relay.jobs.tasks import Jobs
from relay.ledger import events, receipts
from relay.ledger.attempts import Claim
from relay.ledger.database import Database
from relay.ledger.schema import attempts, notifications
from relay.rules.receipts import Receipt
from relay.rules.statuses import ALERT
from tests.conftest import ROOT, drain
from tests.rows import MONTH, incoming, only, open_cases, rows, time_passes
from tests.standins import LabStandIn, ProviderStandIn

ORDER = "0d5e1f7c-8f5b-4d0c-9d53-0f6a8f1c2a10"
KIT = "e23e2d33-5ab4-4efc-8e94-7e914b5f99df"
RETEST = "0b7c6c1e-43c5-4c2c-9f0e-6c8f6a3f1f10"
PHONE, EMAIL = "+447700900001", "jane@example.org"
PERSON = {"first_name": "Jane", "last_name": "Smith", "email": EMAIL}
TO = {"email": EMAIL, "name": "Jane Smith"}  # as SendGrid is told

HEAD = """
[clinic]
name = "Example Clinic"
phone = "020 7946 0000"
[delivery]
sms_from = "EXCLINIC"
email_from = "results@example.org"
send_window = "always"
"""
DESK = "desk@example.org"
STAFF = f"""
[staff.desk]
email = ["{DESK}"]
"""
RULES = """
[rules.kit]
event = "order.shipped"
to = "customer"
channels = ["sms"]
fallback = ["email"]
template = "kit"
when = "order.shipping_status != 'returned'"
[rules.results]
event = "lab_results.complete"
to = "patient"
channels = ["sms"]
template = "results"
"""
TEMPLATES = {
    "kit/sms.txt": "Kit {{ order.tracking_number }} for {{ customer.first_name or 'you' }}",
    "kit/subject.txt": "Your kit",
    "kit/email.txt": "Kit {{ order.tracking_number }}",
    "kit/email.html": "<html><body>Kit {{ order.tracking_number }}</body></html>",
    "results/sms.txt": "Your results are ready, {{ patient.first_name }}.",
}


@dataclass
class Clinic:
    """One clinic's ledger, lab and providers."""

    settings: Settings
    db: Database
    lab: LabStandIn
    twilio: ProviderStandIn
    sendgrid: ProviderStandIn

    def configure(self, rules: str = RULES, head: str = HEAD, staff: str = "") -> None:
        """Write config.toml anew."""
        self.settings.config.write_text(head + staff + rules, "utf-8")

    def post(self, name: str = "order.shipped", **data: Any) -> str:
        """An event comes in; its id."""
        data = data or {"order_id": ORDER}
        if new := data.get("retest_testregistration_id"):  # the lab's API knows it too
            path = f"/api/test_registration/{new}"
            if path not in self.lab.resources:
                parent = data["testregistration_id"]
                self.lab.change("test_registration", new, foreign_id=new, parent_id=parent)
        return events.record_webhook(self.db, incoming(name, **data), MONTH).id

    def results(self, id_: str = KIT) -> str:
        """A kit's results are complete; the event's id."""
        return self.post("lab_results.complete", testregistration_id=id_)

    def orders(self, count: int) -> None:
        """So many orders are shipped, each to a phone of its own."""
        for number in range(count):
            person = {**PERSON, "phone_number": f"+4477009001{number:02}"}
            self.lab.change("order", f"o-{number}", tracking_number="RM1", customer=person)
            self.post(order_id=f"o-{number}")

    @property
    def jobs(self) -> Jobs:
        """The work by the config as it is now."""
        return Jobs(load(self.settings), self.db)

    def work(self, after: timedelta = timedelta()) -> None:
        """Time passes, the clock ticks, and the worker does all that is due."""
        time_passes(self.db, after)
        for request in (*self.twilio.accepted, *self.sendgrid.accepted):
            request.at -= after
        jobs = self.jobs
        jobs.sweep()
        drain(jobs)

    def claimed(self) -> tuple[Jobs, Claim]:
        """A worker that has processed the one event and claimed its text, and that text."""
        jobs = self.jobs
        (event,) = jobs.lease_events(1)
        jobs.process(event)
        (claim,) = jobs.claim("sms", 1)
        return jobs, claim

    def messages(self, **where: Any) -> list[dict[str, Any]]:
        """The notifications, the oldest first."""
        return sorted(rows(self.db, notifications, **where), key=lambda row: row["id"])

    def statuses(self) -> list[tuple[str, str]]:
        """Channel and status of each notification."""
        return sorted((row["channel"], row["status"]) for row in self.messages())

    def told(self) -> list[tuple[str, str, str]]:
        """Kind, address and status of what staff were written, in order."""
        return [
            (row["rule"].removeprefix("relay:"), row["address"], row["status"])
            for row in self.messages()
            if row["kind"] == ALERT
        ]

    def worklist(self) -> list[str]:
        """The kinds of the open cases, the oldest first."""
        return [row["kind"] for row in open_cases(self.db)]

    def attempt_of(self, **where: Any) -> str:
        """The id of the latest attempt of the one message that is asked for."""
        (row,) = self.messages(**where)
        tried = rows(self.db, attempts, notification_id=row["id"])
        return str(max(tried, key=lambda attempt: attempt["started_at"])["id"])

    def tell(self, state: str, code: str = "", **where: Any) -> None:
        """The provider tells what became of the latest attempt of one message."""
        self.tell_of(self.attempt_of(**where), state, code)

    def tell_of(self, attempt_id: str, state: str, code: str = "") -> None:
        """The provider tells what became of an attempt."""
        channel = only(self.db, attempts, id=attempt_id)["channel"]
        reason = f"The provider says {code}." if code else ""
        told = Receipt(state, state, attempt_id, code=code, reason=reason)
        receipts.record(self.db, channel, [told])


@pytest.fixture
def clinic(
    live: Settings,
    db: Database,
    lab: LabStandIn,
    twilio: ProviderStandIn,
    sendgrid: ProviderStandIn,
    tmp_path: Path,
) -> Clinic:
    """A clinic with a rule for a kit's customer and one for its patient's results."""
    shutil.copytree(ROOT / "templates", tmp_path / "templates")
    for name, text in TEMPLATES.items():
        path = tmp_path / "templates" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    customer = {**PERSON, "phone_number": PHONE}
    lab.change("order", ORDER, id=ORDER, tracking_number="RM1", customer=customer)
    for id_, parent in ((KIT, None), (RETEST, KIT)):
        details = {**PERSON, "mobile_phone_number": PHONE, "parent_id": parent}
        lab.change("test_registration", id_, id=id_, trf_code=f"LML-{id_[:6]}", **details)
    made = Clinic(replace(live, templates=tmp_path / "templates"), db, lab, twilio, sendgrid)
    made.configure()
    return made


def suppress(db: Database, channel: str, address: str) -> None:
    """Somebody opts out."""
    with db.write() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO suppressions (channel, address, source, created_at)"
                " VALUES (:channel, :address, 'test', CURRENT_TIMESTAMP)"
            ),
            {"channel": channel, "address": address},
        )
