"""Finds what an SMS or a subject line could show: phones lie on tables, and families share them.

It follows a template's syntax tree, so that a branch counts even if the lab's example does not take
it. docs/disclosure.md explains the idea from the beginning, with an example. From top to bottom:
`Value` is what a name stands for, `Expressions` reads what is in {{ }}, `Disclosure` follows the
statements around it, `problems` reports. Methods have the names of Jinja's nodes.
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
from relay.rules.channels import CHANNELS
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
    "digest_item": {**{name: name for name in RESOURCES}, "recipient": "recipient"},
}
_ROOTS = {**_SHAPES["digest_item"], "items": "digest_item*"}
_NAMES = ("first_name", "last_name")
_ONE = ("first", "last", "max", "min", "random")  # filters: a list → one item of it
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

# The ways in which words may come out; each is the set of details that are in them together.
Wordings = frozenset[frozenset[str]]
NOTHING: Wordings = frozenset({frozenset()})


@dataclass(frozen=True)
class Value:
    """What a name stands for. `either` and `together` combine several into one."""

    said: Wordings = NOTHING  # the ways in which it may show when printed
    shapes: frozenset[str] = frozenset()  # the resources that it may be: they define its fields

    @classmethod
    def of(cls, shape: str) -> Value:
        """A resource, or a list of them."""
        return cls(shapes=frozenset({shape}))

    @property
    def held(self) -> Wordings:
        """All that it could show after something unknown has used it, its fields included."""
        return together([self.said, *(frozenset({inside(shape)}) for shape in self.shapes)])

    def field(self, name: str) -> Value:
        """The value after a dot and a name. A text's methods give the text."""
        return either([Value(self.said), *(field_value(shape, name) for shape in self.shapes)])

    def item(self) -> Value:
        """An item of a list."""
        return Value(self.said, frozenset(shape.removesuffix("*") for shape in self.shapes))


def field_value(shape: str, name: str) -> Value:
    """Return the value of a resource's field: another resource, a detail, or nothing."""
    inner = _SHAPES.get(shape, {"": ""} if shape != "?" else {name: ""}).get(name)
    detail = TEST if (shape, name) == ("product", "id") else _DETAILS.get(name)
    if inner:
        return Value.of(inner)
    return Value(frozenset({frozenset({detail})})) if inner == "" and detail else Value()


@cache
def inside(shape: str) -> frozenset[str]:
    """All details of a resource."""
    shape = shape.rstrip("*")
    fields = _SHAPES.get(shape, {})
    return frozenset(
        detail
        for name, inner in fields.items()
        for detail in (inside(inner) if inner else next(iter(field_value(shape, name).said)))
    )


def together(parts: Iterable[Wordings]) -> Wordings:
    """Several, one after the other: each way of the first with each way of the second."""
    return reduce(lambda a, b: frozenset(x | y for x in a for y in b), parts, NOTHING)


def either(values: Sequence[Value]) -> Value:
    """One of several, unknown which: the ways of all."""
    return Value(
        frozenset().union(*(value.said for value in values or [Value()])),
        frozenset().union(*(value.shapes for value in values)),
    )


Scope = dict[str, Value]
NAMESPACE = "namespace"
_NEIGHBOURS = ("previtem", "nextitem")  # of `loop`
_NEIGHBOUR = "loop.previtem"  # the name for them in a scope: no variable's name has a dot


def any_of(scopes: Sequence[Scope]) -> Scope:
    """A scope in which each name may have its value from any of several scopes."""
    names = frozenset().union(*scopes)
    return {name: either([scope[name] for scope in scopes if name in scope]) for name in names}


def repeated(once: Wordings) -> Wordings:
    """Not at all, once or several times, each time in any way."""
    ways = NOTHING
    while (more := ways | together([ways, once])) != ways:
        ways = more
    return ways


