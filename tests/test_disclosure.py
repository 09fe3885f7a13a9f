"""What an SMS or a subject could show: found in the template's syntax tree, with file and line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from relay.errors import Problem, RenderError
from relay.messages import disclosure
from relay.messages.templates import Templates
from tests import random_templates
from tests.conftest import ROOT
from tests.random_templates import MARKS
from tests.test_rules import rule

FULL, TEST, BORN, WENT = "a full name", "what is tested", "a date of birth", "how a test went"
NAME = "patient.first_name ~ ' ' ~ patient.last_name"
SKUS = "registration.product_skus"


@pytest.fixture
def words(tmp_path: Path) -> Templates:
    """A folder with one template, `results`, and some files that it may share."""
    for name, text in {
        "results/sms.txt": "Hello",
        "results/subject.txt": "Hello",
        "layout.txt": "{% block who %}{{ patient.last_name }}{% endblock %}"
        "{% block body %}{% endblock %}",
        "who.txt": "Dear\n{{ patient.last_name }}",
        "parts.txt": "{% macro full(one, other='') %}\n{{ one }} {{ other }}{% endmacro %}"
        "{% macro whole(person) %}{{ full(person.first_name, person.last_name) }}{% endmacro %}"
        "{% macro deep(n) %}{{ deep(n) }}{{ n }}{{ deep(n) }}{% endmacro %}"
        "{% set label = 'Kit' %}",
        "plain.txt": "{{ clinic.name }}",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    return Templates(tmp_path)


def found(words: Templates, text: str, file: str = "sms.txt", **keys: object) -> list[Problem]:
    """What is said of a template with this text."""
    (words.folder / "results" / file).write_text(text, "utf-8")
    words._sources.clear()  # Relay reads an edited file by other Templates
    return list(disclosure.problems(words, rule(**{"channels": ("sms", "email"), **keys})))


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("{{ registration.product_skus }}", 1, TEST),
        ("Kit\n{{ registration['product_skus'][0] }}", 2, TEST),
        ("{% for item in order.items %}\n{{ item.product_sku }}{% endfor %}", 2, TEST),
        ("{{ order.items[0].product_id }}", 1, TEST),
        ("{{ order.items|map(attribute='product_sku')|join(', ') }}", 1, TEST),
        ("{{ (order.items|first).product_sku|lower }}", 1, TEST),
        ("{% for row in order.test_registrations %}{{ row.product[0].id }}{% endfor %}", 1, TEST),
        ("{% set tests = registration.product_skus %}\n\n{{ tests|join }}", 3, TEST),
        ("{% for a, (b, c) in [(1, (2, order.items))] %}{{ c[0].product_sku }}{% endfor %}",
         1, TEST),
        ("{% set ns = namespace(s='') %}{% for i in order.items %}"
         "{% set ns.s = ns.s ~ i.product_sku %}{% endfor %}{{ ns.s }}", 1, TEST),
        ("{{ '%s'|format(registration.product_skus) }}", 1, TEST),
        ("{{ 'x{}'.format(registration.product_skus) }}", 1, TEST),
        ("{{ order.items[0][event.url] }}", 1, TEST),  # whichever field that is
        ("Hello\n{% if 'SKU7' in registration.product_skus %}x{% endif %}", 2, TEST),
        ("{{ 'a' if order.items[0].product_sku == 'b' else 'c' }}", 1, TEST),
        ("{{ registration.date_of_birth }}", 1, BORN),
        ("{% with d = registration.date_of_birth %}{{ d[:4] }}{% endwith %}", 1, BORN),
        ("{{ registration.status }}", 1, WENT),
        ("{{ registration.download_url }}", 1, WENT),
        (f"Dear {{{{ {NAME} }}}}", 1, FULL),
        ("{{ recipient.first_name }}\n{{ recipient.last_name }}", 2, FULL),
        ("{{ customer.first_name }}\n{{ registration.last_name }}", 2, FULL),
        ("{{ order.customer.last_name }}, {{ order.customer.first_name }}", 1, FULL),
        (f"{{% set n = {NAME} %}}{{{{ n|title|truncate(20) }}}}", 1, FULL),
        ("{% set n %}{{ patient.first_name }} {{ patient.last_name }}{% endset %}{{ n }}", 1, FULL),
        ("{% if order %}{% set n = patient.last_name %}{% endif %}"
         "{{ patient.first_name }} {{ n }}", 1, FULL),
        ("{% for n in [patient.first_name, patient.last_name] %}{{ n }}{% endfor %}", 1, FULL),
        ("{% for n in order.items %}{{ loop.cycle(patient.first_name, patient.last_name) }}"
         "{% endfor %}", 1, FULL),
        ("{% set p = patient or customer %}{{ p.first_name }} {{ p.last_name }}", 1, FULL),
        ("{% if false %}{{ patient.first_name }} {{ patient.last_name }}{% endif %}", 1, FULL),
        ("{% filter upper %}{{ patient.first_name }} {{ patient.last_name }}{% endfilter %}",
         1, FULL),
    ],
)  # fmt: skip
def test_what_is_private_is_an_error_with_its_line(
    words: Templates, text: str, line: int, said: str
) -> None:
    """Whatever way it takes to the words, what is private is told with the line that shows it."""
    (problem,) = found(words, text)
    assert not problem.warning
    assert (problem.where, problem.line) == (str(words.folder / "results/sms.txt"), line)
    assert said in problem.message
    assert "discreet = false in [rules.results]" in problem.remedy


@pytest.mark.parametrize(
    ("text", "file", "line"),
    [
        ("{{ patient.first_name }} {% include 'who.txt' %}", "who.txt", 2),
        ("{% extends 'layout.txt' %}{% block body %}{{ patient.first_name }}{% endblock %}",
         "layout.txt", 1),
        ("{% extends 'layout.txt' %}{% set n = patient.last_name %}"
         "{% block who %}\n{{ n }}{{ patient.first_name }}{% endblock %}", "results/sms.txt", 2),
        ("{% extends 'layout.txt' %}{% block who %}\n{{ super() }}{% endblock %}"
         "{% block body %}{{ patient.first_name }}{% endblock %}", "layout.txt", 1),
        ("{% block a %}{{ patient.first_name }}\n{{ patient.last_name }}{% endblock %}",
         "results/sms.txt", 2),
        ("{% from 'parts.txt' import full as f %}"
         "{{ f(patient.first_name, other=patient.last_name) }}",
         "parts.txt", 2),
        ("{% import 'parts.txt' as parts %}\n{{ parts.whole(patient) }}", "parts.txt", 2),
        ("{% import 'parts.txt' as parts %}"
         "{{ parts.deep(patient.first_name ~ patient.last_name) }}",
         "parts.txt", 2),
        ("{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}\n{{ patient.first_name }} "
         "{{ patient.last_name }}{% endcall %}", "results/sms.txt", 2),
    ],
)  # fmt: skip
def test_shared_files_are_followed(words: Templates, text: str, file: str, line: int) -> None:
    """What an include, a layout or a macro shows is told in the file in which it stands."""
    (problem,) = found(words, text)
    assert (problem.where, problem.line) == (str(words.folder / file), line)
    assert FULL in problem.message


@pytest.mark.parametrize(
    "text",
    [
        "Hello {{ patient.first_name or 'there' }}",
        "{{ patient.last_name }}",
        "{{ patient.first_name or patient.last_name or 'you' }}",
        "{% if order %}{{ patient.first_name }}{% elif event %}{{ patient.last_name }}{% endif %}",
        "{% set n = patient.last_name %}{% set n = patient.first_name %}{{ n }} {{ n }}",
        "{{ patient.first_name }} {{ patient.last_name[0] }}. {{ patient.last_name|first }}",
        "{% set n = patient.last_name %}{{ patient.first_name }}",  # and never shown
        "{% if patient.first_name and patient.last_name %}Hello{% endif %}",
        "{{ (patient or customer).first_name }}",
        "{{ order.items|length }} {{ order.items|map(attribute='quantity')|join(',') }}",
        "{% if order.items|length > 1 %}kits{% else %}kit{% endif %}",
        "{% for item in order.items %}{{ item.quantity }}{{ loop.index }}{% endfor %}",
        "{% if registration.product_skus %}A kit{% endif %}",
        "{% if registration.status != 'cancelled' %}{{ registration.trf_code }}{% endif %}",
        "{{ registration.date_of_birth is none }}{{ not registration.date_of_birth }}",
        "{{ order.test_registrations[0].trf_code }} {{ order.id }} {{ clinic.extra.hours }}",
        "{% extends 'layout.txt' %}{{ patient.last_name }}"
        "{% block who %}{{ patient.first_name }}{% endblock %}",
        "{% import 'parts.txt' as parts %}{{ parts.full(patient.first_name) }}{{ parts.label }}",
        "{% include ['plain.txt', 'layout.txt'] ignore missing %}",
        "{# {{ registration.product_skus }} #}{{ event.sample_received_at.strftime('%d') }}",
    ],
)
def test_what_is_not_private_is_let_be(words: Templates, text: str) -> None:
    """A first name, an initial, a count, a name or another: no rule has to say that it may."""
    assert found(words, text) == []


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"channels": ("sms",)}, []),
        ({"channels": ("email",)}, ["subject.txt"]),
        ({"channels": ("sms",), "fallback": ("email",)}, ["subject.txt"]),
        ({"to": "desk", "channels": ("email",)}, ["subject.txt"]),
        ({"discreet": False}, []),
    ],
)
def test_only_what_a_locked_screen_shows_counts(
    words: Templates, keys: dict[str, object], told: list[str]
) -> None:
    """Subjects count wherever email may be used, staff's too, unless the rule lets it be."""
    problems = found(words, f"{{{{ {SKUS} }}}} HIV", "subject.txt", **keys)
    names = [Path(problem.where).name for problem in problems if not problem.warning]
    assert names == told


