"""Rules taken out of a config.toml as an admin would: with their comments, and no others."""

from __future__ import annotations

import difflib

import pytest

from relay.config.toml_writer import ENTANGLED, rules_in, without_rule
from tests.conftest import ROOT

TWO = """# Rules, each for one event.

# The kit is on its way.
[rules.shipped] # as the lab says
event = "order.shipped"
when = '''
# [rules.no]
'''
# after = "2d"

# Results, which
# Dr Lee looks at.
[rules.results]
event = "lab_results.complete"
channels = [
  "sms", # first
]

# [costs]
# sms = 0.04
"""


@pytest.mark.parametrize("name", rules_in((ROOT / "config.toml").read_text("utf-8")))
def test_a_rule_leaves_with_its_own_lines_only(name: str) -> None:
    """Each rule that Relay comes with: its lines and one blank go, and nothing comes."""
    text = (ROOT / "config.toml").read_text("utf-8")
    lines = [*difflib.ndiff(text.splitlines(), without_rule(text, name).splitlines())]
    gone = [line[2:] for line in lines if line[0] in "+-"]
    head, *keys = filter(None, gone)
    assert head.startswith(f"[rules.{name}]")
    assert {key.split(" = ")[0].strip() for key in keys} == rules_in(text)[name].keys()
    assert len(gone) == len(keys) + 2


def test_comments_go_with_what_they_are_about() -> None:
    """The comment right above a rule and those in it go; what is above the next rule, what stands
    by itself and what comes last stay.
    """
    lines = TWO.splitlines(keepends=True)
    assert without_rule(TWO, "shipped") == "".join(lines[:2] + lines[10:])
    assert without_rule(TWO, "results") == "".join(lines[:10] + lines[18:])
    neither = without_rule(without_rule(TWO, "shipped"), "results")
    assert neither == "".join(lines[:2] + lines[18:])


@pytest.mark.parametrize(
    "text",
    [
        "rules = { a = { to = 'x' }, b = { to = 'y' } }",
        "[rules.a]\nto = 'x'\n[rules.b]\nto = 'y'\n[rules.a.more]\nz = 1",
    ],
)
def test_what_is_no_part_of_its_own_is_left(text: str) -> None:
    """Where other lines would have to change nothing does, and it is said."""
    with pytest.raises(ValueError, match=ENTANGLED[:20]):
        without_rule(text, "a")
