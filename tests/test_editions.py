"""Editions: what is published runs in every process, whole; else each follows its own files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relay.config import check, edition_files
from relay.config.reload import ConfigReloader
from relay.config.settings import Settings
from relay.errors import LedgerUnavailable
from relay.jobs.tasks import Jobs
from relay.ledger import editions, events
from relay.ledger.database import Database
from relay.ledger.editions import Shelf
from relay.ledger.schema import notifications
from relay.messages.templates import Templates
from relay.rules.edition import Content, Edition, digest
from relay.staff import editions as staff_editions
from relay.staff import judging
from relay.worker.process import Clock, make_jobs
from relay.worker.pump import Pump
from tests.conftest import drain
from tests.rows import MONTH, incoming, open_cases, rows
from tests.test_config_reload import NAME, edit, own

__all__ = ["own"]  # a fixture

OTHER = 'name = "Other Clinic"'


def files_of(settings: Settings, old: str = NAME, new: str = OTHER) -> Content:
    """The files, with another line in config.toml."""
    files = edition_files.read(settings)
    assert old in files["config.toml"]
    return {**files, "config.toml": files["config.toml"].replace(old, new)}


def newest(db: Database) -> Edition | None:
    """The edition that is to be in use."""
    with db.read() as connection:
        return editions.newest(connection)


def publish(db: Database, settings: Settings, files: Content) -> int:
    """Publish files, as a person does."""
    found = judging.judge(files, settings)
    return staff_editions.publish(db, files, newest(db), "jane", "Because.", found)


@pytest.fixture
def hold(own: Settings, db: Database) -> Callable[..., ConfigReloader]:
    """What a process holds: a worker's, which follows edited files, or the web's."""

    def make(by: Settings = own, follows: bool = True) -> ConfigReloader:
        made = ConfigReloader(by, check.load, Shelf(db, follows=follows))
        made.look()
        return made

    return make


def test_what_is_published_runs_in_every_process(
    hold: Callable[..., ConfigReloader], own: Settings, db: Database
) -> None:
    """Web and worker take a new edition at their next look, with its number; what ran before is
    theirs until then.
    """
    both = hold(), hold(follows=False)
    assert [one.config.edition for one in both] == [1, 1]
    assert publish(db, own, files_of(own)) == 2
    for one in both:
        assert one.look()
        assert (one.config.clinic.name, one.config.edition) == ("Other Clinic", 2)
        assert not one.look()


def test_a_web_process_takes_it_while_it_answers(
    own: Settings,
    db: Database,
    make_client: Callable[[Settings], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A request is enough for a web process to look."""
    monkeypatch.setattr("relay.config.reload.REQUEST_SECONDS", 30.0)
    here = make_client(own).application.extensions["relay"]
    publish(db, own, files_of(own))
    assert here.config.clinic.name == "Other Clinic"


def test_one_edition_makes_each_message_whole(
    hold: Callable[..., ConfigReloader], own: Settings, db: Database
) -> None:
    """Its rules and words are laid out in a folder of their own: nobody's edit of the files shows
    in it, and it is there for as long as somebody works by it.
    """
    living = hold()
    publish(db, own, files_of(own))
    living.look()
    old = living.config
    edit(own.templates / "kit_shipped" / "sms.txt", "", "Half a")
    publish(db, own, files_of(own, NAME, 'name = "Third Clinic"'))
    living.look()
    assert living.config.edition == 3
    for config, words in ((old, False), (living.config, True)):
        text = Templates(config.settings.templates).source("kit_shipped/sms.txt")
        assert ("Half a" in text) == words
    folder = old.settings.templates
    del old, config
    assert not folder.exists()


def test_each_message_names_its_edition(
    own: Settings, db: Database, make_jobs: Callable[[Settings], Jobs]
) -> None:
    """A message has the number of the edition that made its words."""
    living = ConfigReloader(own, check.load, Shelf(db, follows=True))
    living.look()
    events.record_webhook(db, incoming(), MONTH)
    jobs = Jobs(living.config, db)
    (event,) = jobs.lease_events(1)
    jobs.process(event)
    publish(db, own, files_of(own))
    living.look()
    drain(Jobs(living.config, db))
    assert {row["edition"] for row in rows(db, notifications)} == {2}


def test_files_are_followed_until_something_is_published(
    hold: Callable[..., ConfigReloader], own: Settings, db: Database
) -> None:
    """One machine without a desk never notices: what is edited is used, and is the next edition."""
    living, web = hold(), hold(follows=False)
    for number, (old, new) in enumerate(((NAME, OTHER), (OTHER, NAME)), 2):
        edit(own.config, old, new)
        for one in (living, web):
            assert one.look()
            assert one.config.edition == number
        assert hold().config.edition == number
    with db.read() as connection:
        assert [(one.number, one.source) for one in editions.listed(connection)] == [
            (3, "files"),
            (2, "files"),
            (1, "files"),
        ]