class Expressions(NodeVisitor):
    """Finds an expression's value from the names in scope. An unknown kind holds all its parts."""

    def __init__(self) -> None:
        self.scope: Scope = {name: Value.of(shape) for name, shape in _ROOTS.items()}
        self.modules: dict[str, Scope] = {}  # the names in imported files
        self.kept = Value()  # the values put into any namespace(), in any scope

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Value:
        """The value of an expression."""
        found: Value = super().visit(node, *args, **kwargs)
        return found

    def generic_visit(self, node: nodes.Node, *_: Any, **__: Any) -> Value:
        """A text that may contain anything in the expression."""
        return Value(self.held(node))

    def held(self, node: nodes.Node) -> Wordings:
        """All that the parts of an expression may show."""
        return together(self.visit(child).held for child in node.iter_child_nodes())

    def hint(self, condition: nodes.Node) -> Wordings:
        """What a reader can guess from words that depend on a comparison: "if it is SKU 7"."""
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
        if NAMESPACE in found.shapes:
            return Value(together([found.said, self.kept.held]), found.shapes)
        return found

    def visit_Getattr(self, node: nodes.Getattr) -> Value:
        return self.field(node.node, node.attr)

    def field(self, node: nodes.Expr, name: str) -> Value:
        """The value after a dot and a name."""
        if isinstance(node, nodes.Name) and node.name in self.modules:
            return self.modules[node.name].get(name, Value())
        if isinstance(node, nodes.Name) and node.name == "loop":
            return self.scope.get(_NEIGHBOUR, Value()) if name in _NEIGHBOURS else Value()
        value = self.visit(node)
        return self.kept if NAMESPACE in value.shapes else value.field(name)

    def visit_Getitem(self, node: nodes.Getitem) -> Value:
        if isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
            return self.field(node.node, node.arg.value)
        if not isinstance(node.arg, nodes.Const | nodes.Slice):
            return Value(self.held(node))  # a field whose name is worked out at send
        return Value() if is_initial(node) else self.visit(node.node).item()

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
        given = [*node.args, *(one.value for one in node.kwargs)]
        rest = together(self.visit(one).held for one in given)  # a separator, text to fill a gap
        if isinstance(attribute, nodes.Const) and node.name in ("map", "join", "sum"):
            found = reduce(step, str(attribute.value).split("."), value.item())
            return Value(together([found.said, rest]), found.shapes)
        if node.name in ("length", "count"):
            return Value()
        if node.name in _ONE:
            return Value() if is_initial(node) else value.item()
        if node.name in ("default", "d"):
            return either([value, *map(self.visit, given)])
        if node.name in _SAME:
            return Value(together([value.said, rest]), value.shapes)
        return Value(self.held(node))


def step(value: Value, name: str) -> Value:
    """One step of an attribute's path, as in `map(attribute="product.0.sku")`."""
    return value.item() if name.isdigit() else value.field(name)


def is_initial(node: nodes.Getitem | nodes.Filter) -> bool:
    """Whether a node is a letter of somebody's name, which does not show the name."""
    is_letter = isinstance(node, nodes.Filter) or isinstance(node.arg, nodes.Const)
    return is_letter and isinstance(node.node, nodes.Getattr) and node.node.attr in _NAMES


_DEEPEST = 12  # a macro or an include may call itself
Trees = Callable[[str], nodes.Template]
Where = tuple[str, int]  # file and line


@dataclass(frozen=True, eq=False)
class _Macro:
    file: str
    node: nodes.Macro
    scope: Scope  # where it is defined: its body sees this scope


