"""Relay's few exceptions. `permanent` means that trying again cannot help."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


class RelayError(Exception):
    """Any failure that Relay names itself. `key` is its subject, `remedy` what to do."""

    permanent = False
    key = remedy = ""


class Refused(RelayError):
    """A webhook body that Relay refuses. `status` is the HTTP answer, `fields` the bad paths,
    `event` its name if that is known.
    """

    permanent = True

    def __init__(
        self,
        status: int,
        error: str,
        fields: Mapping[str, list[str]] | None = None,
        event: str = "",
    ):
        super().__init__(error)
        self.event = event
        self.status = status
        self.error = error
        self.fields = dict(fields or {})


@dataclass(frozen=True)
class Problem:
    """One thing wrong with config, templates, environment or connections, for a person to read."""

    message: str
    where: str = ""
    line: int | None = None
    key: str = ""
    remedy: str = ""
    warning: bool = False

    def __str__(self) -> str:
        place = f"{self.where}:{self.line}" if self.line else self.where
        text = ": ".join(part for part in (place, self.key, self.message) if part)
        return f"{text} {self.remedy}".rstrip()


class ConfigError(RelayError):
    """Settings with which Relay must not start. `problems` has every mistake in them."""

    permanent = True

    def __init__(self, problems: Sequence[Problem]):
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class LedgerUnavailable(RelayError):
    """The database is down, locked, read-only, full or not migrated."""


class LabError(RelayError):
    """The lab's API did not return what was asked for. `retry_after` is in seconds, if named.

    It `failed` if the fault is the lab's own, and not an answer about the one record.
    """

    def __init__(
        self,
        reason: str,
        *,
        missing: bool = False,
        refused: bool = False,
        failed: bool = False,
        status: int = 0,
        retry_after: float | None = None,
    ):
        super().__init__(reason)
        self.missing = missing
        self.refused = refused
        self.failed = failed or refused
        self.status = status
        self.retry_after = retry_after


class LabAway(LabError):
    """The lab is down or refuses the token: only a probe asks it, and work that needs it waits."""


class NotReady(LabError):
    """The lab's API contradicts an event, and may catch up. `facts` are its present answer."""

    def __init__(self, reason: str, facts: object = None):
        super().__init__(reason)
        self.facts = facts


class RenderError(RelayError):
    """A template that could not be rendered. Its message names no person; it has the file, within
    the templates' folder, and the line if they are known.
    """

    permanent = True

    def __init__(self, reason: str, file: str = "", line: int | None = None):
        super().__init__(reason)
        self.file = file
        self.line = line


def meaning(error: BaseException | None, known: Mapping[str, str]) -> str:
    """What an error means, from its text or a cause's, else its kind: its own text may hold a
    password. `known` maps parts of such texts to what each means.
    """
    said, cause = "", error
    while cause is not None:
        said, cause = (
            f"{said} {type(cause).__name__} {cause}".casefold(),
            cause.__cause__ or cause.__context__,
        )
    found = (meant for part, meant in known.items() if part.casefold() in said)
    return next(found, type(error).__name__)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A remedy for an unknown word: the nearest known word, else all of them."""
    options = sorted(known)
    near = difflib.get_close_matches(word, options, n=1, cutoff=0.6)
    if near:
        return f'Did you mean "{near[0]}"?'
    return f"Choose from: {', '.join(options)}." if options else ""
