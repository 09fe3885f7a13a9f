"""`flask relay list`: notifications for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from relay.ledger.database import Database
from relay.ledger.schema import events, notifications
from tests.cli.conftest import Rows, Run
from tests.cli.contract import LISTED

TIMES = ("due_at", "created_at", "sent_at")


@pytest.fixture
def shipped(post: Callable[..., str], work: Callable[..., int]) -> str:
    """A shipped order whose customer has been told by SMS and email; the event's id."""
    id_ = post("order.shipped")
    work()
    return id_


def listed(relay: Run, *arguments: str) -> list[dict[str, Any]]:
    """What `list --json` prints, a line each."""
    result = relay("list", "--json", *arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    return [json.loads(line) for line in result.stdout.splitlines()]


def age(db: Database, channel: str, by: timedelta) -> None:
    """Make one channel's notifications older than they are."""
    with db.write() as connection:
        connection.execute(
            notifications.update()
            .where(notifications.c.channel == channel)
            .values(created_at=datetime.now(UTC) - by)
        )


def test_json_has_the_keys_of_the_contract(relay: Run, shipped: str) -> None:
    """`--json` prints one object a line with exactly the keys that others build on."""
    rows = listed(relay)
    assert [row["channel"] for row in sorted(rows, key=lambda row: row["channel"])] == [
        "email",
        "sms",
    ]
    for row in rows:
        assert set(row) == set(LISTED)
        told = {key: row[key] for key in ("event_id", "event", "rule", "to", "status", "reason")}
        assert told == {
            "event_id": shipped,
            "event": "order.shipped",
            "rule": "kit-shipped",
            "to": "customer",
            "status": "sent",
            "reason": "",
        }
        assert row["attempts"] == 1
        assert row["provider_id"].startswith("dry-run")


def test_times_have_an_offset(relay: Run, shipped: str) -> None:
    """Every time is ISO 8601 with an offset, and is the time that it was."""
    for row in listed(relay):
        for key in TIMES:
            moment = datetime.fromisoformat(row[key])
            assert moment.tzinfo is not None
            assert abs(datetime.now(UTC) - moment) < timedelta(minutes=5)


def test_what_is_not_yet_is_null(relay: Run, post: Callable[..., str], db: Database) -> None:
    """What was never sent has null for its time and its provider's id."""
    id_ = post("order.shipped")
    with db.write() as connection:
        connection.execute(
            notifications.insert().values(
                **{"id": "msg_1", "event_id": id_, "rule": "r", "template": "t", "subject": "s"},
                **{"role": "customer", "channel": "sms", "address": "", "identity": "i"},
                **{"obligation": "f", "status": "validation-failed", "reason": "No number."},
                **{"due_at": datetime.now(UTC), "created_at": datetime.now(UTC)},
            )
        )
    (row,) = listed(relay)
    assert (row["sent_at"], row["provider_id"], row["reason"]) == (None, None, "No number.")


def test_a_line_each_for_people(relay: Run, shipped: str) -> None:
    """Without `--json` each notification has a line with id, status, event, rule and channel."""
    result = relay("list")
    rows = listed(relay)
    assert len(rows) == 2
    for line, row in zip(result.stdout.splitlines(), rows, strict=True):
        for key in ("id", "status", "event", "rule", "to", "channel"):
            assert row[key] in line.split()


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_no_names_and_no_addresses(
    relay: Run, shipped: str, rows: Rows, arguments: tuple[str, ...]
) -> None:
    """A list can be pasted into a ticket: no address and no words of a message stand in it."""
    addresses = {row["address"] for row in rows()}
    assert len(addresses) == 2
    printed = relay("list", *arguments).output
    for private in (*addresses, *(word for row in rows() for word in row["content"].values())):
        assert private not in printed


def test_only_one_status(relay: Run, shipped: str, db: Database) -> None:
    """`--status` keeps notifications of that status and no others."""
    with db.write() as connection:
        connection.execute(
            notifications.update()
            .where(notifications.c.channel == "sms")
            .values(status="permanent-failure")
        )
    assert [row["channel"] for row in listed(relay, "--status", "permanent-failure")] == ["sms"]
    assert [row["channel"] for row in listed(relay, "--status", "sent")] == ["email"]
    assert listed(relay, "--status", "unknown") == []


def test_an_unknown_status_is_refused(relay: Run) -> None:
    """A misspelt status is an error, not an empty list."""
    result = relay("list", "--status", "permanent-falure")
    assert (result.exit_code, result.stdout) == (1, "")
    assert 'Did you mean "permanent-failure"?' in result.stderr


def test_only_one_event(relay: Run, post: Callable[..., str], work: Callable[..., int]) -> None:
    """`--event` keeps notifications about that event; one that there is not ends with 2, and with
    the nearest.
    """
    wrong = relay("list", "--event", "order.shiped")
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert 'Did you mean "order.shipped"?' in wrong.stderr
    post("order.shipped")
    post("lab_results.complete")
    work()
    assert {row["event"] for row in listed(relay)} == {"order.shipped", "lab_results.complete"}
    only = listed(relay, "--event", "order.shipped")
    assert [row["rule"] for row in only] == ["kit-shipped"] * 2


@pytest.mark.parametrize(
    "since",
    [
        "2h",
        "90m",
        "7200s",
        (datetime.now(UTC) - timedelta(hours=2)).isoformat(),
    ],
    ids=["hours", "minutes", "seconds", "moment"],
)
def test_only_newer_ones(relay: Run, shipped: str, db: Database, since: str) -> None:
    """`--since` takes a duration or a date; without it all are listed."""
    age(db, "sms", timedelta(hours=3))
    assert [row["channel"] for row in listed(relay, "--since", since)] == ["email"]
    assert len(listed(relay)) == 2


def test_oldest_first(relay: Run, shipped: str, db: Database) -> None:
    """Notifications are listed in the order in which they were made."""
    age(db, "sms", timedelta(days=3))
    assert [row["channel"] for row in listed(relay)] == ["sms", "email"]
    age(db, "email", timedelta(days=5))
    assert [row["channel"] for row in listed(relay)] == ["email", "sms"]


@pytest.mark.parametrize("since", ["yesterday", "2 weeks", "-1d", "99999999999d", ""])
def test_a_since_that_cannot_be_read_is_refused(relay: Run, since: str) -> None:
    """Neither a duration nor a date: the command says what to write, and ends with 2."""
    result = relay("list", "--since", since)
    assert result.exit_code == 2
    assert "as in 2h or 30d" in result.stderr


def test_a_ledger_that_is_not_there_is_told(relay: Run) -> None:
    """A database out of reach is one line and exit code 1, without its password."""
    result = relay("list", DATABASE_URL="postgres://relay:pass-word@127.0.0.1:1/relay")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ledger: ")
    assert "pass-word" not in result.stderr


def test_the_event_id_is_the_one_the_lab_was_answered(
    relay: Run, shipped: str, db: Database
) -> None:
    """`event_id` is the `id` of the answer, so that the two can be put together."""
    with db.read() as connection:
        assert connection.execute(sa.select(events.c.id)).scalars().all() == [shipped]
    assert {row["event_id"] for row in listed(relay)} == {shipped}
