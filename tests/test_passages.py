"""A template's words by themselves: nothing is lost, and an edit changes its passage alone."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from jinja2 import TemplateSyntaxError

from relay.config.plain_english import frames_in_words
from relay.messages.passages import (
    BRACES,
    COMMAND,
    EMPTY,
    Part,
    fault,
    join,
    names,
    split,
)
from tests.conftest import ROOT
from tests.random_templates import planted

FOLDER = ROOT / "templates"
SHIPPED = {str(path.relative_to(FOLDER)): path for path in FOLDER.rglob("*.*")}
BITS = (
    *("{{ clinic.name }}", "{{- a['}}'] -}}", "{% if a.b %}", "{%- elif c -%}\n", "{% else %}"),
    *("{% endif %}", "{% for x in xs %}", "{% endfor %}", "{% block next required %}", "{# no #}"),
    *("{% endblock %}", "{% raw %}{{ x {% y {% endraw %}", "\r\n", "\n", "  ", "\t", "\xa0", "\r"),
    *(
        "Words",
        "two words",
        "é",
        "5",
        ".",
        '<p class="{{ a }}">',
        "</p>",
        "<br>",
        "&amp;",
        "&nbsp;",
    ),
    *("<", "3 > 2", "<!-- note -->", "<!-- ", "<style>p { a: b }</style>", "{", "}", "%}", "<a '"),
)
NEW = "New & {{ clinic.name }}: 3 < 5 “words”"


def sources() -> Iterator[tuple[str, str]]:
    """Every shipped template, also with Windows' line ends, and random ones that Jinja can read."""
    for name, path in SHIPPED.items():
        text = path.read_bytes().decode("utf-8")
        yield from ((name, text), (name, text.replace("\n", "\r\n")))
    for seed in range(60):
        yield from planted(seed).items()
    random = Random(4)  # noqa: S311
    for number in range(3_000):
        kind = ("txt", "html")[number % 2]
        yield f"{number}.{kind}", "".join(random.choices(BITS, k=random.randrange(12)))


def readable() -> Iterator[tuple[str, bool, list[Part]]]:
    """A text, whether it is HTML, and its parts."""
    for name, text in sources():
        is_html = name.endswith(".html")
        try:
            yield text, is_html, split(text, is_html=is_html)
        except TemplateSyntaxError:
            assert name not in SHIPPED


def test_nothing_is_lost() -> None:
    """What is not edited is the same to the byte, whatever a file holds."""
    many = 0
    for text, is_html, parts in readable():
        many += 1
        assert "".join(part.source for part in parts) == text
        assert join(parts, {}, is_html=is_html) == text
        shown = {n: f"\n{part.words} " for n, part in enumerate(parts) if part.words}
        assert join(parts, shown, is_html=is_html) == text  # blanks around it are no edit
    assert many > 1_500


def test_an_edit_changes_its_passage_alone() -> None:
    """Put back, the new words are the passage; all others, and what they depend on, stay."""
    for text, is_html, parts in readable():
        for number, part in enumerate(parts):
            if not part.words:
                continue
            edited = join(parts, {number: NEW}, is_html=is_html)
            before, after = (
                "".join(one.source for one in some)
                for some in (parts[:number], parts[number + 1 :])
            )
            assert edited.startswith(before), text
            assert edited.endswith(after), text
            passages = [(one.words, one.frames) for one in parts if one.words]
            passages[passages.index((part.words, part.frames))] = (NEW, part.frames)
            again = split(edited, is_html=is_html)
            assert sorted((one.words, one.frames) for one in again if one.words) == sorted(passages)


def test_what_is_no_words_is_not_shown() -> None:
    """Commands, notes, tags, their attributes and styles; a name alone has no words either."""
    parts = split(
        '{# a note #}<style>p { color: red }</style><p title="Look">{% set x = "y" %}\n'
        "  The patient&rsquo;s kit, {{ order.id }}. <b>{{ clinic.name }}</b> &nbsp; . </p>",
        is_html=True,
    )
    assert [part.words for part in parts if part.words] == [
        "The patient\u2019s kit, {{ order.id }}."
    ]