def test_each_secret_is_told_once(words: Templates) -> None:
    """A text that shows all is told all, each once, where it first shows."""
    shown = (SKUS, "registration.date_of_birth", NAME, SKUS, NAME)
    problems = found(words, "\n".join(f"{{{{ {one} }}}}" for one in shown))
    assert [(problem.line, problem.message.split("show ")[1]) for problem in problems] == [
        (1, "what is tested."),
        (2, "a date of birth."),
        (3, "a full name: a first name and a last name together."),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Hello\nyour HIV test", [("HIV", 2)]),
        ("{% include 'who.txt' %}Pregnancy, positive", [("Pregnancy", 1), ("positive", 1)]),
        ("a positively good shiver from Chivers", []),
    ],
)
def test_a_clinical_word_is_a_warning(
    words: Templates, text: str, said: list[tuple[str, int]]
) -> None:
    """A word of the template's own that tells what is tested is pointed out, no more."""
    problems = found(words, text, "subject.txt")
    assert all(problem.warning for problem in problems)
    assert [(problem.message, problem.line) for problem in problems] == [
        (f'it says "{word}".', line) for word, line in said
    ]


PAGE = ROOT / "docs" / "disclosure.md"
EXAMPLE = """\
Hello {% if order %}{{ patient.first_name }}{% else %}{{ patient.last_name }}{% endif %},
your kit {{ registration.product_skus|length }} is with {{ customer.last_name|upper }}."""
STEPS = [
    ("Hello ", "plain words: one way, with nothing in it"),
    ("{{ patient.first_name }}", "a field is its detail, or empty"),
    ("{{ patient.last_name }}", "likewise"),
    (EXAMPLE.partition(",")[0].removeprefix("Hello "), "the branches of an `if`: *either*"),
    ("{{ registration.product_skus|length }}", "a number of things shows none of them"),
    ("{{ customer.last_name|upper }}", "a filter that it does not know: *all* that it is given"),
    (EXAMPLE, "one after the other: *together*"),
]


