"""Tries everything before it is used: every template, with full and with sparse facts.

A worker starts only when config.toml and the templates are both right. The web process reads
config.toml alone: with a broken template it still takes the lab's events.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

from jinja2 import UndefinedError

from relay.config import conditions, unmeant
from relay.config.conditions import names_for_event
from relay.config.loader import Config, judge, placeholders, read_config
from relay.config.loader import load as load_config
from relay.config.schema import SENDER
from relay.config.settings import Settings, wrong
from relay.errors import ConfigError, Problem, RenderError, did_you_mean
from relay.lab import samples
from relay.lab.facts import PERSONS, Facts
from relay.messages import alerts as alert_templates
from relay.messages import disclosure, sms_segments
from relay.messages.alerts import AlertTemplates, CaseNames
from relay.messages.templates import Fault, Message, Templates, digest_names
from relay.messages.templates import files as template_files
from relay.rules import alerts
from relay.rules.channels import ALERT_CHANNELS, CHANNELS
from relay.rules.expressions import Condition
from relay.rules.model import Rule

EXAMPLE_CASE = "cas_019ac9f4e80e4a61b2c3d4e5f6a7"
EXAMPLE_KIT = "e23e2d33-5ab4-4efc-8e94-7e914b5f99df"


def templates(config: Config, loaded: Templates) -> list[Problem]:
    """The problems of the rules' templates and the alerts'; some are only warnings."""
    rules = chain.from_iterable(map(loaded.variants, config.rules))
    problems = [problem for rule in rules for problem in check_rule(config, loaded, rule)]
    for rule in config.rules:
        problems += check_language(config, loaded, rule)
    problems += check_alerts(config, loaded)
    return list(dict.fromkeys(problems))  # one template may serve several rules


def senders(config: Config) -> Iterator[Problem]:
    """Problems that stop messages going out, or make them go where the admin does not expect."""
    settings, delivery = config.settings, config.delivery
    if settings.delivery == "dry-run":
        return
    used = {channel for rule in config.rules for channel in rule.ways}
    for channel, row in CHANNELS.items():
        if channel not in used:
            continue
        if not settings.accounts[channel]:
            message = f"nothing goes out by {channel}: the provider's credentials are not set."
            yield Problem(message, "environment", warning=True)
        elif row.sender and not (
            delivery.senders[channel] or any(map(settings.variable, row.sender.instead))
        ):
            key = SENDER.format(channel)
            yield config.problem(("delivery", key), f"{channel} has no sender.")
    for rule in config.rules:
        for channel in rule.channels if rule.fallback_after and rule.enabled else ():
            if not settings.receipts[channel]:
                said = f"nobody reports what has arrived by {channel}: the fallback goes each time."
                name = CHANNELS[channel].provider.receipts
                at, remedy = ("rules", rule.name, "fallback_after"), f"Set {name}." if name else ""
                yield config.problem(at, said, remedy, warning=True)
    if settings.delivery == "allow-list" and not delivery.allow:
        message = "RELAY_DELIVERY is allow-list and the list is empty: nothing goes out."
        yield config.problem(("delivery", "allow"), message, warning=True)


def overruled(config: Config) -> Iterator[Problem]:
    """Warns of a rule's sender that one in the environment overrides."""
    for rule in config.rules:
        for channel in rule.senders:
            sender = CHANNELS[channel].sender
            for name in filter(config.settings.variable, sender.instead if sender else ()):
                path = ("rules", rule.name, SENDER.format(channel))
                yield config.problem(path, f"{name} wins over it.", warning=True)


# A link, with or without its scheme, or an email address.
_LINK = re.compile(r"https?://|\b[\w-]+(?:\.[\w-]+)+/|[\w.+-]+@[\w-]+\.")


def objecting(config: Config, loaded: Templates) -> Iterator[Problem]:
    """Warns of messages that people cannot opt out of: no number, no link, a name as sender."""
    for rule in config.rules:
        for channel in rule.ways:
            sender = CHANNELS[channel].sender
            if sender and not can_be_answered(config, rule, channel):
                message = "nobody can answer a name: a STOP, or a question, never reaches you."
                remedy = f"Write a number that can be texted, or set {' or '.join(sender.instead)}."
                at = ("rules", rule.name) if rule.senders.get(channel) else ("delivery",)
                path = (*at, SENDER.format(channel))
                yield config.problem(path, message, remedy, warning=True)
    for rule in chain.from_iterable(map(loaded.variants, config.rules)):
        for channel in rule.ways if rule.to in PERSONS else ():
            shown = texts(config, loaded, rule, channel)
            if any(lacks_a_way(config, rule, text, channel) for text in shown):
                message = "it shows no way to object: nobody can tell you to stop."
                remedy = "Write {{ clinic.phone }}, or a link."
                yield in_file(loaded, text_file(rule, channel), message, remedy)


