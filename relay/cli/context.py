"""Opens a command's settings, config and ledger, and wakes a worker. Prints every problem, and
exits with 1.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from relay.errors import ConfigError, LedgerUnavailable, Problem

if TYPE_CHECKING:
    from relay.config.loader import Config
    from relay.config.settings import Settings
    from relay.ledger.database import Database


def settings() -> Settings:
    """The environment's settings."""
    found, problems = judged(to_serve=False)
    if problems:
        stop(*problems)
    return found


def judged(config: Path | None = None, *, to_serve: bool = True) -> tuple[Settings, list[Problem]]:
    """The settings, with another config.toml where one is named, and what is wrong with them."""
    from relay import logs
    from relay.config.settings import judge

    logs.set_up("ERROR", sys.stderr)  # what is asked for goes to stdout, and nothing else
    found, problems = judge(os.environ, to_serve=to_serve)
    return replace(found, config=config) if config else found, problems


def load(found: Settings) -> Config:
    """The config, with every template tried. Exits with 1 where there is an error."""
    from relay.config import check

    try:
        return check.load(found)
    except ConfigError as error:
        stop(*error.problems)


def in_use(found: Settings, db: Database) -> Config:
    """The config that is in use, the edition published last or else the files, with every template
    tried. Exits with 1 where there is an error.
    """
    from relay.config import check

    try:
        return rules_in_use(found, db, check.load)
    except ConfigError as error:
        stop(*error.problems)


def rules_in_use(
    found: Settings, db: Database, read: Callable[[Settings], Config] | None = None
) -> Config:
    """The config that is in use, without a look at its templates. Raises ConfigError."""
    from relay.config import loader, reload
    from relay.ledger.editions import Shelf

    return reload.in_use(found, read or loader.load, Shelf(db))


def last_good(found: Settings, db: Database) -> Config:
    """The config that is in use. Where a file has a mistake, the edition that web and worker go on
    with, and a warning. Exits with 1 where there is none.
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
    """The ledger. Exits with 1 when Relay cannot reach it."""
    from relay.ledger.database import Database

    db = Database(found.database_url, patience=10, connections=found.database_connections)
    try:
        yield db
    except LedgerUnavailable as error:
        remedy = "Is DATABASE_URL right? Has `flask relay upgrade` been run?"
        stop(Problem(f"{error}.", where="ledger", remedy=remedy))
    finally:
        db.close()


def address(named: str | None, what: str = "UK mobile number or email address") -> str:
    """The address given, or else one typed on a terminal, or stdin's first line.

    Platforms log a command's arguments, so an address is better not among them.
    """
    written = named
    if named in (None, "-"):
        if sys.stdin.isatty():
            written = str(click.prompt(what, err=True))
        else:
            written = sys.stdin.buffer.readline().decode("utf-8", "replace")
    if not (written and written.strip()):
        stop(Problem("no address given.", remedy=f"Give a {what}."))
    return written


def show(problem: Problem) -> None:
    """Print a problem, in colour on a terminal."""
    word, colour = ("warning", "yellow") if problem.warning else ("error", "red")
    click.echo(f"{click.style(word, fg=colour, bold=True)}: {problem}", err=True)


def stop(*problems: Problem) -> NoReturn:
    """Print the problems and exit with 1."""
    for problem in problems:
        show(problem)
    sys.exit(1)


class Since(click.ParamType[datetime]):
    """A duration back from now ("2h", "30d"), or a date."""

    name = "duration or date"

    def convert(self, value: Any, param: Any, ctx: Any) -> datetime:
        """The moment, in UTC."""
        from relay.rules.schedule import duration

        if isinstance(value, datetime):
            return value
        try:
            return datetime.now(UTC) - duration(value)
        except ValueError:
            pass
        try:
            return datetime.fromisoformat(value).astimezone(UTC)
        except ValueError:
            self.fail(f'"{value}": write a duration as in 2h or 30d, or a date as in 2026-11-24.')


def wake_worker(found: Settings) -> None:
    """Wake a worker now; it would look by itself within seconds."""
    if not found.redis_url:
        return
    from redis.exceptions import RedisError

    from relay import queue

    try:
        queue.wake(queue.connect(found, timeout=1))
    except (RedisError, OSError):
        show(
            Problem(
                "Relay cannot reach it. Workers will find the work by themselves, within seconds.",
                "redis",
                warning=True,
            )
        )
