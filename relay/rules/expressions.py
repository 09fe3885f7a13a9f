"""The one Jinja environment for templates and conditions, what they see of an event, and a check of
every name in them.

A name that no lab resource has is found when the text loads, not when a patient is waiting.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar

from jinja2 import BaseLoader, StrictUndefined, TemplateSyntaxError, nodes
from jinja2.meta import find_undeclared_variables
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from relay.errors import RenderError, did_you_mean
from relay.lab.events import EVENTS, Kind, Moment, moment
from relay.lab.facts import (
    PERSONS,
    RECIPIENT_FIELDS,
    RESOURCES,
    SENSITIVE,
    SHAPES,
    Facts,
    Null,
    Record,
    record,
)
from relay.rules.model import Step

Value = TypeVar("Value")
Path = tuple[Any, ...]  # the steps of order.items[0].quantity
Names = Mapping[str, frozenset[str] | None]  # root → its fields, or None if any may be read


def environment(loader: BaseLoader | None = None) -> ImmutableSandboxedEnvironment:
    """A sandboxed, strict environment. HTML is escaped in files that end in .html."""
    made = ImmutableSandboxedEnvironment(
        loader=loader,
        undefined=StrictUndefined,
        autoescape=lambda name: bool(name and name.endswith(".html")),
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        cache_size=-1,
    )
    made.tests["none"] = lambda value: value is None or isinstance(value, Null)
    return made


def vocabulary(event: str) -> dict[str, frozenset[str]]:
    """The names that a rule for `event` can use: root → its fields."""
    names = {name: frozenset(SHAPES[name]) for name in RESOURCES}
    names["clinic"] = frozenset(SHAPES["clinic"])
    names["recipient"] = frozenset(RECIPIENT_FIELDS)
    names["event"] = frozenset({"name", "received_at", *EVENTS[event].data_fields})
    return names


@lru_cache(maxsize=256)
def free_names(tree: nodes.Template) -> frozenset[str]:
    """The names that a template takes from outside: not its macros, imports or own variables."""
    bound = {macro.name for macro in tree.find_all(nodes.Macro)}
    bound |= {found.target for found in tree.find_all(nodes.Import)}
    for found in tree.find_all(nodes.FromImport):
        bound |= {name if isinstance(name, str) else name[1] for name in found.names}
    # Set at the top level, a name is seen in blocks too, which `meta` does not follow.
    bound |= {
        n.name
        for a in tree.find_all((nodes.Assign, nodes.AssignBlock))
        for n in a.find_all(nodes.Name)
        if n.ctx == "store"
    }
    return frozenset(find_undeclared_variables(tree) - bound)


@lru_cache(maxsize=256)
def read_fields(tree: nodes.Node) -> frozenset[str]:
    """The fields that are read of anything, also by a string, as in `sort(attribute="order.id")`.

    If a name is computed, it may be that of any sensitive field.
    """
    read = {node.attr for node in tree.find_all(nodes.Getattr)}
    for const in tree.find_all(nodes.Const):
        if isinstance(const.value, str):
            read |= set(const.value.split("."))
    plain = (nodes.Const, nodes.Slice)
    if any(not isinstance(node.arg, plain) for node in tree.find_all(nodes.Getitem)):
        read |= {field for fields in SENSITIVE.values() for field in fields}
    return frozenset(read)


def unknown_names(tree: nodes.Template, names: Names) -> Iterator[tuple[int, str]]:
    """Yield (line, problem) for each name in a parsed template that is not in `names`."""
    if wrong := unknown_words(tree):
        yield from wrong  # Jinja cannot tell the free names of such a template
        return
    free = free_names(tree)
    reported: set[str] = set()
    for line, name in names_read(tree):
        if name in free and name not in names and name not in reported:
            reported.add(name)
            yield line, f'unknown name "{name}". {did_you_mean(name, names)}'
    for line, path in paths(tree):
        if path[0] in free and (said := wrong_field(path, names)):
            yield line, said


def wrong_field(path: Sequence[Any], names: Names, under: str = "") -> str:
    """The problem with the last step of a path; empty if it is known, or we cannot know."""
    *owner, field = path
    known = fields_at(owner, names)
    if known is None or field in known:
        return ""
    written = ".".join(map(str, (*filter(None, (under,)), *path)))
    return f'unknown name "{written}". {did_you_mean(str(field), known)}'


@lru_cache(maxsize=256)
def unknown_words(tree: nodes.Template) -> tuple[tuple[int, str], ...]:
    """Filters and tests that do not exist: Jinja itself finds some of them only when sending."""
    found = []
    for node in tree.find_all((nodes.Filter, nodes.Test)):
        kind = "filter" if isinstance(node, nodes.Filter) else "test"
        known = _ENVIRONMENT.filters if kind == "filter" else _ENVIRONMENT.tests
        if node.name not in known:
            said = f'unknown {kind} "{node.name}". {did_you_mean(node.name, known)}'
            found.append((node.lineno, said))
    return tuple(found)


@lru_cache(maxsize=256)
def paths(tree: nodes.Node) -> tuple[tuple[int, Path], ...]:
    """(line, steps) of every plain path that a template reads."""
    found = tree.find_all((nodes.Getattr, nodes.Getitem))
    return tuple((node.lineno, path) for node in found if (path := node_path(node)))


@lru_cache(maxsize=256)
def names_read(tree: nodes.Template) -> tuple[tuple[int, str], ...]:
    """(line, name) of every name in a template."""
    return tuple((node.lineno, node.name) for node in tree.find_all(nodes.Name))


def node_path(node: nodes.Node) -> Path:
    """The path that a node reads: ("order", "customer"); empty if it is not a plain path."""
    if isinstance(node, nodes.Name):
        return (node.name,)
    if isinstance(node, nodes.Getattr):
        base = node_path(node.node)
        return base and (*base, node.attr)
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        base = node_path(node.node)
        return base and (*base, node.arg.value)
    return ()


def fields_at(path: Sequence[Any], names: Names) -> Iterable[str] | None:
    """The fields of the value at a path; None if we cannot know them."""
    root, *steps = path
    if not steps:
        return names.get(root)
    shape = root
    for step in steps:
        if shape.endswith("*"):  # a list: an item has the fields, the list has none
            shape = shape[:-1] if isinstance(step, int) else ""
        else:
            shape = SHAPES.get(shape, {}).get(step, "")
    return SHAPES.get(shape)


_ENVIRONMENT = environment()
# A condition only asks. It may not use anything that could make a value larger: a line pasted into
# config.toml by anybody could take all memory, even while it compiles.
LONGEST, MOST_STEPS = 1_000, 40
_STEPS = (nodes.Getattr, nodes.Getitem, nodes.Filter)
_ASKS = (
    *(nodes.Name, nodes.Const, nodes.List, nodes.Tuple, nodes.Dict, nodes.Pair, nodes.Slice),
    *(nodes.Getattr, nodes.Getitem, nodes.Filter, nodes.Call, nodes.Keyword, nodes.Test),
    *(nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.CondExpr),
    *(nodes.Concat, nodes.Add, nodes.Sub, nodes.Div, nodes.FloorDiv, nodes.Neg, nodes.Pos),
)
_FILTERS = re.compile(
    "abs|capitalize|count|d|default|first|float|int|last|length|list|lower|map|max|min|reject"
    "|rejectattr|reverse|round|select|selectattr|sort|sum|title|trim|unique|upper"
)
_METHODS = re.compile(
    "count|date|endswith|find|get|isalnum|isalpha|isdigit|isoformat|isoweekday|items|keys|lower"
    "|lstrip|removeprefix|removesuffix|rstrip|split|startswith|strftime|strip|time|timestamp"
    "|title|upper|values|weekday"
)


def parsed(source: str) -> nodes.Expr:
    """The syntax tree of an expression, not evaluated. Raises TemplateSyntaxError."""
    parser = Parser(_ENVIRONMENT, source, state="variable")
    tree = parser.parse_expression()
    if not parser.stream.eos:
        parser.fail("chunk after expression")
    return tree


def unfit(tree: nodes.Expr) -> Iterator[str]:
    """Yield each thing in a condition that may not be there."""
    found = [tree, *tree.find_all(nodes.Node)]
    for node in found:
        if not isinstance(node, _ASKS):
            yield f"it cannot use {getattr(node, 'operator', 'this')}"
        elif isinstance(node, nodes.Concat) and next(node.find_all(nodes.Concat), None):
            yield "it has a ~ within another"
        elif isinstance(node, nodes.Call):
            name = getattr(node.node, "attr", "a function")
            if not _METHODS.fullmatch(name):
                yield f"it cannot use {name}()"
        elif isinstance(node, nodes.Filter):
            for name in filters_of(node):
                if not _FILTERS.fullmatch(name):
                    yield f'it cannot use the filter "{name}"'
    if sum(isinstance(node, _STEPS) for node in found) > MOST_STEPS:
        yield f"it has more than {MOST_STEPS} dots and filters"


def filters_of(node: nodes.Filter) -> Iterator[str]:
    """Yield the filter that is named, and the one that `map` applies."""
    yield node.name
    if node.name == "map" and node.args:
        yield str(getattr(node.args[0], "value", "that a value names"))


class Condition:
    """A `when`, or another key's expression, over the names that a template sees."""

    def __init__(self, source: str, event: str, key: str = "when"):
        """Raises ValueError when `source` is not one expression over the names of `event`."""
        self.source, self._key = source, key
        if len(source) > LONGEST:
            raise ValueError(f"a condition has at most {LONGEST:,} characters.")
        hint = "Write it as in \"order.carrier == 'royal_mail'\", with two equals signs."
        try:
            # First as an expression: "a }} {{ b" would pass for a template.
            if wrong := next(unfit(parsed(source)), ""):
                raise ValueError(f"not a valid condition: {wrong}.")
            self._compiled = _ENVIRONMENT.compile_expression(source, undefined_to_none=False)
            tree = _ENVIRONMENT.parse("{{ (" + source + ") }}")
        except TemplateSyntaxError as error:
            raise ValueError(f"not a valid condition: {error.message}. {hint}") from error
        except (RecursionError, MemoryError, SyntaxError) as error:  # from hundreds of brackets
            raise ValueError("not a valid condition: it has too many brackets.") from error
        for _line, wrong in unknown_names(tree, vocabulary(event)):
            raise ValueError(wrong)
        self.tree = tree
        self.roots = free_names(tree)
        self.fields = read_fields(tree)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Condition) and self.source == other.source

    def __hash__(self) -> int:
        return hash(self.source)

    def __repr__(self) -> str:
        return f"Condition({self.source!r})"

    def holds(self, names: Mapping[str, Any]) -> bool:
        """Whether it is true of these facts. Raises RenderError when Relay cannot work it out."""
        return self._work_out(bool, names)

    def word(self, names: Mapping[str, Any]) -> str:
        """The expression's value for these facts, as a text. Raises RenderError like `holds`."""
        return self._work_out(lambda found: str(found or ""), names)

    def _work_out(self, as_kind: Callable[[Any], Value], names: Mapping[str, Any]) -> Value:
        try:
            return as_kind(self._compiled(**names))
        except Exception as error:  # an expression may do anything with what the lab sent
            said = f"Relay could not work out `{self._key}`: {self.source}."
            raise RenderError(said) from error


