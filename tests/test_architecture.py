"""The walls: who may import whom. Read from the source, so that lazy imports count too."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from relay.rules.channels import CHANNEL_NAMES

ROOT = Path(__file__).parent.parent
SOURCES = sorted(path for path in (ROOT / "relay").rglob("*.py") if "migrations" not in path.parts)
ARCHITECTURE = ROOT / "docs" / "architecture.md"
FOR_ALL = {"errors", "logs", "http_client", "fault_injection"}
_ROW = re.compile(r"^\| `relay/(\w+)/` \| .* \| ([^|]+) \|$", re.MULTILINE)
# The table of packages: package → those that it may import, and through them what these may.
MAY_IMPORT = {
    name: set(re.findall(r"\w+", last))
    for name, last in _ROW.findall(ARCHITECTURE.read_text("utf-8"))
}
ONLY = {
    "sqlalchemy": ("relay/ledger/",),
    "alembic": ("relay/ledger/",),
    "flask": ("relay/web/", "relay/cli/", "relay/dev/lab_simulator.py", "relay/dev/", "app.py"),
    "twilio": ("relay/channels/twilio.py",),
    "sendgrid": ("relay/channels/sendgrid.py",),
    "phonenumbers": ("relay/rules/addresses.py",),
    "holidays": ("relay/rules/schedule.py",),
    "urllib3": ("relay/http_client.py",),
    "apispec": (),  # for development only: tools/docs/ writes openapi.json with it
}
# What a reader would have to take in at once, and why it is one thought all the same.
LONGEST_MODULE, LONGEST_FUNCTION = 600, 80
ANSWERS: dict[str, str] = {
    "relay.ledger.schema": "each table once, side by side: it is read as a list",
}
NAMED_FOR_NOTHING = {"utils", "helpers", "common", "misc", "managers"}


def name(path: Path) -> str:
    """relay/web/responses.py → relay.web.responses"""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name(path): path for path in SOURCES}


@cache  # a second of work for all of them, which a dozen tests ask for
def parsed(path: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse(path.read_text("utf-8"))


@cache
def imports(path: Path) -> frozenset[str]:
    """Every module that a file imports, anywhere in it, but for type checkers only."""
    found = set()
    waiting: list[ast.AST] = [parsed(path)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute here"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else str(node.module))
        waiting += ast.iter_child_nodes(node)
    return frozenset(found)


def unit(module: str) -> str:
    """relay.web.responses → web"""
    return module.split(".")[1]


def edges() -> set[tuple[str, str]]:
    """relay.web.answers imports relay.staff.explain → web, staff"""
    return {
        (unit(module), unit(other))
        for module, path in MODULES.items()
        for other in imports(path)
        if module != "relay" and other.startswith("relay.") and unit(module) != unit(other)
    }


LONGEST_CHAIN = 15  # modules, from one that is read down to one that imports none


def test_no_chain_of_imports_is_long() -> None:
    """Whoever reads a module is never far from the ground, and imports go in no circle."""

    @cache
    def depth(module: str) -> int:
        return 1 + max(map(depth, imports(MODULES[module]) & MODULES.keys()), default=0)

    assert max(map(depth, MODULES)) <= LONGEST_CHAIN


PACKAGES = {unit(module) for module, path in MODULES.items() if path.parent != ROOT / "relay"}


def allowed(unit: str) -> set[str]:
    """All that a package, or a module beside the packages, may import."""
    named = {"queue": {"config"}, **MAY_IMPORT}.get(unit, set())
    if named == {"everything"}:
        return set(MAY_IMPORT) | FOR_ALL | {"queue"}
    return FOR_ALL.union(named, *map(allowed, named))  # without an end if there were a circle


def test_every_package_has_its_place() -> None:
    """The page on architecture has a row for each package, and for nothing else."""
    assert set(MAY_IMPORT) == PACKAGES


def test_imports_run_one_way() -> None:
    """A package imports only what its row of the table, and the rows named there, allow."""
    assert sorted(edge for edge in edges() if edge[1] not in allowed(edge[0])) == []


def test_the_table_allows_no_more_than_is_used() -> None:
    """A row names no package that its own never imports."""
    named = {(user, used) for user, row in MAY_IMPORT.items() for used in row - {"everything"}}
    assert sorted(named - edges()) == []


@pytest.mark.parametrize("library", ONLY)
def test_a_library_is_used_in_its_place_only(library: str) -> None:
    """SQL stays in the ledger, Flask in web and commands, a vendor's SDK in its own file."""
    users = {
        str(path.relative_to(ROOT))
        for path in (*SOURCES, ROOT / "app.py")
        if library in {module.partition(".")[0] for module in imports(path)}
    }
    assert bool(users) == bool(ONLY[library])
    assert [user for user in users if not user.startswith(ONLY[library])] == []


