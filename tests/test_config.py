"""config.toml: what loads, and how a mistake is told: file, line, key and what would be right."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from relay.calendar import Window
from relay.config import Config, load
from relay.errors import ConfigError, Problem
from relay.rule_keys import Staff
from relay.settings import Settings

# The contract's own example, as far as this version goes.
EXAMPLE = """\
#:schema ./config.schema.json
[clinic]                       # what templates may say about you
name = "Example Clinic"
phone = "020 7946 0000"
portal = "https://portal.example/results"
timezone = "Europe/London"

[delivery]
sms_from = "EXCLINIC"
email_from = "Example Clinic <results@example.org>"
send_window = "08:00-20:00"    # recipients' time
max_sms_segments = 2
daily_sms_limit = 2000         # a cap on cost
retention = "90d"              # then contact details and bodies are blanked
dedupe_window = "30d"

[staff.lab-desk]               # a group that rules can name
email = ["lab-desk@example.org"]
sms = ["+447700900100"]

[rules.kit-shipped]            # the rule's name is its identity
event = "order.shipped"
to = "customer"
channels = ["sms", "email"]
template = "kit_shipped"

[rules.results-ready]
event = "lab_results.complete"
to = "patient"
channels = ["sms"]
fallback = ["email"]
template = "results_ready"
when = "registration.status != 'cancelled'"
enabled = true

[rules.desk-retests]
event = "test_registration.retest"
to = "lab-desk"
channels = ["email"]
send_window = "always"
template = "desk_retest"
"""
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the example to a file, with one thing in it changed."""

    def make(old: str = "", new: str = "") -> Path:
        assert old in EXAMPLE
        path = tmp_path / "config.toml"
        path.write_text(EXAMPLE.replace(old, new, 1), "utf-8")
        return path

    return make


def problems(path: Path) -> list[Problem]:
    """Everything that is wrong with a file."""
    with pytest.raises(ConfigError) as caught:
        load(Settings(config=path))
    return list(caught.value.problems)


def loaded(path: Path) -> Config:
    """A file that is right."""
    return load(Settings(config=path))


def test_the_contracts_example_loads(write: Write) -> None:
    """What the documentation shows is taken, value for value."""
    config = loaded(write())
    assert config.clinic.name == "Example Clinic"
    assert config.clinic.timezone.key == "Europe/London"
    assert config.delivery.senders == {
        "sms": "EXCLINIC",
        "email": "Example Clinic <results@example.org>",
    }
    assert config.delivery.send_window == Window.parse("08:00-20:00")
    assert (config.delivery.max_sms_segments, config.delivery.daily_sms_limit) == (2, 2000)
    assert config.delivery.retention == timedelta(days=90)
    assert config.delivery.dedupe_window == timedelta(days=30)
    assert config.staff == {"lab-desk": Staff(("lab-desk@example.org",), ("+447700900100",))}
    assert [rule.name for rule in config.rules] == ["kit-shipped", "results-ready", "desk-retests"]
    rule = config.rule("results-ready")
    assert rule is not None
    assert (rule.channels, rule.fallback, rule.enabled) == (("sms",), ("email",), True)
    assert rule.when is not None
    assert rule.when.source == "registration.status != 'cancelled'"


def test_what_may_be_left_out_has_the_documented_value(tmp_path: Path) -> None:
    """A file with only the clinic's name and phone goes by the contract's values."""
    path = tmp_path / "config.toml"
    path.write_text('[clinic]\nname = "A"\nphone = "1"\n', "utf-8")
    config = loaded(path)
    assert config.clinic.timezone.key == "Europe/London"
    assert config.delivery.send_window == Window.parse("08:00-20:00")
    assert config.delivery.retention == timedelta(days=90)
    assert config.delivery.dedupe_window == timedelta(days=30)
    assert (config.delivery.max_sms_segments, config.delivery.daily_sms_limit) == (2, 2000)
    assert (config.rules, config.staff, config.delivery.allow) == ((), {}, frozenset())


@pytest.mark.parametrize(
    "line",
    [
        'digest = "daily 08:00"',
    ],
)
def test_a_key_of_a_later_version_is_refused(write: Write, line: str) -> None:
    """What this version cannot do is refused: ignored, it would send what nobody asked for."""
    path = write('event = "order.shipped"', f'{line}\nevent = "order.shipped"')
    (problem,) = problems(path)
    key = line.partition(" ")[0]
    assert str(problem) == (
        f"{path}:22: rules.kit-shipped.{key}: this version of Relay cannot do this yet. "
        "Remove the key."
    )


def test_a_channel_named_twice_is_used_once(write: Write) -> None:
    """Naming a channel twice does not tell anybody twice."""
    rule = loaded(write('["sms", "email"]', '["sms", "email", "sms"]')).rule("kit-shipped")
    assert rule is not None
    assert rule.channels == ("sms", "email")


def test_clinics_own_words_go_under_extra(write: Write) -> None:
    """[clinic.extra] takes any words for templates to use."""
    config = loaded(write("[delivery]", '[clinic.extra]\nhours = "9 to 5"\n[delivery]'))
    assert config.clinic.record().extra.hours == "9 to 5"


def test_allowed_addresses_are_written_in_one_way(write: Write) -> None:
    """The allow-list meets an address however it was written."""
    allow = 'allow = ["07700 900123", "You@Example.ORG"]\n[staff'
    config = loaded(write("[staff", allow))
    assert config.delivery.allow == {"+447700900123", "You@example.org"}
