"""config.toml: what loads, and how a mistake is told: file, line, key and what would be right."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from relay.config.loader import Config, load
from relay.config.settings import Settings
from relay.errors import ConfigError, Problem
from relay.rules.model import Staff
from relay.rules.schedule import Digest, Window
from tests.conftest import ROOT

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
    assert config.staff == {
        "lab-desk": Staff({"sms": ("+447700900100",), "email": ("lab-desk@example.org",)})
    }
    assert [rule.name for rule in config.rules] == ["kit-shipped", "results-ready", "desk-retests"]
    rule = config.by_name.get("results-ready")
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
    ("rule", "written", "key", "said"),
    [
        (
            "kit-shipped",
            '"every 4h"',
            "digest",
            "only staff get digests, and this rule writes to the customer",
        ),
        (
            "results-ready",
            '"every 4h"',
            "digest",
            "only staff get digests, and this rule writes to the patient",
        ),
        ("desk-retests", '"hourly"', "digest", 'write it as in "daily 08:00", "weekly Mon'),
        ("desk-retests", '"every 4h"\nfallback = ["sms"]', "fallback", "a digest has no fallback"),
    ],
)
def test_a_digest_that_makes_no_sense_is_refused(
    write: Write, rule: str, written: str, key: str, said: str
) -> None:
    """Patients and customers get no digests; an unknown time and a fallback are told."""
    path = write(f"[rules.{rule}]", f"[rules.{rule}]\ndigest = {written}")
    (problem,) = (found for found in problems(path) if found.key == f"rules.{rule}.{key}")
    lines = path.read_text("utf-8").splitlines()
    assert problem.message.startswith(said)
    assert problem.line
    assert lines[problem.line - 1].startswith(f"{key} = ")


def test_a_digest_may_wait_and_be_called_off(write: Write) -> None:
    """`after` and `unless` go with a digest: what is late is told in one list."""
    more = 'digest = "daily 08:00"\nafter = "10d"\nunless = ["order.shipped"]'
    rule = loaded(write('send_window = "always"', more)).by_name.get("desk-retests")
    assert rule is not None
    assert (rule.digest, rule.after) == (Digest.parse("daily 08:00"), timedelta(days=10))


def test_a_channel_named_twice_is_used_once(write: Write) -> None:
    """Naming a channel twice does not tell anybody twice."""
    rule = loaded(write('["sms", "email"]', '["sms", "email", "sms"]')).by_name.get("kit-shipped")
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


@pytest.mark.parametrize(
    ("key", "value", "line", "said"),
    [
        ("after", "order.shiped", 37, 'Did you mean "order.shipped"?'),
        ("event", "order.shipped", 38, "order.shipped does not come after order.shipped."),
        ("event", "test_registration.complete", 38, ""),
        ("within", "30m", 39, 'an hour or more, as in "10d"'),
        ("to", "desk", 40, 'there is no staff group "desk". Did you mean "lab-desk"?'),
    ],
)
def test_an_expectation_is_checked(
    write: Write, key: str, value: str, line: int, said: str
) -> None:
    """[expect.…]: two steps in their order, a time that leaves room, a group that has addresses."""
    keys = {"after": "order.shipped", "event": "lab_results.complete", "within": "21d"}
    keys |= {"to": "lab-desk", key: value}
    table = "\n".join(f'{name} = "{text}"' for name, text in keys.items())
    path = write("[rules.desk-retests]", f"[expect.step]\n{table}\n[rules.desk-retests]")
    if not said:
        assert loaded(path).expect[0].event == value
        return
    (problem,) = problems(path)
    assert str(problem).startswith(f"{path}:{line}: expect.step.{key}: ")
    assert said in str(problem)


def test_the_example_expectations_load(tmp_path: Path) -> None:
    """What config.toml shows behind `#` is right as it stands."""
    text = (ROOT / "config.toml").read_text("utf-8")
    rules, _, shown = text.partition("# [expect.results]")
    path = tmp_path / "config.toml"
    path.write_text(rules + "[expect.results]" + shown.replace("\n# ", "\n"), "utf-8")
    assert [one.name for one in loaded(path).expect] == ["results", "registration"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("a" + ".a" * 900 + " = 1", "too many dots"),
        ("[rules" + ".a" * 900 + "]", "too many dots"),
        ('"a"' + " . 'b'" * 300 + " = 1", "too many dots"),
        ("x" * 40_000, "more than 2,000 characters"),
        ("[delivery" + " " * 40_000, "more than 2,000 characters"),
        ("a=" + "[" * 1_900, "too many brackets"),
        ("a=" + "{a=" * 600, "too many brackets"),
        ("a=[" + "\n[" * 1_900, "too many brackets"),
        ("# comment\n" * 30_000, "longer than 256 KiB"),
    ],
)
def test_what_would_take_long_to_read_is_refused(write: Write, line: str, told: str) -> None:
    """What no admin writes, and costs the square of its length, is refused before it is read."""
    (problem,) = problems(write("[delivery]", f"{line}\n[delivery]"))
    assert told in problem.message
    assert problem.line
