"""Lines of tables and keys, whatever stands between them."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config import toml_reader

# Values over several lines that look like tables, keys, brackets, quotes or comments.
VALUES = st.sampled_from(
    [
        '"plain"',
        '"# no comment [ { \\" \\\\"',
        "'\\'",
        "'''it's \"\"\" [x]'''",
        '"""\n[rules.fake]\nname = 1\n"""',
        "'''\n[fake]\nfake = [\n'''",
        '"""one \\""" [ two"""',
        '"""\nends in quotes""""',
        "'''ends in one''''",
        '"""\\\\"""',
        '[\n  "a", # [ not open\n  "]",\n]',
        '[["a"], ["b",\n "c"]]',
        "[\n  '''x\n[y]\n''',\n]",
        "{ a = 1, b = { c = '}' } }",
        "2024-01-01 # '''",
        '"\u2028\u0085 are no line ends"',
        "1",
    ]
)


@given(values=st.lists(VALUES, min_size=1, max_size=8), comments=st.booleans())
def test_each_key_has_the_line_it_stands_on(values: list[str], comments: bool) -> None:
    """Whatever the values above it hold, a table and a key are found where they begin."""
    lines: list[str] = []
    expected: dict[tuple[str, ...], int] = {}
    for number, value in enumerate(values):
        comment = ' # """ [it\'s' if comments else ""
        lines += ["# [no.table]", f"[t{number}]{comment}"]
        expected[(f"t{number}",)] = len(lines)
        expected[(f"t{number}", "key")] = len(lines) + 1
        lines += f"key = {value}{comment}".split("\n")
    text = "\n".join(lines)
    document = tomllib.loads(text)  # the text is TOML, or the test says nothing
    assert list(document) == [f"t{number}" for number in range(len(values))]
    assert dict(toml_reader.line_index(text)) == expected


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ("a = 1\nb = 2", ("b",), 2),
        ("[a]\n\nb = 2", ("a", "b"), 3),
        ('[rules."my rule"]\nto = 1', ("rules", "my rule", "to"), 2),
        ("[ rules . 'my rule' ] # x]\nto = 1", ("rules", "my rule"), 1),
        ('clinic."name" = 1', ("clinic", "name"), 1),
        ("[a]\nb.c = 1\nb.d = 2", ("a", "b", "d"), 3),
        ("[[a]]\nb = 1", ("a", "b"), 2),
        ("  indented = 1", ("indented",), 1),
    ],
)
def test_tables_and_keys_are_found_however_they_are_written(
    text: str, path: tuple[str, ...], line: int
) -> None:
    """Quoted, dotted, indented and commented names are found by their path."""
    assert toml_reader.line_index(text)[path] == line


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("rules", "kit", "to"), 6),
        (("rules", "kit", "when"), 5),  # not there: its table
        (("rules", "other"), 5),  # not there either: where rules begin
        (("rules",), 5),
        (("rulez",), 9),  # nothing but a part of a longer name
        (("clinic", "extra", "hours"), 3),  # inside an inline table
        (("dotted", "name"), 1),
        (("nowhere",), None),
    ],
)
def test_nearest_is_the_line_to_look_at(path: tuple[str, ...], line: Any) -> None:
    """What has no line of its own is shown at the table or key around it."""
    text = (
        "dotted.name.first = 1\n[clinic]\nextra = { hours = 9 }\n\n"
        "[rules.kit]\nto = 1\n[rules.next]\n\n[rulez.kit]"
    )
    assert toml_reader.nearest(toml_reader.line_index(text), path) == line
