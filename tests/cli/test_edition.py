"""`flask relay edition`: editions are listed, compared, judged, published and taken back."""

from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relay.ledger.audit import PUBLISH
from relay.ledger.database import Database
from relay.ledger.schema import audit
from tests.cli.conftest import Run
from tests.conftest import ROOT, one_database
from tests.rows import rows

NAME = 'name = "Example Clinic"'
SMS = "templates/results_ready/sms.txt"
Edit = Callable[[str, str, str], None]


@pytest.fixture
def folder(config_file: Path) -> Path:
    """A folder with the config.toml and templates that are in use."""
    made = config_file.parent / "edited"
    shutil.copytree(ROOT / "templates", made / "templates")
    shutil.copy(config_file, made / "config.toml")
    return made


@pytest.fixture
def edit(folder: Path) -> Edit:
    """Change a file of that folder."""

    def change(name: str, old: str, new: str) -> None:
        text = (folder / name).read_text("utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new), "utf-8")

    return change


def listed(relay: Run) -> list[dict[str, Any]]:
    """What `edition list --json` shows."""
    return [*map(json.loads, relay("edition", "list", "--json").stdout.splitlines())]


def test_the_whole_way(
    relay: Run, folder: Path, edit: Edit, post: Callable[..., str], db: Database
) -> None:
    """An edit is judged, published, seen in what is sent, compared, and taken back; all of it is on
    the record.
    """
    assert "edition 1" in relay("upgrade").stdout
    edit("config.toml", NAME, 'name = "Other Clinic"')
    assert relay("edition", "check", str(folder)).exit_code == 0
    result = relay("edition", "publish", str(folder), "--note", "We moved.")
    assert (result.exit_code, "Edition 2 is published" in result.stdout) == (0, True)
    assert "  before: Messages give the clinic's name as Example Clinic" in result.stdout
    post("order.shipped")
    relay("sweep")
    message, *others = map(json.loads, relay("list", "--json").stdout.splitlines())
    assert {one["edition"] for one in (message, *others)} == {2}
    assert "It goes by edition 2." in relay("explain", message["id"]).stdout
    assert relay("edition", "revert", "1", "--note", "We did not.").exit_code == 0
    found = listed(relay)
    assert [(one["number"], one["parent"], one["source"], one["note"]) for one in found] == [
        (3, 2, "desk", "Back to edition 1. We did not."),
        (2, 1, "desk", "We moved."),
        (1, None, "files", "Brought by a release."),
    ]
    assert [one["in_use"] for one in found] == [True, False, False]
    assert found[0]["hash"] == found[2]["hash"] != found[1]["hash"]
    acts = [(row["action"], row["target"]) for row in rows(db, audit)]
    assert acts.count((PUBLISH, "edition 3")) == 1
    assert "We moved." in relay("edition", "show", "2").stdout


def test_a_difference_is_told_in_plain_english_first(relay: Run, folder: Path, edit: Edit) -> None:
    """Rules that are new, gone and changed, then the files line by line, also of files."""
    relay("upgrade")
    edit("config.toml", 'channels = ["sms"]\nfallback = ["email"]', 'channels = ["email"]')
    edit("config.toml", "[rules.kit-shipped]", "[rules.kit-left]")
    edit(SMS, "ready", "there")
    relay("edition", "publish", str(folder), "--note", "Email first.")
    told = relay("edition", "diff", "files", "2").stdout
    assert told == relay("edition", "diff", "1", "2").stdout
    words, _, lines = told.partition("\n\n")
    assert "Rule kit-shipped: gone." in words
    assert "Rule kit-left: new." in words
    assert f"Words changed in: {SMS}." in words
    assert f"--- before/{SMS}" in lines
    assert "+[rules.kit-left]" in lines


@pytest.mark.parametrize(
    ("note", "change", "told"),
    [
        ("Because.", ("config.toml", "name =", "nmae ="), "config.toml:"),
        ("Because.", (SMS, "clinic.phone", "clinic.phnoe"), f"{SMS}:"),
        (" ", ("config.toml", NAME, 'name = "Other Clinic"'), "Write a note first."),
        ("Because.", None, "the same as edition 1"),
    ],
)
def test_what_cannot_be_published_is_refused(
    relay: Run, folder: Path, edit: Edit, note: str, change: tuple[str, str, str], told: str
) -> None:
    """Every mistake with its line, a blank note, and what is in use already: exit 1, and nothing is
    in use but what was.
    """
    relay("upgrade")
    if change:
        edit(*change)
    result = relay("edition", "publish", str(folder), "--note", note)
    assert (result.exit_code, told in result.stderr) == (1, True), result.stderr
    assert "relay-" not in result.stderr  # as private folders are called
    assert [one["number"] for one in listed(relay)] == [1]


HOSTILE = {
    "a loop": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}x",
    "a text": "{{ 'a' * 10**10 }}",
    "brackets": "{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}",
    "a number": "{{ 10 ** (10 ** 10) }}",
    "an escape": "{{ clinic.__class__.__mro__[1].__subclasses__() }}",
    "a macro": "{% macro a(n) %}{{ a(n - 1) }}{{ a(n - 1) }}{% endmacro %}{{ a(60) }}",
    "files": "",
}


