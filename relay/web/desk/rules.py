"""The desk's rules: config.toml as Relay understands it, its mistakes, and an edit tried out.

An edit is compared with what was sent lately, as far back as a page's time allows.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from flask import request

from relay.config import check, plain_english
from relay.config.loader import Config, parse
from relay.config.plain_english import rule_sentences
from relay.config.toml_reader import LONGEST_LINE
from relay.errors import ConfigError, LedgerUnavailable, Problem
from relay.lab.facts import PERSONS
from relay.ledger.database import Database
from relay.ledger.views import kit_history
from relay.messages.templates import Templates
from relay.privacy import masks
from relay.rules.edition import Content
from relay.rules.model import Rule
from relay.staff.looks import REVEAL, WHAT_IF
from relay.staff.roles import ACT, EDIT, LOOK
from relay.staff.what_if import EITHER_WAY, SENT, WOULD, Line, WhatIf, renamed
from relay.web import health
from relay.web.desk.layout import blueprint, me, note_look, page, requires
from relay.web.desk.previews import Shown, examples
from relay.web.services import services

DAYS, SECONDS = 7, 3.0
SHOWN = 20
WHAT = {
    "added": "added",
    "dropped": "dropped",
    "changed": "changed",
    "cannot-be-told": "cannot tell",
}


@dataclass(frozen=True)
class Tried:
    """What came of it. `looked` of `events` were played: the latest."""

    events: int
    looked: int
    counts: Mapping[str, Mapping[str, int]]  # rule → what → how many
    lines: Sequence[Line]  # the latest of the differences
    more: int
    renamed: Sequence[tuple[str, str]]
    failed: bool = False  # the ledger did not answer in time
    is_edit: bool = True  # some rule decides otherwise than by the config in use

    @property
    def differs(self) -> bool:
        """Whether the edit would have changed anything of what was looked at."""
        return bool(self.lines)


@dataclass(frozen=True)
class Change:
    """A rule that an edit brings, changes or takes out, in words, and its messages."""

    what: str
    rule: Rule
    sentences: Sequence[str]
    shown: Sequence[Shown] = ()


def rule_changes(
    edited: Config, current: Config, touched: Collection[str] = ()
) -> Iterator[Change]:
    """What an edit makes of the rules: of one that is the same in words and keys, nothing, unless
    its template was `touched`.
    """
    loaded = Templates(edited.settings.templates)
    before = {rule.name: (rule, rule_sentences(rule, current.policy)) for rule in current.rules}
    for rule in edited.rules:
        now = (rule, rule_sentences(rule, edited.policy))
        if before.get(rule.name) != now or rule.template in touched:
            what = "changed" if rule.name in before else "new"
            yield Change(what, *now, [*examples(edited, loaded, rule)])
    kept = {rule.name for rule in edited.rules}
    yield from (Change("gone", *one) for name, one in before.items() if name not in kept)


def compare(db: Database, edited: Config, current: Config, now: datetime) -> Tried:
    """Play an edit to the last days, the latest kits first, until the time is up."""
    since, ends = now - timedelta(days=DAYS), time.monotonic() + SECONDS
    compared, looked = WhatIf(edited, current, since), 0
    again = [*renamed(edited, current)]
    if not compared.is_edit:
        return Tried(0, 0, {}, (), 0, again, is_edit=False)
    try:
        with db.read() as connection:
            kits = kit_history.kits(connection, since)
        for batch in kit_history.batches(kits[::-1]):
            if time.monotonic() > ends:
                break
            with db.read() as connection:
                histories = kit_history.histories(connection, batch, compared.events)
            for history in histories:
                compared.take(history)
            looked += sum(kit.events for kit in batch)
    except LedgerUnavailable:
        return Tried(0, 0, {}, (), 0, again, failed=True)
    lines = [line for line in compared.lines if line.what != EITHER_WAY]
    lines.sort(key=lambda line: (line.at, line.event_id, line.rule, line.channel), reverse=True)
    counts = {
        rule.name: {what: compared.counts[rule.name][what] for what in (SENT, WOULD, *WHAT)}
        for rule in {one.name: one for one in (*current.rules, *edited.rules)}.values()
        if any(compared.counts[rule.name][what] for what in WHAT)
    }
    events = sum(kit.events for kit in kits)
    return Tried(events, looked, counts, lines[:SHOWN], max(0, len(lines) - SHOWN), again)


MOST = 50  # mistakes that a page shows
_AROUND = 1  # lines of a file that are shown before and behind a mistake


class Mistake(NamedTuple):
    """A problem, and the lines of its file around it: (number, text, whether it is this one)."""

    problem: Problem
    file: str
    said: str
    lines: Sequence[tuple[int, str, bool]]


@blueprint.get("/rules")
@requires(LOOK)
def rules() -> str:
    """The rules in use, in plain English."""
    return _rules()


@blueprint.post("/rules")
@requires(EDIT)
def try_edit() -> Any:
    """What is wrong with an edited config.toml, or what it would have changed. Nothing is kept.

    Pressed "Load", the file itself: it has addresses, so who looked is noted first.
    """
    settings = services().config.settings
    if request.form.get("act") == "load":
        note_look(REVEAL, settings.config.name, "the file")
        return _rules(text=_read(str(settings.config)), loaded=True)
    text = request.form.get("text", "").replace("\r\n", "\n")
    if not text.strip():
        return _rules(blank=True)
    try:
        edited = parse(text, settings)
        wrong = check.problems(edited)
    except ConfigError as error:
        return _rules(text=text, found=[*mistakes(error.problems, text)])
    found = [*mistakes(wrong, text)]
    if any(not problem.warning for problem in wrong):
        return _rules(text=text, found=found)
    return _rules(text=text, found=found, **tried_out(edited))


def tried_out(edited: Config, touched: Collection[str] = ()) -> dict[str, Any]:
    """What an edit without mistakes would have changed, for the page that shows it."""
    config = services().config
    if asks := [rule for rule in edited.rules if asks_who(rule, config)]:
        if not me().may(ACT):
            return {"about_people": asks}
        note_look(WHAT_IF, config.settings.config.name, f"{len(asks)} conditions about people")
    tried = compare(services().db, edited, config, datetime.now(UTC))
    changes = [*rule_changes(edited, config, touched)]
    return {"tried": tried, "changes": changes, "edited": edited, "words": WHAT, "days": DAYS}


def asks_who(rule: Rule, current: Config) -> bool:
    """Whether an edit's rule has a new condition about who people are: its counts would tell."""
    before, when = current.rule(rule.name), rule.when
    if when is None or (before and before.when == when):
        return False
    return bool(masks.WHO & when.fields or {*PERSONS, "recipient"} & when.roots)


