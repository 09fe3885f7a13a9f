"""Random templates with a secret planted in each, to try relay.messages.disclosure on.

A template is written with holes for its texts and fields. `planted` fills one or two of them with
secrets and the others with something plain, so that a secret has one way to the words and no more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import product
from random import Random
from typing import Any

from relay.lab.facts import Record, record
from relay.messages.disclosure import BIRTHDAY, FIRST, LAST, RESULT, TEST

MARKS = {
    FIRST: "SECRETFIRST",
    LAST: "SECRETLAST",
    BIRTHDAY: "SECRETBIRTH",
    TEST: "SECRETTEST",
    RESULT: "SECRETRESULT",
}
FILE = "results/sms.txt"
_HOLE = re.compile(r"<(text|person|item):\d+>")
_PERSONS = ("patient", "customer", "recipient", "registration", "order.customer")
# What fills a hole, by the detail that it gives away; None: nothing.
_TEXTS: dict[str | None, tuple[str, ...]] = {
    None: ("'x'", "''", "clinic.name", "order.id", "patient.email"),
    FIRST: tuple(f"{person}.first_name" for person in _PERSONS),
    LAST: tuple(f"{person}['last_name']" for person in _PERSONS),
    BIRTHDAY: ("registration.date_of_birth",),
    RESULT: ("registration.status", "registration.download_url"),
    TEST: (
        "order.items[0].product_sku",
        "(order.items|last).product_id",
        "registration.product_skus[1]",
        "registration.product_skus|join(', ')",
        "order.items|map(attribute='product_sku')|join(' ')",
        "order.items|join(' ', attribute='product_sku')",
        "order.test_registrations[0].product[0].id",
        "order.test_registrations|map(attribute='product.0.sku')|join",
        "order.test_registrations|map(attribute='product')|map('first')|map(attribute='sku')|join",
    ),
}
_FIELDS: dict[str, dict[str | None, tuple[str, ...]]] = {
    "person": {None: ("id", "email"), FIRST: ("first_name",), LAST: ("last_name",)},
    "item": {None: ("quantity",), TEST: ("product_sku", "product_id")},
}
_FLAGS = ("f0", "f1", "f2")
_REORDERED = ("reverse", "list", "sort(attribute='quantity')")
_VARIABLES = ("a", "b", "c")
_DEEPEST = 3


def planted(seed: int) -> dict[str, str]:
    """A template's files by name."""
    random = Random(seed)  # noqa: S311
    written = _Author(random).files()
    details = random.choice([(FIRST, LAST), (FIRST, LAST), (TEST,), (BIRTHDAY,), (RESULT,)])
    holes = sorted({hole[0] for text in written.values() for hole in _HOLE.finditer(text)})
    random.shuffle(holes)
    filled: dict[str, str] = {}
    for detail in details:
        fitting = [h for h in holes if h not in filled and detail in _fillings(h)]
        if fitting:
            filled[fitting[0]] = random.choice(_fillings(fitting[0])[detail])
    for hole in holes:
        filled.setdefault(hole, random.choice(_fillings(hole)[None]))
    return {name: _HOLE.sub(lambda found: filled[found[0]], text) for name, text in written.items()}


def _fillings(hole: str) -> dict[str | None, tuple[str, ...]]:
    kind = hole[1:].partition(":")[0]
    return _TEXTS if kind == "text" else _FIELDS[kind]


def every_case() -> Iterator[dict[str, Any]]:
    """The names that a template sees, for each way its conditions can go and for people missing."""
    for absent in ((), ("patient",), ("customer",)):
        for flags in product((True, False), repeat=len(_FLAGS)):
            yield _names(dict(zip(_FLAGS, flags, strict=True)), absent)


