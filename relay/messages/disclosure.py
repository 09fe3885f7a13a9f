"""Finds what an SMS or a subject line must not show: others see a phone on a table.

Read from a template's syntax tree, not from a rendering, so that a branch which the lab's example
does not take counts too. `Expressions` says what a value may hold, `Disclosure` follows the
template around them. When in doubt, a value shows all that it holds. Methods have the names of
Jinja's nodes. docs/disclosure.md explains it from the beginning.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, reduce
from typing import Any

from jinja2 import nodes
from jinja2.visitor import NodeVisitor

from relay.errors import Problem
from relay.lab.facts import RESOURCES, SHAPES
from relay.messages.templates import Templates
from relay.rules.model import Rule

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
    "batch",
    "list",
    "reject",
    "rejectattr",
    "reverse",
    "select",
    "selectattr",
    "slice",
    "sort",
    "unique",
)

# Each way in which words may come out, by the details that are in them together.
Wordings = frozenset[frozenset[str]]
NOTHING: Wordings = frozenset({frozenset()})


@dataclass(frozen=True)
class Value:
    """The value of a name: the details that show when it is printed, and its fields if any."""

    said: Wordings = NOTHING
    shapes: frozenset[str] = frozenset()

    @classmethod
    def of(cls, shape: str) -> Value:
        """A resource, or a list of them."""
        return cls(shapes=frozenset({shape}))

    @property
    def held(self) -> Wordings:
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


def together(parts: Iterable[Wordings]) -> Wordings:
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

    def held(self, node: nodes.Node) -> Wordings:
        """All that the parts of an expression may show."""
        return together(self.visit(child).held for child in node.iter_child_nodes())

    def hint(self, condition: nodes.Node) -> Wordings:
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


_DEEPEST = 12  # a macro or an include may call itself
Trees = Callable[[str], nodes.Template]
Where = tuple[str, int]  # file and line


class Disclosure(Expressions):
    """The details that a file may show on each path through its branches, and where first."""

    def __init__(self, trees: Trees, file: str):
        super().__init__()
        self._trees = trees
        self._file = file
        self._depth = 0
        self._macros: dict[str, list[tuple[str, nodes.Macro]]] = {}
        self._modules: set[str] = set()
        self._blocks: dict[str, list[tuple[str, nodes.Block]]] = {}  # what overrides comes first
        self._inside: list[tuple[str, int]] = []  # blocks, and how far up super() has led
        self.places: dict[str, Where] = {}
        self.ways = self._template(file)

    def generic_visit(self, node: nodes.Node, *_: Any, **__: Any) -> Value:
        """A statement of no other kind is its body; an expression is what its parts hold."""
        if isinstance(node, nodes.Stmt):
            return Value(self._said(getattr(node, "body", ())))
        return super().generic_visit(node)

    def _said(self, body: Iterable[nodes.Node]) -> Wordings:
        return together(self.visit(node).said for node in body)

    def visit_Getattr(self, node: nodes.Getattr) -> Value:
        if isinstance(node.node, nodes.Name) and node.node.name in self._modules:
            return self.scope.get(node.attr, Value())
        return super().visit_Getattr(node)

    def visit_Call(self, node: nodes.Call) -> Value:
        match node.node:
            case nodes.Name(name="super") if self._inside:
                name, level = self._inside[-1]
                return self._block(name, level + 1)
            case nodes.Getattr(node=nodes.Name(name="self"), attr=name):
                return self._block(name, 0)
            case nodes.Name(name=name) | nodes.Getattr(attr=name) if name in self._macros:
                return either([self._macro(*one, node) for one in self._macros[name]])
        return Value(self.held(node))

    def visit_Output(self, node: nodes.Output) -> Value:
        return Value(together(self._noted(self.visit(part).said, part) for part in node.nodes))

    def visit_If(self, node: nodes.If) -> Value:
        hint = self._noted(self.hint(node.test), node)
        others: list[Sequence[nodes.Node]] = [[other] for other in node.elif_]
        return Value(together([hint, self._branches([node.body, *others, node.else_])]))

    def visit_For(self, node: nodes.For) -> Value:
        once: Wordings = frozenset()
        with self._within():
            self._bind(node.target, self.visit(node.iter).item())
            hint = self._noted(self.hint(node.test), node) if node.test else NOTHING
            for _ in range(2):  # what the first round kept shows in the next
                once |= self._said(node.body)
        ways = NOTHING
        while (more := ways | together([ways, once])) != ways:
            ways = more
        return Value(together([hint, ways | self._said(node.else_)]))

    def visit_With(self, node: nodes.With) -> Value:
        with self._within():
            for target, given in zip(node.targets, node.values, strict=True):
                self._bind(target, self.visit(given))
            return Value(self._said(node.body))

    def visit_CallBlock(self, node: nodes.CallBlock) -> Value:
        said = self._noted(self.visit(node.call).said, node)
        return Value(together([said, self._said(node.body)]))

    def visit_Block(self, node: nodes.Block) -> Value:
        return self._block(node.name, 0)

    def visit_Extends(self, node: nodes.Extends) -> Value:
        return Value(together(map(self._template, _files(node))))

    def visit_Include(self, node: nodes.Include) -> Value:
        return either([self._included(file) for file in _files(node)])

    def visit_Assign(self, node: nodes.Assign) -> Value:
        self._bind(node.target, self.visit(node.node))
        return Value()

    def visit_AssignBlock(self, node: nodes.AssignBlock) -> Value:
        self._bind(node.target, Value(self._said(node.body)))
        return Value()

    def visit_Macro(self, node: nodes.Macro) -> Value:
        self._macros.setdefault(node.name, []).append((self._file, node))
        return Value()

    def visit_Import(self, node: nodes.Import) -> Value:
        self._modules.add(node.target)
        return self._learn(node)

    def visit_FromImport(self, node: nodes.FromImport) -> Value:
        self._learn(node)
        for name, alias in (named for named in node.names if isinstance(named, tuple)):
            self._macros.setdefault(alias, []).extend(self._macros.get(name, ()))
            self.scope[alias] = self.scope.get(name, Value())
        return Value()

    def _noted(self, said: Wordings, node: nodes.Node) -> Wordings:
        """What is shown, its place kept."""
        for detail in frozenset().union(*said):
            self.places.setdefault(detail, (self._file, node.lineno))
        return said

    def _bind(self, target: nodes.Node, value: Value) -> None:
        match target:
            case nodes.Name(name=name):
                self.scope[name] = value
            case nodes.NSRef(name=name):
                self.kept[name] = Value(together([self.kept.get(name, Value()).said, value.said]))
            case nodes.Tuple() | nodes.List():
                for one in target.items:
                    self._bind(one, value.item())

    def _branches(self, bodies: Iterable[Iterable[nodes.Node]]) -> Wordings:
        """One of several; a name set in one of them may be what any of them made it."""
        before, scopes = self.scope, []
        said: Wordings = frozenset()
        for body in bodies:
            self.scope = dict(before)
            said |= self._said(body)
            scopes.append(self.scope)
        names = frozenset().union(*scopes)
        self.scope = {n: either([scope[n] for scope in scopes if n in scope]) for n in names}
        return said

    def _block(self, name: str, level: int) -> Value:
        chain = self._blocks.get(name, [])[level:]
        if not chain or self._depth > _DEEPEST:
            return Value()
        file, block = chain[0]
        self._inside.append((name, level))
        with self._within(), self._at(file):
            said = self._said(block.body)
        self._inside.pop()
        return Value(said)

    def _macro(self, file: str, macro: nodes.Macro, node: nodes.Call) -> Value:
        if self._depth > _DEEPEST:
            return Value()
        names = [argument.name for argument in macro.args]
        given = dict(zip(reversed(names), map(self.visit, reversed(macro.defaults)), strict=False))
        given |= dict(zip(names, map(self.visit, node.args), strict=False))
        given |= {one.key: self.visit(one.value) for one in node.kwargs}
        rest = Value(self.held(node))
        with self._within(), self._at(file):
            self.scope |= {
                "varargs": rest,
                "kwargs": rest,
                **dict.fromkeys(names, Value()),
                **given,
            }
            return Value(self._said(macro.body))

    def _included(self, file: str) -> Value:
        """Another file in this one's place, with blocks of its own."""
        if self._depth > _DEEPEST:
            return Value()
        blocks, self._blocks = self._blocks, {}
        with self._within():
            said = self._template(file)
        self._blocks = blocks
        return Value(said)

    def _learn(self, node: nodes.Import | nodes.FromImport) -> Value:
        """What an imported file names is known from here on; it shows nothing itself."""
        for file in _files(node) if self._depth <= _DEEPEST else ():
            with self._at(file):
                self._said(self._trees(file).body)
        return Value()

    def _template(self, file: str) -> Wordings:
        """A file from its top. One that extends another shows that one, with blocks of its own."""
        tree, said, parent = self._trees(file), NOTHING, False
        for block in tree.find_all(nodes.Block):
            self._blocks.setdefault(block.name, []).append((file, block))
        extended = [node for node in tree.body if isinstance(node, nodes.Extends)]
        with self._at(file):
            for node in tree.body:
                if node in extended:
                    parent = True
                elif not parent:
                    said = together([said, self.visit(node).said])
                elif not isinstance(node, nodes.Output | nodes.Block):
                    self.visit(node)
            return together([said, self._said(extended)])

    @contextmanager
    def _within(self) -> Iterator[None]:
        """Names that are set here are not seen outside."""
        before, self.scope = self.scope, dict(self.scope)
        yield
        self.scope = before

    @contextmanager
    def _at(self, file: str) -> Iterator[None]:
        before, self._file = self._file, file
        self._depth += 1
        yield
        self._depth -= 1
        self._file = before


