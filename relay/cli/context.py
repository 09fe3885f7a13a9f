"""Opens a command's settings, config and ledger, wakes a worker, and prints every problem."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from relay.errors import ConfigError, Problem, did_you_mean

if TYPE_CHECKING:
    from relay.config.loader import Config
    from relay.config.settings import Settings
    from relay.ledger.database import Database


def settings() -> Settings:
    """The settings in the environment. Raises ConfigError."""
    found, problems = judged(to_serve=False)
    if problems:
        raise ConfigError(problems)
    return found


def judged(config: Path | None = None, *, to_serve: bool = True) -> tuple[Settings, list[Problem]]:
    """The settings, with another config.toml if one is named, and the problems with them."""
    from relay import logs
    from relay.config.settings import judge

    logs.set_up("ERROR", sys.stderr)  # stdout is only for the command's output
    found, problems = judge(os.environ, to_serve=to_serve)
    return replace(found, config=config) if config else found, problems


def load(found: Settings) -> Config:
    """The config, with every template tried. Raises ConfigError."""
    from relay.config import check

    return check.load(found)


def in_use(found: Settings, db: Database) -> Config:
    """The last published edition, or else the files, every template tried. Raises ConfigError."""
    from relay.config import check

    return rules_in_use(found, db, check.load)


def rules_in_use(
    found: Settings, db: Database, read: Callable[[Settings], Config] | None = None
) -> Config:
    """The config in use, without a check of its templates. Raises ConfigError."""
    from relay.config import loader, reload
    from relay.ledger.editions import Shelf

    return reload.in_use(found, read or loader.load, Shelf(db))


def last_good(found: Settings, db: Database) -> Config:
    """The config in use. If a file has a mistake, print a warning and return the edition that web
    and worker still use. Exits with 1 if there is none.
    """
    from relay.config import loader, reload
    from relay.ledger.editions import Shelf

    try:
        return rules_in_use(found, db)
    except ConfigError as error:
        if newest := Shelf(db).newest():
            said = f"it has a mistake, so edition {newest.number} stays in use."
            remedy = "Run `flask relay check`."
            show(Problem(said, "config.toml", remedy=remedy, warning=True))
            with suppress(ConfigError):
                return reload.published(found, loader.load, Shelf(db), newest)
        stop(*error.problems)


@contextmanager
def ledger(found: Settings) -> Iterator[Database]:
    """Open the ledger for a `with` block, and close it afterwards."""
    from relay.ledger.database import Database

    db = Database(found.database_url, patience=10, connections=found.database_connections)
    try:
        yield db
    finally:
        db.close()


@contextmanager
def opened() -> Iterator[tuple[Config, Database]]:
    """Open the config in use and the ledger for a `with` block. Raises ConfigError."""
    found = settings()
    with ledger(found) as db:
        yield in_use(found, db), db


@contextmanager
def doing(key: str = "") -> Iterator[None]:
    """Run a block that may raise NotDone: then print the reason, about `key`, and exit with 1."""
    from relay.ledger.audit import NotDone

    try:
        yield
    except NotDone as error:
        stop(Problem(str(error), key=key))


def known(word: str, options: Collection[str], what: str) -> None:
    """If a word is not one of the options, name the nearest ("no such rule") and exit with 1."""
    if word not in options:
        remedy = did_you_mean(word, options)
        stop(Problem(f"there is no such {what}.", key=word, remedy=remedy))


def address(named: str | None, what: str = "UK mobile number or email address") -> str:
    """The address given, or else one typed on a terminal, or stdin's first line.

    Platforms log a command's arguments, so it is better not to give an address there.
    """
    if named is None or named == "-":
        if sys.stdin.isatty():
            named = str(click.prompt(what, err=True))
        else:
            named = sys.stdin.buffer.readline().decode("utf-8", "replace")
    if not named.strip():
        stop(Problem("no address given.", remedy=f"Give a {what}."))
    return named


def show(problem: Problem) -> None:
    """Print a problem, in colour on a terminal."""
    word, colour = ("warning", "yellow") if problem.warning else ("error", "red")
    click.echo(f"{click.style(word, fg=colour, bold=True)}: {problem}", err=True)


def show_all(problems: Sequence[Problem]) -> None:
    """Print problems, and exit with 1 if any of them is more than a warning."""
    for problem in problems:
        show(problem)
    if not all(problem.warning for problem in problems):
        raise SystemExit(1)


def stop(*problems: Problem) -> NoReturn:
    """Print the problems and exit with 1."""
    show_all(problems)
    raise SystemExit(1)


class Since(click.ParamType[datetime]):
    """A duration back from now ("2h", "30d"), or a date."""

    name = "duration or date"

    def convert(self, value: Any, param: Any, ctx: Any) -> datetime:
        """Return the moment, in UTC."""
        from relay.rules.schedule import duration

        if isinstance(value, datetime):
            return value
        with suppress(ValueError):
            return datetime.now(UTC) - duration(value)
        try:
            return datetime.fromisoformat(value).astimezone(UTC)
        except ValueError:
            self.fail(f'"{value}": write a duration as in 2h or 30d, or a date as in 2026-11-24.')


def wake_worker(found: Settings) -> None:
    """Wake a worker now. Without this it would look by itself within seconds."""
    if not found.redis_url:
        return
    from redis.exceptions import RedisError

    from relay import queue

    try:
        queue.wake(queue.connect(found, timeout=1))
    except (RedisError, OSError):
        said = "Relay cannot reach it. Workers will find the work by themselves, within seconds."
        show(Problem(said, "redis", warning=True))
