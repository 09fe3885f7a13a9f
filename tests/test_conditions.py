"""Conditions are judged by what the lab can say, where an admin writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.config import check
from relay.config.loader import load
from relay.config.settings import Settings
from relay.errors import ConfigError
from tests.conftest import ROOT

RULE = """
[rules.x]
event = "{event}"
to = "{to}"
channels = ["email"]
template = "{template}"
when = "{when}"
"""
NEVER = '\n[never.n]\n{about}\nwhen = "{when}"\nbecause = "So it is."\n'


def judged(tmp_path: Path, more: str) -> list[str]:
    """What `check` says of the shipped config with one more rule."""
    file = tmp_path / "config.toml"
    file.write_text((ROOT / "config.toml").read_text("utf-8") + more, "utf-8")
    settings = Settings(config=file, templates=ROOT / "templates", development=True)
    try:
        found = check.problems(load(settings))
    except ConfigError as error:
        found = list(error.problems)
    return [
        f"{'warning' if one.warning else 'error'}: {one.key}: {one.message} {one.remedy}"
        for one in found
    ]


def of_results(when: str, template: str = "results_ready") -> str:
    """A rule about results with a condition."""
    return RULE.format(event="lab_results.complete", to="patient", template=template, when=when)


@pytest.mark.parametrize(
    ("when", "level", "said"),
    [
        ("registration.status == 'complete'", "error", "the rule never applies"),
        ("registration.status == 'complete'", "warning", '"complete" is not a word'),
        ("false", "error", "the rule never applies"),
        ("registration.status in ['sucess']", "warning", 'Did you mean "success"?'),
        (
            "registration.status == 'fail' and registration.status == 'closed'",
            "error",
            "never applies",
        ),
        ("registration.results_ready and not registration.results_ready", "error", "never applies"),
    ],
)
def test_what_can_never_hold_is_an_error(when: str, level: str, said: str, tmp_path: Path) -> None:
    """Nobody would ever be told: `check` says so, with the words that there are."""
    found = [
        one for one in judged(tmp_path, of_results(when)) if one.startswith(f"{level}: rules.x")
    ]
    assert [one for one in found if said in one], found


def test_a_word_among_records_is_an_error(tmp_path: Path) -> None:
    """`'MENS' in order.items` asks a list of records for a word: what to write is said."""
    rule = RULE.format(
        event="order.shipped", to="customer", template="kit_shipped", when="'MENS' in order.items"
    )
    assert [one for one in judged(tmp_path, rule) if "list of records" in one and "|map(" in one]


@pytest.mark.parametrize(
    "when",
    [
        "registration.status != 'cancelled'",
        "registration.status == 'success' or registration.trf_code == 'x'",
        "'LML-THY-ADV' in registration.product_skus",
        "patient.first_name == 'complete'",
        "registration.results_ready",
        "registration",
    ],
)
def test_what_may_hold_is_not_complained_of(when: str, tmp_path: Path) -> None:
    """What nobody can know beforehand is left alone."""
    assert [one for one in judged(tmp_path, of_results(when)) if "rules.x" in one] == []


@pytest.mark.parametrize(
    ("about", "when", "said"),
    [
        ('template = "results_redy"', "true", 'no rule has the template "results_redy"'),
        ('rule = "results"', "true", 'no rule has the rule "results"'),
        ("", "true", "write either template or rule"),
        ('rule = "x"\ntemplate = "y"', "true", "write either template or rule"),
        ('template = "results_ready"', "registration.statuss == 'x'", 'Did you mean "status"?'),
        ('template = "kit_shipped"', "true", "forbidden by [never.n]"),
    ],
)
def test_a_guard_rail_that_is_wrong_is_said(
    about: str, when: str, said: str, tmp_path: Path
) -> None:
    """A [never.…] about nothing, with a wrong name, or that forbids all that a rule could send."""
    assert [one for one in judged(tmp_path, NEVER.format(about=about, when=when)) if said in one]
