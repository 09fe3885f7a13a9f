"""Warns of what is valid but surely not meant: patients would read it, or nobody would."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import combinations

from jinja2 import nodes

from relay.config.loader import Config
from relay.config.toml_reader import KeyPath
from relay.errors import Problem, did_you_mean
from relay.lab.facts import PERSONS, RECIPIENT_FIELDS, SHAPES
from relay.messages.templates import Message, Templates
from relay.messages.templates import files as template_files
from relay.rules.model import Rule
from relay.rules.schedule import Window

# Names as other programs mark them: {name}, ${name}, %name%, <<name>>, «name», [first name].
_MARKS = re.compile(
    r"(?<![{\w])\$?\{\s*([A-Za-z_][\w. ]*)\}(?!\})|%([A-Za-z_]\w*)%|<<([^<>\n]{1,40})>>"
    r"|«([^»\n]{1,40})»|\[+([A-Za-z_ ]*(?:name|link|phone|portal|date))\]+",
    re.IGNORECASE,
)
_STYLE = re.compile(r"<style.*?</style>", re.DOTALL)
_PLAIN_HTTP = re.compile(r"\bhttp://[^\s\"'<>]+")
# Link shorteners: networks filter texts with such a link, and readers cannot see where it leads.
_SHORTENED = re.compile(
    r"\b(?:bit\.ly|tinyurl\.com|t\.co|goo\.gl|ow\.ly|is\.gd|rb\.gy)/[^\s\"'<>]+"
)
# Patterns to look for in a template's words: the warning, and what to write.
_ODD_WORDS = (
    (_MARKS, "{} goes out as it is written.", "Write {}."),
    (_PLAIN_HTTP, "{} is plain http.", "Write https://."),
    (
        _SHORTENED,
        "{} hides where it leads: networks filter such texts, and patients fear them.",
        "Write the page's own address.",
    ),
)
_NOON, _NIGHT = datetime(2026, 1, 5, 12), datetime(2026, 1, 6, 3)
_STEP = re.compile(r"\bstep (\d+) of (\d+)", re.IGNORECASE)


def of_rules(config: Config) -> Iterator[Problem]:
    """Warns of windows open only at night, rules that send one person the same, and no rules."""
    on = [rule for rule in config.rules if rule.enabled]
    if not on:
        said = "no rule is on: nobody is told of anything."
        remedy = "Write one, or set enabled = true."
        yield config.problem(("rules",), said, remedy, warning=True)
    shown: list[tuple[KeyPath, Window]] = [(("delivery",), config.delivery.send_window)]
    shown += [(("rules", one.name), one.send_window) for one in on if one.send_window]
    for path, window in shown:
        at_noon, at_night = (window.is_open(at, config.clinic.timezone) for at in (_NOON, _NIGHT))
        if at_night and not at_noon:
            opens, closes = str(window).rpartition(" ")[2].split("-")
            said = f"messages go out at night only, from {opens} to {closes}."
            remedy = f'Write "{closes}-{opens}".'
            yield config.problem((*path, "send_window"), said, remedy, warning=True)
    for one, other in combinations(on, 2):
        if both := _same(one, other):
            said = f"{both} goes out twice for each {one.event}: [rules.{one.name}] sends it too."
            remedy = "Remove one, or give each a `when`."
            yield config.problem(("rules", other.name), said, remedy, warning=True)


def _same(one: Rule, other: Rule) -> str:
    """The channels on which two rules send one person the same; empty if they do not."""
    keys = ("event", "to", "template", "after")
    if any(getattr(one, key) != getattr(other, key) for key in keys) or one.to not in PERSONS:
        return ""
    if one.when and other.when and one.when != other.when:
        return ""
    return ", ".join(channel for channel in one.channels if channel in other.channels)


def of_templates(loaded: Templates, rule: Rule, channels: Sequence[str]) -> Iterator[Problem]:
    """Warns of other programs' marks, links not to follow, blocks that no layout shows."""
    for file in template_files(rule.template, channels):
        names = list(loaded.named(file))
        shown = frozenset().union(*(blocks(loaded.tree(name)) for name in names[1:]))
        for name in names:
            tree, place = loaded.tree(name), str(loaded.folder / name)
            for line, said, remedy in odd_words(tree):
                yield Problem(said, place, line, remedy=remedy, warning=True)
            if name == file and names[1:]:
                for node in tree.body:
                    if isinstance(node, nodes.Block) and node.name not in shown:
                        said = f'no layout shows a block "{node.name}": nobody reads what is in it.'
                        remedy = did_you_mean(node.name, shown)
                        yield Problem(said, place, node.lineno, remedy=remedy, warning=True)


# Many templates share a layout, so each tree is searched once.


@lru_cache(maxsize=256)
def blocks(tree: nodes.Template) -> frozenset[str]:
    """The names of a template's blocks."""
    return frozenset(block.name for block in tree.find_all(nodes.Block))


@lru_cache(maxsize=256)
def odd_words(tree: nodes.Template) -> tuple[tuple[int, str, str], ...]:
    """(line, what is wrong, remedy) for each odd thing in a template's own words."""
    found = []
    for data in tree.find_all(nodes.TemplateData):
        text = _STYLE.sub(lambda style: "\n" * style[0].count("\n"), data.data)
        for pattern, said, remedy in _ODD_WORDS:
            for odd in pattern.finditer(text):
                line = data.lineno + text.count("\n", 0, odd.start())
                instead = _name(next(filter(None, odd.groups()), ""))
                found.append((line, said.format(odd[0]), remedy.format(instead)))
    return tuple(found)


def _name(marked: str) -> str:
    """The name that the author meant, as a template writes it."""
    root, _, field = re.sub(r"\W+", ".", marked.strip().lower().replace(" ", "_")).rpartition(".")
    for known, fields in (("clinic", SHAPES["clinic"]), ("recipient", RECIPIENT_FIELDS)):
        if field in fields and root in ("", known):
            filled = " or 'there'" if known == "recipient" else ""
            return f"{{{{ {known}.{field}{filled} }}}}"
    return "a name between {{ and }}, as in {{ clinic.name }}"


def of_message(loaded: Templates, rule: Rule, message: Message) -> Iterator[Problem]:
    """Warns of a step number above the number of steps."""
    for found in _STEP.finditer(message.text):
        if int(found[1]) > int(found[2]):
            place = str(loaded.folder / rule.template)
            said = f'the message says "{found[0]}".'
            remedy = f"Write a number up to {found[2]} in {{% block step %}}."
            yield Problem(said, place, remedy=remedy, warning=True)