class Disclosure(Expressions):
    """Finds the details that a file may show on each path through its branches, and where first."""

    def __init__(self, trees: Trees, file: str):
        super().__init__()
        self._trees = trees
        self._file = file
        self._depth = 0
        self._macros: dict[str, list[_Macro]] = {}
        self._top: Scope | None = None  # names of the file itself, while inside a part of it
        self._blocks: dict[str, list[tuple[str, nodes.Block]]] = {}  # overriding ones first
        self._inside: list[tuple[str, int]] = []  # blocks, and how many levels up super() has led
        self.places: dict[str, Where] = {}
        self.ways = self.show_template(file)

    def generic_visit(self, node: nodes.Node, *_: Any, **__: Any) -> Value:
        """Return what a statement's body shows; for an expression, all that its parts hold."""
        if isinstance(node, nodes.Stmt):
            return Value(self.shown_by(getattr(node, "body", ())))
        return super().generic_visit(node)

    def shown_by(self, body: Iterable[nodes.Node]) -> Wordings:
        """All that statements may show, one after the other."""
        return together(self.visit(node).said for node in body)

    def visit_Name(self, node: nodes.Name) -> Value:
        """A name's value. A macro that is named but not called may be called by another name."""
        found = super().visit_Name(node)
        call = nodes.Call(node, [], [], None, None)
        return either(
            [found, *(self.run_macro(one, call) for one in self._macros.get(node.name, ()))]
        )

    def visit_Call(self, node: nodes.Call) -> Value:
        match node.node:
            case nodes.Name(name="namespace"):
                return self.make_namespace(node)
            case nodes.Name(name="super") if self._inside:
                return self.parent_block(1)
            case nodes.Getattr(node=nodes.Name(name="super"), attr="super") if self._inside:
                return self.parent_block(2)
            case nodes.Getattr(node=nodes.Name(name="self"), attr=name):
                return self.show_block(name, 0)
            case (
                nodes.Name(name=name)
                | nodes.Getattr(attr=name)
                | nodes.Getitem(arg=nodes.Const(value=str() as name))
            ) if name in self._macros:
                return self.call_macro(name, node)
        return Value(self.held(node))

    def call_macro(self, name: str, call: nodes.Call) -> Value:
        """All that a macro may say, or a method of the same name."""
        said = [self.run_macro(one, call) for one in self._macros[name]]
        owner = getattr(call.node, "node", None)  # of a dot
        if owner is None:  # a variable may have a macro's name, and stand for another macro
            return either([*said, Value(self.scope.get(name, Value()).held)])
        if isinstance(owner, nodes.Name) and owner.name in self.modules:
            return either(said)
        return either([*said, Value(self.held(call))])

    def make_namespace(self, call: nodes.Call) -> Value:
        """A `namespace()`. Relay keeps the values of all namespaces together."""
        for one in call.kwargs:
            self.keep(self.visit(one.value))
        others = [one for one in (*call.args, call.dyn_args, call.dyn_kwargs) if one]
        held = together(self.visit(one).held for one in others)
        return Value(held, frozenset({NAMESPACE}))

    def parent_block(self, levels: int) -> Value:
        """The block that `super()` stands for, `levels` further up."""
        name, level = self._inside[-1]
        return self.show_block(name, level + levels)

    def visit_Output(self, node: nodes.Output) -> Value:
        return Value(together(self.note_places(self.visit(part).said, part) for part in node.nodes))

    def visit_If(self, node: nodes.If) -> Value:
        hint = self.note_places(self.hint(node.test), node)
        others: list[Sequence[nodes.Node]] = [[other] for other in node.elif_]
        return Value(together([hint, self.shown_by_one([node.body, *others, node.else_])]))

    def visit_For(self, node: nodes.For) -> Value:
        once: Wordings = frozenset()
        with self.inner_scope():
            item = self.visit(node.iter).item()
            self.scope |= {"loop": Value(item.held), _NEIGHBOUR: item}
            self.bind(node.target, item)
            hint = self.note_places(self.hint(node.test), node) if node.test else NOTHING
            for _ in range(2):  # the second round shows what the first one kept
                once |= self.shown_by(node.body)
        return Value(together([hint, repeated(once) | self.shown_by(node.else_)]))

    def visit_With(self, node: nodes.With) -> Value:
        given = [self.visit(value) for value in node.values]
        with self.inner_scope():
            for target, value in zip(node.targets, given, strict=True):
                self.bind(target, value)
            return Value(self.shown_by(node.body))

    def visit_CallBlock(self, node: nodes.CallBlock) -> Value:
        said = self.note_places(self.visit(node.call).said, node)
        once: Wordings = frozenset()
        with self.inner_scope():
            for _ in range(2):  # the macro may call it more than once
                once |= self.shown_by(node.body)
        return Value(together([said, repeated(once)]))

    def visit_FilterBlock(self, node: nodes.FilterBlock) -> Value:
        given = self.note_places(self.held(node.filter), node)
        return Value(together([self.shown_by(node.body), given]))

    def visit_Block(self, node: nodes.Block) -> Value:
        return self.show_block(node.name, 0)

    def visit_Extends(self, node: nodes.Extends) -> Value:
        return Value(together(map(self.show_template, files(node))))

    def visit_Include(self, node: nodes.Include) -> Value:
        return either([self.include(file) for file in files(node)])

    def visit_Assign(self, node: nodes.Assign) -> Value:
        self.bind(node.target, self.visit(node.node))
        return Value()

    def visit_AssignBlock(self, node: nodes.AssignBlock) -> Value:
        with self.inner_scope():
            said = self.shown_by(node.body)
        held = self.held(node.filter) if node.filter else NOTHING
        self.bind(node.target, Value(together([said, held])))
        return Value()

    def visit_Macro(self, node: nodes.Macro) -> Value:
        known = self._macros.setdefault(node.name, [])
        known[:] = [one for one in known if one.node is not node]
        known.append(_Macro(self._file, node, self.scope))
        return Value()

    def visit_Import(self, node: nodes.Import) -> Value:
        said, named = self.import_file(node)
        self.modules[node.target] = named
        # A module that is printed shows what its file does.
        self.scope[node.target] = Value(said)
        return Value()

    def visit_FromImport(self, node: nodes.FromImport) -> Value:
        _, named = self.import_file(node)
        for one in node.names:
            name, alias = one if isinstance(one, tuple) else (one, one)
            if name != alias:
                self._macros.setdefault(alias, []).extend(self._macros.get(name, ()))
            self.scope[alias] = named.get(name, Value())
        return Value()

    def note_places(self, said: Wordings, node: nodes.Node) -> Wordings:
        """Return the wordings; note in `places` where each of their details first shows."""
        for detail in frozenset().union(*said):
            self.places.setdefault(detail, (self._file, node.lineno))
        return said

    def bind(self, target: nodes.Node, value: Value) -> None:
        """Give a value to a name, or to each of a tuple of names."""
        match target:
            case nodes.Name(name=name):
                self.scope[name] = value
            case nodes.NSRef():
                self.keep(value)
            case nodes.Tuple() | nodes.List():
                for one in target.items:
                    self.bind(one, value.item())

    def keep(self, value: Value) -> None:
        """Add a value to those that any namespace may hold."""
        said = together([self.kept.said, value.said])
        self.kept = Value(said, self.kept.shapes | value.shapes)

    def shown_by_one(self, bodies: Iterable[Iterable[nodes.Node]]) -> Wordings:
        """All that one of several bodies may show. A name may have the value any of them sets."""
        before, scopes = self.scope, []
        said: Wordings = frozenset()
        for body in bodies:
            self.scope = dict(before)
            said |= self.shown_by(body)
            scopes.append(self.scope)
        self.scope = any_of(scopes)
        return said

    def show_block(self, name: str, level: int) -> Value:
        """A block as the last template has it, or `level` levels further up."""
        chain = self._blocks.get(name, [])[level:]
        if not chain or self._depth > _DEEPEST:
            return Value()
        file, block = chain[0]
        self._inside.append((name, level))
        with self.inner_scope(), self.inside_file(file):
            # Only a "scoped" block sees the names around it; any other sees the file's.
            self.scope = any_of([self.scope, self._top or {}])
            said = self.shown_by(block.body)
        self._inside.pop()
        return Value(said)

    def run_macro(self, macro: _Macro, call: nodes.Call) -> Value:
        """All that a macro says when it is called with these arguments."""
        if self._depth > _DEEPEST:
            return Value()
        names = [argument.name for argument in macro.node.args]
        written = [*call.args, *call.kwargs, call.dyn_args, call.dyn_kwargs]
        rest = Value(together(self.visit(one).held for one in written if one))
        passed = dict(zip(names, map(self.visit, call.args), strict=False))
        passed |= {one.key: self.visit(one.value) for one in call.kwargs}
        if call.dyn_args or call.dyn_kwargs:
            passed = {**dict.fromkeys(names, rest), **passed}
        with self.inner_scope(), self.inside_file(macro.file):
            self.scope = any_of([self.scope, macro.scope])
            self.scope |= {"varargs": rest, "kwargs": rest}
            undefaulted = len(names) - len(macro.node.defaults)
            for index, name in enumerate(names):  # a default may read the arguments before it
                if name in passed:
                    self.scope[name] = passed[name]
                elif index >= undefaulted:
                    self.scope[name] = self.visit(macro.node.defaults[index - undefaulted])
                else:
                    self.scope[name] = Value()
            return Value(self.shown_by(macro.node.body))

    def include(self, file: str) -> Value:
        """Another file in place of this one, with its own blocks."""
        if self._depth > _DEEPEST:
            return Value()
        blocks, self._blocks = self._blocks, {}
        with self.inner_scope():
            top, self._top = self._top, None
            said = self.show_template(file)
            self._top = top
        self._blocks = blocks
        return Value(said)

    def import_file(self, node: nodes.Import | nodes.FromImport) -> tuple[Wordings, Scope]:
        """Follow an imported file: return what it shows if the module is printed, and its names."""
        said, named = NOTHING, self.scope
        for file in files(node) if self._depth <= _DEEPEST else ():
            with self.inner_scope(), self.inside_file(file):
                said, named = self.shown_by(self._trees(file).body), self.scope
        return said, named

    def show_template(self, file: str) -> Wordings:
        """A file from its top. If it extends another, that one shows, with this file's blocks."""
        tree, said, parent = self._trees(file), NOTHING, False
        for block in tree.find_all(nodes.Block):
            self._blocks.setdefault(block.name, []).append((file, block))
        extended = [node for node in tree.body if isinstance(node, nodes.Extends)]
        with self.inside_file(file):
            for node in tree.body:
                if node in extended:
                    parent = True
                elif not parent:
                    said = together([said, self.visit(node).said])
                elif not isinstance(node, nodes.Output | nodes.Block):
                    self.visit(node)
            return together([said, self.shown_by(extended)])

    @contextmanager
    def inner_scope(self) -> Iterator[None]:
        """Hide names that are set here from the code outside."""
        before, self.scope = self.scope, dict(self.scope)
        top = self._top
        self._top = before if top is None else top
        yield
        self.scope, self._top = before, top

    @contextmanager
    def inside_file(self, file: str) -> Iterator[None]:
        """Continue in another file: details that show there are reported with its name."""
        before, self._file = self._file, file
        self._depth += 1
        yield
        self._depth -= 1
        self._file = before