def test_the_page_is_true(words: Templates) -> None:
    """docs/disclosure.md shows a worked example with the very output of the code."""
    rows = ""
    for text, why in STEPS:
        found(words, text)
        ways = disclosure.Disclosure(words.tree, "results/sms.txt").ways
        said = "; or ".join(sorted(" and ".join(sorted(way)) or "nothing" for way in ways))
        shown = "the whole text" if text == EXAMPLE else f"`{text}`".replace("|", "\\|")
        rows += f"| {shown} | {said} | {why} |\n"
    (problem,) = found(words, EXAMPLE)
    example = (
        f"This is `results/sms.txt`:\n\n```\n{EXAMPLE}\n```\n\n"
        f"| Part | Its ways | Why |\n|---|---|---|\n{rows}\n"
        "In one of the ways of the whole a first and a last name are together. So `check` says:\n\n"
        f"```\n{str(problem).replace(f'{words.folder}/', 'templates/')}\n```\n\n"
    )
    page = PAGE.read_text("utf-8")
    before, _, rest = page.partition(" -->\n")
    after = rest[rest.index("## What it does not see") :]
    if os.environ.get("RELAY_UPDATE_EXPECTED") == "1":
        PAGE.write_text(f"{before} -->\n{example}{after}", "utf-8")
    assert PAGE.read_text("utf-8") == f"{before} -->\n{example}{after}"


