"""Small doors: files, networks, packages, and whom somebody tells who has found a hole."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from relay.cli.connections import is_in_the_clear
from relay.config.settings import Settings
from relay.ledger.database import Database
from relay.rules.channels import CHANNELS
from relay.staff.reach import data_goes
from tests.conftest import ROOT, one_database

OLD_MASK = 0o022
SERVER = os.environ.get("TEST_DATABASE_URL", "")


@pytest.mark.parametrize("is_there", [False, True], ids=["new", "made by the release before"])
def test_a_sqlite_ledger_is_its_owners_only(tmp_path: Path, is_there: bool) -> None:
    """It holds patients' numbers: nobody else on the machine reads it, or what lies beside it."""
    path = tmp_path / "relay.db"
    mask = os.umask(OLD_MASK)
    try:
        for end in ("", "-wal", "-shm", ".lock") if is_there else ():
            (tmp_path / f"relay.db{end}").touch(0o644)
        db = Database(f"sqlite:///{path}")
        with db.write() as connection:
            connection.exec_driver_sql("CREATE TABLE t (x)")
        with db.write() as connection:
            connection.exec_driver_sql("INSERT INTO t VALUES (1)")
        modes = {one.name: one.stat().st_mode & 0o777 for one in tmp_path.iterdir()}
        assert {"relay.db", "relay.db-wal", "relay.db-shm"} <= {*modes}
        assert [name for name, mode in modes.items() if mode & 0o077] == []
        db.close()
    finally:
        os.umask(mask)


@pytest.mark.parametrize(
    ("url", "warns"),
    [
        ("sqlite:///{tmp}/relay.db", False),
        (SERVER, False),
        # By a name that is no loopback's, which leads here all the same.
        (SERVER.replace("127.0.0.1", "ledger.example") + "?hostaddr=127.0.0.1", True),
    ],
    ids=["a file", "this machine", "another machine"],
)
def test_a_ledger_without_tls_is_warned_of(url: str, warns: bool, tmp_path: Path) -> None:
    """`check` says so where what is asked of PostgreSQL crosses a network that anybody may read."""
    if not url.startswith(("sqlite", "postgres")):
        pytest.skip("needs TEST_DATABASE_URL")
    db = Database(url.format(tmp=tmp_path).replace("postgres://", "postgresql+psycopg://"))
    assert is_in_the_clear(db) == warns
    db.close()


@pytest.mark.parametrize(
    "name", ["requirements", "requirements-demo", "requirements-dev", "requirements-browser"]
)
def test_every_package_is_pinned_by_its_hashes(name: str) -> None:
    """Whoever changes a package at the registry changes nothing here: pip refuses it."""
    text = (ROOT / f"{name}.txt").read_text("utf-8")
    assert re.findall(r"^\S+==.*\n(?!    --hash=sha256:)", text, re.MULTILINE) == []


@one_database
def test_who_finds_a_hole_is_told_whom_to_write_to(
    make_client: Callable[[Settings], Any], settings: Settings
) -> None:
    """/.well-known/security.txt as RFC 9116 has it, without a login: a contact, and no end in the
    past. The contact is the clinic's own, or else who sends its emails.
    """
    text = settings.config.read_text("utf-8")
    for more, contact in (
        ("", "mailto:results@example.org"),
        ('[desk]\nsecurity_contact = "Holes@example.org"\n', "mailto:Holes@example.org"),
    ):
        settings.config.write_text(f"{text}\n{more}", "utf-8")
        live = replace(settings, public_url="https://relay.example")
        answer = make_client(live).get("/.well-known/security.txt")
        assert (answer.status_code, answer.mimetype) == (200, "text/plain")
        told = dict(line.split(": ", 1) for line in answer.text.splitlines())
        assert told["Contact"] == contact
        left = datetime.fromisoformat(told["Expires"]) - datetime.now(UTC)
        assert timedelta(days=90) < left < timedelta(days=365)
        assert told["Canonical"] == "https://relay.example/.well-known/security.txt"


@pytest.mark.parametrize(
    ("channel", "url", "said"),
    [
        ("sms", "", ", data to api.twilio.com (USA)"),
        ("sms", "https://api.dublin.ie1.twilio.com", ", data to api.dublin.ie1.twilio.com (EU)"),
        ("email", "", ", data to api.sendgrid.com (USA)"),
        ("email", "https://api.eu.sendgrid.com", ", data to api.eu.sendgrid.com (EU)"),
        ("email", "http://127.0.0.1:9", ", data to 127.0.0.1"),
    ],
)
def test_it_is_said_where_data_goes(channel: str, url: str, said: str) -> None:
    """`check` ends with the host of each provider, and the region that its name says."""
    set_to = {"sms": "twilio_api_url", "email": "sendgrid_api_url"}[channel]
    settings = replace(Settings(), **{set_to: url})
    assert data_goes(settings, CHANNELS[channel].provider) == said