def can_be_answered(config: Config, rule: Rule, channel: str) -> bool:
    """Whether people who get a rule's message on a channel can write back to its sender."""
    sender, settings = CHANNELS[channel].sender, config.settings
    if sender is None:
        return True
    own = rule.senders.get(channel) or config.delivery.senders[channel]
    written = (*map(settings.variable, sender.instead), own)
    return not sender.is_name(next(filter(None, written), ""))


def lacks_a_way(config: Config, rule: Rule, text: str, channel: str) -> bool:
    """Whether a message shows no phone number, link or STOP that its reader could use."""
    phone = _digits(config.clinic.phone)
    is_keyword = can_be_answered(config, rule, channel) and re.search(r"\bSTOP\b", text)
    return not (is_keyword or _LINK.search(text) or (phone and phone in _digits(text)))


def texts(config: Config, loaded: Templates, rule: Rule, channel: str) -> Iterator[str]:
    """The texts of a rule's message with every field filled in, and with few; skips failures."""
    for facts in (samples.full(), samples.sparse(rule.event)):
        try:
            seen = example_names(config, rule, facts)
            yield loaded.message(rule, channel, "", seen).text
        except RenderError:
            continue  # reported already


def _digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))


def bank_holidays(config: Config, today: date) -> Iterator[Problem]:
    """Warns when every date has passed: otherwise messages go out on the next holiday."""
    known = config.delivery.bank_holidays.days
    if known and max(known) < today and not config.delivery.bank_holidays.regions:
        said = f"all of these dates have passed; the last was {max(known)}."
        remedy = 'Add the next ones, or a region, as in "GB-ENG", whose bank holidays Relay knows.'
        yield config.problem(("delivery", "bank_holidays"), said, remedy, warning=True)


def missed_later(settings: Settings) -> Iterator[Problem]:
    """Warns about settings that Relay can start without and will need later."""
    if settings.is_ledger_local:
        message = (
            "is SQLite, or not set: the ledger is a file on this machine's disk, lost with it. "
            "Web and worker on two machines would each have their own, and send nothing."
        )
        remedy = "Set it to a PostgreSQL, as in postgres://user:password@host/relay."
        yield wrong("DATABASE_URL", message, remedy, warning=True)
    sends = settings.delivery != "dry-run"
    for channel, row in CHANNELS.items():
        name = row.provider.receipts
        if sends and settings.accounts[channel] and name and not settings.receipts[channel]:
            why = f"Relay cannot learn whether {row.one} arrived"
            if not row.provider.has_list:
                why += ", or look up one that may not have gone out"
            yield wrong(name, f"is not set: {why}.", warning=True)
    if urlsplit(settings.public_url).path:
        message = "has a path: receipts reach Relay only if a proxy removes the path."
        yield wrong("PUBLIC_URL", message, warning=True)


