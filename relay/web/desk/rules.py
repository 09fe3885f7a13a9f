"""The desk's rules: config.toml as it is understood, what is wrong with it, and an edit tried."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from flask import request
from flask_login import login_required

from relay.config import check, plain_english
from relay.config.loader import parse
from relay.errors import ConfigError, Problem
from relay.privacy import masks
from relay.web import health
from relay.web.desk import edits
from relay.web.desk.frame import blueprint, note_act, page
from relay.web.here import here

_AROUND = 1  # lines of a file that are shown before and behind a mistake


class Mistake(NamedTuple):
    """A problem, and the lines of its file around it: (number, text, whether it is this one)."""

    problem: Problem
    file: str
    said: str
    lines: Sequence[tuple[int, str, bool]]


@blueprint.get("/rules")
@login_required  # type: ignore[untyped-decorator]
def rules() -> str:
    """The rules in use, in plain English."""
    return _rules()


@blueprint.post("/rules")
@login_required  # type: ignore[untyped-decorator]
def try_edit() -> Any:
    """What is wrong with an edited config.toml, or what it would have changed. Nothing is kept.

    Pressed "Load", the file itself: it has addresses, so who looked is noted first.
    """
    settings = here().settings
    if request.form.get("act") == "load":
        note_act("reveal", settings.config.name)
        return _rules(text=_read(str(settings.config)), loaded=True)
    text = request.form.get("text", "").replace("\r\n", "\n")
    if not text.strip():
        return _rules(blank=True)
    try:
        edited = parse(text, settings)
        wrong = check.problems(edited)
    except ConfigError as error:
        return _rules(text=text, found=[*_mistakes(error.problems, text)])
    found = [*_mistakes(wrong, text)]
    if any(not problem.warning for problem in wrong):
        return _rules(text=text, found=found)
    tried = edits.compare(here().db, edited, here().config, datetime.now(UTC))
    changes = [*edits.changes(edited, here().config)]
    return _rules(text=text, found=found, tried=tried, changes=changes, edited=edited)


def _rules(*, text: str = "", **tried: Any) -> str:
    config = here().config
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
        wrong=[*_mistakes(health.problems())],
        file=config.settings.config.name,
        text=text,
        days=edits.DAYS,
        words=edits.WHAT,
        **tried,
    )


def _mistakes(problems: Sequence[Problem], text: str | None = None) -> Iterator[Mistake]:
    """Problems as they are shown: staff's addresses may stand in the lines of config.toml."""
    own = here().settings.config
    for problem in problems:
        is_config = problem.where == str(own)
        source = text if is_config and text is not None else _read(problem.where)
        file = own.name if is_config else _short(problem.where)
        said = masks.inside(f"{problem.message} {problem.remedy}".strip())
        folder = here().settings.templates  # where it is on the server is nobody's matter
        said = said.replace(str(folder), folder.name)
        yield Mistake(problem, file, said, [*_around(source, problem.line)])


def _around(source: str, line: int | None) -> Iterator[tuple[int, str, bool]]:
    if line is None:
        return
    for number, written in enumerate(source.splitlines(), 1):
        if abs(number - line) <= _AROUND:
            yield number, masks.inside(written), number == line


def _read(where: str) -> str:
    """A file of ours that a problem is in. What is not UTF-8 is told by the problem."""
    settings, path = here().settings, Path(where)
    if path != settings.config and settings.templates not in path.parents:
        return ""
    try:
        return path.read_text("utf-8-sig", errors="replace")
    except OSError:
        return ""


def _short(where: str) -> str:
    """A template's path as an admin knows it."""
    folder = here().settings.templates
    path = Path(where)
    return str(path.relative_to(folder.parent)) if folder in path.parents else where
