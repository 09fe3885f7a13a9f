"""`flask relay forget`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import click
import pytest

from relay.channels import Channels
from relay.config.settings import Settings
from relay.jobs import erase
from relay.jobs.tasks import Jobs
from relay.lab.facts import Facts
from relay.ledger import audit as ledger_audit
from relay.ledger import events as ledger_events
from relay.ledger.database import Database
from relay.ledger.holds import suppressions
from relay.ledger.removal import erasures
from relay.ledger.schema import audit, notifications
from relay.ledger.schema import erasures as stored_erasures
from relay.rules.model import Plan
from tests import rows as ledger
from tests.cli.conftest import Run
from tests.conftest import drain
from tests.desk import EMAIL, PHONE, SECRETS, WORDS, handed_over, kit
from tests.dump import dump, found
from tests.rows import change
from tests.standins import ProviderStandIn, twilio_error


def test_a_person_is_erased_and_that_is_proved(relay: Run, db: Database) -> None:
    """It is said how much there is, what stays and what is out of reach; then nothing is left."""
    change(db, notifications, {"id": kit(db)[0]}, status="created")
    result = relay("forget", "07700 900001", "--yes")
    assert result.exit_code == 0
    assert result.stdout.startswith("To be erased: 1 event, 2 messages, 1 message that waits.\n")
    for said in ("ids, times, counts and reasons", "Backups", "the lab", "nothing is left."):
        assert said in result.stdout
    assert found(result.stdout, "Jane", EMAIL, PHONE) == []
    assert found(dump(db), "Jane", "Smith", EMAIL, PHONE, WORDS) == []
    asked, done = ledger.rows(db, audit)
    assert (asked["action"], done["action"]) == ("forget asked", "forget")
    assert (done["actor"], done["detail"]) == ("cli", "1 event, 2 messages, 1 message that waits")
    assert done["target"].startswith("sms")


def test_stopped_midway_a_worker_finishes_it(
    relay: Run,
    db: Database,
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
    make_jobs: Callable[[Settings], Jobs],
) -> None:
    """What the command has found out is kept: names that are blank by then are searched still."""
    kit(db)

    def power_cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Channels, "erase", power_cut)
        assert relay("forget", PHONE, "--yes").exit_code == 1
    with db.write() as connection:
        ledger_audit.write_audit(connection, "admin", "note", "", "Jane Smith rang.")
    assert len(found(dump(db, but=frozenset({"erasures"})), *SECRETS)) == 1  # the note
    ledger.time_passes(db, timedelta(seconds=erasures.LEASE_SECONDS + 1))
    drain(make_jobs(settings))
    assert found(dump(db), "Jane", "Smith", EMAIL, PHONE, WORDS) == []


def test_a_terminal_is_asked(relay: Run, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not say yes has erased nothing."""
    kit(db)
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: True)

    def no(*_: object, **__: object) -> None:
        raise click.Abort

    monkeypatch.setattr(click, "confirm", no)
    assert relay("forget", EMAIL).exit_code == 1
    assert relay("forget", typed=f"{EMAIL}\n").exit_code == 1
    assert len(found(dump(db), EMAIL)) == 1


def test_whom_to_erase_may_come_in_on_stdin(relay: Run, db: Database) -> None:
    """The address is in no command then, and so in no platform's log."""
    kit(db)
    assert relay("forget", "--yes", typed=f"{PHONE}\n").exit_code == 0
    assert found(dump(db), EMAIL, PHONE) == []


def test_an_erased_person_is_stopped_too_where_that_is_asked(relay: Run, db: Database) -> None:
    """`--suppress` keeps the address for that alone; without it nothing of it is kept."""
    relay("forget", PHONE, "--yes")
    assert ledger.rows(db, audit)[-1]["detail"] == "nothing"
    with db.read() as connection:
        assert suppressions.suppressed(connection, PHONE) == []
    assert "are stopped" in relay("forget", PHONE, "--yes", "--suppress").stdout
    with db.read() as connection:
        assert suppressions.suppressed(connection, PHONE)[0]["source"] == "staff"
    assert "were already stopped" in relay("forget", PHONE, "--yes", "--suppress").stdout
    (kept,) = ledger.rows(db, audit, action="suppress")
    assert (kept["actor"], kept["target"][:3]) == ("cli", "sms")


def test_what_is_left_at_a_provider_ends_with_1(
    relay: Run, db: Database, live_environ: dict[str, str], twilio: ProviderStandIn
) -> None:
    """The text that Twilio would not delete yet is named, to be deleted by hand."""
    handed_over(db)
    twilio.once(twilio_error(409, 20009))
    result = relay("forget", PHONE, **live_environ)
    assert result.exit_code == 1
    assert "Twilio did not delete SM1 (20009)." in result.stderr
    assert "nothing is left" not in result.stdout


JANE = {"first_name": "Jane", "last_name": "Smith"}
BILAL = {"first_name": "Bilal", "last_name": "Hill", "email": "bilal@example.org"}


