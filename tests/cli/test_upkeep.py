"""`flask relay sweep`, `purge` and `upgrade`."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from relay.config.settings import Settings
from relay.lab import samples
from relay.ledger import migrate
from relay.ledger.database import Database, now
from relay.ledger.holds import pauses
from relay.ledger.schema import REVISION, audit, events, metadata, notifications
from relay.rules.model import Pause
from tests.cli.conftest import Rows, Run
from tests.rows import of_revision, only, time_passes
from tests.standins import ProviderStandIn

Post = Callable[..., str]
Work = Callable[..., int]


def test_sweep_does_all_that_is_due(
    relay: Run, post: Post, live_environ: dict[str, str], twilio: ProviderStandIn, rows: Rows
) -> None:
    """Without a worker one sweep takes an event to the provider; a second does nothing."""
    post("order.shipped")
    first = json.loads(relay("sweep", "--json", **live_environ).stdout)
    assert first["done"] == 3  # the event, an SMS, an email
    assert [row["status"] for row in rows()] == ["sent", "sent"]
    assert len(twilio.accepted) == 1
    second = json.loads(relay("sweep", "--json", **live_environ).stdout)
    assert set(second.values()) == {0}
    assert len(twilio.accepted) == 1


def test_sweep_finds_what_a_lost_worker_had(
    relay: Run, post: Post, work: Work, settings: Settings, db: Database, rows: Rows
) -> None:
    """A claim whose lease is over becomes unknown, since it may have gone out."""
    post("order.shipped")
    work()
    with db.write() as connection:
        lost = notifications.c.channel == "sms"
        connection.execute(
            notifications.update().where(lost).values(status="sending", lease_until=now(-1))
        )
        connection.execute(sa.text("UPDATE attempts SET outcome='started' WHERE channel='sms'"))
    assert json.loads(relay("sweep", "--json").stdout)["lapsed"] == 1
    states = {row["channel"]: row["status"] for row in rows()}
    assert states == {"sms": "unknown", "email": "sent"}


def _shut(config_file: Path) -> None:
    """The send window opens in some hours."""
    closed = (datetime.now(UTC) + timedelta(hours=6)).strftime("%H:%M")
    opens = (datetime.now(UTC) + timedelta(hours=8)).strftime("%H:%M")
    text = config_file.read_text("utf-8")
    window = f'send_window = "{closed}-{opens}"'
    assert 'send_window = "always"' in text
    config_file.write_text(text.replace('send_window = "always"', window, 1), "utf-8")


def test_sweep_leaves_what_is_not_due(
    relay: Run, post: Post, config_file: Path, rows: Rows
) -> None:
    """A message outside its window waits for the window, however often one sweeps."""
    _shut(config_file)
    post("order.shipped")
    for _ in range(2):
        assert relay("sweep").exit_code == 0
    assert {row["status"] for row in rows()} == {"scheduled"}


def test_after_a_restore_what_is_due_counts_as_sent(
    relay: Run,
    post: Post,
    config_file: Path,
    rows: Rows,
    db: Database,
    live_environ: dict[str, str],
    twilio: ProviderStandIn,
) -> None:
    """Nothing goes out, nothing is put off (a window, a limit, a pause), and `explain` says why."""
    _shut(config_file)
    text = config_file.read_text("utf-8")
    config_file.write_text(text.replace("sms_limit = 2000", "sms_limit = 1"), "utf-8")
    ids = [post("order.shipped", order_id=f"o-{number}") for number in range(2)]
    with db.write() as connection:
        pauses.pause(connection, "sms", ids[0], Pause("refused", "The account is closed.", 3600))
    assert relay("sweep", "--as-sent", **live_environ).exit_code == 0
    assert [row["status"] for row in rows()] == ["sent"] * 4
    assert twilio.requests == []
    assert "before the ledger was restored" in relay("explain", ids[0]).stdout


def test_sweep_says_what_it_did(relay: Run, post: Post) -> None:
    """A person gets the counts in words."""
    post("order.shipped")
    assert relay("sweep").stdout == "lapsed 0, purged 0, done 3\n"


def test_purge_blanks_what_is_old(
    relay: Run, post: Post, work: Work, db: Database, rows: Rows
) -> None:
    """After `retention` addresses, words and facts are gone; ids, statuses and times stay."""
    post("order.shipped")
    work()
    before = rows()
    assert relay("purge").stdout == "purged 0\n"
    assert rows() == before
    with db.write() as connection:
        old = datetime.now(UTC) - timedelta(days=91)
        connection.execute(notifications.update().values(created_at=old, due_at=old))
        connection.execute(events.update().values(received_at=old))
    assert json.loads(relay("purge", "--json").stdout) == {"purged": 3}
    for row, kept in zip(rows(), before, strict=True):
        assert (row["address"], row["content"]) == ("", None)
        assert {k: row[k] for k in ("id", "status", "rule", "sent_at", "provider_id")} == {
            k: kept[k] for k in ("id", "status", "rule", "sent_at", "provider_id")
        }
    with db.read() as connection:
        assert connection.execute(sa.select(events.c.facts)).scalars().all() == [None]
    assert relay("purge").stdout == "purged 0\n"


def test_purge_moves_what_is_finished_where_that_is_asked(
    relay: Run, post: Post, work: Work, db: Database, rows: Rows
) -> None:
    """A kit leaves the list, `explain` tells of it all the same, and there is nothing to replay."""
    event = post("order.shipped")
    work()
    message = rows()[0]["id"]
    time_passes(db, timedelta(days=100))
    post("order.shipped", order_id="another")
    assert relay("purge").stdout == "purged 3\n"
    assert len(rows()) == 2
    assert relay("purge", "--history").stdout == "purged 0, moved 1\n"
    assert rows() == []
    for wanted in (samples.webhook("order.shipped")["data"]["order_id"], event, message):
        assert "in history" in relay("explain", wanted).stdout
    for id_ in (event, message):
        replayed = relay("replay", id_)
        assert replayed.exit_code == 1
        assert "its kit is in history" in replayed.stderr


def test_purge_is_kept_in_the_audit(relay: Run, db: Database) -> None:
    """Who purged, and how much, can be asked later."""
    relay("purge")
    with db.read() as connection:
        rows = connection.execute(sa.select(audit.c.actor, audit.c.action, audit.c.detail)).all()
    assert [tuple(row) for row in rows] == [("cli", "purge", "0")]


def test_upgrade_makes_the_tables(relay: Run, tmp_path: Path) -> None:
    """On an empty database the tables are made, and a second time nothing changes."""
    url = f"sqlite:///{tmp_path}/folder/new.db"
    for told in ("The files are edition 1 from now on.\n", ""):
        result = relay("upgrade", DATABASE_URL=url)
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout == f"The ledger is at revision {REVISION}.\n{told}"
    db = Database(url)
    assert migrate.is_migrated(db)
    assert set(sa.inspect(db.engine).get_table_names()) >= set(metadata.tables)
    db.close()


def test_a_release_that_is_rolled_back_goes_through(relay: Run, post: Post, db: Database) -> None:
    """A platform runs the release command on a rollback too: on the ledger of a later version it
    passes, changes nothing, and says so.
    """
    post("order.shipped")
    with of_revision(db, "9999"):
        checked, upgraded = relay("check", TWILIO_FROM="+447700900200"), relay("upgrade")
        assert migrate.revision(db) == "9999"
    assert (checked.exit_code, checked.stderr) == (0, "")
    assert (upgraded.exit_code, upgraded.stdout) == (0, "")
    said = f"The ledger is newer (9999) than this version knows ({REVISION})"
    assert f"warning: {said}; nothing was changed." in upgraded.stderr
    only(db, events)


def test_upgrade_keeps_what_is_there(relay: Run, post: Post, work: Work, rows: Rows) -> None:
    """An upgrade at every release loses nothing."""
    post("order.shipped")
    work()
    before = rows()
    assert relay("upgrade").exit_code == 0
    assert rows() == before
    assert len(before) == 2


def test_before_the_upgrade_a_command_says_so(relay: Run, tmp_path: Path) -> None:
    """On a database without tables a command tells what to run, with exit code 1."""
    for command in (("list",), ("sweep",), ("purge",), ("replay", "--failed")):
        result = relay(*command, DATABASE_URL=f"sqlite:///{tmp_path}/empty.db")
        assert result.exit_code == 1, command
        assert "flask relay upgrade" in result.stderr