SECRETS = {
    disclosure.TEST: TEST,
    disclosure.RESULT: WENT,
    disclosure.BIRTHDAY: BORN,
    disclosure.LAST: FULL,
}


@pytest.mark.parametrize(
    "seeds", [range(80), pytest.param(range(80, 3_000), marks=pytest.mark.long)], ids=len
)
def test_a_planted_secret_is_found(tmp_path: Path, seeds: range) -> None:
    """A secret that a random template shows in any case is reported, whatever way it takes."""
    leaking = 0
    for seed in seeds:
        files = random_templates.planted(seed)
        for name, text in files.items():
            path = tmp_path / str(seed) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        words = Templates(tmp_path / str(seed))
        shown = shown_in_any_case(words)
        if shown:
            leaking += 1
            messages = " ".join(one.message for one in disclosure.problems(words, rule()))
            missed = [detail for detail in shown if SECRETS[detail] not in messages]
            assert missed == [], f"seed {seed}: {files}"
    assert leaking > len(seeds) / 25  # or it proves little


def shown_in_any_case(words: Templates) -> set[str]:
    """The secrets that the template's words show, whichever way its conditions go."""
    shown: set[str] = set()
    for names in random_templates.every_case():
        try:
            text = words.render("results", "sms", "", names).text.upper()
        except RenderError:  # nothing would be sent
            continue
        there = {detail for detail, mark in MARKS.items() if mark in text}
        if {disclosure.FIRST, disclosure.LAST} <= there:
            shown.add(disclosure.LAST)
        shown |= there - {disclosure.FIRST, disclosure.LAST}
    return shown


@pytest.mark.parametrize(
    "folder", sorted(path.parent.name for path in ROOT.glob("templates/*/sms.txt"))
)
def test_the_shipped_templates_need_no_exception(folder: str) -> None:
    """It is not so careful that plain templates have to be excused."""
    shipped = Templates(ROOT / "templates")
    by = rule(template=folder, channels=("sms", "email"))
    assert [str(problem) for problem in disclosure.problems(shipped, by)] == []


