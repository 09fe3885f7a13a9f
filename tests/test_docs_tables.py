"""Tables in the docs are made from the tables in the code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import click
import pytest

from relay.cli import relay_group
from relay.config.settings import Settings
from relay.lab.events import EVENTS
from relay.lab.facts import RECIPIENT_FIELDS, RESOURCES, SHAPES
from relay.ledger.schema import metadata
from relay.rules.alerts import KINDS
from relay.rules.statuses import ALIVE, EVENT_STATUSES, FAILED, STATUSES
from relay.web.metrics import METRICS
from tests.cli import contract
from tests.conftest import ROOT
from tests.jobs.test_alerts import WORDS
from tests.made_blocks import BLOCK, check_block, table
from tools.docs.openapi import description

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def code(*names: str) -> str:
    """Names as a cell shows them."""
    return ", ".join(f"`{name}`" for name in names)


def test_every_made_block_is_made_by_a_test() -> None:
    """A page's made block names a test that is there and checks a block of that name."""
    tests = {path: path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py")}
    blocks = [(page, block) for page in PAGES for block in BLOCK.finditer(page.read_text("utf-8"))]
    assert len(blocks) > 10
    for page, block in blocks:
        [source] = [text for text in tests.values() if f"def {block[3]}(" in text]
        assert f'"{block[2]}"' in source, (page.name, block[2])
    marks = sum(page.read_text("utf-8").count("\n<!-- made") for page in PAGES)
    assert marks == len(blocks), "a mark is misspelt"


def test_the_statuses() -> None:
    """docs/statuses.md has each status of an event and of a message, with what it means."""
    assert set(STATUSES) == {*ALIVE, *FAILED, "cancelled"}
    for name, words in (("events", EVENT_STATUSES), ("messages", STATUSES)):
        rows = ((code(status), meaning) for status, meaning in words.items())
        check_block("docs/statuses.md", name, table(("Status", "Means"), rows))


def test_the_events() -> None:
    """docs/http.md has each event of the lab's, and the keys of `data` that it must have."""
    rows = (
        (
            code(name),
            code(*(key for key, field in kind.schema.fields.items() if field.required)),
            f"When {kind.happens}",
        )
        for name, kind in EVENTS.items()
    )
    head = ("Event", "Keys that `data` must have", "Sent")
    check_block("docs/http.md", "events", table(head, rows))


def answers() -> Iterator[tuple[str, str, str]]:
    """Each answer that the description has; the webhook's two routes have the same."""
    for path, operations in description()["paths"].items():
        for method, operation in operations.items():
            if path == "/webhooks/lab/{secret}":
                continue
            route = f"`{method.upper()} {path}`"
            for status, answer in sorted(operation["responses"].items()):
                yield route, status, answer["description"]
                route = ""


def test_the_answers() -> None:
    """docs/http.md has each answer that docs/openapi.json describes."""
    check_block("docs/http.md", "answers", table(("Route", "Answer", "Means"), answers()))


def shape(name: str) -> str:
    """A resource's fields, with those of what is inside."""
    shown = []
    for field, inside in SHAPES[name].items():
        inner = inside.rstrip("*")
        if inside == "?":
            shown.append(f"`{field}` (any keys)")
        elif inner and inner not in RESOURCES:
            shown.append(f"`{field}` ({shape(inner)})")
        else:
            shown.append(f"`{field}`")
    return ", ".join(shown)


def test_the_names() -> None:
    """docs/rules.md has each name that `when` and templates see, with its fields."""
    recipient = f"{code(*RECIPIENT_FIELDS)}. `role` is customer, patient or the staff group"
    event = "`name`, `received_at` and the keys of the event's `data`"
    rows = [("clinic", shape("clinic")), ("recipient", recipient), ("event", event)]
    rows += [(name, shape(name)) for name in RESOURCES]
    made = table(("Name", "Fields"), ((code(name), fields) for name, fields in rows))
    check_block("docs/rules.md", "names", made)


def commands() -> Iterator[str]:
    """Each command as its own help says."""
    context = click.Context(relay_group, info_name="flask relay")
    for name, command in relay_group.commands.items():
        usage = command.collect_usage_pieces(click.Context(command, parent=context))
        arguments = " ".join(piece for piece in usage if piece != "[OPTIONS]")
        words = " ".join((command.help or "").split("\n\n")[0].split())
        more = [" ".join(part.split()) for part in (command.help or "").split("\n\n")[1:]]
        yield f"### {name}\n\n`{f'flask relay {name} {arguments}'.rstrip()}`\n\n{words}\n"
        yield from (f"\n{part}\n" for part in more)
        options = [one for one in command.params if isinstance(one, click.Option)]
        if options:
            yield "\n" + table(("Option", "Does"), map(option, options))
        yield "\n"


def option(one: click.Option) -> tuple[str, str]:
    """An option's name, and its help with what it is by default."""
    takes = "" if one.is_flag else f" {one.make_metavar(click.Context(click.Command('')))}"
    default = one.show_default
    shown = one.default if default is True else default
    said = f" Default: {shown}." if shown else ""
    return f"`{one.opts[0]}{takes}`", (one.help or "") + said


def test_the_commands() -> None:
    """docs/commands.md has each command's help and options."""
    check_block("docs/commands.md", "commands", "".join(commands()))


def test_the_metrics() -> None:
    """docs/monitoring.md has each metric, with what Prometheus is told about it."""
    rows = ((code(name), told) for name, told in METRICS.items())
    check_block("docs/monitoring.md", "metrics", table(("Metric", "Shows"), rows))


def test_the_benchmarks() -> None:
    """docs/performance.md has the figures of the last benchmarks, beside their goals."""
    kept = json.loads((ROOT / "tools/bench/results/results.json").read_text("utf-8"))
    rows = ((goal["what"], figure(goal["value"], goal), wanted(goal)) for goal in kept["goals"])
    check_block("docs/performance.md", "goals", table(("Measured", "Result", "Goal"), rows))
    desk = kept["figures"]["desk"]
    asked = {what: ms for what, ms in desk.items() if what not in ("events", "scans")}
    slowest = sorted(
        ((what, ms) for what, ms in asked.items() if not what.startswith("slowest")),
        key=lambda row: -row[1],
    )
    made = table(("Slowest of the desk", "ms"), ((f"`{w}`", f"{ms:.0f}") for w, ms in slowest[:8]))
    check_block("docs/performance.md", "desk", made)


def figure(value: float, goal: dict[str, Any]) -> str:
    """A figure with its unit."""
    whole = float(value).is_integer() and not goal["unit"] and value >= 1
    shown = f"{value:.0f}" if whole or value == 0 or abs(value) >= 100 else f"{value:.2f}"
    return f"{shown} {goal['unit']}".rstrip()


def wanted(goal: dict[str, Any]) -> str:
    """A goal, and whether it is met."""
    bound = "at least" if goal["at_least"] else "at most"
    return f"{bound} {goal['wanted']:g} {goal['unit']}".rstrip() + (
        "" if goal["met"] else ", missed"
    )


VARIABLE = re.compile(r"^\| (`[A-Z].*?) \| .+ \| (.+) \|$", re.MULTILINE)


def variables() -> dict[str, str]:
    """Each variable of docs/environment.md, and its default as it stands there."""
    text = (ROOT / "docs" / "environment.md").read_text("utf-8").partition("\n## For developers")[0]
    return {
        name: default
        for names, default in VARIABLE.findall(text)
        for name in re.findall(r"`([A-Z_]+)`", names)
    }


def test_every_variable_is_on_its_page() -> None:
    """docs/environment.md has a row for each variable of the contract, and for no other."""
    assert set(variables()) == set(contract.VARIABLES)


FIELDS = {
    "RELAY_DELIVERY": "delivery",
    "RELAY_CONFIG": "config",
    "RELAY_TEMPLATES": "templates",
    "RELAY_ENV": "name",
    "LAB_API_URL": "lab_api_url",
    "DATABASE_CONNECTIONS": "database_connections",
    "TRUSTED_PROXIES": "trusted_proxies",
    "LOG_LEVEL": "log_level",
}


@pytest.mark.parametrize("name", FIELDS)
def test_a_default_on_the_page_is_the_codes(name: str) -> None:
    """What docs/environment.md calls a variable's default is what Relay takes without it."""
    assert variables()[name] == f"`{getattr(Settings(), FIELDS[name])}`"


def test_every_kind_of_case_is_on_the_daily_page() -> None:
    """docs/daily.md says what to do about each kind of case, by the title that the desk shows."""
    text = (ROOT / "docs" / "daily.md").read_text("utf-8")
    assert [kind for kind in KINDS if f"| {WORDS.title(kind)} |" not in text] == []


def test_each_log_line_that_is_explained_is_written() -> None:
    """docs/monitoring.md explains no line that Relay does not log."""
    page = (ROOT / "docs" / "monitoring.md").read_text("utf-8")
    part = page.partition("| Line |")[2].partition("\n\n")[0]
    first_cells = re.findall(r"^\| (`.*?) \|", part, re.MULTILINE)
    lines = [line for cell in first_cells for line in re.findall(r"`([a-z]+[a-z ,-]+)`", cell)]
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "relay").rglob("*.py"))
    made = [f"{word} {status}" for word, known in STATUS_LINES.items() for status in known]
    assert len(lines) > 25
    assert [line for line in lines if f'"{line}"' not in source and line not in made] == []


# Lines that are put together from a word and a status.
STATUS_LINES = {"webhook": ("accepted", "duplicate", "unrouted"), "message": tuple(STATUSES)}


def test_every_table_is_on_the_map() -> None:
    """docs/architecture.md says what a row of each of the ledger's tables is."""
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    rows = "".join(re.findall(r"^\| `.*?\|", text, re.MULTILINE))
    assert [name for name in metadata.tables if f"`{name}`" not in rows] == []


def test_the_readme_can_be_read_in_one_go() -> None:
    """README.md has at most 150 lines: all else is on a page of its own."""
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150
