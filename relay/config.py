"""config.toml and the environment → one frozen Config. Errors name file, line, key and remedy."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from marshmallow import Schema, ValidationError

from relay import mistakes, toml_lines
from relay.errors import ConfigError, Problem, did_you_mean
from relay.lab.facts import PERSONS
from relay.rules.model import ALERT_PREFIX, Expectation, Policy, Rule, Staff
from relay.rules.schedule import ALWAYS
from relay.settings import AS_SENT, Settings
from relay.tables import (
    Clinic,
    ClinicSchema,
    Delivery,
    DeliverySchema,
    ExpectSchema,
    RuleSchema,
    StaffSchema,
)

_TABLES = ("clinic", "delivery", "staff", "rules", "expect")


@dataclass(frozen=True)
class Config:
    """All that an admin and the environment decide."""

    settings: Settings
    clinic: Clinic
    delivery: Delivery
    staff: Mapping[str, Staff]
    rules: tuple[Rule, ...]
    lines: Mapping[toml_lines.Path, int]
    expect: tuple[Expectation, ...] = ()

    @property
    def policy(self) -> Policy:
        """What every rule goes by."""
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
        """The same where nothing leaves and nothing is put off: what is due counts as sent."""
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

    def problem(self, path: toml_lines.Path, message: str, remedy: str = "") -> Problem:
        """Something wrong at a table or key of config.toml."""
        return _problem(self.settings.config, self.lines, path, message, remedy)


def load(settings: Settings) -> Config:
    """The configuration. Raises ConfigError with every problem of the file."""
    return parse(_read(settings.config), settings)


def parse(text: str, settings: Settings) -> Config:
    """The configuration that a text is, as if it stood in the file. Raises ConfigError."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line, message, remedy = mistakes.syntax(text, str(error))
        found = Problem(message, str(settings.config), line, remedy=remedy)
        raise ConfigError([found]) from error
    return _Loader(settings.config, toml_lines.index(text)).config(document, settings)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        line, remedy = error.object[: error.start].count(b"\n") + 1, "Save it as UTF-8."
        raise ConfigError(
            [Problem("it is not UTF-8 text.", str(path), line, "", remedy)]
        ) from error
    except OSError as error:
        remedy = "RELAY_CONFIG names another place."
        raise ConfigError([Problem("cannot be read.", str(path), remedy=remedy)]) from error


def _problem(
    path: Path, lines: Mapping[toml_lines.Path, int], at: toml_lines.Path, message: str, remedy: str
) -> Problem:
    return Problem(message, str(path), toml_lines.nearest(lines, at), ".".join(at), remedy)