def example_names(
    config: Config, rule: Rule, facts: Facts, data: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The names in a rule's template: `facts`, and `data` or three of the example's in a digest."""
    seen = names_for_event(config, rule, facts, data)
    if rule.digest:
        return digest_names(seen["clinic"], seen["recipient"], [seen] * (1 if data else 3))
    return seen


def example(
    config: Config,
    loaded: Templates,
    rule: Rule,
    channel: str,
    *,
    facts: Facts | None = None,
    data: Mapping[str, Any] | None = None,
    address: str = "",
    mark: str = "",
) -> Message:
    """A rule's message, about the lab's example unless others are given. Raises RenderError."""
    seen = example_names(config, rule, facts or samples.full(), data)
    return loaded.message(rule, channel, address, seen, mark)


def check_rule(config: Config, loaded: Templates, rule: Rule) -> Iterator[Problem]:
    """Yield the problems of one rule: its templates, their names and their rendering."""
    channels = rule.ways
    folder = loaded.folder / rule.template
    if not folder.is_dir():
        found = {path.name for path in loaded.folder.glob("*") if path.is_dir()}
        known = found - {alert_templates.FOLDER}
        remedy = did_you_mean(rule.template, known)
        at = ("rules", rule.name, "template")
        yield config.problem(at, f"there is no folder {folder}.", remedy)
        return
    is_digest = bool(rule.digest)
    faults = loaded.faults(rule.template, channels, rule.event, is_digest=is_digest)
    if faulty := not_jinja(loaded, faults):
        yield from faulty
        return
    yield from conditions.problems(config, rule)
    yield from fails(config, rule, "when", rule.when)
    for channel in channels:
        yield from check_rendering(config, loaded, rule, channel)
    for channel in channels:
        if CHANNELS[channel].in_segments:
            yield from check_segments(config, loaded, rule, channel)
    yield from hidden_characters(loaded, template_files(rule.template, channels))
    yield from unmeant.of_templates(loaded, rule, channels)
    yield from disclosure.problems(loaded, rule)


def check_language(config: Config, loaded: Templates, rule: Rule) -> Iterator[Problem]:
    """Yield a problem if a rule's language cannot be worked out, or no language has a folder."""
    folder = loaded.folder / rule.template
    yield from fails(config, rule, "language", rule.language)
    if rule.language and folder.is_dir() and not loaded.languages(rule.template):
        remedy = f"Make one, as in {folder / 'cy'}, with the same files."
        at = ("rules", rule.name, "language")
        yield config.problem(at, f"{folder} has no folder of a language.", remedy)


def fails(config: Config, rule: Rule, key: str, asked: Condition | None) -> Iterator[Problem]:
    """Yield a problem if a rule's expression cannot be worked out."""
    try:
        for facts in (samples.full(), samples.sparse(rule.event)) if asked else ():
            asked.holds(names_for_event(config, rule, facts))  # type: ignore[union-attr]
    except RenderError as error:
        yield config.problem(("rules", rule.name, key), str(error))


def check_rendering(
    config: Config, loaded: Templates, rule: Rule, channel: str
) -> Iterator[Problem]:
    """Yield a problem if a template fails with every field filled in, or with few."""
    try:
        yield from unmeant.of_message(loaded, rule, example(config, loaded, rule, channel))
    except RenderError as error:
        yield broken(loaded, error, "It fails even with every field filled in.")
        return
    try:
        sparse, least = samples.sparse(rule.event), samples.least(rule.event)
        seen = example_names(config, rule, sparse, least)
        loaded.message(rule, channel, "", seen)
    except RenderError as error:
        remedy = "The lab may leave this empty: write {{ name or 'something else' }}."
        yield broken(loaded, error, remedy, warning=True)


def check_alerts(config: Config, loaded: Templates) -> Iterator[Problem]:
    """Try each kind of alert on each channel, about a kit and a digest, with and without a link."""
    if not (loaded.folder / alert_templates.FOLDER).is_dir():
        said = "there is no such folder: alerts to staff go out in Relay's own plain words."
        yield in_file(loaded, alert_templates.FOLDER, said, "Copy it from Relay's templates/.")
        return
    made = AlertTemplates(loaded, config.clinic.record())
    if found := not_jinja(loaded, made.faults()):
        yield from found
        return
    words = map(alert_templates.words_file, alerts.KINDS)
    yield from hidden_characters(
        loaded, [*words, *template_files(alert_templates.FOLDER, ALERT_CHANNELS)]
    )
    link = alerts.link(config.policy, EXAMPLE_CASE) or alerts.WORKLIST
    most = config.delivery.max_sms_segments
    for kind in alerts.KINDS:
        full = CaseNames(EXAMPLE_CASE, kind, EXAMPLE_KIT, "Its reason.", 2, link, count=12)
        least = CaseNames(EXAMPLE_CASE, kind, EXAMPLE_KIT, "", is_digest=True)
        for channel in ALERT_CHANNELS:
            try:
                message = made.message(full, channel, "", "staff")
            except RenderError as error:
                yield broken(loaded, error, "It fails with every field filled in.")
                continue
            try:
                made.message(least, channel, "", "staff")
            except RenderError as error:
                remedy = "It may be empty: write {{ name or 'something else' }}."
                yield broken(loaded, error, remedy)
            if CHANNELS[channel].in_segments:
                size = sms_segments.size(message.text)
                file = alert_templates.words_file(kind)
                yield from costly_characters(loaded, file, size)
                if size.segments > most:
                    said = f"an alert with its title takes {size.segments} segments."
                    yield too_long_warning(loaded, file, said, most)


def in_file(
    loaded: Templates, file: str, message: str, remedy: str = "", line: int | None = None
) -> Problem:
    """A warning about a template's file."""
    return Problem(message, str(loaded.folder / file), line, remedy=remedy, warning=True)


def not_jinja(loaded: Templates, faults: Iterable[Fault]) -> list[Problem]:
    """The faults of templates' files as problems, each with its file and line."""
    return [Problem(one.message, str(loaded.folder / one.file), one.line) for one in faults]


def text_file(rule: Rule, channel: str) -> str:
    """The file of a rule's template that has its text on a channel."""
    return f"{rule.template}/{CHANNELS[channel].parts['text']}"


def broken(loaded: Templates, error: RenderError, remedy: str, *, warning: bool = False) -> Problem:
    """A template's mistake with file and line, in full: it can only quote the lab's example."""
    where, said = str(loaded.folder / error.file), str(error)
    if isinstance(error.__cause__, UndefinedError):
        said = f"{said.partition(': ')[0]}: {error.__cause__.message}."
    return Problem(said, where, error.line, remedy=remedy, warning=warning)


def check_segments(
    config: Config, loaded: Templates, rule: Rule, channel: str
) -> Iterator[Problem]:
    """Warns about an SMS that costs more than the admin may expect."""
    try:
        seen = example_names(config, rule, samples.full(samples.LONG_NAME))
        size = sms_segments.size(loaded.message(rule, channel, "", seen).text)
    except RenderError:
        return  # reported already
    most = config.delivery.max_sms_segments
    file = text_file(rule, channel)
    yield from costly_characters(loaded, file, size)
    if size.segments > most:
        message = (
            f"takes {size.segments} segments when the name is long. You pay for each, "
            f"for every {rule.to} that {rule.name} texts."
        )
        yield too_long_warning(loaded, file, message, most)


def costly_characters(loaded: Templates, file: str, size: sms_segments.Size) -> Iterator[Problem]:
    """Warns about the characters that make a text cost more, each with its file and line."""
    for culprit in size.culprits:
        name, line = written(loaded, file, culprit)
        message = (
            f'"{culprit}" (U+{ord(culprit):04X}) is not in the SMS alphabet: '
            "only 70 characters fit in a segment."
        )
        is_value = "It comes from a value, not from the template."
        yield in_file(loaded, name, message, "Use a plain character." if line else is_value, line)


def hidden_characters(loaded: Templates, files: Iterable[str]) -> Iterator[Problem]:
    """Warns about characters in files that are invisible, or that only look like a space."""
    for name in dict.fromkeys(name for file in files for name in loaded.named(file)):
        for line, column, char in sms_segments.hidden(loaded.source(name)):
            said = f"column {column} has a character that nobody sees: {char}."
            remedy = "Delete it, or write a plain blank. Relay sends texts without it."
            yield in_file(loaded, name, said, remedy, line)


def too_long_warning(loaded: Templates, file: str, message: str, most: int) -> Problem:
    """Return a warning that a template's text takes more than `most` SMS segments."""
    return in_file(loaded, file, message, f"Shorten it: max_sms_segments is {most}.")


def written(loaded: Templates, file: str, char: str) -> tuple[str, int | None]:
    """The file and line that have a character; no line if it is not in the template."""
    for name in loaded.named(file):
        for number, line in enumerate(loaded.source(name).split("\n"), 1):
            if char in line:
                return name, number
    return file, None


def files(settings: Settings, today: date, *, offline: bool) -> tuple[Config, list[Problem]]:
    """The config as far as it can be read, and its problems; `offline` checks only the files."""
    try:
        config, wrong = judge(read_config(settings.config), settings)
    except ConfigError as error:
        config, wrong = judge("", settings)[0], list(error.problems)
    loaded = Templates(settings.templates)
    found = wrong + templates(config, loaded)
    if wrong:
        return config, found + unread(config, loaded)
    found += unmeant.of_rules(config)
    if not offline:
        found += [*senders(config), *overruled(config)]
        found += dict.fromkeys(objecting(config, loaded))
    return config, [*found, *placeholders(config), *bank_holidays(config, today)]


def unread(config: Config, loaded: Templates) -> list[Problem]:
    """The Jinja mistakes in the templates of rules that could not be read."""
    used = {alert_templates.FOLDER, *(rule.template for rule in config.rules)}
    names = (path.relative_to(loaded.folder) for path in sorted(loaded.folder.rglob("*/*.*")))
    faults = (
        loaded.file_faults(name.as_posix(), lambda _tree: iter(()))
        for name in names
        if name.parts[0] not in used
    )
    return not_jinja(loaded, chain.from_iterable(faults))


def load(settings: Settings) -> Config:
    """The configuration, with every template tried. Raises ConfigError with every error."""
    config = load_config(settings)
    if wrong := [problem for problem in problems(config) if not problem.warning]:
        raise ConfigError(wrong)
    return config


def problems(config: Config) -> list[Problem]:
    """The problems of a configuration and its templates; some are only warnings."""
    loaded = Templates(config.settings.templates)
    return [*templates(config, loaded), *unmeant.of_rules(config), *senders(config)]