def _names(flags: dict[str, bool], absent: tuple[str, ...]) -> dict[str, Any]:
    nobody = {"id": "1", "email": "e", "first_name": None, "last_name": None}
    person = {**nobody, "first_name": MARKS[FIRST], "last_name": MARKS[LAST]}
    item = {"product_sku": MARKS[TEST], "product_id": MARKS[TEST], "quantity": "2"}
    kit = {"id": "2", "product": [{"id": MARKS[TEST], "sku": MARKS[TEST]}]}
    registration = {
        **person,
        "date_of_birth": MARKS[BIRTHDAY],
        "status": MARKS[RESULT],
        "download_url": MARKS[RESULT],
        "product_skus": [MARKS[TEST], MARKS[TEST]],
    }
    order = {
        "id": "3",
        "customer": person,
        "items": [item, item],
        "test_registrations": [kit, kit],
    }
    people = {name: nobody if name in absent else person for name in ("patient", "customer")}
    recipient = {name: value or "" for name, value in (nobody if absent else person).items()}
    return {
        "order": record("order", order),
        "registration": record("registration", registration),
        **{name: record(name, one) for name, one in people.items()},
        "recipient": Record("recipient", recipient),
        "clinic": record("clinic", {"name": "Clinic", "extra": flags}),
    }


