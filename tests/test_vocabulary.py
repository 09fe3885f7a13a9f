"""The names that the editor of a template offers."""

from __future__ import annotations

import pytest

from relay.config.loader import load
from relay.config.settings import Settings
from relay.messages.templates import parse_template
from relay.messages.vocabulary import names_in
from relay.rules.expressions import unknown_names, vocabulary
from tests.conftest import ROOT

CONFIG = load(Settings(config=ROOT / "config.toml", templates=ROOT / "templates"))


@pytest.mark.parametrize("rule", CONFIG.rules, ids=lambda rule: rule.name)
def test_each_name_may_be_printed(rule: object) -> None:
    """A text of nothing but the names that are offered has no unknown one."""
    names = names_in(f"{rule.template}/sms.txt", CONFIG.rules)
    assert {"clinic", "recipient"} <= names.keys()
    text = " ".join(f"{{{{ {one} }}}}" for some in names.values() for one in some)
    if not rule.digest:
        assert [*unknown_names(parse_template("", text), vocabulary(rule.event))] == []


def test_the_names_are_the_files_own() -> None:
    """A layout has what every message has, alerts have their case; the clinic's own values are
    offered, and what nobody should print without need is not.
    """
    assert [*names_in("layout.html", CONFIG.rules)] == ["clinic", "recipient"]
    assert "case.title" in names_in("alerts/sms.txt", CONFIG.rules)["case"]
    assert "case.title" not in names_in("alerts/words/lab.txt", CONFIG.rules)["case"]
    assert "clinic.extra.hours" in names_in("layout.html", (), ["hours"])["clinic"]
    names = names_in("results_ready/cy/sms.txt", CONFIG.rules)
    assert "registration.short_code" in names["registration"]
    assert "registration.date_of_birth" not in names["registration"]
    assert [*names_in("retest_digest/email.txt", CONFIG.rules)] == ["clinic", "recipient"]