@one_database
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_edition_is_refused(relay: Run, folder: Path, kind: str) -> None:
    """What has no end, or reaches for what is none of its business, is refused: it gets the time
    that its rules need and 64 MB, and all is as before.
    """
    (folder / SMS).write_text(HOSTILE[kind] or "x")
    if kind == "files":
        for number in range(1001):
            (folder / f"templates/{number}.txt").touch()
    before = resource.getrlimit(resource.RLIMIT_AS)
    result = relay("edition", "publish", str(folder), "--note", "Because.")
    assert (result.exit_code, "error" in result.stderr) == (1, True)
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    assert {one["source"] for one in listed(relay)} <= {"files"}


def test_a_release_without_a_change_leaves_what_was_published(
    relay: Run, folder: Path, edit: Edit
) -> None:
    """Unchanged files bring nothing, however often they are released."""
    edit("config.toml", NAME, 'name = "Other Clinic"')
    relay("edition", "publish", str(folder), "--note", "Because.")  # which keeps the files first
    for _ in range(2):
        assert relay("upgrade").exit_code == 0
    assert [one["source"] for one in listed(relay)] == ["desk", "files"]


def test_a_release_never_undoes_what_was_published(
    relay: Run, folder: Path, edit: Edit, config_file: Path, tmp_path: Path
) -> None:
    """Changed on both sides the release stops with both differences; exported, merged and released
    again, the files are the next edition.
    """
    relay("upgrade")
    edit("config.toml", NAME, 'name = "Other Clinic"')
    relay("edition", "publish", str(folder), "--note", "Because.")
    mine = config_file.read_text("utf-8").replace("daily_sms_limit = 2000", "daily_sms_limit = 9")
    config_file.write_text(mine, "utf-8")
    stopped = relay("upgrade")
    assert stopped.exit_code == 1
    assert "At most 9 texts" in stopped.stdout
    assert "Other Clinic" in stopped.stdout
    assert "flask relay edition export" in stopped.stderr
    assert [one["number"] for one in listed(relay)] == [2, 1]
    out = tmp_path / "out"
    assert relay("edition", "export", str(out)).exit_code == 0
    assert relay("edition", "export", str(out)).exit_code == 1
    merged = (out / "config.toml").read_text("utf-8").replace("limit = 2000", "limit = 9")
    (out / "config.toml").write_text(merged, "utf-8")
    files = {"RELAY_CONFIG": str(out / "config.toml"), "RELAY_TEMPLATES": str(out / "templates")}
    assert relay("upgrade", **files).exit_code == 0
    newest, *_ = listed(relay)
    assert (newest["number"], newest["source"]) == (3, "files")


def test_a_release_may_bring_what_was_published(
    relay: Run, folder: Path, edit: Edit, config_file: Path
) -> None:
    """Files that say what was published on the desk are followed from then on."""
    relay("upgrade")
    edit("config.toml", NAME, 'name = "Other Clinic"')
    relay("edition", "publish", str(folder), "--note", "Because.")
    shutil.copy(folder / "config.toml", config_file)
    assert relay("upgrade").exit_code == 0
    assert [one["source"] for one in listed(relay)] == ["files", "desk", "files"]


def test_broken_files_are_no_edition(relay: Run, config_file: Path) -> None:
    """A release with mistakes in its files does what it did, and says so."""
    config_file.write_text("nonsense", "utf-8")
    result = relay("upgrade")
    assert (result.exit_code, "flask relay check" in result.stderr) == (0, True)
    assert listed(relay) == []
    assert "no editions yet" in relay("edition", "list").stdout


@pytest.mark.parametrize(
    "command",
    [("show", "7"), ("diff", "7", "files"), ("revert", "7", "--note", "x"), ("export", "x")],
)
def test_there_is_no_such_edition(
    relay: Run, command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number that nobody has seen is told, with how to see them."""
    monkeypatch.chdir(tmp_path)
    result = relay("edition", *command)
    assert (result.exit_code, "flask relay edition list" in result.stderr) == (1, True)