class _Author:
    """Writes the files of one template. Names are few, so that they hide one another."""

    def __init__(self, random: Random):
        self._random = random
        self._holes = 0
        self._files: dict[str, str] = {}
        self._macros: list[str] = []  # that the text being written can call
        self._named_macros = 0
        self._blocks = 0
        self._known: list[str] = []  # blocks of the layouts
        self._in_loop = False
        self._in_macro = False
        self._supers: dict[str, int] = {}  # how many blocks one overrides
        self._over = 0  # the same, inside it

    def files(self) -> dict[str, str]:
        """The files by name; FILE is the one that is sent."""
        layouts = self._random.choice([0, 0, 1, 2])
        for number in range(layouts):
            self._files[f"layout{number}.txt"] = self._layout(number)
        self._files[FILE] = self._layout(layouts) if layouts else self._start() + self._body(0)
        return {**self._files, "none.txt": ""}

    def _start(self) -> str:
        sets = "".join(f"{{% set {name} = {self._hole()} %}}" for name in _VARIABLES)
        return sets + f"{{% set ns = namespace(x={self._hole()}, y='') %}}"

    def _layout(self, number: int) -> str:
        """A file of a chain: the first is the bottom, the next ones extend the one before."""
        if not number:
            return self._body(0) + self._block() + self._block()
        text = f"{{% extends 'layout{number - 1}.txt' %}}" + self._start()
        if self._random.random() < 0.5:
            text += self._setting(2)
        for name in self._random.sample(self._known, self._random.randint(1, len(self._known))):
            self._over = self._supers[name] = self._supers.get(name, 0) + 1
            text += f"{{% block {name} %}}{self._body(2)}{{% endblock %}}"
            self._over = 0
        return text

    def _hole(self, kind: str = "text") -> str:
        self._holes += 1
        return f"<{kind}:{self._holes}>"

    def _variable(self) -> str:
        return self._random.choice(_VARIABLES)

    def _flag(self) -> str:
        flag = f"clinic.extra.{self._random.choice(_FLAGS)}"
        return self._random.choice([flag, f"not {flag}", f"{flag} == true"])

    def _body(self, depth: int) -> str:
        return "".join(
            self._statement(depth) for _ in range(self._random.randint(1, 1 if depth else 3))
        )

    def _statement(self, depth: int) -> str:
        if depth >= _DEEPEST or self._random.random() < 0.3:
            return f"{{{{ {self._text(depth)} }}}} "
        kinds: list[Callable[[int], str]] = [
            self._if,
            self._for,
            self._setting,
            self._setting,
            self._with,
            self._macro,
            self._call,
            self._filter,
            self._include,
            self._import,
        ]
        if not depth:
            kinds.append(self._local_block)
        return self._random.choice(kinds)(depth + 1)

    def _if(self, depth: int) -> str:
        text = f"{{% if {self._flag()} %}}{self._body(depth)}"
        if self._random.random() < 0.4:
            text += f"{{% elif {self._flag()} %}}{self._body(depth)}"
        if self._random.random() < 0.6:
            text += f"{{% else %}}{self._body(depth)}"
        return text + "{% endif %}"

    def _for(self, depth: int) -> str:
        name, was, self._in_loop = self._variable(), self._in_loop, True
        text, people = self._text(depth), self._random.sample(_PERSONS, 2)
        over, inside = self._random.choice(
            [
                (f"[{text}, {self._hole()}]", self._body(depth)),
                (f"range(3) if {self._flag()}", self._body(depth)),
                (f"[{', '.join(people)}]", f"{{{{ {name}.{self._hole('person')} }}}}"),
                (f"[{', '.join(people)}]", self._person_body(name, depth)),
                ("order.items", f"{{{{ {name}.{self._hole('item')} }}}}"),
                ("order.items", f"{{{{ loop.previtem.{self._hole('item')} if loop.index > 1 }}}}"),
                (f"order.items|{self._random.choice(_REORDERED)}",
                 f"{{{{ {name}.{self._hole('item')} }}}}{self._body(depth)}"),
                ("[1]", f"{{{{ loop.cycle({text}, {self._hole()}) }}}}"),
            ]
        )  # fmt: skip
        self._in_loop = was
        pair = f"{name}, {self._variable()}" if over.startswith("[") and "<" in over else ""
        if pair and self._random.random() < 0.2:
            over, name = f"[({over[1:-1]})]", pair
        end = f"{{% else %}}{self._body(depth)}" if self._random.random() < 0.2 else ""
        return f"{{% for {name} in {over} %}}{inside}{end}{{% endfor %}}"

    def _person_body(self, name: str, depth: int) -> str:
        other = self._variable()
        return (
            f"{{% set {other} = {name}.{self._hole('person')} %}}{self._body(depth)}"
            f"{{{{ {other} }}}}"
        )

    def _setting(self, depth: int) -> str:
        name = self._variable()
        text, hole, other = self._text(depth), self._hole(), self._variable()
        return self._random.choice(
            [
                f"{{% set {name} = {text} %}}",
                f"{{% set {name} = {name} ~ {text} %}}",
                f"{{% set {name}, {other} = {text}, {hole} %}}",
                f"{{% set {name} %}}{self._body(depth)}{{% endset %}}",
                f"{{% set {name} | replace('x', {hole}) %}}x{self._body(depth)}{{% endset %}}",
                f"{{% set ns.x = {text} %}}",
                f"{{% set ns.y = ns.x ~ {text} %}}",
                f"{{% set ns.y = {self._random.choice(_PERSONS)} %}}"
                f"{{{{ ns.y.{self._hole('person')} }}}}",
                f"{{% set {name} = {self._person()} %}}{{{{ {name}.{self._hole('person')} }}}}"
                f"{{% set {name} = '' %}}",
            ]
        )

    def _person(self) -> str:
        one, other = self._random.sample(_PERSONS, 2)
        return self._random.choice(
            [one, f"{one} or {other}", f"{one} if {self._flag()} else {other}",
             f"[{one}, {other}]|first", f"{{'k': {one}}}.k", f"[{one}, {other}][1]"]
        )  # fmt: skip

    def _with(self, depth: int) -> str:
        name, other = self._random.sample(_VARIABLES, 2)
        given = (
            f"{name} = {self._text(depth)}, {other} = {self._random.choice([name, self._hole()])}"
        )
        return f"{{% with {given} %}}{self._body(depth)}{{% endwith %}}"

    def _macro(self, depth: int) -> str:
        """A macro and a call of it, perhaps from a place where its names stand for others."""
        name = self._named()
        text = self._defined(name, depth)
        self._macros.append(name)
        call = f"{{{{ {self._called(name, depth)} }}}}"
        if self._random.random() < 0.3:
            call = f"{{% with {self._variable()} = {self._hole()} %}}{call}{{% endwith %}}"
        if self._random.random() < 0.2:
            call = f"{{% set g = {name} %}}{{{{ g({self._hole()}, {self._hole()}) }}}}"
        self._macros.pop()
        return text + call

    def _named(self) -> str:
        self._named_macros += 1
        return f"m{self._named_macros}" if self._random.random() < 0.9 else "upper"

    def _defined(self, name: str, depth: int) -> str:
        one, other = self._random.sample(_VARIABLES, 2)
        default = self._random.choice([one, self._hole(), "''"])
        was, self._in_macro = (self._in_macro, self._in_loop), True
        self._in_loop = False
        body = self._body(depth)
        self._in_macro, self._in_loop = was
        more = self._random.choice(["", "{{ kwargs.get('z', '') }}"]) + "{{ varargs|join }}"
        called = "{% if caller is defined %}{{ caller(" + self._hole() + ") }}{% endif %}"
        if self._random.random() < 0.3:
            called = f"{{% for n in range(2) %}}{called}{{% set ns.x = n %}}{{% endfor %}}"
        return (
            f"{{% macro {name}({one}='', {other}={default}) %}}{body}{more}{called}{{% endmacro %}}"
        )

    def _called(self, name: str, depth: int) -> str:
        text, hole = self._text(depth), self._hole()
        return self._random.choice(
            [
                f"{name}()",
                f"{name}({text})",
                f"{name}({text}, {hole})",
                f"{name}(*[{text}, {hole}])",
                f"{name}({text}|upper, 'y', {hole})",
            ]
        )

    def _call(self, depth: int) -> str:
        name = self._named()
        text = self._defined(name, depth)
        argument = self._random.choice([self._variable(), "n"])
        was, self._in_macro, self._in_loop = (self._in_macro, self._in_loop), False, False
        body = self._body(depth)
        self._in_macro, self._in_loop = was
        if self._random.random() < 0.3:
            one, other = self._hole(), self._hole()
            body += f"{{% if ns.x %}}{{{{ {one} }}}}{{% else %}}{{{{ {other} }}}}{{% endif %}}"
        return (
            f"{text}{{% call({argument}=none) {self._called(name, depth)} %}}{body}{{% endcall %}}"
        )

    def _filter(self, depth: int) -> str:
        name = self._random.choice(["upper", f"replace('x', {self._hole()})", "trim"])
        return f"{{% filter {name} %}}x{self._body(depth)}{{% endfilter %}}"

    def _include(self, depth: int) -> str:
        was = self._macros, self._in_macro, self._in_loop, self._over
        self._macros, self._in_macro, self._in_loop, self._over = [], False, False, 0
        file = f"part{len(self._files)}-{self._holes}.txt"
        text = self._random.choice(["", self._setting(depth)]) + self._body(depth)
        self._files[file] = text
        self._macros, self._in_macro, self._in_loop, self._over = was
        return self._random.choice(
            [f"{{% include '{file}' %}}", f"{{% include ['{file}', 'none.txt'] %}}"]
        )

    def _import(self, depth: int) -> str:
        was = self._macros, self._in_macro, self._in_loop, self._over
        self._macros, self._in_macro, self._in_loop, self._over = [], False, False, 0
        file, name = f"module{len(self._files)}-{self._holes}.txt", self._named()
        label = self._variable()
        self._files[file] = (
            f"{{% set {label} = {self._hole()} %}}{self._defined(name, depth)}"
            f"{{{{ {self._hole()} }}}}"
        )
        self._macros, self._in_macro, self._in_loop, self._over = was
        alias = self._variable()
        return self._random.choice(
            [
                f"{{% import '{file}' as q with context %}}"
                f"{{{{ q.{self._called(name, depth)} }}}}{{{{ q.{label} }}}}{{{{ {label} }}}}",
                f"{{% import '{file}' as q with context %}}{{{{ q['{name}']() }}}}{{{{ q }}}}",
                f"{{% import '{file}' as q with context %}}{{{{ {label} }}}}{{{{ q['{label}'] }}}}",
                f"{{% from '{file}' import {name} with context %}}"
                f"{{{{ {self._called(name, depth)} }}}}",
                f"{{% from '{file}' import {name} as g, {label} as {alias} with context %}}"
                f"{{{{ {self._called('g', depth)} }}}}{{{{ {alias} }}}}",
            ]
        )

    def _block(self) -> str:
        self._blocks += 1
        name = f"block{self._blocks}"
        self._known.append(name)
        return f"{{% block {name} %}}{self._body(2)}{{% endblock %}}"

    def _local_block(self, depth: int) -> str:
        """A block where its names stand for others: without "scoped" it does not see them."""
        scoped = self._random.choice(["", " scoped"])
        self._blocks += 1
        name = f"block{self._blocks}"
        block = f"{{% block {name}{scoped} %}}{self._body(depth + 1)}{{% endblock %}}"
        if self._over:
            return ""
        around = f"{{% with {self._variable()} = {self._hole()} %}}{block}{{% endwith %}}"
        again = f"{{{{ self.{name}() }}}}" if self._random.random() < 0.3 else ""
        return self._random.choice([block, around]) + again

    def _text(self, depth: int) -> str:
        if depth > _DEEPEST or self._random.random() < 0.5:
            return self._leaf()
        one, other = self._text(depth + 1), self._text(depth + 1)
        return self._random.choice(
            [
                f"{one} ~ {other}",
                f"({one} or {other})",
                f"({one} and {other})",
                f"({one} if {self._flag()} else {other})",
                f"({one})|upper",
                f"({one})|lower|title|upper",
                f"({one})|default({other}, true)",
                f"({one})|default(default_value={other}, boolean=true)",
                f"('x' ~ {one})|replace('x', {other})",
                f"'%s %s'|format({one}, {other})",
                f"'{{}}{{}}'.format({one}, {other})",
                f"[{one}, {other}]|join",
                f"['x', 'y']|join({one})",
                f"order.items|join({one}, attribute='quantity')",
                f"order.items|map(attribute='nothing', default={one})|join",
                f"([{one}, {other}]|first)",
                f"([{one}, {other}]|list|last)",
                f"[{one}, {other}]|map('upper')|join(' ')",
                f"[{one}, {other}]|map('upper')|reverse|first",
                f"(['x', {one}]|batch(3, {other})|first|join)",
                f"(['x', {one}]|slice(3, {other})|map('join')|join)",
                f"{{'k': {one}}}.k",
                f"{{'k': {one}}}['k']",
                f"dict(k={one}).k",
                f"({one}, {other})[1]",
                f"[{one}, {other}][-1]",
                f"({one})[:40]",
                f"({one}).upper()",
                f"({one}).split()|first|default('')",
                f"cycler({one}, {other}).next()",
                f"namespace(z={one}).z",
            ]
        )

    def _leaf(self) -> str:
        person = self._random.choice(_PERSONS)
        kinds = [
            self._hole(),
            self._hole(),
            self._variable(),
            self._variable(),
            "ns.x",
            "ns.y",
            f"{person}.{self._hole('person')}",
            f"({self._person()}).{self._hole('person')}",
            f"[{person}]|map(attribute='{self._hole('person')}')|join",
            f"order.items|map(attribute='{self._hole('item')}')|join('-')",
        ]
        if self._in_loop:
            kinds += ["(loop.previtem|default(''))", "(loop['nextitem']|default(''))"]
        if self._in_macro:
            kinds += ["varargs|join"]
        if self._over:
            kinds += ["super()"] * 4
            kinds += ["super.super()"] * 4 * (self._over > 1)
        kinds += [f"{name}({self._variable()})" for name in self._macros]
        return self._random.choice(kinds)
