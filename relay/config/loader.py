"""config.toml and the environment → one frozen Config. Errors name file, line, key and remedy.

Marshmallow's messages are put into an admin's words.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

from marshmallow import Schema, ValidationError

from relay.config import odd_characters
from relay.config.edition_files import Held
from relay.config.schema import (
    SENDER,
    Clinic,
    ClinicSchema,
    Costs,
    CostsSchema,
    Delivery,
    DeliverySchema,
    Desk,
    DeskSchema,
    ExpectSchema,
    NeverSchema,
    RuleSchema,
    StaffSchema,
)
from relay.config.settings import AS_SENT, Settings
from relay.config.toml_reader import KeyPath, Reading, nearest, read
from relay.errors import ConfigError, Problem, did_you_mean
from relay.lab.facts import PERSONS
from relay.rules.addresses import AT_HOME
from relay.rules.channels import CHANNELS
from relay.rules.expressions import condition
from relay.rules.model import ALERT_PREFIX, Expectation, Never, Policy, Rule, Staff
from relay.rules.schedule import ALWAYS, Holidays

PLAIN_WORDS = {  # marshmallow's → an admin's, and the remedy
    "Not a valid string.": ("must be text.", 'Put it in quotes, as in "text".'),
    "Not a valid list.": ("must be a list.", 'Put it in square brackets, as in ["text"].'),
    "Not a valid integer.": ("must be a whole number.", "Write it without quotes, as in 2."),
    "Not a valid number.": ("must be a number.", "Write it without quotes, as in 10."),
    "Not a valid boolean.": ("must be true or false.", "Write it without quotes."),
    "Not a valid mapping type.": ("must be a table.", "Write [clinic.extra] above its keys."),
}
_NO_CLINIC = {"name": "Clinic", "phone": "0"}
_NEEDED, _BESIDES = ("event", "to", "channels", "template"), ("fallback", "digest", "discreet")
_TABLES = ("clinic", "delivery", "desk", "costs", "staff", "rules", "never", "expect")

# The example clinic's values: with live delivery, patients would read any that are left.
SHIPPED: dict[KeyPath, str] = {
    ("clinic", "name"): "Example Clinic",
    ("clinic", "phone"): "020 7946 0000",
    ("clinic", "portal"): "https://portal.example/results",
    ("delivery", "sms_from"): "EXCLINIC",
    ("delivery", "email_from"): "Example Clinic <results@example.org>",
}
# Names that nobody can own: https://www.rfc-editor.org/rfc/rfc2606
_EXAMPLE = re.compile(r"example|\.(test|invalid|localhost)\b", re.IGNORECASE)
# https://www.ofcom.org.uk/phones-and-broadband/phone-numbers/numbers-for-drama, digits only.
_DRAMA = re.compile(
    r"(?:(?:11[3-8]|1[2-6]1)4960|1914980|2079460|2896496|2920180|1632960|7700900|8081570|9098790"
    r"|3069990)\d{3}"
)


@dataclass(frozen=True)
class Config:
    """The whole configuration: config.toml and the settings of the environment."""

    settings: Settings
    clinic: Clinic
    delivery: Delivery
    desk: Desk
    costs: Costs
    staff: Mapping[str, Staff]
    rules: tuple[Rule, ...]
    lines: Mapping[KeyPath, int]
    expect: tuple[Expectation, ...] = ()
    edition: int | None = None  # its number, if it is one
    held: Held | None = field(default=None, repr=False, compare=False)  # keeps its folder alive
    by_name: Mapping[str, Rule] = field(init=False, repr=False, compare=False)

    @cached_property
    def policy(self) -> Policy:
        """The clinic-wide settings that every rule uses."""
        return Policy(
            self.clinic.timezone,
            self.delivery.send_window,
            self.staff,
            alerts=self.delivery.alerts or next(iter(self.staff), ""),
            desk=self.settings.public_url,
            bank_holidays=self.delivery.bank_holidays,
            countries=self.delivery.sms_countries,
        )

    def __post_init__(self) -> None:
        """Build the lookup that is used all day."""
        # The first of two rules with one name, which is a mistake.
        by_name = {rule.name: rule for rule in reversed(self.rules)}
        object.__setattr__(self, "by_name", by_name)

    def as_sent(self) -> Config:
        """A copy that sends nothing and delays nothing: a message that is due counts as sent."""
        return replace(
            self,
            settings=replace(self.settings, delivery=AS_SENT),
            delivery=replace(
                self.delivery,
                send_window=ALWAYS,
                bank_holidays=Holidays(),
                daily_sms_limit=sys.maxsize,
            ),
            rules=tuple(replace(rule, send_window=ALWAYS) for rule in self.rules),
        )

    def problem(
        self, path: KeyPath, message: str, remedy: str = "", *, warning: bool = False
    ) -> Problem:
        """A problem at a table or key of config.toml."""
        return problem_at(self.settings.config, self.lines, path, message, remedy, warning=warning)


def load(settings: Settings) -> Config:
    """The configuration. Raises ConfigError with every problem of the file."""
    return parse(read_config(settings.config), settings)


def parse(text: str, settings: Settings) -> Config:
    """The configuration in a text, as if it were in config.toml. Raises ConfigError."""
    config, problems = judge(text, settings)
    if problems:
        raise ConfigError(problems)
    return config


def judge(text: str, settings: Settings) -> tuple[Config, list[Problem]]:
    """The configuration in a text as far as it can be read, and every problem, by line."""
    loader = _Loader(settings.config, read(text))
    config = loader.config(settings)
    return config, sorted(loader.problems, key=lambda problem: problem.line or 0)


def read_config(path: Path) -> str:
    """Return the file's text, or raise `ConfigError` when it cannot be read as UTF-8."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        remedy = "If it is somewhere else, set RELAY_CONFIG."
        wrong = Problem("Relay cannot read this file.", str(path), remedy=remedy)
        raise ConfigError([wrong]) from error
    if why := odd_characters.why_not_utf8(raw):
        line, said = why
        raise ConfigError([Problem(said, str(path), line, remedy="Save the file as UTF-8.")])
    return raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


