"""A rule's `when` in plain English, where it is plain: comparisons, joined by `and` or by `or`.

What is more is for whoever wrote it to read as it is written. Pure.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from jinja2 import nodes

from relay.rules.expressions import environment

# Jinja's words for a comparison: how it is said, and how its contrary is.
_SAID = {
    "eq": ("is", "is not"),
    "ne": ("is not", "is"),
    "gt": ("is more than", "is at most"),
    "gteq": ("is at least", "is less than"),
    "lt": ("is less than", "is at least"),
    "lteq": ("is at most", "is more than"),
    "in": ("is", "is not"),
    "notin": ("is not", "is"),
}
_WHOLE = frozenset(("gt", "gteq", "lt", "lteq"))  # that are said of numbers only


@lru_cache(maxsize=256)
def in_words(source: str) -> str:
    """The registration's status is not “cancelled”; empty where it cannot be said plainly."""
    tree = environment().parse("{{ (" + source + ") }}")
    [output] = tree.body
    [node] = output.nodes if isinstance(output, nodes.Output) else [output]
    for kind, joint in ((nodes.And, " and "), (nodes.Or, " or ")):
        if isinstance(node, kind):
            said = [_compared(one) for one in _joined(node, kind)]
            return joint.join(said) if all(said) else ""
    return _compared(node)


def _joined(node: Any, kind: type[nodes.BinExpr]) -> list[nodes.Node]:
    """The parts of a and b and c."""
    if not isinstance(node, kind):
        return [node]
    return [*_joined(node.left, kind), *_joined(node.right, kind)]


def _compared(node: nodes.Node, contrary: bool = False) -> str:
    """One comparison of a field with something that is written out."""
    if isinstance(node, nodes.Not):
        return _compared(node.node, not contrary)
    if isinstance(node, nodes.Test) and node.name == "none":
        field = _field(node.node)
        return field and f"{field} {'is not' if contrary else 'is'} empty"
    if not isinstance(node, nodes.Compare) or len(node.ops) != 1:
        return ""
    [operand] = node.ops
    field, value = _field(node.expr), _value(operand)
    return f"{field} {_SAID[operand.op][contrary]} {value}" if field and value else ""


def _field(node: nodes.Node) -> str:
    """The order's carrier."""
    if not isinstance(node, nodes.Getattr) or not isinstance(node.node, nodes.Name):
        return ""
    return f"the {node.node.name}'s {node.attr.replace('_', ' ')}"


def _value(operand: nodes.Operand) -> str:
    """“a”, 3, true, or one of a list."""
    value = operand.expr
    if operand.op in ("in", "notin"):
        if not isinstance(value, nodes.List | nodes.Tuple) or not value.items:
            return ""
        said = [_constant(one) for one in value.items]
        *others, last = said
        return (f"{', '.join(others)} or {last}" if others else last) if all(said) else ""
    if operand.op in _WHOLE and not isinstance(getattr(value, "value", ""), int | float):
        return ""
    return _constant(value)


def _constant(node: nodes.Node) -> str:
    """What is written out; empty where it is no such thing, or nothing that can be said."""
    value = node.value if isinstance(node, nodes.Const) else None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"{value:,}"
    return f"“{value}”" if isinstance(value, str) and value.strip() else ""