def test_words_are_escaped_where_the_file_is_html() -> None:
    """And nowhere else; a name stays as it is."""
    for is_html, made in ((True, "<p>a &lt; b &amp; c {{ x['&'] }}</p>"), (False, "a < b & c")):
        parts = split("<p>Old</p>" if is_html else "Old", is_html=is_html)
        [number] = [number for number, part in enumerate(parts) if part.words]
        words = "a < b & c {{ x['&'] }}" if is_html else "a < b & c"
        assert join(parts, {number: words}, is_html=is_html) == made
    [part] = split("Fish &amp; {{ x['&amp;'] }}", is_html=True)[1:2]
    assert part.words == "Fish & {{ x['&amp;'] }}"


def test_line_ends_are_the_files_own() -> None:
    """A browser sends its own: what it writes into a file is what the file has."""
    parts = split("One\r\ntwo\r\n", is_html=False)
    assert join(parts, {1: "One\nthree"}, is_html=False) == "One\r\nthree\r\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("Call {{ clinic.phone }}, {{ recipient.first_name or 'you' }}.", ""),
        ("See <https://clinic.example> if 3 < 5 & 7 > 6.", ""),
        ("Call {{clinic.phone}} about {{ order.id|upper }}.", ""),
        (" \n", EMPTY),
        ("{% if a %}b{% endif %}", COMMAND),
        ("a {# b #}", COMMAND),
        ("{% raw %}a{% endraw %}", COMMAND),
        ("Call {clinic.phone}.", BRACES),
        ("Call {{ clinic.phone }.", BRACES),
        ("Call {{ clinic.phone", BRACES),
        ("Call {{ clinic.phone }} {", BRACES),
        ("{{ 'a", BRACES),
        ("A <b>kit</b>", "<b> is a tag"),
        ("A kit<br/>", "<br/> is a tag"),
        ("<a href='{{ clinic.phone }}'>", "<a href='{{ clinic.phone }}'> is a tag"),
        ("Call {{ clinic.fone }}.", 'no {{ clinic.fone }} here. Did you mean "clinic.phone"?'),
        ("{{ clinic.phone.__class__ }}", "no {{ clinic.phone.__class__ }} here"),
        ("{{ clinic.phone or order.id }}", "no {{ clinic.phone or order.id }} here"),
        ("{{ " + "(" * 5_000 + ")" * 5_000 + " }}", "There is no {{ (((("),
    ],
)
def test_what_is_refused_says_what_to_write(words: str, said: str) -> None:
    """A passage takes words, and names that the file may print; of anything else it is said why."""
    known = {"clinic.phone", "recipient.first_name", *names("{{ order.id | upper }}")}
    found = fault(words, known)
    assert said in found if said else not found


def test_it_is_said_what_a_passage_depends_on() -> None:
    """In plain English, from the outside inwards; as it is written where that says it no better."""
    text = (
        "{% block body %}{% if clinic.portal %}A{% elif order.carrier == 'royal_mail' %}B"
        "{% else %}C{% endif %}{% for one in items %}{% if not clinic.extra.hours %}D{% endif %}"
        "{% else %}E{% endfor %}{% if a b %}F{% elif %}G{% endif %}{% endblock %}H{% endif %}I"
        "{% else %}{% if " + "(" * 9_000 + ")" * 9_000 + " %}J"
    )
    portal, carrier = "the clinic's portal is given", "the order's carrier is “royal_mail”"
    parts = [part for part in split(text, is_html=False) if part.words]
    said = {part.words: [*frames_in_words(part.frames)] for part in parts}
    assert said.pop("J")[0].startswith("Only if `(((")
    assert said == {
        "A": [f"Only if {portal}."],
        "B": [f"Only if {carrier}, and not if {portal}."],
        "C": [f"Not if {portal} or if {carrier}."],
        "D": ["Once for each `one` of `items`.", "Only if `clinic.extra.hours` is not given."],
        "E": ["If `items` is empty."],
        "F": ["Only if `a b`."],
        "G": ["Not if `a b`."],
        "H": [],
        "I": [],
    }
