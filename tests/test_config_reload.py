"""config.toml and templates are read again when they change; a broken edit changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relay import logs
from relay.config import check
from relay.config.loader import Config
from relay.config.reload import ConfigReloader
from relay.config.settings import Settings
from relay.jobs.tasks import Jobs
from relay.ledger import events
from relay.ledger.database import Database
from relay.ledger.history import Turn
from relay.ledger.schema import notifications
from relay.worker.process import Clock
from relay.worker.pump import Pump
from tests.conftest import ROOT
from tests.rows import MONTH, incoming, open_cases, rows
from tests.test_desk import desk, inside

__all__ = ["desk", "inside"]  # fixtures

NAME = 'name = "Example Clinic"'


@pytest.fixture
def own(settings: Settings, tmp_path: Path) -> Settings:
    """Settings with a config.toml and templates that a test may edit."""
    folder = tmp_path / "own"
    shutil.copytree(ROOT / "templates", folder / "templates")
    shutil.copy(settings.config, folder / "config.toml")  # in which it is always time to send
    return replace(settings, config=folder / "config.toml", templates=folder / "templates")


def edit(path: Path, old: str, new: str) -> None:
    """Change a file, as an editor does."""
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")
    told = path.stat()
    os.utime(path, ns=(told.st_atime_ns, told.st_mtime_ns + 1_000_000))  # however coarse the clock


@pytest.fixture
def living(own: Settings) -> ConfigReloader:
    """What a worker holds."""
    return ConfigReloader(own, check.load)


def names(living: ConfigReloader) -> str:
    """The clinic's name by the configuration in use."""
    living.look()
    return living.config.clinic.name


def test_nothing_is_read_while_nothing_changes(own: Settings) -> None:
    """As long as no file has changed, none is read again."""
    asked: list[Settings] = []

    def read(settings: Settings) -> Config:
        asked.append(settings)
        return check.load(settings)

    living = ConfigReloader(own, read)
    assert not living.look()
    assert len(asked) == 1
    edit(own.config, NAME, 'name = "Other Clinic"')
    assert living.look()
    assert not living.look()
    assert len(asked) == 2


def test_an_edit_is_taken(living: ConfigReloader, own: Settings) -> None:
    """What config.toml says by now is what is done."""
    edit(own.config, NAME, 'name = "Other Clinic"')
    assert names(living) == "Other Clinic"
    assert living.wrong is None


def test_a_broken_edit_keeps_the_last_good_one(living: ConfigReloader, own: Settings) -> None:
    """A mistake changes nothing but that it is told; put right, it is taken."""
    edit(own.config, NAME, 'nmae = "Other Clinic"')
    assert names(living) == "Example Clinic"
    assert living.wrong is not None
    edit(own.config, "nmae =", "name =")
    assert names(living) == "Other Clinic"
    assert living.wrong is None


def test_a_broken_template_is_a_broken_edit(living: ConfigReloader, own: Settings) -> None:
    """A template that cannot be rendered is told like a mistake in config.toml."""
    edit(own.templates / "results_ready" / "sms.txt", "clinic.phone", "clinic.phnoe")
    assert not living.look()
    assert living.wrong is not None


def test_a_file_that_is_gone_keeps_the_last_good_one(living: ConfigReloader, own: Settings) -> None:
    """An editor that takes the file away for a moment breaks nothing."""
    own.config.unlink()
    assert names(living) == "Example Clinic"