# Found by `test_a_planted_secret_is_found`, or by reading with it in mind.
@pytest.mark.parametrize(
    "text",
    [
        "{{ patient.first_name }}{{ ''|default(default_value=patient.last_name, boolean=true) }}",
        "{{ patient.first_name }}{{ ['a', 'b']|batch(3, patient.last_name)|first|join }}",
        "{{ patient.first_name }}{{ order.items|join(patient.last_name, attribute='quantity') }}",
        "{{ patient.first_name }}"
        "{{ order.items|map(attribute='x', default=patient.last_name)|join }}",
        "{{ patient.first_name }}"
        "{% filter replace('x', patient.last_name) %}x{% endfilter %}",
        "{{ patient.first_name }}"
        "{% set a | replace('x', patient.last_name) %}x{% endset %}{{ a }}",
        "{% for n in [patient.first_name, patient.last_name] %}{% if loop.last %}{{ n }} "
        "{{ loop.previtem }}{% endif %}{% endfor %}",
        "{% for p in [patient, 1] %}{% if loop.last %}{{ loop.previtem.first_name }}"
        "{{ loop['previtem'].last_name }}{% endif %}{% endfor %}",
        "{% set ns = namespace() %}{% set ns.p = patient %}"
        "{{ ns.p.first_name }}{{ ns.p.last_name }}",
        "{% macro put(box) %}{% set box.n = patient.last_name %}{% endmacro %}"
        "{% set ns = namespace(n='') %}{{ put(ns) }}{{ ns.n }}{{ patient.first_name }}",
        "{% set a = patient.last_name %}{% with a = '', b = a %}{{ b }}{% endwith %}"
        "{{ patient.first_name }}",
        "{% set a = patient.last_name %}{% macro m() %}{{ a }}{% endmacro %}"
        "{% with a = '' %}{{ m() }}{% endwith %}{{ patient.first_name }}",
        "{% set a = patient.last_name %}{% with a = '' %}{% block b %}{{ a }}{% endblock %}"
        "{% endwith %}{{ patient.first_name }}",
        "{% macro m(a, b=a) %}{{ b }}{% endmacro %}{{ m(patient.last_name) }}"
        "{{ patient.first_name }}",
        "{% macro m(a, b) %}{{ a }}{{ b }}{% endmacro %}"
        "{{ m(*[patient.first_name, patient.last_name]) }}",
        "{% macro m() %}{{ patient.last_name }}{% endmacro %}{% set f = m %}{{ f() }}"
        "{{ patient.first_name }}",
        "{% macro upper() %}{% endmacro %}{{ patient.first_name.upper() }}"
        "{{ patient.last_name.upper() }}",
        "{% macro m() %}{{ caller() }}{{ caller() }}{% endmacro %}{% set ns = namespace(n=0) %}"
        "{% call m() %}{% if ns.n %}{{ patient.first_name }}{% else %}{% set ns.n = 1 %}"
        "{{ patient.last_name }}{% endif %}{% endcall %}",
        "{% set label = patient.last_name %}{% import 'parts.txt' as parts %}{{ label }}"
        "{{ patient.first_name }}",
        "{% import 'who.txt' as who with context %}{{ who }}{{ patient.first_name }}",
    ],
)  # fmt: skip
def test_a_way_that_was_once_missed(words: Templates, text: str) -> None:
    """Each shows a full name when rendered, by a way that an earlier version did not follow."""
    problems = found(words, text)
    assert disclosure.LAST in shown_in_any_case(words)
    assert FULL in " ".join(problem.message for problem in problems)


def test_a_path_through_a_list_is_followed(words: Templates) -> None:
    """`map(attribute='product.0.sku')` leads to what is tested."""
    text = "{{ order.test_registrations|map(attribute='product.0.sku')|join }}"
    (problem,) = found(words, text)
    assert TEST in problem.message


def test_super_of_super_is_followed(words: Templates) -> None:
    """`super.super()` is the block two layouts up."""
    (words.folder / "middle.txt").write_text(
        "{% extends 'layout.txt' %}{% block who %}{% endblock %}", "utf-8"
    )
    text = (
        "{% extends 'middle.txt' %}"
        "{% block who %}{{ super.super() }}{{ patient.first_name }}{% endblock %}"
    )
    (problem,) = found(words, text)
    assert FULL in problem.message