def files(node: nodes.Extends | nodes.Include | nodes.Import | nodes.FromImport) -> list[str]:
    """The files that a node names; one whose name is worked out at send is unknown."""
    named = node.template
    found = named.items if isinstance(named, nodes.Tuple | nodes.List) else [named]
    return [part.value for part in found if isinstance(part, nodes.Const)]


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
    """Yield where a rule's SMS or subject line may show a secret, unless the rule allows it."""
    if not rule.discreet:
        return
    remedy = (
        f"A locked screen shows it: remove it, or write discreet = false in [rules.{rule.name}]."
    )
    rows = [CHANNELS[channel] for channel in rule.ways]
    for part_file in (row.parts[part] for row in rows for part in row.shown):
        file = f"{rule.template}/{part_file}"
        shown = Disclosure(loaded.tree, file)
        for detail, message in secrets_shown(shown.ways):
            name, line = shown.places[detail]
            yield Problem(message, str(loaded.folder / name), line, remedy=remedy)
        for name in loaded.named(file):
            for word, line in clinical(loaded.source(name)):
                where = str(loaded.folder / name)
                yield Problem(f'it says "{word}".', where, line, remedy=remedy, warning=True)


def secrets_shown(ways: Wordings) -> Iterator[tuple[str, str]]:
    """Yield each secret that words may show in some way, and the message about it."""
    for detail, message in _SECRETS.items():
        if any(detail in way for way in ways):
            yield detail, message
    if any({FIRST, LAST} <= way for way in ways):
        yield LAST, "it may show a full name: a first name and a last name together."


def clinical(source: str) -> Iterator[tuple[str, int]]:
    """Yield words that reveal the test, and their lines. A short list can only be a hint."""
    for number, line in enumerate(source.splitlines(), 1):
        for found in _CLINICAL.finditer(line):
            yield found[0], number
