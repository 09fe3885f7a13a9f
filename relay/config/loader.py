"""config.toml and the environment → one frozen Config. Errors name file, line, key and remedy.

tomllib gives values but no lines, and speaks to programmers: the lines are indexed here, and what
it and marshmallow say is put into an admin's words.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from marshmallow import Schema, ValidationError

from relay.config import odd_characters
from relay.config.edition_files import Held
from relay.config.schema import (
    Clinic,
    ClinicSchema,
    Delivery,
    DeliverySchema,
    Desk,
    DeskSchema,
    ExpectSchema,
    RuleSchema,
    StaffSchema,
)
from relay.config.settings import AS_SENT, Settings
from relay.errors import ConfigError, Problem, did_you_mean
from relay.lab.facts import PERSONS
from relay.rules.model import ALERT_PREFIX, Expectation, Policy, Rule, Staff
from relay.rules.schedule import ALWAYS

_HEADER = re.compile(r"\s*\[\[?\s*(.+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_KEY_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")
_STRINGS = re.compile(r'"""|\'\'\'|"(?:\\.|[^"\\])*"|\'[^\']*\'|#.*')
_ENDS = {  # up to the end of a multi-line string, whose last quotes may be the string's own
    '"""': re.compile(r'(?:\\.|[^"\\]|"(?!""))*"{3,5}'),
    "'''": re.compile(r"(?:[^']|'(?!''))*'{3,5}"),
}

KeyPath = tuple[str, ...]


def line_index(text: str) -> Mapping[KeyPath, int]:
    """Path of each table and key → its line, counted from 1. Meant for text that tomllib takes."""
    lines: dict[KeyPath, int] = {}
    table: KeyPath = ()
    inside, depth = "", 0  # a multi-line string's quotes; open brackets of a multi-line array
    for number, line in enumerate(text.split("\n"), 1):
        if not inside and not depth:
            if header := _HEADER.match(line):
                table = split_key(header[1])
                lines.setdefault(table, number)
            elif key := _KEY.match(line):
                lines.setdefault(table + split_key(key[1]), number)
        inside, depth = after(line, inside, depth)
    around: dict[
        KeyPath, int
    ] = {}  # [rules.a-name] has [rules] in it, which may have no line itself
    for path, number in lines.items():
        for length in range(1, len(path)):
            around.setdefault(path[:length], number)
    return around | lines


def nearest(lines: Mapping[KeyPath, int], path: KeyPath) -> int | None:
    """The line of `path`, or of the closest table or key around it."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


def split_key(dotted: str) -> KeyPath:
    """Split a dotted TOML key into its parts, without their quotes."""
    return tuple(part.strip("\"'") for part in _KEY_PART.findall(dotted))


def after(line: str, inside: str, depth: int) -> tuple[str, int]:
    """The multi-line string and the brackets that are still open at the end of a line."""
    while True:
        if inside:
            end = _ENDS[inside].match(line)
            if not end:
                return inside, depth
            line = line[end.end() :]
        found = _STRINGS.search(line)
        depth += count_open_brackets(line[: found.start()] if found else line)
        if not found:
            return "", depth
        line = line[found.end() :]
        inside = found[0] if found[0] in _ENDS else ""


def count_open_brackets(code: str) -> int:
    """Return how many more brackets and braces a piece of TOML opens than it closes."""
    return code.count("[") + code.count("{") - code.count("]") - code.count("}")


PLAIN_WORDS = {  # marshmallow's → an admin's, and what would be right
    "Not a valid string.": ("must be text.", 'Put it in quotes, as in "text".'),
    "Not a valid list.": ("must be a list.", 'Put it in square brackets, as in ["text"].'),
    "Not a valid integer.": ("must be a whole number.", "Write it without quotes, as in 2."),
    "Not a valid number.": ("must be a number.", "Write it without quotes, as in 10."),
    "Not a valid boolean.": ("must be true or false.", "Write it without quotes."),
    "Not a valid mapping type.": ("must be a table.", "Write [clinic.extra] above its keys."),
}
_SYNTAX = {  # how tomllib's message begins → what it means, and what would be right
    "Cannot declare": ("this table appears twice", "Put all its keys under one heading."),
    "Cannot overwrite": ("this key is set twice", "Remove one of the two lines."),
    "Unclosed array": ("this list is not closed", 'End it with a bracket: channels = ["sms"].'),
    "Expected ']'": ("this heading is not closed", "Put it in brackets: [clinic]."),
    "Expected '='": ("there is no = after the key", 'Write it as in name = "text".'),
    "Expected newline": ("unexpected text after the value", 'Text needs quotes: "020 7946".'),
    "Illegal character": ("this text is not closed", "Put a quote at each end, on the same line."),
    "Unterminated string": ("this text is not closed", 'Close it with the """ that it began with.'),
    "Invalid value": (
        "unreadable value after =",
        'Text needs straight quotes: "text".',
    ),
}