def problem_at(
    path: Path,
    lines: Mapping[KeyPath, int],
    at: KeyPath,
    message: str,
    remedy: str,
    *,
    warning: bool = False,
) -> Problem:
    """Return a problem with the line of the key it concerns, or of the nearest one."""
    return Problem(message, str(path), nearest(lines, at), ".".join(at), remedy, warning)


class _Loader:
    """Loads every table before it gives up, so that an admin sees all problems at once."""

    def __init__(self, path: Path, reading: Reading):
        self.path = path
        self.document, self.lines, mistakes, self.lost = reading
        self.problems = [
            Problem(said, str(path), line, remedy=remedy)
            for line, (said, remedy) in mistakes.items()
        ]
        self.broken = set(self.lost)  # tables that could not be read whole

    def config(self, settings: Settings) -> Config:
        """The config, with defaults in place of anything unreadable."""
        document = self.document
        for name in set(document) - set(_TABLES):
            self.add_problem((name,), "there is no such table.", did_you_mean(name, _TABLES))
            document = self.correct_table(document, name)
        clinic = self.load_table(ClinicSchema(), document.get("clinic", {}), ("clinic",))
        delivery = self.load_table(DeliverySchema(), document.get("delivery", {}), ("delivery",))
        desk = self.load_table(DeskSchema(), document.get("desk", {}), ("desk",))
        costs = self.load_table(CostsSchema(), document.get("costs", {}), ("costs",))
        staff = dict(self.load_group(StaffSchema(), document, "staff"))
        for name in set(staff) & set(PERSONS):
            message = f'in a rule, to = "{name}" means the person, not a group.'
            self.add_problem(("staff", name), message, "Choose another name.")
        self.check_staff(staff, delivery.get("sms_countries", AT_HOME))
        self.has_group(("delivery", "alerts"), delivery.get("alerts"), staff)
        rules = dict(self.load_group(RuleSchema(), document, "rules"))
        for name, rule in rules.items():
            if name.startswith(ALERT_PREFIX):
                said = f'names that begin with "{ALERT_PREFIX}" are kept for Relay\'s own alerts.'
                self.add_problem(("rules", name), said, "Choose another name.")
            self.check_recipient(name, rule, staff)
        for name, one in self.load_group(NeverSchema(), document, "never"):
            self.forbid(name, one, rules)
        expect = dict(self.load_group(ExpectSchema(), document, "expect"))
        for name, one in expect.items():
            self.check_expectation(name, one.get("to"), staff)
        default = DeliverySchema().load({})
        return Config(
            settings=settings,
            clinic=Clinic(**ClinicSchema().load(_NO_CLINIC) | clinic),
            delivery=Delivery(**default | {k: delivery[k] for k in default & delivery.keys()}),
            desk=Desk(**DeskSchema().load({}) | desk),
            costs=Costs(**CostsSchema().load({}) | costs),
            staff={n: Staff({k: tuple(v) for k, v in s.items()}) for n, s in staff.items()},
            rules=tuple(self.usable(rules, delivery.get("reply_to", ""))),
            lines=self.lines,
            expect=tuple(
                Expectation(name=name, **one)
                for name, one in expect.items()
                if ("expect", name) not in self.broken
            ),
        )

    def usable(self, rules: Mapping[str, dict[str, Any]], reply_to: str) -> Iterator[Rule]:
        """The rules; for one with mistakes, only the keys that the checks of its templates need."""
        for name, rule in rules.items():
            if ("rules", name) not in self.broken:
                yield Rule(name=name, **{"reply_to": reply_to, **rule})
            elif all(map(rule.get, _NEEDED)):
                yield Rule(name=name, **{k: rule[k] for k in (*_NEEDED, *_BESIDES) if k in rule})

    def correct_table(self, document: dict[str, Any], name: str) -> dict[str, Any]:
        """Read a misspelt table as if it were spelt correctly: one slip gives one error."""
        for near in get_close_matches(name, _TABLES, n=1):
            document = {near: document[name], **document}
            moved = {(near, *path[1:]): n for path, n in self.lines.items() if path[0] == name}
            self.lines = {**moved, **self.lines}
        return document

    def add_problem(self, at: KeyPath, message: str, remedy: str = "") -> None:
        """Note a problem, to be reported with all others, unless unreadable text has caused it."""
        if any(at[:length] in self.lost for length in range(len(at) + 1)):
            return
        self.problems.append(problem_at(self.path, self.lines, at, message, remedy))

    def load_table(self, schema: Schema, value: Any, at: KeyPath) -> dict[str, Any]:
        """The values of one table that are valid. Notes a problem for each that is not."""
        if not isinstance(value, dict):
            self.broken.add(at)
            self.add_problem(at, "must be a table.", f"Write [{'.'.join(at)}].")
            return {}
        try:
            return dict(schema.load(value))
        except ValidationError as error:
            self.broken.add(at)
            for path, message in flatten_messages(error.messages):
                self.add_invalid(schema, at, path, message)
            return dict(error.valid_data or {})

    def load_group(
        self, schema: Schema, document: dict[str, Any], name: str
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield each table of a group, such as [staff.…], with its name."""
        group = document.get(name, {})
        if not isinstance(group, dict):
            self.add_problem((name,), "must contain tables.", f"Write [{name}.a-name].")
            return
        for key, value in group.items():
            yield key, self.load_table(schema, value, (name, key))

    def add_invalid(self, schema: Schema, at: KeyPath, path: KeyPath, message: str) -> None:
        """Note marshmallow's message about a key, in an admin's words."""
        keys = path[:1]  # the rest is a place in a list
        if message == "Unknown field.":
            remedy = did_you_mean(keys[0], schema.fields)
            self.add_problem(at + keys, "there is no such key.", remedy)
        elif message == "Missing data for required field.":
            self.add_problem(at + keys, "is missing.", f"Add it to [{'.'.join(at)}].")
        else:
            self.add_problem(at + keys, *PLAIN_WORDS.get(message, (message,)))

    def is_unreadable(self, group: str) -> bool:
        """Whether a staff group could not be read, which is reported already."""
        return any(path[:2] in (("staff", group), ("staff",), ()) for path in self.broken)

    def check_staff(self, staff: Mapping[str, Any], countries: frozenset[str]) -> None:
        """Note a problem if a group has a number of a country that Relay may not text."""
        for name, group in staff.items():
            for channel, written in group.items():
                for one in written:
                    if reason := CHANNELS[channel].address.judge_in(countries, one).reason:
                        remedy = "Add its country to sms_countries in [delivery]."
                        self.add_problem(("staff", name, channel), f'"{one}": {reason}', remedy)

    def check_recipient(self, name: str, rule: Mapping[str, Any], staff: Mapping[str, Any]) -> None:
        """Note a problem if a rule writes to nobody, or to staff with no address on a channel."""
        at, to = ("rules", name, "to"), rule.get("to")
        if to is None or to in PERSONS or self.is_unreadable(to):
            return
        if to not in staff:
            remedy = did_you_mean(to, (*PERSONS, *staff))
            self.add_problem(at, f'there is no recipient "{to}".', remedy)
            return
        remedy = f"Add some to [staff.{to}]."
        for channel in (*rule.get("channels", ()), *rule.get("fallback", ())):
            if not staff[to].get(channel):
                self.add_problem(at, f'"{to}" has no {channel} addresses.', remedy)

    def forbid(
        self, name: str, one: Mapping[str, Any], rules: Mapping[str, dict[str, Any]]
    ) -> None:
        """Give a [never.…] to each rule that it is about; it must be valid for each of them."""
        key = "template" if "template" in one else "rule"
        wanted, when = one.get(key), one.get("when")
        if wanted is None or when is None or ("never", name) in self.broken:
            return  # reported already
        of = {
            rule: str(rules[rule].get("template") if key == "template" else rule) for rule in rules
        }
        if wanted not in of.values():
            remedy = did_you_mean(wanted, {*of.values()})
            self.add_problem(("never", name, key), f'no rule has the {key} "{wanted}".', remedy)
        for rule, its in of.items():
            if its != wanted or "event" not in rules[rule]:
                continue
            try:
                never = Never(name, condition(when, rules[rule]["event"]), one["because"])
            except ValueError as error:
                self.add_problem(("never", name, "when"), f"for the rule {rule}: {error}")
                return
            rules[rule]["never"] = (*rules[rule].get("never", ()), never)

    def check_expectation(self, name: str, to: str | None, staff: Mapping[str, Any]) -> None:
        """Note a problem if an [expect.…] would alert nobody."""
        at = ("expect", name, "to")
        if self.has_group(at, to, staff) and not any(staff[str(to)].values()):
            self.add_problem(at, f'"{to}" has no addresses.', f"Add some to [staff.{to}].")

    def has_group(self, at: KeyPath, group: str | None, staff: Mapping[str, Any]) -> bool:
        """Whether a staff group could be read. Notes a problem if no group has that name."""
        if not group or self.is_unreadable(group):
            return False
        if group not in staff:
            said, remedy = f'there is no staff group "{group}".', did_you_mean(group, staff)
            self.add_problem(at, said, remedy)
        return group in staff


def flatten_messages(messages: Any, path: KeyPath = ()) -> Iterable[tuple[KeyPath, str]]:
    """Yield each validation message with the path of the key that it is about."""
    if isinstance(messages, dict):
        for key, inner in messages.items():
            yield from flatten_messages(inner, (*path, str(key)))
    else:
        for message in messages:
            yield path, str(message)


def placeholders(config: Config) -> Iterator[Problem]:
    """When live: an error for a value as shipped, a warning for one that looks like an example."""
    if config.settings.delivery != "live":
        return
    for path, value in _said(config):
        if value == SHIPPED.get(path):
            said = f'"{value}" is what Relay came with, and delivery is live.'
            yield config.problem(path, said, "Write your own.")
        elif _EXAMPLE.search(value) or _DRAMA.search(re.sub(r"\D", "", value)):
            said = f'"{value}" looks like an example, and delivery is live.'
            yield config.problem(path, said, "Write your own.", warning=True)


def _said(config: Config) -> Iterator[tuple[KeyPath, str]]:
    """The values that identify the clinic to people, and the addresses of staff."""
    for key in ("name", "phone", "portal"):
        yield ("clinic", key), getattr(config.clinic, key) or ""
    for channel, sender in config.delivery.senders.items():
        yield ("delivery", SENDER.format(channel)), sender
    for rule in config.rules:
        for channel, sender in rule.senders.items():
            yield ("rules", rule.name, SENDER.format(channel)), sender
    for name, group in config.staff.items():
        for channel, addresses in group.addresses.items():
            for address in addresses:
                yield ("staff", name, channel), address