def _rules(*, text: str = "", **tried: Any) -> str:
    config = services().config
    policy = config.policy
    cards = [(rule, plain_english.rule_sentences(rule, policy)) for rule in config.rules]
    steps = [
        plain_english.expected(one.after, one.event, one.within, one.to) for one in config.expect
    ]
    return page(
        "rules.html",
        cards=cards,
        steps=steps,
        besides=plain_english.clinic_sentences(config),
        window=plain_english.window(policy.send_window, policy),
        wrong=[*mistakes(health.problems())],
        file=config.settings.config.name,
        text=text,
        **tried,
    )


def mistakes(
    problems: Sequence[Problem], text: str | None = None, files: Content | None = None
) -> Iterator[Mistake]:
    """Problems as they are shown: staff's addresses may stand in the lines of config.toml. They are
    in the files of this machine, unless `files` are given, by name.
    """
    own = services().config.settings.config
    for problem in problems[:MOST]:
        is_config = problem.where == str(own)
        source = text if is_config and text is not None else _read(problem.where)
        source = files.get(problem.where, "") if files is not None else source
        file = own.name if is_config else short(problem.where)
        said = masks.inside(f"{problem.message} {problem.remedy}".strip())
        folder = (
            services().config.settings.templates
        )  # where it is on the server is nobody's matter
        said = said.replace(str(folder), folder.name)
        yield Mistake(problem, file, said, [*_around(source, problem.line)])


def _around(source: str, line: int | None) -> Iterator[tuple[int, str, bool]]:
    if line is None:
        return
    for number, written in enumerate(source.splitlines(), 1):
        if abs(number - line) <= _AROUND:
            yield number, masks.inside(written)[:LONGEST_LINE], number == line


def _read(where: str) -> str:
    """A file of ours that a problem is in. What is not UTF-8 is told by the problem."""
    settings, path = services().config.settings, Path(where)
    if path != settings.config and settings.templates not in path.parents:
        return ""
    try:
        return path.read_text("utf-8-sig", errors="replace")
    except OSError:
        return ""


def short(where: str) -> str:
    """A template's path as an admin knows it."""
    folder = services().config.settings.templates
    path = Path(where)
    return str(path.relative_to(folder.parent)) if folder in path.parents else where
