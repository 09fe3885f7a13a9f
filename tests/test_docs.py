"""The docs keep in step: what they name is there, and their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from relay.lab.facts import SHAPES
from tests.conftest import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "safety").glob("*.md")),
    ROOT / "docs" / "protocol" / "README.md",
]
TESTS = "\n".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py"))


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.name)
def test_a_named_test_is_there(page: Path) -> None:
    """A test that a page names as its proof exists."""
    for name in re.findall(r"`(test_\w+)`", page.read_text("utf-8")):
        assert name in SHAPES["order"] or f"def {name}(" in TESTS


def test_every_control_of_a_hazard_has_its_proof() -> None:
    """Each control in the hazard log names the test that shows it."""
    text = (ROOT / "docs" / "safety" / "README.md").read_text("utf-8")
    controls = [
        line
        for part in text.split("| Control | Shown by |\n|---|---|\n")[1:]
        for line in part.partition("\n\n")[0].splitlines()
    ]
    assert len(controls) > 30
    assert [line for line in controls if not re.search(r"`test_\w+`", line)] == []


def test_every_fault_has_its_proof() -> None:
    """Each row of the fault table names a test, a command or the chaos run."""
    table = (ROOT / "docs" / "faults.md").read_text("utf-8").partition("\n## ")[0]
    rows = re.findall(r"^\| \d.*$", table, re.MULTILINE)
    assert len(rows) > 25
    assert [
        row for row in rows if not re.search(r"test_|chaos|make bench", row.split("|")[-2])
    ] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """A link to a file of ours finds it, and one to a heading finds that."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, heading = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        assert not heading or heading in _anchors(file), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_named_path_is_there(page: Path) -> None:
    """A file or folder of the project that a page names exists, but for what it says to add."""
    if page.name in ("CHANGELOG.md", "extending.md"):
        return
    for path in re.findall(r"`((?:relay|tests|tools|ops|docs)/[\w./-]*)`", page.read_text("utf-8")):
        assert (ROOT / path).exists(), path


def _anchors(page: Path) -> set[str]:
    """What GitHub calls a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_make_target_is_documented() -> None:
    """What `make help` lists is explained on docs/developing.md."""
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert len(targets) > 8
    text = (ROOT / "docs" / "developing.md").read_text("utf-8")
    assert [name for name in targets if f"make {name}" not in text and name != "help"] == []


def test_every_package_is_on_the_map() -> None:
    """docs/architecture.md has a line for each package, and for each module beside them."""
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    packages = [f"relay/{path.parent.name}/`" for path in (ROOT / "relay").glob("*/__init__.py")]
    assert [name for name in packages if name not in text] == []
