"""`flask relay forget`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import click
import pytest

from relay.channels import Channels
from relay.config.settings import Settings
from relay.jobs.tasks import Jobs
from relay.ledger import audit as ledger_audit
from relay.ledger import suppressions
from relay.ledger.database import Database
from relay.ledger.removal import erasures
from relay.ledger.schema import audit, notifications
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
    assert relay("forget", "020 7946 0000").exit_code == 1
