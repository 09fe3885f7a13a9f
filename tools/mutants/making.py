"""Mutants of a module's source: one small change each, by its syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from itertools import takewhile
from typing import NamedTuple

SWAPPED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Mutant(NamedTuple):
    """A changed module, and where and how it is changed."""

    lines: range  # of the source, from the statement's first to the change's last
    function: str  # the outermost that it is in; empty where it is in none
    what: str  # before and after, each as Python writes it
    source: str


class Change(NamedTuple):
    """A field of a node (or one item of it), and what comes in its place."""

    node: ast.AST
    field: str
    index: int | None
    new: object  # a node, a value, or None for an item to leave out


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant of a module, in the order of its lines, none twice."""
    tree = ast.parse(source)
    whole = ast.unparse(tree)
    seen = {whole}
    for statement, function in statements(tree.body, ""):
        head = [node for node in parts(statement)]
        for node in head:
            for change in changes(node):
                before = ast.unparse(statement)
                put_back = apply(change)
                try:
                    after, changed = ast.unparse(statement), ast.unparse(tree)
                    compile(changed, "mutant", "exec")
                except (SyntaxError, ValueError, AttributeError):
                    continue
                finally:
                    put_back()
                if changed not in seen:
                    seen.add(changed)
                    last = getattr(node, "end_lineno", None) or statement.lineno
                    if node is statement:
                        last = statement.lineno
                    lines = range(statement.lineno, last + 1)
                    yield Mutant(lines, function, difference(before, after), changed)


def statements(body: Iterable[ast.stmt], function: str) -> Iterator[tuple[ast.stmt, str]]:
    """All statements but imports, docstrings and protocols, each with its outermost function."""
    for one in body:
        if isinstance(one, (ast.Import, ast.ImportFrom)) or is_docstring(one):
            continue
        if isinstance(one, ast.ClassDef) and "Protocol" in map(ast.unparse, one.bases):
            continue
        inside = function or (one.name if isinstance(one, FUNCTIONS) else "")
        yield one, inside
        for name in ("body", "orelse", "finalbody"):
            yield from statements(getattr(one, name, ()), inside)
        for handler in getattr(one, "handlers", ()):
            yield from statements(handler.body, inside)


def is_docstring(one: ast.stmt) -> bool:
    """Whether a statement is a string alone."""
    return isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant)


def parts(statement: ast.stmt) -> Iterator[ast.AST]:
    """The nodes of a statement itself: not of those inside it, its annotations or decorators."""
    yield statement
    for name, value in ast.iter_fields(statement):
        if name in ("body", "orelse", "finalbody", "handlers", "decorator_list", "annotation"):
            continue
        if name in ("returns", "bases", "keywords", "type_params"):
            continue
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, ast.arguments):
                for default in (*one.defaults, *filter(None, one.kw_defaults)):
                    yield from ast.walk(default)
            elif isinstance(one, ast.AST):
                yield from within(one)