class _Loader:
    """Loads every table before it gives up, so that an admin sees all problems at once."""

    def __init__(self, path: Path, lines: Mapping[toml_lines.Path, int]):
        self.path = path
        self.lines = lines
        self.problems: list[Problem] = []
        self.broken: set[str] = set()  # names of tables that could not be read

    def config(self, document: dict[str, Any], settings: Settings) -> Config:
        """The config. Raises ConfigError with all that is wrong."""
        for name in set(document) - set(_TABLES):
            self._add((name,), "there is no such table.", did_you_mean(name, _TABLES))
            document = self._meant(document, name)
        clinic = self._table(ClinicSchema(), document.get("clinic", {}), ("clinic",))
        delivery = self._table(DeliverySchema(), document.get("delivery", {}), ("delivery",))
        staff = dict(self._tables(StaffSchema(), document, "staff"))
        for name in set(staff) & set(PERSONS):
            self._add(("staff", name), "rules write to a person by this name.", "Take another.")
        if (alerts := delivery.get("alerts")) and alerts not in staff:
            remedy = did_you_mean(alerts, staff)
            self._add(("delivery", "alerts"), f'there is no staff group "{alerts}".', remedy)
        rules = dict(self._tables(RuleSchema(), document, "rules"))
        for name, rule in rules.items():
            if name.startswith(ALERT_PREFIX):
                self._add(("rules", name), "Relay's own alerts have such names.", "Take another.")
            self._check_rule(name, rule, staff)
        expect = dict(self._tables(ExpectSchema(), document, "expect"))
        for name, one in expect.items():
            self._check_expectation(name, one.get("to"), staff)
        if self.problems:
            raise ConfigError(sorted(self.problems, key=lambda problem: problem.line or 0))
        return Config(
            settings=settings,
            clinic=Clinic(**clinic),
            delivery=Delivery(**delivery),
            staff={n: Staff(**{k: tuple(v) for k, v in s.items()}) for n, s in staff.items()},
            rules=tuple(Rule(name=name, **rule) for name, rule in rules.items()),
            lines=self.lines,
            expect=tuple(Expectation(name=name, **one) for name, one in expect.items()),
        )

    def _meant(self, document: dict[str, Any], name: str) -> dict[str, Any]:
        """As if a misspelt table were spelt right: nothing is told for its sake."""
        for near in get_close_matches(name, _TABLES, n=1):
            document = {near: document[name], **document}
            moved = {(near, *path[1:]): n for path, n in self.lines.items() if path[0] == name}
            self.lines = {**moved, **self.lines}
        return document

    def _add(self, at: toml_lines.Path, message: str, remedy: str = "") -> None:
        self.problems.append(_problem(self.path, self.lines, at, message, remedy))

    def _table(self, schema: Schema, value: Any, at: toml_lines.Path) -> dict[str, Any]:
        if not isinstance(value, dict):
            self._add(at, "it must be a table.", f"Write [{'.'.join(at)}].")
            return {}
        try:
            return dict(schema.load(value))
        except ValidationError as error:
            self.broken.add(at[-1])
            for path, message in _flat(error.messages):
                self._explain(schema, at, path, message)
            return dict(error.valid_data or {})

    def _tables(
        self, schema: Schema, document: dict[str, Any], name: str
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        group = document.get(name, {})
        if not isinstance(group, dict):
            self._add((name,), "it must be made of tables.", f"Write [{name}.a-name].")
            return
        for key, value in group.items():
            yield key, self._table(schema, value, (name, key))

    def _explain(
        self, schema: Schema, at: toml_lines.Path, path: toml_lines.Path, message: str
    ) -> None:
        keys = path[:1]  # what comes after it is a place in a list
        if message == "Unknown field.":
            self._add(at + keys, "there is no such key.", did_you_mean(keys[0], schema.fields))
        elif message == "Missing data for required field.":
            self._add(at + keys, "it is missing.", f"Add it to [{'.'.join(at)}].")
        else:
            self._add(at + keys, *mistakes.WORDS.get(message, (message,)))

    def _check_rule(self, name: str, rule: Mapping[str, Any], staff: Mapping[str, Any]) -> None:
        to = rule.get("to")
        if to is None or to in PERSONS:
            return
        at = ("rules", name, "to")
        if to in self.broken:
            return  # told already
        if to not in staff:
            self._add(at, f'there is no "{to}".', did_you_mean(to, (*PERSONS, *staff)))
            return
        for channel in (*rule.get("channels", ()), *rule.get("fallback", ())):
            if not staff[to].get(channel):
                self._add(at, f'"{to}" has no {channel} addresses.', f"Add some to [staff.{to}].")

    def _check_expectation(self, name: str, to: str | None, staff: Mapping[str, Any]) -> None:
        at = ("expect", name, "to")
        if to is None or to in self.broken:
            return  # told already
        if to not in staff:
            self._add(at, f'there is no staff group "{to}".', did_you_mean(to, staff))
        elif not any(staff[to].values()):
            self._add(at, f'"{to}" has no addresses.', f"Add some to [staff.{to}].")


def _flat(messages: Any, path: toml_lines.Path = ()) -> Iterable[tuple[toml_lines.Path, str]]:
    if isinstance(messages, dict):
        for key, inner in messages.items():
            yield from _flat(inner, (*path, str(key)))
    else:
        for message in messages:
            yield path, str(message)
