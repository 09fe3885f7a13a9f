"""What a digest's template sees, and the check of every name that it reads of its items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jinja2 import nodes

from relay.errors import did_you_mean
from relay.lab.facts import RECIPIENT_FIELDS, RESOURCES, SHAPES, Record
from relay.rules.expressions import (
    Names,
    paths,
    read_fields,
    unknown_names,
    vocabulary,
    wrong_field,
)

_VOCABULARY: Names = {
    "clinic": frozenset(SHAPES["clinic"]),
    "recipient": frozenset(RECIPIENT_FIELDS),
    "count": None,
    "items": None,
}
# Filters whose outcome has the same items in it.
_SAME = frozenset({"list", "reject", "rejectattr", "reverse", "select", "selectattr", "sort"})


def digest_names(
    clinic: Record, recipient: Record, items: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The values of a digest's names; each of `items` has the names of a message of its own."""
    made = [Record("item", {**item, "recipient": recipient}) for item in items]
    return {"clinic": clinic, "recipient": recipient, "count": len(made), "items": made}


def unknown(tree: nodes.Template, event: str) -> Iterator[tuple[int, str]]:
    """(line, what is wrong) for each name in a digest's template that there is not."""
    yield from unknown_names(tree, _VOCABULARY)
    names = vocabulary(event)
    for loop in tree.find_all(nodes.For):
        if not (isinstance(loop.target, nodes.Name) and _runs_over_items(loop.iter)):
            continue
        for line, (root, *path) in paths(loop):
            if root == loop.target.name and (wrong := _wrong(root, path, names)):
                yield line, wrong


def resources(tree: nodes.Template) -> frozenset[str]:
    """The resources that are read of anything."""
    return read_fields(tree) & set(RESOURCES)


def _wrong(item: str, path: Sequence[Any], names: Names) -> str:
    if path[1:]:
        return wrong_field(path, names, item)
    known = path[0] in names
    return "" if known else f'unknown name "{item}.{path[0]}". {did_you_mean(str(path[0]), names)}'


def _runs_over_items(node: nodes.Node | None) -> bool:
    """Whether it is `items`, sorted, filtered or cut."""
    while isinstance(node, nodes.Filter | nodes.Getitem):
        if isinstance(node, nodes.Filter) and node.name not in _SAME:
            return False
        if isinstance(node, nodes.Getitem) and not isinstance(node.arg, nodes.Slice):
            return False
        node = node.node
    return isinstance(node, nodes.Name) and node.name == "items"
