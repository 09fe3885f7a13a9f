"""What a template's expressions may show of a person. relay/shown.py follows the rest of it.

Read from the syntax tree, not from a rendering: a branch that the lab's example does not take
counts too. When in doubt, a value shows all that it holds. Methods are Jinja's names of its nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from typing import Any

from jinja2 import nodes
from jinja2.visitor import NodeVisitor

from relay.lab.facts import RESOURCES, SHAPES

FIRST, LAST, BIRTHDAY, TEST, RESULT = "first name", "last name", "birthday", "test", "result"
_DETAILS = {
    "first_name": FIRST,
    "last_name": LAST,
    "date_of_birth": BIRTHDAY,
    **dict.fromkeys(("product_id", "product_sku", "product_skus", "sku"), TEST),
    **dict.fromkeys(("status", "download_url"), RESULT),
}
# The names that a template begins with; a digest's items have those of its events.
_SHAPES: dict[str, dict[str, str]] = {
    **SHAPES,
    "recipient": dict.fromkeys(("first_name", "last_name"), ""),
    "told": {**{name: name for name in RESOURCES}, "recipient": "recipient"},
}
_ROOTS = {**_SHAPES["told"], "items": "told*"}
_NAMES = ("first_name", "last_name")
_ONE = ("first", "last", "max", "min", "random")  # filters: a list → one of it
_SAME = (  # filters: a list → it, or a part
    *("batch", "list", "reject", "rejectattr", "reverse"),
    *("select", "selectattr", "slice", "sort", "unique"),
)

# Each way in which words may come out, by the details that are in them together.
Said = frozenset[frozenset[str]]
NOTHING: Said = frozenset({frozenset()})


@dataclass(frozen=True)
class Value:
    """What a name stands for: what shows when it is printed, and its fields if it has some."""

    said: Said = NOTHING
    shapes: frozenset[str] = frozenset()

    @classmethod
    def of(cls, shape: str) -> Value:
        """A resource, or a list of them."""
        return cls(shapes=frozenset({shape}))

    @property
    def held(self) -> Said:
        """All that something may make of it. Printed, a resource itself shows nothing."""
        return together([self.said, *(frozenset({_inside(shape)}) for shape in self.shapes)])

    def field(self, name: str) -> Value:
        """What a dot and a name lead to. A text's methods give the text."""
        return either([Value(self.said), *(_field(shape, name) for shape in self.shapes)])

    def item(self) -> Value:
        """One of a list."""
        return Value(self.said, frozenset(shape.removesuffix("*") for shape in self.shapes))


def _field(shape: str, name: str) -> Value:
    inner = _SHAPES.get(shape, {"": ""} if shape != "?" else {name: ""}).get(name)
    detail = TEST if (shape, name) == ("product", "id") else _DETAILS.get(name)
    if inner:
        return Value.of(inner)
    return Value(frozenset({frozenset({detail})})) if inner == "" and detail else Value()


@cache
def _inside(shape: str) -> frozenset[str]:
    """Every detail of a resource."""
    shape = shape.rstrip("*")
    fields = _SHAPES.get(shape, {})
    return frozenset(
        detail
        for name, inner in fields.items()
        for detail in (_inside(inner) if inner else next(iter(_field(shape, name).said)))
    )


def together(parts: Iterable[Said]) -> Said:
    """One after the other."""
    return reduce(lambda a, b: frozenset(x | y for x in a for y in b), parts, NOTHING)


def either(values: Sequence[Value]) -> Value:
    """One of several."""
    return Value(
        frozenset().union(*(value.said for value in values or [Value()])),
        frozenset().union(*(value.shapes for value in values)),
    )


class Expressions(NodeVisitor):
    """What expressions stand for, by the names in scope."""

    def __init__(self) -> None:
        self.scope = {name: Value.of(shape) for name, shape in _ROOTS.items()}
        self.kept: dict[str, Value] = {}  # what was put into a namespace(), in whatever scope

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Value:
        """The value of an expression."""
        found: Value = super().visit(node, *args, **kwargs)
        return found

    def generic_visit(self, node: nodes.Node, *_: Any, **__: Any) -> Value:
        """A text that may be made of anything in it."""
        return Value(self.held(node))

    def held(self, node: nodes.Node) -> Said:
        """All that the parts of an expression may show."""
        return together(self.visit(child).held for child in node.iter_child_nodes())

    def hint(self, condition: nodes.Node) -> Said:
        """What words tell that depend on a comparison: "if it is SKU 7" says what is tested."""
        compared = [condition, *condition.find_all(nodes.Compare)]
        details = {
            detail
            for one in compared
            if isinstance(one, nodes.Compare)
            for way in self.held(one)
            for detail in way
        }
        return frozenset({frozenset({TEST} & details)})

    def visit_Name(self, node: nodes.Name) -> Value:
        found = self.scope.get(node.name, Value())
        return either([found, self.kept[node.name]]) if node.name in self.kept else found

    def visit_Getattr(self, node: nodes.Getattr) -> Value:
        return self.visit(node.node).field(node.attr)

    def visit_Getitem(self, node: nodes.Getitem) -> Value:
        if isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
            return self.visit(node.node).field(node.arg.value)
        if not isinstance(node.arg, nodes.Const | nodes.Slice):
            return Value(self.held(node))  # a field whose name is worked out at send
        return Value() if _is_initial(node) else self.visit(node.node).item()

    def visit_Or(self, node: nodes.Or | nodes.And) -> Value:
        return either([self.visit(node.left), self.visit(node.right)])

    visit_And = visit_Or

    def visit_CondExpr(self, node: nodes.CondExpr) -> Value:
        chosen = either([self.visit(part) for part in (node.expr1, node.expr2) if part])
        return Value(together([self.hint(node.test), chosen.said]), chosen.shapes)

    def visit_Compare(self, node: nodes.Compare) -> Value:
        return Value(self.hint(node))

    def visit_Test(self, node: nodes.Test | nodes.Not) -> Value:
        return Value()

    visit_Not = visit_Test

    def visit_List(self, node: nodes.List | nodes.Tuple) -> Value:
        items = [self.visit(item) for item in node.items]
        shapes = frozenset(f"{shape}*" for item in items for shape in item.shapes)
        return Value(together(item.said for item in items), shapes)

    visit_Tuple = visit_List

    def visit_Filter(self, node: nodes.Filter) -> Value:
        value = self.visit(node.node) if node.node else Value()
        attribute = next((k.value for k in node.kwargs if k.key == "attribute"), None)
        if isinstance(attribute, nodes.Const) and node.name in ("map", "join", "sum"):
            return reduce(Value.field, str(attribute.value).split("."), value.item())
        if node.name in ("length", "count"):
            return Value()
        if node.name in _ONE:
            return Value() if _is_initial(node) else value.item()
        if node.name in ("default", "d"):
            return either([value, *map(self.visit, node.args)])
        return value if node.name in _SAME else Value(self.held(node))


def _is_initial(node: nodes.Getitem | nodes.Filter) -> bool:
    """Whether it is a letter of somebody's name, which shows no name."""
    is_letter = isinstance(node, nodes.Filter) or isinstance(node.arg, nodes.Const)
    return is_letter and isinstance(node.node, nodes.Getattr) and node.node.attr in _NAMES