def test_files_of_a_release_before_are_no_new_edition(
    hold: Callable[..., ConfigReloader], own: Settings, db: Database, tmp_path: Path
) -> None:
    """In a deploy the old processes go by their own files, and a restart of one brings back
    nothing.
    """
    old = replace(own, config=tmp_path / "old.toml")
    shutil.copy(own.config, old.config)
    assert hold(old).config.edition == 1
    edit(own.config, NAME, OTHER)
    assert staff_editions.release(db, own).number == 2
    again = hold(old)
    assert (again.config.edition, again.config.clinic.name) == (1, "Example Clinic")
    assert newest(db).number == 2  # type: ignore[union-attr]
    assert hold().config.edition == 2


def test_an_edit_of_files_in_vain_is_told(own: Settings, db: Database) -> None:
    """While a published edition is in use, edited files are not, and staff learn of it; put back,
    the case closes by itself.
    """
    living, jobs = make_jobs(own)
    clock = Clock(jobs, Pump(jobs), living)
    events.record_webhook(db, incoming(), MONTH)
    publish(db, own, files_of(own))
    edit(own.config, NAME, 'name = "Third Clinic"')
    clock.tick()
    assert clock._jobs.config.clinic.name == "Other Clinic"
    (case,) = open_cases(db)
    assert case["kind"] == "config"
    assert "edition 2 is in use, published by jane" in case["reason"]
    edit(own.config, 'name = "Third Clinic"', NAME)
    clock.tick()
    assert open_cases(db) == []
    jobs.db.close()


def test_a_ledger_that_is_away_changes_nothing(
    hold: Callable[..., ConfigReloader],
    own: Settings,
    db: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last good edition stays in use; who starts meanwhile goes by the files."""
    living = hold()
    publish(db, own, files_of(own))
    living.look()

    def away(_shelf: Shelf) -> None:
        raise LedgerUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(Shelf, "newest", away)
        assert not living.look()
        fresh = hold()
        assert [one.config.edition for one in (living, fresh)] == [2, None]
    assert fresh.look()
    assert fresh.config.edition == 2


def test_an_edition_that_a_process_cannot_use_keeps_the_last_good_one(
    hold: Callable[..., ConfigReloader], own: Settings, db: Database
) -> None:
    """It may be of a newer version. What is wrong is told by the names that people know."""
    living = hold()
    with db.write() as connection:
        broken = files_of(own, NAME, 'nmae = "Other"')
        editions.add(connection, editions.newest(connection), broken, "jane", "New.", "desk")
    assert not living.look()
    assert living.config.edition == 1
    assert {problem.where for problem in living.wrong.problems} == {"config.toml"}  # type: ignore[union-attr]
    assert not living.look()


def test_two_who_publish_at_once_lose_nothing(own: Settings, db: Database) -> None:
    """The second is told, and nothing of theirs is in use."""
    seen = newest(db)
    assert staff_editions.publish(db, files_of(own), seen, "jane", "One.", []) == 1
    with pytest.raises(staff_editions.NotDone, match="edition 1 meanwhile"):
        staff_editions.publish(db, files_of(own, NAME, 'name = "B"'), seen, "joe", "Two.", [])


def test_an_edition_comes_back_as_it_was(own: Settings, db: Database, tmp_path: Path) -> None:
    """Byte by byte, also what is no UTF-8; what editors leave behind is no part of it."""
    (own.templates / "odd.txt").write_bytes(b"\xff\r\n\x00")
    (own.templates / ".odd.txt.swp").write_text("no")
    (own.templates / "odd.txt~").write_text("no")
    files = edition_files.read(own)
    with db.write() as connection:
        editions.add(connection, None, files, "files", "", "files")
        kept = editions.content(connection, 1)
    assert kept == files
    edition_files.export(kept, 1, tmp_path / "out")
    out = edition_files.settings_in(own, tmp_path / "out")
    assert (out.templates / "odd.txt").read_bytes() == b"\xff\r\n\x00"
    assert digest(edition_files.read(out)) == digest(files)
    assert not any("swp" in name or "~" in name for name in files)
    assert edition_files.mark(out) == 1


def test_no_name_leads_out_of_its_folder(tmp_path: Path) -> None:
    """An edition writes in its own folder, whatever its files are called."""
    with pytest.raises(edition_files.ConfigError):
        edition_files.write({"templates/../../x": "no"}, tmp_path / "in")
    assert not (tmp_path / "x").exists()
