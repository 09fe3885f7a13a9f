"""The acts of people on editions, and of a release: compare, publish, take back."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from relay.config import check, edition_files, plain_english
from relay.config.edition_files import CONFIG
from relay.config.loader import parse
from relay.config.settings import Settings
from relay.errors import ConfigError, Problem
from relay.ledger import editions
from relay.ledger.audit import NO_NOTE, NotDone
from relay.ledger.database import Connection, Database
from relay.rules.edition import DESK, FILES, Content, Edition, digest
from relay.rules.model import Policy, Rule
from relay.staff import judging

SAME_IN_WORDS = "What can be said in plain English is the same."
AS_FILES = "files"  # the name, among editions, of the files as they are now
TOO_LATE = "Somebody has published edition {} meanwhile. Look at it, and publish again."


def errors(found: Sequence[Problem]) -> list[Problem]:
    """The problems that prevent an edition from being used."""
    return [problem for problem in found if not problem.warning]


def publish(
    db: Database,
    files: Content,
    after: Edition | None,
    by: str,
    note: str,
    found: Sequence[Problem],
) -> int:
    """Make files the current edition, if the one they are based on is still the newest; return its
    number. `found` has the problems with them. Raises NotDone and ConfigError. It owns its
    transaction.
    """
    if not note.strip():
        raise NotDone(NO_NOTE)
    if after and after.digest == digest(files):
        raise NotDone(f"It is the same as edition {after.number}, the newest.")
    if wrong := errors(found):
        raise ConfigError(wrong)
    with db.write() as connection:
        number = editions.add(connection, after, files, by, note.strip(), DESK)
        if number is None:
            newest = editions.newest(connection)
            raise NotDone(TOO_LATE.format(newest.number if newest else ""))
    return number


def first(db: Database, settings: Settings) -> None:
    """Keep the files as the first edition if there is none, so that later releases can compare."""
    with db.read() as connection:
        is_first = editions.newest(connection) is None
    if is_first:
        release(db, settings)


@dataclass(frozen=True)
class Released:
    """The result of a release: an edition of its files, or why there is none."""

    number: int | None = None  # that the files became
    wrong: Sequence[Problem] = ()  # with the files; or with `newest`, in this version
    base: Edition | None = None  # both the files and `newest` have changed since this one
    newest: Edition | None = None  # people published it, and it stops the release


def release(db: Database, settings: Settings) -> Released:
    """Make a release's changed files the next edition, if they include all published changes."""
    with db.read() as connection:
        newest, base = editions.newest(connection), editions.last_from_files(connection)
        used = named(connection, settings, str(newest.number)) if newest else {}
    try:
        files = edition_files.read(settings)
        if base and base.digest == digest(files):
            wrong = errors(judging.judge(used, settings)) if newest and newest.is_published else []
            return Released(wrong=wrong, newest=newest if wrong else None)
        check.load(settings)
    except ConfigError as error:
        return Released(wrong=error.problems)
    if newest and newest.is_published:
        has_it = newest.digest == digest(files) or edition_files.mark(settings) == newest.number
        if not has_it:
            return Released(base=base, newest=newest)
    note = "Brought by a release."
    return Released(db.transact(editions.add, newest, files, "release", note, FILES))


def named(connection: Connection, settings: Settings, name: str) -> Content:
    """An edition's files by its number, or by "files" those of now. Raises NotDone."""
    if name == AS_FILES:
        return edition_files.read(settings)
    files = editions.content(connection, int(name)) if name.isdecimal() else None
    if files is None:
        raise NotDone(f'There is no edition "{name}": `flask relay edition list` shows all.')
    return files


def difference(before: Content, after: Content, settings: Settings) -> Iterator[str]:
    """Yield the differences between two editions: in plain English, then line by line."""
    yield from [*in_words(before, after, settings)] or [SAME_IN_WORDS]
    yield ""
    yield from by_lines(before, after)


def in_words(before: Content, after: Content, settings: Settings) -> Iterator[str]:
    """Yield new, gone or changed rules and clinic settings in sentences, then templates."""
    old, new = (_sentences(files, settings) for files in (before, after))
    for name in dict.fromkeys((*old, *new)):
        was, now = old.get(name, ()), new.get(name, ())
        if was == now:
            continue
        what = "changed" if was and now else "new" if now else "gone"
        yield f"{name}: {what}."
        yield from (f"  before: {sentence}" for sentence in was if sentence not in now)
        yield from (f"  now: {sentence}" for sentence in now if sentence not in was)
    texts = [name for name in _changed(before, after) if name != CONFIG]
    if texts:
        yield f"Words changed in: {', '.join(texts)}."


def _sentences(files: Content, settings: Settings) -> Mapping[str, Sequence[str]]:
    """An edition's sentences about each rule, expected step and the clinic, if it can be read."""
    try:
        config = parse(files.get(CONFIG, ""), settings)
    except ConfigError:
        return {CONFIG: ["This version of Relay cannot read it."]}
    said = plain_english.expected
    steps = {
        f"Expected step {one.name}": [said(one.after, one.event, one.within, one.to)]
        for one in config.expect
    }
    rules = {f"Rule {rule.name}": [*_of_rule(rule, config.policy)] for rule in config.rules}
    return {**rules, **steps, "The clinic": plain_english.clinic_sentences(config)}


def _of_rule(rule: Rule, policy: Policy) -> Iterator[str]:
    yield from plain_english.rule_sentences(rule, policy)
    yield f"Its words are in templates/{rule.template}."
    if not rule.enabled:
        yield "It is switched off."


def by_lines(before: Content, after: Content) -> Iterator[str]:
    """Yield the lines that differ, file by file, as `diff -u` shows them."""
    for name in _changed(before, after):
        old, new = (files.get(name, "").splitlines() for files in (before, after))
        yield from difflib.unified_diff(old, new, f"before/{name}", f"now/{name}", lineterm="")


def _changed(before: Content, after: Content) -> list[str]:
    return [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
