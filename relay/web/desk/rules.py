"""The desk's rules: config.toml as Relay understands it, and its mistakes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from relay.config import plain_english
from relay.config.toml_reader import LONGEST_LINE
from relay.errors import Problem
from relay.privacy import masks
from relay.rules.edition import Content
from relay.staff.roles import LOOK
from relay.web import health
from relay.web.desk.layout import blueprint, page, requires
from relay.web.services import services

MOST = 50  # mistakes that a page shows
_AROUND = 1  # lines of a file to show before and after a mistake


class Mistake(NamedTuple):
    """A problem, and the lines of its file around it: (number, text, whether it is the line)."""

    problem: Problem
    file: str
    said: str
    lines: Sequence[tuple[int, str, bool]]


@blueprint.get("/rules")
@requires(LOOK)
def rules() -> str:
    """The rules in use, in plain English."""
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
    )


def mistakes(problems: Sequence[Problem], files: Content | None = None) -> Iterator[Mistake]:
    """Problems as a page shows them, masked, since lines of config.toml may have staff's addresses.
    The lines come from `files` (name → text) if given, else from this machine's files.
    """
    settings = services().config.settings
    for problem in problems[:MOST]:
        source = _read(problem.where) if files is None else files.get(problem.where, "")
        said = masks.inside(f"{problem.message} {problem.remedy}".strip())
        # Readers need not know where the folder is on the server.
        said = said.replace(str(settings.templates), settings.templates.name)
        yield Mistake(problem, short(problem.where), said, [*_around(source, problem.line)])


def _around(source: str, line: int | None) -> Iterator[tuple[int, str, bool]]:
    if line is None:
        return
    for number, written in enumerate(source.splitlines(), 1):
        if abs(number - line) <= _AROUND:
            yield number, masks.inside(written)[:LONGEST_LINE], number == line


def _read(where: str) -> str:
    """The text of a file of ours with a problem; empty for any other. Replaces invalid UTF-8."""
    settings, path = services().config.settings, Path(where)
    if path != settings.config and settings.templates not in path.parents:
        return ""
    try:
        return path.read_text("utf-8-sig", errors="replace")
    except OSError:
        return ""


def short(where: str) -> str:
    """A file's path as an admin knows it."""
    settings, path = services().config.settings, Path(where)
    if path == settings.config:
        return path.name
    folder = settings.templates
    return str(path.relative_to(folder.parent)) if folder in path.parents else where
