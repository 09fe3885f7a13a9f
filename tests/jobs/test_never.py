"""[never.…]: what no message may say, asked last, by the facts that the message is made from."""

from __future__ import annotations

import pytest

from relay.ledger.schema import notifications
from tests.jobs.conftest import KIT, STAFF, Clinic
from tests.rows import only

RESULTS = """
[rules.results]
event = "lab_results.complete"
to = "patient"
channels = ["sms"]
template = "results"
"""
NEVER = """
[never.results-on-failure]
{about}
when = "registration.status in ['fail', 'processing_error']"
because = "Nobody learns of a failed test by a text."
"""


@pytest.mark.parametrize("about", ['template = "results"', 'rule = "results"'])
@pytest.mark.parametrize("status", ["fail", "success"])
def test_what_is_forbidden_is_not_handed_over(clinic: Clinic, about: str, status: str) -> None:
    """Though its rule wants it: it ends as cancelled, and says which guard rail and why."""
    clinic.configure(RESULTS + NEVER.format(about=about))
    clinic.lab.change("test_registration", KIT, status=status)
    clinic.results()
    clinic.work()
    row = only(clinic.db, notifications)
    if status == "success":
        assert (row["status"], len(clinic.twilio.accepted)) == ("sent", 1)
        return
    assert (row["status"], clinic.twilio.accepted) == ("cancelled", [])
    assert row["reason"] == (
        "[never.results-on-failure] forbids it: Nobody learns of a failed test by a text."
    )


def test_what_only_the_guard_rail_reads_is_fetched(clinic: Clinic) -> None:
    """It may speak of somebody whom neither its rule nor the words name."""
    never = 'rule = "desk"\nwhen = "patient.last_name == \'Smith\'"\nbecause = "So."\n'
    clinic.configure(DESK_RESULTS + f"[never.smith]\n{never}", staff=STAFF)
    clinic.results()
    clinic.work()
    assert (clinic.statuses(), clinic.sendgrid.accepted) == ([("email", "cancelled")], [])


def test_it_is_asked_of_another_template_not(clinic: Clinic) -> None:
    """A guard rail of another rule's words stops nothing else."""
    clinic.configure(RESULTS + NEVER.format(about='template = "kit_shipped"') + SHIPPED)
    clinic.lab.change("test_registration", KIT, status="fail")
    clinic.results()
    clinic.work()
    assert clinic.statuses() == [("sms", "sent")]


DESK_RESULTS = """
[rules.desk]
event = "lab_results.complete"
to = "desk"
channels = ["email"]
template = "desk_results"
"""
SHIPPED = """
[rules.shipped]
event = "order.shipped"
to = "customer"
channels = ["sms"]
template = "kit_shipped"
"""