def questions() -> dict[str, int]:
    """Modules and functions that are longer than a reader would like, by their lines."""
    found = {}
    for module, path in MODULES.items():
        text = path.read_text("utf-8")
        if (length := len(text.splitlines())) > LONGEST_MODULE:
            found[module] = length
        for node in ast.walk(parsed(path)):
            length = (getattr(node, "end_lineno", None) or 0) - getattr(node, "lineno", 0) + 1
            if isinstance(node, ast.FunctionDef) and length > LONGEST_FUNCTION:
                found[f"{module}.{node.name}"] = length
    return found


def test_what_is_long_has_an_answer() -> None:
    """A module of over 600 lines or a function of over 80 is a question: is it one thought, does it
    tell one story? Split it, or say in ANSWERS why it is."""
    assert questions().keys() == ANSWERS.keys(), questions()


def test_no_module_is_named_for_nothing() -> None:
    """A name says what lives there."""
    assert not {module.rpartition(".")[2] for module in MODULES} & NAMED_FOR_NOTHING


def test_who_owns_a_transaction_says_so() -> None:
    """A function of the ledger takes a Connection: its caller opens the unit of work. One that
    takes the Database owns its transactions, and its docstring says why; none has both forms.
    """
    silent = []
    for module, path in MODULES.items():
        functions = {
            node.name: node
            for node in parsed(path).body
            if isinstance(node, ast.FunctionDef) and module.startswith("relay.ledger.")
        }
        for called, node in functions.items():
            takes = {ast.unparse(one.annotation) for one in node.args.args if one.annotation}
            said = " ".join((ast.get_docstring(node) or "").split())
            if "Database" in takes and not called.startswith("_") and "It owns its" not in said:
                silent.append(f"{module}.{called}")
            if f"{called}_in" in functions:
                silent.append(f"{module}.{called}_in")
    assert silent == []


# Where a channel's name may stand as a literal; all else goes by the rows of CHANNELS.
CHANNEL_FILES = {
    "relay/rules/channels.py": "the rows themselves",
    "relay/channels/twilio.py": "the provider of one of them",
    "relay/channels/sendgrid.py": "the provider of the other",
    "relay/web/desk/organisation.py": "a claim of OpenID Connect, which has the same name too",
    "relay/lab/facts.py": "a person's field of the lab's, which happens to have the same name",
}


def names_of_channels(path: Path) -> set[str]:
    """The channels' names that stand in a file as literals: in Python, or in a page's tags."""
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        nodes = ast.walk(parsed(path))
        found = {node.value for node in nodes if isinstance(node, ast.Constant)}
        return {name for name in CHANNEL_NAMES if name in found}
    tags = " ".join(re.findall(r"{[{%].*?[%}]}", text, re.DOTALL))
    tags = tags.replace("desk.email", "")  # a page, whose address is /rule/email
    return {name for name in CHANNEL_NAMES if re.search(rf"""["']{name}["']|\.{name}\b""", tags)}


def test_a_channel_is_one_row() -> None:
    """No module and no page asks whether a channel is `"sms"`: what sets it apart is in its row."""
    files = [*SOURCES, *(ROOT / "relay" / "web").rglob("*.html")]
    found = {str(path.relative_to(ROOT)) for path in files if names_of_channels(path)}
    assert found == CHANNEL_FILES.keys()
