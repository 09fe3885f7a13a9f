"""`flask relay ready`, and what `check` says of the providers."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from relay.ledger import people, workers
from relay.ledger.audit import Act, write_audit
from relay.ledger.database import Database, now
from relay.ledger.schema import attempts, notifications, receipts
from tests.cli.conftest import Run
from tests.conftest import one_database
from tests.rows import notice, only, planned
from tests.standins import ProviderStandIn, Reply


def missing(relay: Run, **more: str) -> tuple[set[str], int]:
    """The names of what is missing, and how the command ends."""
    answer = relay("ready", "--json", **more)
    told = map(json.loads, answer.stdout.splitlines())
    return {one["name"] for one in told if not one["done"]}, answer.exit_code


def test_an_empty_copy_has_all_of_it_before_it(relay: Run) -> None:
    """Each thing that is missing has a line of its own, with what to do; it ends with 1."""
    names, code = missing(relay)
    assert code == 1
    assert {"clinic", "webhook", "worker", "sms-account", "email-account", "people"} <= names
    shown = relay("ready").stdout
    assert "[ ] The clinic is yours: config.toml still has the example's clinic.name" in shown
    assert "[x] The lab's API answers" in shown


def test_the_list_ticks_itself_off(
    relay: Run, live_environ: dict[str, str], db: Database, post: Callable[..., str]
) -> None:
    """Once the lab has posted, a worker runs, tests and receipts have come and two people have
    accounts, nothing is missing and it ends with 0.
    """
    post("order.shipped")
    planned(db, notice(subject="o-2"), notice(subject="o-2", channel="email", address="a@b.org"))
    with db.write() as connection:
        workers.beat(connection, "worker-1")
        for login in ("jane@example.org", "john@example.org"):
            people.add(connection, login, "manager", login, Act("cli", "user add", login))
        for channel in ("sms", "email"):
            write_audit(connection, "cli", "send-test", "kit-shipped", channel)
            of = only(db, notifications, channel=channel, subject="o-2")["id"]
            row = {"id": f"a-{channel}", "notification_id": of, "channel": channel}
            row |= {"outcome": "accepted", "started_at": now()}
            connection.execute(attempts.insert().values(**row))
            told = {"id": f"r-{channel}", "digest": channel, "attempt_id": row["id"]}
            told |= {"word": "delivered", "state": "delivered", "received_at": now()}
            connection.execute(receipts.insert().values(**told))
    assert missing(relay, **live_environ) == (set(), 0)


@one_database
def test_check_asks_the_providers_where_it_is_to_send(
    relay: Run, live_environ: dict[str, str], twilio: ProviderStandIn, sendgrid: ProviderStandIn
) -> None:
    """Right, it says what is so; a refusal is an error; in dry-run and offline nobody is asked."""
    answer = relay("check", **live_environ)
    assert answer.exit_code == 0
    assert "Delivery: live. Texts: Twilio AC…0000 from HARBOUR, data to 127." in answer.stdout
    assert "Emails: SendGrid" in answer.stdout
    assert len(twilio.requests) == 1
    assert len(sendgrid.requests) == 2
    sendgrid.account["/v3/scopes"] = Reply(401, {"errors": []})
    refused = relay("check", **live_environ)
    assert (refused.exit_code, "refuses the key" in refused.stderr) == (1, True)
    relay("check", **{**live_environ, "RELAY_DELIVERY": "dry-run"})
    relay("check", "--offline", **live_environ)
    assert len(twilio.requests) == 2


@one_database
@pytest.mark.parametrize("name", ["TWILIO_API_URL", "SENDGRID_API_URL"])
def test_a_provider_that_is_away_is_a_warning(
    name: str, relay: Run, live_environ: dict[str, str]
) -> None:
    """A release is not held up by a provider's outage: the messages will wait."""
    answer = relay("check", **{**live_environ, name: "http://127.0.0.1:9"})
    assert answer.exit_code == 0
    assert "cannot reach" in answer.stderr