def within(node: ast.AST) -> Iterator[ast.AST]:
    """A node and those inside it; of an f-string only what is computed in it."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(node, ast.JoinedStr) and isinstance(child, ast.Constant):
            continue
        if isinstance(node, ast.FormattedValue) and child is node.format_spec:
            continue
        if isinstance(child, ast.keyword) and child.arg == "strict":
            continue  # it says what holds
        yield from within(child)


def changes(node: ast.AST) -> Iterator[Change]:  # noqa: C901, PLR0912  # a line a kind
    """What may be changed of one node."""
    match node:
        case ast.Compare():
            for at, op in enumerate(node.ops):
                yield from (Change(node, "ops", at, new()) for new in SWAPPED[type(op)])
        case ast.BoolOp():
            yield from left_out(node, "values", least=2)
        case ast.BinOp() if type(node.op) in OPERATORS:
            yield Change(node, "op", None, OPERATORS[type(node.op)]())
        case ast.If() | ast.While() | ast.IfExp() if not isinstance(node.test, ast.BoolOp):
            yield from forced(node, "test", loops=isinstance(node, ast.While))
        case ast.comprehension():
            yield from left_out(node, "ifs", least=1)
        case ast.Tuple() | ast.List() | ast.Set() if isinstance(
            getattr(node, "ctx", ast.Load()), ast.Load
        ):
            yield from left_out(node, "elts", least=2)
        case ast.Call():
            yield from called(node)
        case ast.Return() if node.value and not is_empty(node.value):
            yield Change(node, "value", None, ast.Constant(None))
        case ast.Slice():
            yield from (Change(node, f, None, None) for f in ("lower", "upper") if getattr(node, f))
        case ast.Name() if node.id in NAMES:
            yield Change(node, "id", None, NAMES[node.id])
    if isinstance(node, ast.Dict):
        for at in range(len(node.keys)):
            yield Change(node, "items", at, None)
    for field, value in ast.iter_fields(node):
        for at, one in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(one, ast.UnaryOp) and isinstance(one.op, (ast.Not, ast.Invert)):
                yield Change(node, field, at, one.operand)
            elif isinstance(one, ast.Call) and chained(one):
                yield Change(node, field, at, one.func.value)  # type: ignore[attr-defined]
            elif isinstance(one, ast.Constant) and not isinstance(node, ast.JoinedStr):
                yield from (Change(node, field, at, ast.Constant(new)) for new in other(one.value))
            elif isinstance(one, (ast.Continue, ast.Break, ast.Raise, ast.AugAssign)) or (
                isinstance(one, ast.Expr) and isinstance(one.value, ast.Call)
            ):
                yield Change(node, field, at, ast.Pass())


def left_out(node: ast.AST, field: str, least: int) -> Iterator[Change]:
    """One item after the other left out of what has at least so many."""
    items = getattr(node, field)
    if len(items) >= least:
        yield from (Change(node, field, at, None) for at in range(len(items)))


def forced(node: ast.AST, field: str, *, loops: bool) -> Iterator[Change]:
    """A condition that always holds, or never."""
    for new in (False,) if loops else (True, False):
        yield Change(node, field, None, ast.Constant(new))


def called(node: ast.Call) -> Iterator[Change]:
    """A call with one argument less: a condition, a value, a key to order by."""
    many = len(node.args) > 1 or any(isinstance(one, ast.Starred) for one in node.args)
    if many:
        yield from left_out(node, "args", least=1)
    for at, keyword in enumerate(node.keywords):
        if keyword.arg != "strict":
            yield Change(node, "keywords", at, None)


def chained(call: ast.Call) -> bool:
    """Whether a call is a link in a chain that holds without it: `query.limit(1)`."""
    inner = call.func.value if isinstance(call.func, ast.Attribute) else None
    return isinstance(inner, ast.Call) or (
        isinstance(inner, ast.Name)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in ("where", "order_by", "limit", "with_for_update", "returning")
    )


def other(value: object) -> Iterator[object]:
    """What comes in the place of a constant: a sentence for people stays."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, (int, float)):
        yield value + 1
    elif isinstance(value, str) and " " not in value:
        yield f"{value}XX"


def is_empty(node: ast.expr) -> bool:
    """Whether an expression is None or empty: None in the place of that is for mypy to see."""
    if isinstance(node, ast.Constant):
        return not node.value
    if isinstance(node, ast.Call):
        return ast.unparse(node) == "set()"
    return isinstance(node, (ast.Tuple, ast.List)) and not node.elts


def apply(change: Change) -> object:
    """Make a change; what puts it back."""
    node, field, at, new = change
    if field == "items" and isinstance(node, ast.Dict) and at is not None:
        keys, values = node.keys, node.values
        node.keys, node.values = without(keys, at), without(values, at)

        def both() -> None:
            node.keys, node.values = keys, values

        return both
    old = getattr(node, field)
    if at is None:
        put: object = new
    elif new is None:
        put = without(old, at)
    else:
        put = [*old[:at], new, *old[at + 1 :]]
    setattr(node, field, put)
    return lambda: setattr(node, field, old)


def without(items: list, at: int) -> list:  # type: ignore[type-arg]
    """A list without one of its items."""
    return items[:at] + items[at + 1 :]


def difference(before: str, after: str) -> str:
    """What differs in two writings of a statement, with as much around it as tells the place."""
    old, new = before.splitlines(), after.splitlines()
    while old and new and old[0] == new[0]:
        old, new = old[1:], new[1:]
    while old and new and old[-1] == new[-1]:
        old, new = old[:-1], new[:-1]
    return shortened(" ".join(map(str.strip, old)), " ".join(map(str.strip, new)))


AROUND = 40  # characters to each side of a change


def shortened(was: str, now: str) -> str:
    """What differs in two lines, as ⟦before → after⟧, with a little around it."""
    first = shared(was, now)
    last = shared(was[first:][::-1], now[first:][::-1])
    changed = [line[first : len(line) - last] for line in (was, now)]
    before, after = was[:first], was[len(was) - last :] if last else ""
    before = before if len(before) <= AROUND else f"…{before[-AROUND:]}"
    after = after if len(after) <= AROUND else f"{after[:AROUND]}…"
    return f"{before}⟦{changed[0]} → {changed[1]}⟧{after}"


def shared(one: str, other: str) -> int:
    """How many characters two lines begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
