"""The walls: who may import whom. Read from the source, so that lazy imports count too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(path for path in (ROOT / "relay").rglob("*.py") if "migrations" not in path.parts)
# Each row may import the rows above it, and nothing of its own row or below. A package is one unit.
ROWS = (
    "errors rates notices receipts retries failpoints pace",
    "facts calendar gsm addresses masks strict_json toml_lines mistakes wire logs embedded",
    "events people player reporting",
    "expressions history evidence details erasure variables",
    "shown condition_words",
    "digest_names fields settings",
    "rule_keys",
    "rules",
    "alerts rule_words",
    "releases",
    "tables expectations",
    "config json_schema",
    "ledger lab messages config_reference clinic_words",
    "channels samples discretion",
    "check endings explain occasions rehearsal simulator brakes",
    "aftercare digests watch what_if trying forgetting",
    "writing",
    "startup jobs queue reloading",
    "connections listener pump",
    "worker",
    "web cli dev",
)
ROW = {unit: number for number, row in enumerate(ROWS) for unit in row.split()}
# The one import that goes up: RQ calls a function by its name, and a worker of RQ's own, which has
# no pump in its process, has to make one.
UPWARDS = {("queue", "worker")}
ONLY = {
    "sqlalchemy": ("relay/ledger/",),
    "alembic": ("relay/ledger/",),
    "flask": ("relay/web/", "relay/cli/", "relay/simulator.py", "app.py"),
    "twilio": ("relay/channels/twilio.py",),
    "sendgrid": ("relay/channels/sendgrid.py",),
    "phonenumbers": ("relay/addresses.py",),
    "urllib3": ("relay/wire.py",),
    "apispec": ("relay/web/openapi.py",),  # for development only: nothing that serves imports it
}


def name(path: Path) -> str:
    """relay/web/answers.py → relay.web.answers"""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name(path): path for path in SOURCES}


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, anywhere in it, but for type checkers only."""
    waiting: list[ast.AST] = [ast.parse(path.read_text("utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute here"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else str(node.module)
        waiting += ast.iter_child_nodes(node)


GRAPH = {module: set(imports(path)) for module, path in MODULES.items()}


def unit(module: str) -> str:
    """relay.web.answers → web"""
    return module.split(".")[1]


EDGES = {
    (unit(module), unit(other))
    for module, others in GRAPH.items()
    for other in others
    if module != "relay" and other.startswith("relay.") and unit(module) != unit(other)
}


def test_every_module_has_its_place() -> None:
    """A new module is put into a row, and a row names no module that has gone."""
    assert set(ROW) == {unit(module) for module in MODULES if module != "relay"}


def test_no_import_goes_up() -> None:
    """A module imports only what stands above it in the table."""
    up = {(user, used) for user, used in EDGES if ROW[used] >= ROW[user]}
    assert up == UPWARDS


def test_no_module_imports_itself_in_a_circle() -> None:
    """Inside a package too, imports make no circle."""
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, f"a circle: {' → '.join((*way, module))}"
        if module not in done:
            for other in GRAPH[module] & (set(GRAPH) - {"relay"}):
                if (unit(module), unit(other)) not in UPWARDS:
                    visit(other, (*way, module))
            done.add(module)

    for module in set(GRAPH) - {"relay"}:
        visit(module, ())


@pytest.mark.parametrize("library", ONLY)
def test_a_library_is_used_in_its_place_only(library: str) -> None:
    """SQL stays in the ledger, Flask in web and commands, a vendor's SDK in its own file."""
    users = {
        str(path.relative_to(ROOT))
        for path in (*SOURCES, ROOT / "app.py")
        if library in {module.partition(".")[0] for module in imports(path)}
    }
    assert users
    assert [user for user in users if not user.startswith(ONLY[library])] == []


def test_no_module_is_longer_than_250_lines() -> None:
    """A module can be read in one go."""
    lengths = {
        module: len(path.read_text("utf-8").splitlines()) for module, path in MODULES.items()
    }
    assert {module: length for module, length in lengths.items() if length > 250} == {}


def test_no_function_is_longer_than_50_lines() -> None:
    """A function fits a screen."""
    lengths = {
        f"{module}.{node.name}": node.end_lineno - node.lineno + 1
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno
    }
    assert len(lengths) > 200
    assert {function: length for function, length in lengths.items() if length > 50} == {}


def test_no_module_is_named_for_nothing() -> None:
    """No `utils`, `helpers` or `managers`: a name says what lives there."""
    assert not {module.rpartition(".")[2] for module in MODULES} & {"utils", "helpers", "managers"}
