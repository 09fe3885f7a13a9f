"""`python -m tools.figures [FOLDER]`: the figures of the house that Relay's code lives in.

FOLDER is another checkout, to compare with; its own code is measured, by this script.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
Graph = dict[str, set[str]]


def main() -> int:
    """Print a row a figure."""
    parser = argparse.ArgumentParser(prog="tools.figures", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT)
    folder = parser.parse_args().folder.resolve()
    for name, figure in figures(folder).items():
        print(f"{figure!s:>8}  {name}")
    return 0


def figures(folder: Path) -> dict[str, object]:
    """What the code in a checkout comes to."""
    sources = [
        path for path in sorted((folder / "relay").rglob("*.py")) if "migrations" not in path.parts
    ]
    graph = imports(folder, sources)
    folders = Counter(path.parent for path in sources if path.name != "__init__.py")
    names = [
        node.name
        for path in sources
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("__")
    ]
    private = sum(name.startswith("_") for name in names)
    return {
        "lines of relay/": sum(len(path.read_text("utf-8").splitlines()) for path in sources),
        "modules": len(sources),
        "files in relay/ itself": len([*(folder / "relay").glob("*.py")]),
        "most modules in one folder": max(folders.values()),
        "longest import chain": chain(graph),
        "circles": len(circles(graph)),
        "functions": len(names),
        "private functions, %": round(100 * private / len(names)),
        "modules that one event enters": len(entered(folder)),
        "lines of README.md": len((folder / "README.md").read_text("utf-8").splitlines()),
    }


def imports(folder: Path, sources: list[Path]) -> Graph:
    """Module → the modules of ours that it imports, wherever in it, but for type checkers only."""
    modules = {
        ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sources
    }
    return {
        module: {other for other in _imported(path, modules) if other in modules} - {module}
        for module, path in modules.items()
    }


def _imported(path: Path, modules: dict[str, Path]) -> Iterator[str]:
    waiting: list[ast.AST] = [ast.parse(path.read_text("utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules else str(node.module)
        waiting += ast.iter_child_nodes(node)


def circles(graph: Graph) -> list[set[str]]:
    """Groups of modules that import one another."""

    @cache
    def reached(module: str) -> frozenset[str]:
        found: set[str] = set()
        waiting = [*graph[module]]
        while waiting:
            other = waiting.pop()
            if other not in found:
                found.add(other)
                waiting += graph[other]
        return frozenset(found)

    groups = [
        {module} | {other for other in reached(module) if module in reached(other)}
        for module in graph
        if module in reached(module)
    ]
    return [group for number, group in enumerate(groups) if group not in groups[:number]]


def chain(graph: Graph) -> int:
    """How many modules the longest way through the imports has; a circle counts once."""
    group = {module: frozenset(found) for found in circles(graph) for module in found}
    node = {module: group.get(module, frozenset({module})) for module in graph}

    @cache
    def longest(at: frozenset[str]) -> int:
        beyond = {node[other] for module in at for other in graph[module]} - {at}
        return 1 + max(map(longest, beyond), default=0)

    return max(map(longest, node.values()))


def entered(folder: Path) -> list[str]:
    """The modules that run while one event is processed and its messages are delivered."""
    with tempfile.TemporaryDirectory(prefix="relay-figures-") as scratch:
        # Measured at night too: what waits for the morning would not be delivered.
        config = (folder / "config.toml").read_text("utf-8")
        open_all_day = re.sub(r'(?m)^send_window = "[^"]*"', 'send_window = "always"', config)
        (Path(scratch) / "config.toml").write_text(open_all_day, "utf-8")
        environ = {
            **os.environ,
            "RELAY_CONFIG": f"{scratch}/config.toml",
            "PYTHONPATH": str(folder),
            "RELAY_ENV": "development",
            "RELAY_DELIVERY": "dry-run",
            "DATABASE_URL": f"sqlite:///{scratch}/relay.db",
            "REDIS_URL": "",
            "LOG_LEVEL": "ERROR",
        }
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("one_event.py")), str(folder)],
            cwd=folder,
            env=environ,
            capture_output=True,
            text=True,
            check=True,
        )
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    raise SystemExit(main())