def ordered(db: Database, order: str, **customer: str) -> str:
    """An order of somebody, of whom the lab has told this; its event's id."""
    event = ledger.leased(db, order_id=order)
    facts = Facts(order={"id": order}, customer=customer)
    with db.write() as connection:
        ledger_events.plan_and_mark_processed(connection, event, facts, lambda _kit: Plan())
    return event.id


# What the lab has of somebody, and what they are asked for by. A report is one line.
ANYBODY = {
    "a foreign number": ({"phone_number": "+33 6 12 34 56 78"}, "0033 612345678"),
    "a foreign number with 00": ({"phone_number": "0033612345678"}, "+33 6 12 34 56 78"),
    "a landline": ({"phone_number": "020 7946 0991"}, "+44 20 7946 0991"),
    "a landline with a word": ({"phone_number": "02079460991"}, "Tel: 020 7946 0991"),
    "an IDN address": ({"email": "jane@bücher.example"}, "jane@bücher.example"),
    "an IDN address in ASCII": ({"email": "jane@bücher.example"}, "jane@xn--bcher-kva.example"),
    "an address of no host": ({"email": "jane@localhost"}, "Jane@localhost"),
    "other letters": ({"email": "Jane.Smith@example.org"}, "jane.smith@EXAMPLE.org"),
    "nobody's number": ({"phone_number": "07400 TBC TBC"}, "o-1"),
    "an order": ({}, "o-1"),
    "a name": ({}, "Jane Smith"),
    "surname first": ({}, "Smith, Jane"),
    "a title": ({"email": "jane@example.org"}, "mrs jane SMITH"),
}


@pytest.mark.parametrize("what", ANYBODY)
def test_whoever_may_stand_in_the_ledger_is_erased(relay: Run, db: Database, what: str) -> None:
    """Not only whom Relay would write to: by any address, by an id, by a name."""
    fields, asked = ANYBODY[what]
    ordered(db, "o-1", **JANE, **fields)
    ordered(db, "o-2", **BILAL)
    result = relay("forget", asked, "--yes")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "nothing is left." in result.stdout
    assert found(dump(db), "Jane", "Smith", *fields.values()) == []
    assert len(found(dump(db), "Bilal", BILAL["email"])) == 1
    assert ledger.rows(db, stored_erasures)[0]["address"] == ""


def test_by_an_event_or_a_message(relay: Run, db: Database) -> None:
    """A message's id means whom it was for, and an event's its one person."""
    id_ = kit(db)[0]
    assert relay("forget", id_, "--yes").exit_code == 0
    assert found(dump(db), *SECRETS) == []
    assert relay("forget", ordered(db, "o-2", **BILAL), "--yes").exit_code == 0
    assert found(dump(db), "Bilal") == []


def test_namesakes_are_not_erased_together(relay: Run, db: Database) -> None:
    """Two people of one name are told apart by an id; nothing is erased by their name."""
    ordered(db, "o-1", **JANE, email="jane@example.org")
    ordered(db, "o-2", **JANE, email="smith@example.org")
    before = dump(db)
    result = relay("forget", "Jane Smith", "--yes")
    assert result.exit_code == 1
    assert "Several people have that name. Write one's address" in result.stderr
    assert dump(db) == before
    assert relay("forget", "o-2", "--yes").exit_code == 0
    assert found(dump(db), "smith@example.org") == []
    assert len(found(dump(db), "jane@example.org")) == 1


@pytest.mark.parametrize("asked", ["Nobody Here", "o-404", "Jane", "!!!", "jane@", "07400 MUM"])
def test_nobody_is_erased_by_what_leads_to_nobody(relay: Run, db: Database, asked: str) -> None:
    """That is said, with what to write instead."""
    ordered(db, "o-1", **JANE)
    before = dump(db)
    result = relay("forget", asked, "--yes")
    assert result.exit_code == 1
    assert "Relay knows nobody by that. Write an address, an id" in result.stderr
    assert dump(db) == before


def test_who_has_no_address_is_not_stopped(relay: Run, db: Database) -> None:
    """By an id there is nothing to suppress, and nothing is erased before that is said."""
    ordered(db, "o-1", **JANE)
    result = relay("forget", "o-1", "--yes", "--suppress")
    assert result.exit_code == 1
    assert "by an id or a name no address is stopped" in result.stderr
    assert len(found(dump(db), "Jane")) == 1


def test_a_worker_of_the_release_before_goes_on_with_it(relay: Run, db: Database) -> None:
    """What stands for an address is none in its eyes either, and what the id led to is kept."""
    ordered(db, "o-1", **JANE)
    asked = erasures.ask(
        db, "", "o-1@", target="person", actor="cli", note="", known={"names": [["Jane", "Smith"]]}
    )
    (leased,) = erasures.lease(db, 1)
    assert leased.id == asked.id
    person = erase.SoFar.of(leased).person
    assert (person.address, person.names) == ("o-1@", {("Jane", "Smith")})