def _files(node: nodes.Extends | nodes.Include | nodes.Import | nodes.FromImport) -> list[str]:
    """The files that it names; one whose name is worked out at send is not known."""
    named = node.template
    found = named.items if isinstance(named, nodes.Tuple | nodes.List) else [named]
    return [part.value for part in found if isinstance(part, nodes.Const)]


SHOWN = {"sms": "sms.txt", "email": "subject.txt"}  # what a locked screen shows of each channel
_SECRETS = {
    TEST: "it may show what is tested.",
    RESULT: "it may show how a test went.",
    BIRTHDAY: "it may show a date of birth.",
}
_CLINICAL = re.compile(
    r"\b(HIV|AIDS|STIs?|STDs?|HPV|PSA|chlamydia|gonorrh\w+|syphilis|hepatitis|herpes|cancer|"
    r"tumou?rs?|pregnan\w+|fertility|menopause|testosterone|thyroid|hormones?|diabetes|"
    r"cholesterol|prostate|paternity|(?:posi|nega)tive)\b",
    re.IGNORECASE,
)


def problems(loaded: Templates, rule: Rule) -> Iterator[Problem]:
    """Where a rule's SMS or subject line may show a secret, unless the rule allows it."""
    if not rule.discreet:
        return
    remedy = (
        f"A locked screen shows it: remove it, or write discreet = false in [rules.{rule.name}]."
    )
    for channel in (*rule.channels, *rule.fallback):
        file = f"{rule.template}/{SHOWN[channel]}"
        shown = Disclosure(loaded.tree, file)
        for detail, message in _told(shown.ways):
            name, line = shown.places[detail]
            yield Problem(message, str(loaded.folder / name), line, remedy=remedy)
        for name in loaded.named(file):
            for word, line in _clinical(loaded.source(name)):
                where = str(loaded.folder / name)
                yield Problem(f'it says "{word}".', where, line, remedy=remedy, warning=True)


def _told(ways: Wordings) -> Iterator[tuple[str, str]]:
    """Each secret that words may show in one way or another, and what is said of it."""
    for detail, message in _SECRETS.items():
        if any(detail in way for way in ways):
            yield detail, message
    if any({FIRST, LAST} <= way for way in ways):
        yield LAST, "it may show a full name: a first name and a last name together."


def _clinical(source: str) -> Iterator[tuple[str, int]]:
    """Words that tell what is tested, and their lines. A short list can only be a hint."""
    for number, line in enumerate(source.splitlines(), 1):
        for found in _CLINICAL.finditer(line):
            yield found[0], number
