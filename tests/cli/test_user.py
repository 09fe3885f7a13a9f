"""`flask relay user` and `flask relay access`."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest

from relay.ledger.audit import write_audit
from relay.ledger.database import Database
from relay.ledger.schema import audit, users
from tests.cli.conftest import Run
from tests.conftest import one_database
from tests.desk import PHONE, kit
from tests.rows import change, only, rows

JANE = "jane@example.org"


def accounts(relay: Run) -> dict[str, tuple[str, str]]:
    """Each account's role and state, as programs read them."""
    told = map(json.loads, relay("user", "list", "--json").stdout.splitlines())
    return {one["email"]: (one["role"], one["state"]) for one in told}


def test_an_account_is_made_changed_and_disabled(relay: Run, db: Database) -> None:
    """Each act says what it did and is in the trail; the link is shown once, and kept hashed."""
    assert "ADMIN_PASSWORD" in relay("user", "list").stdout
    added = relay("user", "add", JANE.upper(), "--role", "desk")
    link = re.findall(r"/join/([\w-]+)", added.stdout)[0]
    assert added.exit_code == 0
    assert link not in f"{rows(db, users)}{rows(db, audit)}"
    assert accounts(relay) == {JANE: ("desk", "invited")}
    change(db, users, {}, password_hash="scrypt:…")
    assert relay("user", "role", JANE, "viewer").exit_code == 0
    assert accounts(relay) == {JANE: ("viewer", "active")}
    assert relay("user", "disable", JANE).exit_code == 0
    assert accounts(relay) == {JANE: ("viewer", "disabled")}
    assert "/join/" in relay("user", "reset", JANE).stdout
    assert accounts(relay) == {JANE: ("viewer", "invited")}
    acts = [(row["action"], row["target"]) for row in rows(db, audit)]
    assert acts == [(f"user {act}", JANE) for act in ("add", "role", "disable", "reset")]


@one_database
@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (("add", "jane", "--role", "desk"), 1, "jane@example.org"),
        (("add", JANE, "--role", "king"), 2, "viewer"),
        (("add", JANE), 2, "--role"),
        (("role", "nobody@example.org", "desk"), 1, "flask relay user list"),
        (("disable", "nobody@example.org"), 1, "flask relay user list"),
        (("reset", "nobody@example.org"), 1, "flask relay user list"),
    ],
)
def test_what_is_wrong_is_said(given: tuple[str, ...], code: int, said: str, relay: Run) -> None:
    """Nothing is changed, and the message says what to write instead."""
    answer = relay("user", *given)
    assert answer.exit_code == code
    assert said in answer.stderr
    assert accounts(relay) == {}


@one_database
def test_an_account_is_made_once(relay: Run) -> None:
    """Added again it is refused, and its role stays."""
    relay("user", "add", JANE, "--role", "desk")
    again = relay("user", "add", JANE, "--role", "manager")
    assert (again.exit_code, "such an account already" in again.stderr) == (1, True)
    assert accounts(relay) == {JANE: ("desk", "invited")}


def test_who_has_looked_is_told(relay: Run, db: Database) -> None:
    """By an address, a kit, or all of it; in words, JSON and CSV. The question is a line too."""
    kit(db)
    with db.write() as connection:
        write_audit(connection, JANE, "reveal", "o-1", "2 messages and the names")
        write_audit(connection, JANE, "reveal", "o-2", "another kit")
    for written in (PHONE, "07700 900001", "o-1"):
        (told,) = map(json.loads, relay("access", written, "--json").stdout.splitlines())
        assert (told["actor"], told["action"], told["target"]) == (JANE, "reveal", "o-1")
    assert f"{JANE}: Looked at masked details. o-1" in relay("access", "o-1").stdout
    _head, *lines = csv.reader(io.StringIO(relay("access", "--all", "--csv").stdout))
    assert [line[2] for line in lines] == ["reveal", "reveal", *["access"] * 4]
    assert PHONE not in f"{rows(db, audit)}"


@one_database
def test_somebody_unknown_is_said_to_be(relay: Run) -> None:
    """Neither an address nor a kit: what to write."""
    answer = relay("access", "nothing there")
    assert answer.exit_code == 1
    assert "Write a phone number or an email address" in answer.stderr


@one_database
def test_nobody_has_looked(relay: Run, db: Database) -> None:
    """A kit that nobody has looked at says so."""
    kit(db)
    assert "Nobody has looked at it" in relay("access", "o-1").stdout
    assert only(db, audit)["action"] == "access"
