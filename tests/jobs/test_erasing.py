"""An erasure that was asked for: one worker does it, and another where that one dies."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from relay.channels import Channels
from relay.config.settings import Settings
from relay.jobs import erase
from relay.jobs.tasks import Jobs
from relay.ledger import audit as ledger_audit
from relay.ledger.database import Database, now
from relay.ledger.removal import erasures as ledger_erasures
from relay.ledger.schema import attempts, audit, erasures, notifications
from tests.conftest import drain
from tests.desk import EMAIL, PHONE, SECRETS, kit
from tests.dump import dump, found
from tests.rows import POLICY, at_once, only, open_cases, rows, time_passes
from tests.standins import ProviderStandIn

LEASE = timedelta(seconds=ledger_erasures.LEASE_SECONDS + 1)
DRY = Channels(Settings(), {}, frozenset())


class Dying(Channels):
    """Where the worker dies when all is erased here, and nothing at the providers."""

    def erase(self, *_: Any) -> list[str]:
        """The power is cut."""
        raise KeyboardInterrupt


def ask(db: Database, address: str = PHONE, channel: str = "sms") -> str:
    """Have somebody erased."""
    return ledger_erasures.ask(
        db, channel, address, target="sms m", actor="admin", note="Asked."
    ).id


def test_a_worker_that_dies_in_the_midst_loses_nothing(
    live: Settings,
    db: Database,
    make_jobs: Callable[[Settings], Jobs],
    twilio: ProviderStandIn,
    sendgrid: ProviderStandIn,
) -> None:
    """The next one knows by whom to search and what providers have, though all of that is blank by
    then; and it tells of the whole, not of its part.
    """
    for message, channel, sent in zip(kit(db), ("sms", "email"), ("SM1", "E1"), strict=True):
        row = {"id": sent, "notification_id": message, "channel": channel, "provider_id": sent}
        with db.write() as connection:
            connection.execute(
                attempts.insert().values(**row, outcome="accepted", started_at=now())
            )
    ask(db)
    (asked,) = ledger_erasures.lease(db, 1)
    with pytest.raises(KeyboardInterrupt):
        erase.forget(db, Dying(live, {}, frozenset()), POLICY, asked)
    assert found(dump(db, but=frozenset({"erasures"})), *SECRETS) == []
    with db.write() as connection:
        ledger_audit.write_audit(connection, "admin", "note", "", "Jane Smith rang.")
    assert ledger_erasures.lease(db, 1) == []
    time_passes(db, LEASE)
    drain(make_jobs(live))
    assert found(dump(db), *SECRETS) == []
    (deleted,) = [r.path for r in twilio.requests if r.method == "DELETE"]
    assert deleted.endswith("/SM1.json")
    (job,) = [r for r in sendgrid.requests if r.path == "/v3/recipients/erasejob"]
    assert job.json == {"email_addresses": [EMAIL]}
    row = only(db, erasures)
    assert (row["state"], row["tries"]) == (ledger_erasures.DONE, 2)
    counts = {"events": 1, "messages": 2, "other rows": 1}
    assert row["outcome"] == {"counts": counts, "left": {}, "refused": []}
    (done,) = rows(db, audit, action="forget")
    assert done["detail"] == "1 event, 2 messages, 1 other row. Asked."


def test_a_worker_that_was_thought_dead_stops(db: Database) -> None:
    """Whose lease has lapsed changes nothing once another has it; that one's word is the last."""
    kit(db)
    ask(db)
    (first,) = ledger_erasures.lease(db, 1)
    time_passes(db, LEASE)
    (second,) = ledger_erasures.lease(db, 1)
    erase.forget(db, DRY, POLICY, first)
    assert len(found(dump(db, but=frozenset({"erasures"})), *SECRETS)) == 3
    erase.forget(db, DRY, POLICY, second)
    erase.forget(db, DRY, POLICY, second)
    assert found(dump(db), *SECRETS) == []
    assert len(rows(db, audit, action="forget")) == 1


def test_asked_at_once_it_is_one_erasure(db: Database) -> None:
    """However many ask at the same moment, they are told of one."""
    assert len(set(at_once(lambda _: ask(db), 6))) == 1
    assert len(rows(db, audit, action="forget asked")) == 1


def test_two_erasures_of_one_person_leave_each_other_alone(db: Database) -> None:
    """Asked for by number and by email at once, each is done, and neither takes the other for
    something that is left.
    """
    kit(db)
    ask(db)
    ask(db, EMAIL, "email")
    for asked in ledger_erasures.lease(db, 2):
        erase.forget(db, DRY, POLICY, asked)
    assert found(dump(db), *SECRETS) == []
    told = [(row["state"], row["outcome"]["left"]) for row in rows(db, erasures)]
    assert told == [(ledger_erasures.DONE, {})] * 2


KEPT = "SendGrid refused to erase the emails' data (403)."


class Refusing(Channels):
    """Where a provider keeps its part."""

    def erase(self, name: str, *_: Any) -> list[str]:
        """SendGrid has no erasure API for this account."""
        return [KEPT] if name == "email" else []


def test_what_is_left_is_somebodys_to_see_to(db: Database) -> None:
    """Staff are written to, and the worklist has it. That the next erasure finds nothing any more
    proves nothing about the provider: only a person closes the case.
    """
    kit(db)
    for channels in (Refusing(Settings(), {}, frozenset()), DRY):
        ask(db)
        (asked,) = ledger_erasures.lease(db, 1)
        erase.forget(db, channels, POLICY, asked)
    (case,) = open_cases(db)
    assert case["kind"] == ledger_erasures.KIND
    with db.read() as connection:
        assert ledger_erasures.find(connection, case["subject"])
    assert KEPT in case["reason"]
    written = only(db, notifications, rule="relay:erasure")
    assert (written["address"], written["status"]) == ("desk@example.org", "created")
    assert KEPT in written["content"]["text"]
    assert found(str(case) + str(written), *SECRETS) == []
