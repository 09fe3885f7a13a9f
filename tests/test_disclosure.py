"""What an SMS or a subject could show: found in the template's syntax tree, with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.errors import Problem
from relay.messages import disclosure
from relay.messages.templates import Templates
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