def toml_syntax_error(text: str, error: str) -> tuple[int, str, str]:
    """An error of tomllib → the line, what is wrong, and what would be right."""
    found = re.search(r"\(at line (\d+), column (\d+)", error)
    message = re.sub(r" ?\(at .*\)", "", error)
    message = re.sub(r"\('.*'.*?\)", lambda path: ".".join(re.findall("'(.*?)'", path[0])), message)
    line = int(found[1]) if found else len(text.splitlines())  # "at end of document"
    if found and (odd := odd_characters.said_of(text, line, int(found[2]))):
        return line, f"not valid TOML: {odd[0]}", odd[1]
    meant, remedy = next(
        (words for start, words in _SYNTAX.items() if message.startswith(start)),
        ("Relay cannot read this line", "Put text in quotes and lists in brackets."),
    )
    return line, f"not valid TOML: {meant} ({message}).", remedy


_TABLES = ("clinic", "delivery", "desk", "staff", "rules", "expect")


@dataclass(frozen=True)
class Config:
    """All that an admin and the environment decide."""

    settings: Settings
    clinic: Clinic
    delivery: Delivery
    desk: Desk
    staff: Mapping[str, Staff]
    rules: tuple[Rule, ...]
    lines: Mapping[KeyPath, int]
    expect: tuple[Expectation, ...] = ()
    edition: int | None = None  # by its number, where it is one
    held: Held | None = field(default=None, repr=False, compare=False)  # keeps its folder there

    @property
    def policy(self) -> Policy:
        """The clinic-wide settings that every rule uses."""
        return Policy(
            self.clinic.timezone,
            self.delivery.send_window,
            self.staff,
            alerts=self.delivery.alerts or next(iter(self.staff), ""),
            desk=self.settings.public_url,
            bank_holidays=self.delivery.bank_holidays,
        )

    def rule(self, name: str) -> Rule | None:
        """The rule of that name, if config.toml still has it."""
        return next((rule for rule in self.rules if rule.name == name), None)

    def as_sent(self) -> Config:
        """A copy that sends nothing and delays nothing: a message that is due counts as sent."""
        return replace(
            self,
            settings=replace(self.settings, delivery=AS_SENT),
            delivery=replace(
                self.delivery,
                send_window=ALWAYS,
                bank_holidays=frozenset(),
                daily_sms_limit=sys.maxsize,
            ),
            rules=tuple(replace(rule, send_window=ALWAYS) for rule in self.rules),
        )

    def problem(self, path: KeyPath, message: str, remedy: str = "") -> Problem:
        """Something wrong at a table or key of config.toml."""
        return problem_at(self.settings.config, self.lines, path, message, remedy)


def load(settings: Settings) -> Config:
    """The configuration. Raises ConfigError with every problem of the file."""
    return parse(read_config(settings.config), settings)


def parse(text: str, settings: Settings) -> Config:
    """The configuration in a text, as if it were in config.toml. Raises ConfigError."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line, message, remedy = toml_syntax_error(text, str(error))
        found = Problem(message, str(settings.config), line, remedy=remedy)
        raise ConfigError([found]) from error
    return _Loader(settings.config, line_index(text)).config(document, settings)


def read_config(path: Path) -> str:
    """Return the file's text, or raise `ConfigError` when it cannot be read as UTF-8."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        remedy = "If it is somewhere else, set RELAY_CONFIG."
        raise ConfigError(
            [Problem("Relay cannot read this file.", str(path), remedy=remedy)]
        ) from error
    if wrong := odd_characters.why_not_utf8(raw):
        line, said = wrong
        raise ConfigError([Problem(said, str(path), line, remedy="Save the file as UTF-8.")])
    return raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


def problem_at(
    path: Path, lines: Mapping[KeyPath, int], at: KeyPath, message: str, remedy: str
) -> Problem:
    """Return a problem with the line of the key it concerns, or of the nearest one."""
    return Problem(message, str(path), nearest(lines, at), ".".join(at), remedy)


