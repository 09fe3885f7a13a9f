"""Judges each `when` by what the lab can say: finds unknown words, and rules that never apply.

A condition that reads only fields with documented words is tried with all of those words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, product
from typing import Any

from jinja2 import nodes

from relay.config.loader import Config
from relay.errors import Problem, RenderError, did_you_mean
from relay.lab import samples
from relay.lab.events import VALUES
from relay.lab.facts import SHAPES, Facts
from relay.rules.expressions import Condition, Path, names, node_path, paths, recipient
from relay.rules.model import Rule

MOST = 2000  # combinations to try


def problems(config: Config, rule: Rule) -> Iterator[Problem]:
    """The problems of a rule's condition and of its [never.…] tables. Some are warnings."""
    at = ("rules", rule.name, "when")
    if rule.when:
        for said, remedy, is_warning in wrong_words(rule.when):
            yield config.problem(at, said, remedy, warning=is_warning)
    possible = [*_possible(config, rule)]
    applying = [seen for seen in possible if rule.when is None or _holds(rule.when, seen)]
    if possible and not applying:
        said = "nothing that the lab can say makes this true: the rule never applies."
        remedy = "Compare a field with one of the words in docs/lab-statuses.md."
        yield config.problem(at, said, remedy)
    elif rule.never and applying and all(map(rule.forbidden_by, applying)):
        said = f"everything that it would send is forbidden by [never.{rule.never[0].name}]."
        yield config.problem(("rules", rule.name), said, warning=True)


def wrong_words(when: Condition) -> Iterator[tuple[str, str, bool]]:
    """Yield each comparison that is never equal, with what to write instead; True for a warning."""
    for compare in when.tree.find_all(nodes.Compare):
        for path, words in _sides(compare):
            name = ".".join(map(str, path))
            shape = SHAPES.get(path[0], {}).get(path[1], "") if len(path) == 2 else ""
            if shape.endswith("*"):
                yield (
                    f"{name} is a list of records, and no word is in it.",
                    f"Write {name}|map(attribute='product_sku') for their SKUs, for example.",
                    False,
                )
            known = [value for value in VALUES.get(path, ()) if isinstance(value, str)]
            for word in words if known else ():
                if word not in known:
                    near = did_you_mean(word, known)
                    if not near.startswith("Choose"):
                        near += f" It documents: {', '.join(known)}."
                    yield f'"{word}" is no word that the lab documents for {name}.', near, True


def _sides(compare: nodes.Compare) -> Iterator[tuple[Path, Sequence[str]]]:
    """Each field in a comparison, with the words on the other side."""
    sides = [compare.expr, *(operand.expr for operand in compare.ops)]
    words = [word for side in sides for word in _words(side)]
    yield from ((path, words) for side in sides if len(path := node_path(side)) > 1 and words)


def _words(node: nodes.Node) -> list[str]:
    """The literal words, alone or in a list, which Jinja may turn into one constant."""
    items = node.items if isinstance(node, nodes.List | nodes.Tuple) else [node]
    values = [one.value for one in items if isinstance(one, nodes.Const)]
    lists = (value if isinstance(value, list | tuple) else [value] for value in values)
    return [one for one in chain.from_iterable(lists) if isinstance(one, str)]


def _possible(config: Config, rule: Rule) -> Iterator[Mapping[str, Any]]:
    """All that a rule's conditions may see; nothing if they read undocumented fields."""
    conditions = rule.conditions
    read = {path for one in conditions for _, path in paths(one.tree)}
    read = {path for path in read if not any(path == longer[:-1] for longer in read)}
    roots = {root for one in conditions for root in one.roots} - {path[0] for path in read}
    if not conditions or roots or not read <= VALUES.keys():
        return
    fields = sorted(read)
    for values in list(product(*((*VALUES[field], None) for field in fields)))[:MOST]:
        facts = samples.full()
        for (resource, field), value in zip(fields, values, strict=True):
            facts = _with(facts, resource, field, value)
        yield names_for_event(config, rule, facts)


def _with(facts: Facts, resource: str, field: str, value: object) -> Facts:
    changed: dict[str, Any] = {resource: {**(getattr(facts, resource) or {}), field: value}}
    return replace(facts, **changed)


def names_for_event(
    config: Config, rule: Rule, facts: Facts, data: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The names of one event, as `when`, a message, or an item of a digest sees them."""
    data = data or samples.webhook(rule.event)["data"]
    seen = names(rule.event, data, samples.RECEIVED_AT, facts, config.clinic.record())
    return {**seen, "recipient": recipient(rule.to, facts)}


def _holds(when: Condition, seen: Mapping[str, Any]) -> bool:
    try:
        return when.holds(seen)
    except RenderError:
        return False