@lru_cache(maxsize=512)
def condition(source: str, event: str, key: str = "when") -> Condition:
    """An expression, cached by its text: most of the time to read a config.toml goes here. Raises
    ValueError.
    """
    return Condition(source, event, key)


def names(
    event: str, data: Mapping[str, Any], received_at: datetime, facts: Facts, clinic: Record
) -> dict[str, Any]:
    """The values of the vocabulary for one event, all but `recipient`. Times are the clinic's."""
    zone = clinic.timezone
    values: dict[str, Any] = {
        # Not the whole schema: the data was validated on arrival, and this is called often.
        key: moment(data.get(key), zone) if isinstance(field, Moment) else data.get(key)
        for key, field in EVENTS[event].schema.fields.items()
    }
    values |= {"name": event, "received_at": received_at.astimezone(zone)}
    return {**facts.namespace(), "clinic": clinic, "event": Record("event", values)}


def recipient(role: str, facts: Facts) -> Record:
    """The recipient as templates see it; for staff only the group's name."""
    person = (getattr(facts, role) if role in PERSONS else None) or {}
    fields = {key: person.get(key) for key in RECIPIENT_FIELDS}
    made: Record = record("recipient", {**fields, "role": role})
    return made


@dataclass(frozen=True)
class RuleContext:
    """One event as rules see it: its kit, its round, the facts and their names."""

    step: Step
    subject: str
    facts: Facts
    names: Mapping[str, Any]
    known: tuple[Step, ...] = ()  # the kit's other steps so far
    facts_at: datetime | None = None  # when they were kept; None for an event that is being planned

    @property
    def kind(self) -> Kind:
        """The event's row."""
        return EVENTS[self.step.name]

    def names_to(self, role: str) -> dict[str, Any]:
        """The names that a rule or a template to a role sees."""
        return {**self.names, "recipient": recipient(role, self.facts)}