def test_the_web_process_goes_by_it(
    own: Settings, make_client: Callable[[Settings], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a restart the web process has the new configuration."""
    monkeypatch.setattr("relay.config.reload.LOOK_SECONDS", 0.0)
    client = make_client(own)
    here = client.application.extensions["relay"]
    edit(own.config, NAME, 'name = "Other Clinic"')
    assert here.config.clinic.name == "Other Clinic"


@pytest.fixture
def clock(own: Settings, make_jobs: Callable[[Settings], Jobs]) -> Clock:
    """A worker's clock, which a test makes tick."""
    jobs = make_jobs(own)
    return Clock(jobs, Pump(jobs), ConfigReloader(own, check.load))


def test_a_worker_goes_by_it(clock: Clock, own: Settings) -> None:
    """At its next tick a worker has new rules, and lanes that work by them."""
    before = clock._pump.lanes[0].work
    edit(own.config, "daily_sms_limit = 2000", "daily_sms_limit = 1\nsms_per_second = 3")
    clock.tick()
    assert clock._jobs.config.delivery.daily_sms_limit == 1
    assert clock._pump.lanes[0].work != before
    assert {lane.name: lane.rate.limit for lane in clock._pump.lanes}["sms"] == 3


def test_staff_are_told_of_a_broken_edit_once(clock: Clock, own: Settings, db: Database) -> None:
    """It is on the worklist and written to staff, with the line; put right, it is closed."""
    events.record_webhook(db, incoming(), MONTH)
    edit(own.config, NAME, 'nmae = "Other Clinic"')
    clock.tick()
    clock.tick()
    (case,) = open_cases(db)
    line = own.config.read_text("utf-8").splitlines().index('nmae = "Other Clinic"') + 1
    assert (case["kind"], str(line) in case["reason"]) == ("config", True)
    assert [row["rule"] for row in rows(db, notifications)] == ["relay:config"]
    edit(own.config, "nmae =", "name =")
    clock.tick()
    assert open_cases(db) == []


def test_before_the_first_event_it_is_only_logged(
    clock: Clock, own: Settings, db: Database
) -> None:
    """A ledger without any event has nothing to keep a case with: nothing breaks."""
    edit(own.config, NAME, 'nmae = "Other Clinic"')
    clock.tick()
    assert open_cases(db) == []


def test_half_a_file_is_never_a_configuration(
    living: ConfigReloader, own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is being written is waited for: it is taken once it has been the same for two
    seconds, and what it was in between is nobody's mistake."""
    monkeypatch.setattr("relay.config.reload.SETTLED_SECONDS", 2.0)
    now = 1000.0
    monkeypatch.setattr("relay.config.reload.time.monotonic", lambda: now)
    whole = own.config.read_text("utf-8").replace(NAME, 'name = "Other Clinic"')
    for half in (whole[: len(whole) // 2], whole[:-5], whole):
        own.config.write_text(half, "utf-8")
        for _ in range(2):
            assert not living.look()
            now += 0.9
    assert living.wrong is None
    assert living.is_settling
    now += 1.0
    assert living.look()
    assert living.config.clinic.name == "Other Clinic"
    assert not living.is_settling


def test_a_process_that_starts_waits_for_half_a_file(
    own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a file can be read too, and says nothing of the rules in its other half: a worker that
    starts while it is written waits until it is whole."""
    monkeypatch.setattr("relay.config.reload.SETTLED_SECONDS", 2.0)
    whole = own.config.read_text("utf-8")
    own.config.write_text(whole[: whole.index("[rules.results-ready]")], "utf-8")
    rest = iter([whole])

    def passes(seconds: float) -> None:
        """While it waits, the other half is written, and then nothing changes for a while."""
        text = next(rest, "")
        if text:
            own.config.write_text(text, "utf-8")
        for file in (own.config, *own.templates.rglob("*")):
            os.utime(file, (time.time() - 5, time.time() - 5))

    monkeypatch.setattr("relay.config.reload.time.sleep", passes)
    assert ConfigReloader(own, check.load).config.by_name.get("results-ready")


def test_a_change_while_it_is_read_is_seen(own: Settings) -> None:
    """What changes while a process starts, after it was read, is taken at the next look."""

    def read(settings: Settings) -> Config:
        config = check.load(settings)
        if NAME in own.config.read_text("utf-8"):
            edit(own.config, NAME, 'name = "Other Clinic"')
        return config

    living = ConfigReloader(own, read)
    assert living.config.clinic.name == "Example Clinic"
    assert names(living) == "Other Clinic"


def test_at_night_a_worker_moves_what_is_finished(
    clock: Clock, own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kits move between one and five o'clock where the clinic is, and never in a worker's first
    hour: the release before may still work.
    """
    turns = [Turn(3, "evt_1"), Turn(2, None)]
    begun: list[str] = []

    def move(_jobs: Jobs, _seconds: float, after: str) -> Turn:
        begun.append(after)
        return turns.pop(0)

    monkeypatch.setattr(Jobs, "move_to_history", move)
    monkeypatch.setattr(Clock, "_is_night", lambda _clock: True)
    clock.tick()
    clock.tick()
    assert begun == []
    clock._next_move = 0.0
    monkeypatch.setattr(Clock, "_is_night", lambda _clock: False)
    clock.tick()
    assert begun == []
    monkeypatch.setattr(Clock, "_is_night", lambda _clock: True)
    for _ in range(3):
        clock.tick()
    assert begun == ["", "evt_1"]


def test_a_ledger_on_this_disk_is_told_in_the_log_and_by_check(
    own: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """A clinic's SQLite is lost with its machine, and a second machine has another: `check` warns,
    and web and worker say so when they start. In development, or with PostgreSQL, nothing is said.
    """
    logs.set_up()
    for development, url, is_told in (
        (False, "sqlite:///instance/relay.db", True),
        (True, "sqlite:///instance/relay.db", False),
        (False, "postgresql+psycopg://u@h/d", False),
    ):
        settings = replace(own, development=development, database_url=url)
        ConfigReloader(settings, check.load)
        assert ("DATABASE_URL" in capsys.readouterr().out) == is_told
        keys = [problem.key for problem in check.missed_later(settings)]
        assert ("DATABASE_URL" in keys) == is_told


@pytest.mark.parametrize("delivery", ["live", "dry-run"])
def test_the_example_clinic_is_told_in_the_log(
    own: Settings, delivery: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Web and worker start with it all the same, and say which keys patients would read; a worker
    says it again when an edit has left some.
    """
    logs.set_up()
    living = ConfigReloader(replace(own, delivery=delivery), check.load)
    edit(own.config, NAME, 'name = "Harbour Clinic"')
    living.look()
    lines = map(json.loads, capsys.readouterr().out.splitlines())
    told = [line["keys"] for line in lines if "example values" in line["event"]]
    keys = ["clinic.name", "clinic.phone", "clinic.portal", "delivery.sms_from"]
    keys += ["delivery.email_from", "staff.lab-desk.email"]
    assert told == ([keys, keys[1:]] if delivery == "live" else [])
