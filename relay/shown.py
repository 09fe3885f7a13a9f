"""Follows a template through branches, loops, blocks, includes and macros: what it may show."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from jinja2 import nodes

from relay.details import NOTHING, Expressions, Said, Value, either, together

_DEEPEST = 12  # a macro or an include may call itself
Trees = Callable[[str], nodes.Template]
Place = tuple[str, int]  # file and line


class Shown(Expressions):
    """What a file may show in each way that its branches may go, and where it first does."""

    def __init__(self, trees: Trees, file: str):
        super().__init__()
        self._trees = trees
        self._file = file
        self._depth = 0
        self._macros: dict[str, list[tuple[str, nodes.Macro]]] = {}
        self._modules: set[str] = set()
        self._blocks: dict[str, list[tuple[str, nodes.Block]]] = {}  # what overrides comes first
        self._inside: list[tuple[str, int]] = []  # blocks, and how far up super() has led
        self.places: dict[str, Place] = {}
        self.ways = self._template(file)

    def generic_visit(self, node: nodes.Node, *_: Any, **__: Any) -> Value:
        """A statement of no other kind is its body; an expression is what its parts hold."""
        if isinstance(node, nodes.Stmt):
            return Value(self._said(getattr(node, "body", ())))
        return super().generic_visit(node)

    def _said(self, body: Iterable[nodes.Node]) -> Said:
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
        once: Said = frozenset()
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

    def _noted(self, said: Said, node: nodes.Node) -> Said:
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

    def _branches(self, bodies: Iterable[Iterable[nodes.Node]]) -> Said:
        """One of several; a name set in one of them may be what any of them made it."""
        before, scopes = self.scope, []
        said: Said = frozenset()
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

    def _template(self, file: str) -> Said:
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
