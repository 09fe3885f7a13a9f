"""An email address is one address in whatever letters, and is sent as it is written."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from relay.ledger.holds import suppressions
from relay.ledger.schema import suppressions as stopped
from relay.ledger.views import queries
from relay.rules.addresses import normalised
from tests.jobs.conftest import HEAD, ORDER, PERSON, Clinic, suppress
from tests.rows import rows

LAB, SMALL = "Ada.Stone@example.org", "ada.stone@example.org"
BY_EMAIL = """
[rules.kit]
event = "order.shipped"
to = "customer"
channels = ["email"]
template = "kit"
"""


def written_by_the_lab(clinic: Clinic, email: str) -> None:
    """The lab has the customer's address in these letters."""
    clinic.configure(BY_EMAIL)
    clinic.lab.change("order", ORDER, tracking_number="RM1", customer={**PERSON, "email": email})


def emailed(clinic: Clinic) -> list[str]:
    """Whom SendGrid was asked to write to."""
    return [
        to["email"]
        for request in clinic.sendgrid.accepted
        for each in request.json["personalizations"]
        for to in each["to"]
    ]


@pytest.mark.parametrize("kept", [SMALL, LAB, LAB.upper()])
@pytest.mark.parametrize("theirs", [SMALL, LAB])
def test_who_is_stopped_is_stopped_in_any_letters(clinic: Clinic, kept: str, theirs: str) -> None:
    """An opt-out, a bounce, a stop by staff, also one that the version before kept as it was."""
    written_by_the_lab(clinic, theirs)
    suppress(clinic.db, "email", kept)
    clinic.post()
    clinic.work()
    assert clinic.statuses() == [("email", "cancelled")]
    assert emailed(clinic) == []


def test_it_is_sent_as_it_is_written(clinic: Clinic) -> None:
    """Small letters are for comparing: the address that the lab has is the one that is used."""
    written_by_the_lab(clinic, LAB)
    clinic.post()
    clinic.work()
    assert emailed(clinic) == [LAB]


def test_an_address_is_stopped_and_let_go_once(clinic: Clinic) -> None:
    """In other letters it is stopped already, and is let go with the first."""
    with clinic.db.write() as connection:
        assert suppressions.suppress(connection, "email", LAB, "bounce")
        assert not suppressions.suppress(connection, "email", SMALL, suppressions.STAFF)
        assert [row["source"] for row in suppressions.suppressed(connection, SMALL)] == ["bounce"]
        assert suppressions.unsuppress(connection, "email", LAB.upper()) == "bounce"
    assert rows(clinic.db, stopped) == []


def test_the_allow_list_is_in_any_letters(clinic: Clinic) -> None:
    """Who is on it gets messages, however the admin wrote it down."""
    clinic.settings = replace(clinic.settings, delivery="allow-list")
    written_by_the_lab(clinic, LAB)
    clinic.configure(BY_EMAIL, head=HEAD + f'allow = ["{SMALL}"]\n')
    clinic.post()
    clinic.work()
    assert emailed(clinic) == [LAB]


def test_staff_in_two_spellings_are_written_to_once(clinic: Clinic) -> None:
    """The first spelling is used."""
    staff = f'[staff.desk]\nemail = ["{LAB}", "{SMALL}"]\n'
    clinic.configure(BY_EMAIL.replace('"customer"', '"desk"'), staff=staff)
    clinic.post()
    clinic.work()
    assert emailed(clinic) == [LAB]


def test_other_letters_are_no_other_address(clinic: Clinic) -> None:
    """Where the lab has corrected the letters only, the message that waits goes out, once."""
    written_by_the_lab(clinic, LAB)
    clinic.configure(BY_EMAIL + 'after = "1h"\n')
    clinic.post()
    clinic.work()
    written_by_the_lab(clinic, SMALL)
    clinic.configure(BY_EMAIL + 'after = "1h"\n')
    clinic.work(after=timedelta(hours=2))
    assert clinic.statuses() == [("email", "sent")]


@pytest.mark.parametrize("wanted", [SMALL, LAB, LAB.upper()])
def test_a_kit_is_found_by_an_address_in_any_letters(clinic: Clinic, wanted: str) -> None:
    """The desk finds what was written to it, also by the version before."""
    written_by_the_lab(clinic, LAB)
    clinic.post()
    clinic.work()
    with clinic.db.read() as connection:
        found, _ = queries.find_by_address(connection, "email", wanted)
        counts = queries.count_by_address(connection, "email", wanted)
    assert [one.subject for one in found] == [ORDER]
    assert counts["messages"] == 1


def test_the_ledger_compares_as_the_code_does(clinic: Clinic) -> None:
    """Each database's small letters are ours, for all that an address may be made of."""
    every = "".join(map(chr, range(33, 127)))
    with clinic.db.read() as connection:
        assert connection.scalar(sa.select(sa.func.lower(every))) == normalised(every)
