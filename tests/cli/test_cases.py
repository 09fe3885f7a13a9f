"""`flask relay cases` and `flask relay case`: the worklist, for scripts and for people."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from relay.ledger import events as ledger_events
from relay.ledger.database import Database
from relay.ledger.schema import audit, events, notifications
from relay.ledger.schema import cases as stored
from relay.ledger.worklist import cases, releases, replies
from relay.rules.alerts import KINDS
from relay.rules.model import Case
from relay.staff import case_acts
from tests.cli.conftest import Run
from tests.cli.contract import ACTS, CASE
from tests.conftest import one_database
from tests.rows import case, change, leased, notice, only, open_cases, planned, rows, unknown
from tests.test_worklist import held, opened


def listed(relay: Run, *arguments: str, **environ: str) -> list[dict[str, Any]]:
    """What `cases --json` prints, a line each."""
    result = relay("cases", "--json", *arguments, **environ)
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def texted(db: Database) -> str:
    """Somebody has sent a text; the case about it."""
    with db.write() as connection:
        return replies.keep(connection, "sms", "SM1", "+447700900001", "Hello?", case("reply"))


def test_json_has_the_keys_of_the_contract(relay: Run, db: Database) -> None:
    """One object a line with exactly the keys that others build on; times have an offset."""
    case_id = opened(db, "held")
    (row,) = listed(relay)
    assert set(row) == set(CASE)
    told = {key: row[key] for key in ("id", "kind", "subject", "reason", "count", "closed_at")}
    assert told == {
        "id": case_id,
        "kind": "held",
        "subject": "o-1",
        "reason": "Nobody was reached.",
        "count": 1,
        "closed_at": None,
    }
    assert datetime.fromisoformat(row["opened_at"]).tzinfo is not None
    assert row["acts"] == ["replay", "close"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_its_acts(kind: str, relay: Run, db: Database) -> None:
    """They are the desk's buttons, by the contract's names. A closed case has none."""
    if kind == "reply":
        texted(db)
    else:
        opened(db, kind)
    (row,) = listed(relay)
    assert row["acts"] == [*case_acts.acts_of(kind)]
    assert set(row["acts"]) <= set(ACTS)
    assert set(ACTS) == set(case_acts.DOING)
    change(db, stored, {}, closed_at=datetime.now(UTC), closed_by="admin")
    assert listed(relay) == []
    assert [one["acts"] for one in listed(relay, "--all")] == [[]]


def test_what_would_do_nothing_is_no_act(relay: Run, db: Database) -> None:
    """A message that may have arrived cannot be tried again: the act is not listed, the table says
    why, and asked for all the same it does nothing.
    """
    case_id = opened(db)
    change(db, notifications, {}, status="delivered")
    assert [row["acts"] for row in listed(relay)] == [["close"]]
    why = "It has arrived in the meantime."
    assert why in relay("cases").stdout
    result = relay("case", case_id, "resend")
    assert (result.exit_code, result.stdout) == (1, "")
    assert why in result.stderr
    assert [row["id"] for row in open_cases(db)] == [case_id]


def test_one_kind_and_the_closed_ones(relay: Run, db: Database) -> None:
    """What goes out by itself is first, then the oldest; closed ones last, the latest first."""
    first, second = opened(db), opened(db, "broken", address="+447700900002")
    third = opened(db, "broken", address="+447700900003")
    release = held(db)
    for age, case_id in enumerate((second, first)):
        moment = datetime.now(UTC) - timedelta(hours=age)
        change(db, stored, {"id": case_id}, closed_at=moment, closed_by="admin")
    assert [row["id"] for row in listed(relay)] == [release, third]
    assert [row["id"] for row in listed(relay, "--all")] == [release, third, second, first]
    assert [row["id"] for row in listed(relay, "--kind", "broken", "--all")] == [third, second]
    assert all(row["closed_at"] for row in listed(relay, "--all")[2:])
    result = relay("cases", "--kind", "brokn")
    assert (result.exit_code, result.stdout) == (1, "")
    assert 'Did you mean "broken"?' in result.stderr


@one_database
def test_more_than_a_page_is_listed(relay: Run, db: Database) -> None:
    """A script sees all of it."""
    opened(db)
    (one,) = rows(db, stored)
    many = [{**one, "id": f"cas_{n:04}", "about": f"d-{n}", "digest": f"d-{n}"} for n in range(250)]
    with db.write() as connection:
        connection.execute(stored.insert(), many)
    assert len(listed(relay)) == 251


def test_a_table_for_people(relay: Run, db: Database) -> None:
    """Without `--json`: when, which, how many, what can be done, and below it what it is about."""
    assert "Nothing is on the worklist." in relay("cases").stdout
    case_id = opened(db, "rule")
    change(db, stored, {}, count=12)
    result = relay("cases")
    assert (result.exit_code, result.stderr) == (0, "")
    head, line, why = result.stdout.splitlines()
    assert head.split() == ["OPENED", "ID", "KIND", "COUNT", "STATE", "ACTS"]
    assert line.split()[2:] == [case_id, "rule", "12", "open", "close"]
    assert why == "  o-1  Nobody was reached."
    assert line[: head.index("COUNT") + 5].endswith(" 12")
    assert "07700" not in result.stdout


def test_the_worklist_is_there_while_the_config_is_broken(
    relay: Run, db: Database, config_file: Path
) -> None:
    """A mistake in config.toml is a case itself: the others are listed and closed all the same."""
    case_id = opened(db)
    config_file.write_text("[clinic", "utf-8")
    result = relay("cases", "--json")
    assert (result.exit_code, json.loads(result.stdout)["acts"]) == (0, ["close"])
    assert "flask relay check" in result.stderr
    assert relay("case", case_id, "close", "--note", "Seen.").exit_code == 0


def test_a_case_is_closed_with_a_note(relay: Run, db: Database) -> None:
    """As on the desk: without a note the case stays; closed, who did it and why is kept."""
    case_id = opened(db)
    result = relay("case", case_id, "close")
    assert (result.exit_code, result.stdout) == (2, "")
    assert '--note "…"' in result.stderr
    result = relay("case", case_id, "close", "--note", "Called her.")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "Closed.\n", "")
    found = only(db, stored, id=case_id)
    assert (found["closed_by"], found["note"]) == ("cli", "Called her.")
    kept = {(row["actor"], row["action"], row["target"]) for row in rows(db, audit)}
    assert kept == {("cli", "case close", case_id)}
    result = relay("case", case_id, "close", "--note", "Twice.")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "already closed" in result.stderr


def test_an_act_that_a_case_has_not_is_refused(relay: Run, db: Database) -> None:
    """With those that it has; an unknown case says where to look."""
    release = held(db)
    for act in ("close", "explode"):
        result = relay("case", release, act, "--note", "Why.")
        assert (result.exit_code, result.stdout) == (1, "")
        assert f'no act "{act}". Choose from: release, stop.' in result.stderr
    result = relay("case", "cas_none", "close", "--note", "Why.")
    assert result.exit_code == 1
    assert "`flask relay cases`" in result.stderr
    assert relay("case", release).exit_code == 2
    assert [row["id"] for row in open_cases(db)] == [release]


def resent(db: Database) -> tuple[str, str]:
    """A case that has the act, and the act."""
    return opened(db, "broken"), "resend"


def released(db: Database) -> tuple[str, str]:
    """A case that has the act, and the act."""
    return held(db), "release"


def stopped(db: Database) -> tuple[str, str]:
    """A case that has the act, and the act."""
    return held(db), "stop"


def replayed(db: Database) -> tuple[str, str]:
    """A case that has the act, and the act."""
    event = leased(db)
    with db.write() as connection:
        about = case("held", event.id, event.id)
        ledger_events.hold(connection, event.id, "The lab refuses.", about)
    return str(open_cases(db)[0]["id"]), "replay"


def undecided(db: Database) -> str:
    """A case about a message of which nobody knows."""
    claim = unknown(db)
    with db.write() as connection:
        connection.exec_driver_sql("UPDATE attempts SET look_at = NULL")
        about = Case("unknown", claim.id, "o-1", "Nobody knows.", claim.event_id, claim.id)
        cases.open_case(connection, about)
    return str(open_cases(db)[0]["id"])


@pytest.mark.parametrize(
    ("make", "table", "status", "says"),
    [
        (resent, notifications, "created", "Relay is sending it again."),
        (released, notifications, "scheduled", "Released"),
        (stopped, notifications, "cancelled", "Stopped"),
        (replayed, events, "received", "Relay is processing it again."),
        (lambda db: (undecided(db), "send"), notifications, "created", "sending it again"),
        (lambda db: (undecided(db), "believe"), notifications, "sent", "counts as sent"),
    ],
    ids=["resend", "release", "stop", "replay", "send", "believe"],
)
def test_an_act_does_what_the_button_does(
    make: Callable[[Database], tuple[str, str]],
    table: Any,
    status: str,
    says: str,
    relay: Run,
    db: Database,
) -> None:
    """The case is closed with it, by whom and with which note, in one act on record."""
    case_id, act = make(db)
    result = relay("case", case_id, act, "--note", "As agreed.")
    assert (result.exit_code, result.stderr) == (0, "")
    assert says in result.stdout
    assert {row["status"] for row in rows(db, table)} == {status}
    found = only(db, stored, id=case_id)
    assert (found["closed_by"], found["note"]) == ("cli", "As agreed.")
    assert [(row["action"], row["target"]) for row in rows(db, audit)] == [(f"case {act}", case_id)]


def test_what_waits_for_release_is_counted(relay: Run, db: Database) -> None:
    """A text and an email to one person are one case, about two messages."""
    held(db)
    assert [(row["kind"], row["count"]) for row in listed(relay)] == [("release", 2)]


def test_one_message_that_waits_is_one(relay: Run, db: Database) -> None:
    """And so it is said nowhere how many."""
    later = notice(status="scheduled", due_at=datetime.now(UTC) + timedelta(days=2))
    planned(db, later)
    with db.write() as connection:
        about = Case("release", later.obligation, "o-1", "Why.", only(db, events)["id"])
        releases.ask(connection, about)
    assert [row["count"] for row in listed(relay)] == [1]


def test_a_text_is_answered_from_a_terminal(relay: Run, db: Database) -> None:
    """The words are read from stdin, what speaks against them is said, and no line has them."""
    case_id = texted(db)
    empty = relay("case", case_id, "send", typed="\n")
    assert (empty.exit_code, "Write the answer first." in empty.stderr) == (1, True)
    result = relay("case", case_id, "send", "--at-once", typed="Your HIV kit is in the post.")
    assert result.exit_code == 0, result.stderr
    made = only(db, notifications, kind="answer")
    assert (made["content"], made["status"]) == (
        {"text": "Your HIV kit is in the post."},
        "created",
    )
    assert result.stdout == f"Answered by {made['id']}.\n"
    assert 'It says "HIV"' in result.stderr
    assert only(db, stored, id=case_id)["closed_by"] == "cli"
    assert "post" not in str([row["detail"] for row in rows(db, audit)])
