"""config.toml as a file: several mistakes at once, not TOML, not text, not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.config.loader import load
from relay.config.settings import Settings
from tests.test_config import EXAMPLE, problems


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where config.toml stands."""
    return tmp_path / "config.toml"


def told(path: Path) -> list[tuple[int | None, str]]:
    """Line and key of everything that is wrong."""
    return [(problem.line, problem.key) for problem in problems(path)]


def test_all_mistakes_are_told_at_once_in_their_order(path: Path) -> None:
    """An admin mends a file in one go, top to bottom; no mistake is told for another's sake."""
    text = EXAMPLE
    for old, new in (
        ("portal =", "portel ="),
        ('"90d"', '"90"'),
        ("lab-desk@example.org", "lab-desk"),
        ("order.shipped", "order.shiped"),
        ("enabled = true", "enabled = 1.5"),
    ):
        text = text.replace(old, new, 1)
    path.write_text(text + "\n[extra]\n", "utf-8")
    assert told(path) == [
        (5, "clinic.portel"),
        (14, "delivery.retention"),
        (18, "staff.lab-desk.email"),
        (22, "rules.kit-shipped.event"),
        (34, "rules.results-ready.enabled"),
        (43, "extra"),
    ]


def test_two_mistakes_in_one_table_are_both_told(path: Path) -> None:
    """The second mistake of a rule does not wait for the first to be mended."""
    path.write_text(EXAMPLE.replace("kit_shipped", "/").replace("order.shipped", "x"), "utf-8")
    assert told(path) == [(22, "rules.kit-shipped.event"), (25, "rules.kit-shipped.template")]


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_file_that_cannot_be_read_is_told(path: Path, is_folder: bool) -> None:
    """A missing file, or a folder in its place, is told with what names it."""
    if is_folder:
        path.mkdir()
    (problem,) = problems(path)
    assert (
        str(problem)
        == f"{path}: Relay cannot read this file. If it is somewhere else, set RELAY_CONFIG."
    )


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ('clinic = "Example"', "clinic"),
        ("delivery = 1", "delivery"),
        ("staff = []", "staff"),
        ("rules = []", "rules"),
        ("rules.kit = 1", "rules.kit"),
        ("[[rules.kit]]", "rules.kit"),
    ],
)
def test_what_should_be_a_table_is_told(path: Path, value: str, kind: str) -> None:
    """A value where a table belongs is told with the table to write."""
    path.write_text(f"# a line\n{value}\n", "utf-8")
    (problem,) = [problem for problem in problems(path) if problem.key == kind]
    assert problem.line == 2
    assert f"Write [{kind}" in problem.remedy


@pytest.mark.parametrize(
    "phone",
    [
        '"""\n[clinic]\nportel = 1\n"""',
        "'''\n[rules.x]\nto = [\n'''",
        '"020" # """',
        '"020 [" # [',
        '"\u2028\u0085"',
    ],
)
def test_lines_are_right_below_values_of_several_lines(path: Path, phone: str) -> None:
    """A long text or list above does not shift the line that a mistake is told with."""
    text = EXAMPLE.replace('"020 7946 0000"', phone)
    text = text.replace(
        '["lab-desk@example.org"]', '[\n  "a@example.org", # ]\n  "b@example.org",\n]'
    )
    path.write_text(text.replace("portal =", "portel =").replace("order.shipped", "x"), "utf-8")
    lines = path.read_text("utf-8").split("\n")
    assert told(path) == [
        (lines.index('portel = "https://portal.example/results"') + 1, "clinic.portel"),
        (lines.index('event = "x"') + 1, "rules.kit-shipped.event"),
    ]


@pytest.mark.parametrize(
    ("prefix", "newline"), [(b"", "\r\n"), (b"\xef\xbb\xbf", "\n"), (b"\xef\xbb\xbf", "\r\n")]
)
def test_an_editor_of_another_system_is_no_mistake(path: Path, prefix: bytes, newline: str) -> None:
    """A byte-order mark and Windows line ends are taken, and lines are counted right."""
    path.write_bytes(prefix + EXAMPLE.replace("\n", newline).encode())
    assert load(Settings(config=path)).clinic.name == "Example Clinic"
    path.write_bytes(prefix + EXAMPLE.replace('"90d"', "1").replace("\n", newline).encode())
    assert told(path) == [(14, "delivery.retention")]
