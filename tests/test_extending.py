"""docs/extending.md: what it says to add is all that has to be added."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.jobs.conftest import HEAD
from tests.standins import LabStandIn

PAGE = (ROOT / "docs" / "extending.md").read_text("utf-8")
BLOCK = re.compile(r"(.*?)^```(?:python|json)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
RULES = """
[rules.back]
event = "order.returned"
to = "customer"
channels = ["letter"]
template = "back"
tracked_only = true
"""
# What a clinic's day is, in a process that has the copy and nothing of ours.
DAY = ROOT / "tests" / "day_in_a_copy.py"


def recipes() -> list[tuple[str, str, str]]:
    """Each block of the page: the file it goes into, the line it goes behind (none: all of it)."""
    made: list[tuple[str, str, str]] = []
    for before, block in BLOCK.findall(PAGE):
        place, _, anchor = before.rpartition("behind")
        paths = re.findall(r"`(relay/[\w/]+\.\w+)`", place or before)
        behind = re.search(r"`([^`]+)`", anchor) if place else None
        made.append((paths[-1] if paths else made[-1][0], behind[1] if behind else "", block))
    return made


def add(copy: Path, path: str, anchor: str, block: str) -> None:
    """Do to a copy what the page says."""
    file = copy / path
    if not anchor:
        file.write_text(block, "utf-8")
        return
    lines = file.read_text("utf-8").splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if anchor in line)
    lines.insert(at + 1, block)
    file.write_text("".join(lines), "utf-8")


@pytest.mark.slow
def test_what_this_page_adds_works(tmp_path: Path, lab: LabStandIn) -> None:
    """An event, a rule key and a channel, each added as the page says and nowhere else: the event
    is taken, the key decides, and the letter goes out by the new channel, once."""
    found = recipes()
    assert len(found) == 8
    shutil.copytree(ROOT / "relay", tmp_path / "relay", ignore=shutil.ignore_patterns("*.pyc"))
    for path, anchor, block in found:
        add(tmp_path, path, anchor, block)
    (tmp_path / "config.toml").write_text(HEAD + RULES, "utf-8")
    (tmp_path / "templates" / "back").mkdir(parents=True)
    words = "Your kit {{ order.tracking_number }} came back."
    (tmp_path / "templates" / "back" / "letter.txt").write_text(words, "utf-8")
    bodies = []
    for id_, number in (("o-1", "RM1"), ("o-2", None)):
        customer = {"id": "c", "last_name": "Smith", "first_name": None, "email": None}
        lab.change("order", id_, id=id_, tracking_number=number, customer=customer)
        bodies.append({"event": "order.returned", "data": {"order_id": id_}})
    told = day(tmp_path, lab, bodies)
    assert told["posted"] == ["accepted"] * 3
    assert told["key"]["type"] == "boolean"
    letters = (tmp_path / "letters.txt").read_text("utf-8").splitlines()
    assert "Smith: Your kit RM1 came back." in letters
    assert told["rows"] == [["letter", "sent"]] * len(letters)
    assert "None" not in "".join(letters)
    assert len(letters) == 2  # the lab's own example has a number, o-2 has none


def day(copy: Path, lab: LabStandIn, bodies: list[dict[str, Any]]) -> dict[str, Any]:
    """What came of a day with these events."""
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(copy),
        "RELAY_ENV": "development",
        "RELAY_DELIVERY": "live",
        "DATABASE_URL": f"sqlite:///{copy}/relay.db",
        "LAB_API_URL": lab.url,
        "LAB_API_TOKEN": lab.token,
        "LETTERS": str(copy / "letters.txt"),
    }
    done = subprocess.run(
        [sys.executable, str(DAY), json.dumps(bodies)],
        cwd=copy,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return made