class _Loader:
    """Loads every table before it gives up, so that an admin sees all problems at once."""

    def __init__(self, path: Path, lines: Mapping[KeyPath, int]):
        self.path = path
        self.lines = lines
        self.problems: list[Problem] = []
        self.broken: set[str] = set()  # names of tables that could not be read

    def config(self, document: dict[str, Any], settings: Settings) -> Config:
        """The config. Raises ConfigError with all that is wrong."""
        for name in set(document) - set(_TABLES):
            self.add_problem((name,), "there is no such table.", did_you_mean(name, _TABLES))
            document = self.correct_table(document, name)
        clinic = self.load_table(ClinicSchema(), document.get("clinic", {}), ("clinic",))
        delivery = self.load_table(DeliverySchema(), document.get("delivery", {}), ("delivery",))
        desk = self.load_table(DeskSchema(), document.get("desk", {}), ("desk",))
        staff = dict(self.load_group(StaffSchema(), document, "staff"))
        for name in set(staff) & set(PERSONS):
            message = f'in a rule, to = "{name}" means the person, not a group.'
            self.add_problem(("staff", name), message, "Choose another name.")
        if (alerts := delivery.get("alerts")) and alerts not in staff:
            remedy = did_you_mean(alerts, staff)
            self.add_problem(("delivery", "alerts"), f'there is no staff group "{alerts}".', remedy)
        rules = dict(self.load_group(RuleSchema(), document, "rules"))
        for name, rule in rules.items():
            if name.startswith(ALERT_PREFIX):
                message = (
                    f'names that begin with "{ALERT_PREFIX}" are kept for Relay\'s own alerts.'
                )
                self.add_problem(("rules", name), message, "Choose another name.")
            self.check_recipient(name, rule, staff)
        expect = dict(self.load_group(ExpectSchema(), document, "expect"))
        for name, one in expect.items():
            self.check_expectation(name, one.get("to"), staff)
        if self.problems:
            raise ConfigError(sorted(self.problems, key=lambda problem: problem.line or 0))
        return Config(
            settings=settings,
            clinic=Clinic(**clinic),
            delivery=Delivery(**delivery),
            desk=Desk(**desk),
            staff={n: Staff({k: tuple(v) for k, v in s.items()}) for n, s in staff.items()},
            rules=tuple(Rule(name=name, **rule) for name, rule in rules.items()),
            lines=self.lines,
            expect=tuple(Expectation(name=name, **one) for name, one in expect.items()),
        )

    def correct_table(self, document: dict[str, Any], name: str) -> dict[str, Any]:
        """Read a misspelt table as if it were spelt correctly: one slip gives one error."""
        for near in get_close_matches(name, _TABLES, n=1):
            document = {near: document[name], **document}
            moved = {(near, *path[1:]): n for path, n in self.lines.items() if path[0] == name}
            self.lines = {**moved, **self.lines}
        return document

    def add_problem(self, at: KeyPath, message: str, remedy: str = "") -> None:
        """Note a problem, to be reported with all others."""
        self.problems.append(problem_at(self.path, self.lines, at, message, remedy))

    def load_table(self, schema: Schema, value: Any, at: KeyPath) -> dict[str, Any]:
        """The values of one table that are valid. Notes a problem for each that is not."""
        if not isinstance(value, dict):
            self.add_problem(at, "must be a table.", f"Write [{'.'.join(at)}].")
            return {}
        try:
            return dict(schema.load(value))
        except ValidationError as error:
            self.broken.add(at[-1])
            for path, message in flatten_messages(error.messages):
                self.add_invalid(schema, at, path, message)
            return dict(error.valid_data or {})

    def load_group(
        self, schema: Schema, document: dict[str, Any], name: str
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield each table of a group, as [staff.…] is one, with its name."""
        group = document.get(name, {})
        if not isinstance(group, dict):
            self.add_problem((name,), "must contain tables.", f"Write [{name}.a-name].")
            return
        for key, value in group.items():
            yield key, self.load_table(schema, value, (name, key))

    def add_invalid(self, schema: Schema, at: KeyPath, path: KeyPath, message: str) -> None:
        """Note marshmallow's message about a key, in an admin's words."""
        keys = path[:1]  # what comes after it is a place in a list
        if message == "Unknown field.":
            self.add_problem(
                at + keys, "there is no such key.", did_you_mean(keys[0], schema.fields)
            )
        elif message == "Missing data for required field.":
            self.add_problem(at + keys, "is missing.", f"Add it to [{'.'.join(at)}].")
        else:
            self.add_problem(at + keys, *PLAIN_WORDS.get(message, (message,)))

    def check_recipient(self, name: str, rule: Mapping[str, Any], staff: Mapping[str, Any]) -> None:
        """Note a problem where a rule writes to nobody, or on a channel that they do not have."""
        to = rule.get("to")
        if to is None or to in PERSONS:
            return
        at = ("rules", name, "to")
        if to in self.broken:
            return  # reported already
        if to not in staff:
            self.add_problem(
                at, f'there is no recipient "{to}".', did_you_mean(to, (*PERSONS, *staff))
            )
            return
        for channel in (*rule.get("channels", ()), *rule.get("fallback", ())):
            if not staff[to].get(channel):
                self.add_problem(
                    at, f'"{to}" has no {channel} addresses.', f"Add some to [staff.{to}]."
                )

    def check_expectation(self, name: str, to: str | None, staff: Mapping[str, Any]) -> None:
        """Note a problem where an [expect.…] would alert nobody."""
        at = ("expect", name, "to")
        if to is None or to in self.broken:
            return  # reported already
        if to not in staff:
            self.add_problem(at, f'there is no staff group "{to}".', did_you_mean(to, staff))
        elif not any(staff[to].values()):
            self.add_problem(at, f'"{to}" has no addresses.', f"Add some to [staff.{to}].")


def flatten_messages(messages: Any, path: KeyPath = ()) -> Iterable[tuple[KeyPath, str]]:
    """Yield each validation message with the path of the key that it is about."""
    if isinstance(messages, dict):
        for key, inner in messages.items():
            yield from flatten_messages(inner, (*path, str(key)))
    else:
        for message in messages:
            yield path, str(message)
