"""What the ledger keeps of what the lab tells: nothing sensitive that no rule reads."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from relay.lab.facts import SENSITIVE, Facts
from relay.ledger.schema import events
from relay.rules.expressions import environment, read_fields
from tests.jobs.conftest import KIT, RULES, Clinic
from tests.rows import only

BORN, REPORT, STREET = "1987-06-05", "https://lab.example/report.pdf", "1 Canary Wharf"


@pytest.fixture
def kit(clinic: Clinic) -> Clinic:
    """A clinic whose kit has everything that few messages need."""
    clinic.lab.change("test_registration", KIT, date_of_birth=BORN, download_url=REPORT)
    clinic.lab.change("order", "o-1", address={"line_1": STREET}, tracking_number="RM1")
    return clinic


def kept(clinic: Clinic) -> str:
    """All that the ledger has of the facts of the one event."""
    return json.dumps(only(clinic.db, events)["facts"])


def test_nothing_sensitive_is_kept_that_no_rule_reads(kit: Clinic) -> None:
    """Date of birth, report link and delivery address go no further than the lab's answer."""
    kit.results()
    kit.work()
    assert "Jane" in kept(kit)
    for secret in (BORN, REPORT, '"date_of_birth":', '"download_url":'):
        assert secret not in kept(kit)


def test_a_delivery_address_is_not_kept_either(kit: Clinic) -> None:
    """It is whoever's the parcel goes to; the message about the parcel goes out all the same."""
    kit.post(order_id="o-1")
    kit.work()
    assert STREET not in kept(kit)
    assert kit.messages()[0]["status"] == "sent"


def test_what_a_rule_reads_is_kept(kit: Clinic) -> None:
    """A rule whose condition asks for the date of birth finds it in the ledger."""
    kit.configure(RULES + """when = "registration.date_of_birth < '2008-01-01'"\n""")
    kit.results()
    kit.work()
    assert BORN in kept(kit)
    assert REPORT not in kept(kit)
    assert kit.messages()[0]["status"] == "sent"


def test_what_was_not_kept_is_asked_for_again(kit: Clinic) -> None:
    """A template that was edited to read it, before the message went out, gets it from the lab."""
    kit.results()
    jobs = kit.jobs
    (event,) = jobs.lease_events(1)
    jobs.process(event)
    path = kit.settings.templates / "results" / "sms.txt"
    path.write_text("Born {{ registration.date_of_birth }}.", "utf-8")
    kit.work(timedelta(seconds=1))
    assert kit.messages()[0]["content"] == {"text": f"Born {BORN}."}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("{{ registration.date_of_birth }}", {"date_of_birth"}),
        ("{{ registration['date_of_birth'] }}", {"date_of_birth"}),
        ("{{ registration | attr('date_of_birth') }}", {"date_of_birth"}),
        ("{{ items | map(attribute='order.address') | list }}", {"address"}),
        ("{{ registration[event.name] }}", {"date_of_birth", "download_url", "address"}),
        ("{{ order.items[0].quantity }} {{ clinic.name[:3] }}", set()),
    ],
)
def test_however_a_field_is_read(written: str, read: set[str]) -> None:
    """By a point, a text or a name that is made up: it counts as read."""
    sensitive = {field for fields in SENSITIVE.values() for field in fields}
    assert read_fields(environment().parse(written)) & sensitive == read


def test_what_was_not_kept_is_empty_to_rules() -> None:
    """Facts without it are read as if the lab had left it empty."""
    whole: dict[str, Any] = {"id": "k-1", "date_of_birth": BORN, "status": "success"}
    facts = Facts(registration=whole).without_unread(frozenset())
    assert not facts.namespace()["registration"].date_of_birth
    assert facts.namespace()["registration"].status == "success"
    assert Facts(registration=whole).without_unread(frozenset({"date_of_birth"})) == Facts(
        registration=whole
    )
