"""The few exceptions of Relay. `permanent` says whether trying again can help."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


class RelayError(Exception):
    """Any failure that Relay names itself. `key` is what it is about, `remedy` what to do."""

    permanent = False
    key = remedy = ""


class Refused(RelayError):
    """A webhook body that Relay refuses. `status` is the HTTP answer, `fields` the bad paths,
    `event` its name where it is known.
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
    """Settings that Relay must not start with. `problems` has every one of them."""

    permanent = True

    def __init__(self, problems: Sequence[Problem]):
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class LedgerUnavailable(RelayError):
    """The database is down, locked, read-only, full or not migrated."""


class LabError(RelayError):
    """The lab's API did not give what was asked. `retry_after` is in seconds, when it named one.

    It `failed` where that is no answer about the one record, but the lab's own trouble.
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
    """The lab is away or refuses the token: nobody asks it but a probe, and what needs it waits."""


class NotReady(LabError):
    """The lab's API contradicts an event: it may catch up. `facts` are what it says meanwhile."""

    def __init__(self, reason: str, facts: object = None):
        super().__init__(reason)
        self.facts = facts


class RenderError(RelayError):
    """A template that could not be rendered. Its message names no person; the file, within the
    templates' folder, and its line are there where they are known.
    """

    permanent = True

    def __init__(self, reason: str, file: str = "", line: int | None = None):
        super().__init__(reason)
        self.file = file
        self.line = line


def meaning(error: BaseException | None, known: Mapping[str, str]) -> str:
    """What an error means, by what it or one of its causes says, else its kind: its own text may
    hold a password. `known` has parts of such texts and what each means.
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
    """A remedy for an unknown word: the nearest known one, else all of them."""
    options = sorted(known)
    near = difflib.get_close_matches(word, options, n=1, cutoff=0.6)
    if near:
        return f'Did you mean "{near[0]}"?'
    return f"Choose from: {', '.join(options)}." if options else ""
