"""The configuration as it is now: the last published edition, or else the files here. If that is
broken, the last good one stays in use.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from relay.config import edition_files
from relay.config.loader import Config, placeholders
from relay.config.settings import Settings
from relay.errors import ConfigError, LedgerUnavailable, Problem
from relay.logs import get_logger
from relay.rules.edition import Content, Edition, digest

log = get_logger("relay.config")

LOOK_SECONDS = 5.0
SETTLED_SECONDS = 2.0  # a file that changed more recently may be incomplete
START_SECONDS = 10.0  # the longest that a start waits for files that are being written
REQUEST_SECONDS = 1.0  # the longest that a request waits for a look: the ledger may be down

Stamps = tuple[tuple[str, int, int], ...]


class Shelf(Protocol):
    """Where editions are kept: see relay.ledger.editions. Raises LedgerUnavailable."""

    def newest(self) -> Edition | None:
        """The edition that should be in use."""

    def content(self, number: int) -> Content:
        """An edition's files."""

    def number(self, digest: str) -> int | None:
        """The number of the latest edition whose files have this digest; None if none has."""

    def follow(self, after: Edition | None, files: Content) -> int | None:
        """Keep a machine's files as the next edition, if this process may; return its number."""


class ConfigReloader:
    """Holds a configuration, and loads each edition or, while none is published, each edit."""

    def __init__(
        self, settings: Settings, read: Callable[[Settings], Config], shelf: Shelf | None = None
    ):
        self._read = read
        self._shelf = shelf
        self._lock = threading.Lock()
        self._stamps = await_settled(settings)  # before we read them, to see later changes
        self._files = self._config = read(settings)  # of the files here; the one in use
        self._seen, self._seen_at = self._stamps, 0.0  # stamps at the last look; since when
        self._newest: Edition | None = None
        self._known: object = "nothing yet"  # stamps and newest edition at the last look
        self._digest = ""  # of the files in use
        self._next = time.monotonic() + (LOOK_SECONDS if shelf is None else 0.0)
        # The present mistakes in the files here, and in the published edition.
        self._wrong_files: ConfigError | None = None
        self._wrong_edition: ConfigError | None = None
        tell_placeholders(self._config)
        if settings.is_ledger_local:
            log.warning("the ledger is SQLite, on this machine's disk", variable="DATABASE_URL")

    @property
    def config(self) -> Config:
        """The last good one. Now and then it looks for a newer one first, but not for long."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + LOOK_SECONDS  # other threads need not look
            looking = threading.Thread(target=self.look, daemon=True)
            looking.start()
            looking.join(REQUEST_SECONDS)
        return self._config

    @property
    def is_published(self) -> bool:
        """Whether a published edition should be in use, and not the files here."""
        return self._newest is not None and self._newest.is_published

    @property
    def wrong(self) -> ConfigError | None:
        """The mistakes in the configuration that should be in use; None if it is right."""
        return self._wrong_edition if self.is_published else self._wrong_files

    @property
    def is_settling(self) -> bool:
        """Whether files have changed that are not loaded yet, since they may still be changing."""
        return self._seen != self._stamps

    def look(self) -> bool:
        """Load the configuration that should be in use; return whether it is another one."""
        with self._lock:
            before = self._config
            self._look_at_files()
            if self._shelf:
                with suppress(LedgerUnavailable):  # nothing is published until it is back
                    self._look_at_editions(self._shelf)
            # A machine with files older than the newest edition keeps what was published before.
            is_old = self._config.held and self._files.edition != getattr(self._newest, "number", 0)
            if not (self.is_published or is_old):
                self._config = self._files
            if self._config is before:
                return False
            log.info("config reloaded", edition=self._config.edition)
            tell_placeholders(self._config)
            return True

    def _look_at_files(self) -> None:
        """Read the files if one has changed, once none has changed for two seconds."""
        at, settings = time.monotonic(), self._files.settings
        found = stamps(settings)
        if found != self._seen:
            self._seen, self._seen_at = found, at
        is_settled = at - self._seen_at >= SETTLED_SECONDS
        self._next = at + (LOOK_SECONDS if is_settled else SETTLED_SECONDS)
        if found == self._stamps or not is_settled:
            return
        self._stamps = found
        try:
            self._files, self._wrong_files = self._read(settings), None
        except ConfigError as error:
            self._wrong_files = error
            lines = sorted({problem.line for problem in error.problems if problem.line})
            log.error("config broken, the last good one is kept", lines=lines)

    def _look_at_editions(self, shelf: Shelf) -> None:
        """Use a published edition, or find out which edition the files here are."""
        newest = shelf.newest()
        known = (self._stamps, newest and newest.number)
        if known == self._known:
            return
        self._newest = newest
        try:
            files = edition_files.read(self._files.settings)
            if stamps(self._files.settings) != self._stamps:
                return  # the files are changing
            if newest and newest.is_published:
                self._take(shelf, newest, digest(files))
            elif not self._wrong_files:
                self._name_files(shelf, newest, files)
        except (ConfigError, OSError) as error:
            log.error("edition not known", reason=str(error))
        self._known = known

    def _take(self, shelf: Shelf, newest: Edition, files: str) -> None:
        """Use a published edition, and note if somebody has edited files in vain."""
        if newest.number != self._config.edition:
            try:
                self._config = published(self._files.settings, self._read, shelf, newest)
            except ConfigError as error:
                self._wrong_edition = error
                log.error("edition broken, the last good one is kept", edition=newest.number)
                return
        is_known = newest.digest == files or shelf.number(files) is not None
        self._wrong_edition = None if is_known else ConfigError([not_taken(newest)])

    def _name_files(self, shelf: Shelf, newest: Edition | None, files: Content) -> None:
        """Give the files in use the number of their edition; new files become an edition."""
        found = digest(files)
        if newest and newest.digest == found:
            number: int | None = newest.number
        else:
            number = shelf.number(found)
            if number is None or (newest and newest.digest == self._digest):
                number = shelf.follow(newest, files) or number
        self._digest = found
        if self._files.edition != number:
            self._files = replace(self._files, edition=number)


def in_use(settings: Settings, read: Callable[[Settings], Config], shelf: Shelf) -> Config:
    """The configuration to use, read once. Raises ConfigError and LedgerUnavailable."""
    newest = shelf.newest()
    if newest and newest.is_published:
        return published(settings, read, shelf, newest)
    config = read(settings)
    return replace(config, edition=shelf.number(digest(edition_files.read(settings))))


def published(
    settings: Settings, read: Callable[[Settings], Config], shelf: Shelf, newest: Edition
) -> Config:
    """The configuration of a published edition, in a private folder. Raises ConfigError."""
    held, used = edition_files.laid_out(shelf.content(newest.number), settings)
    try:
        return replace(read(used), edition=newest.number, held=held)
    except ConfigError as error:
        raise ConfigError(edition_files.as_admins_know(error.problems, used)) from error


def not_taken(newest: Edition) -> Problem:
    """A warning, for those who edit files, that a published edition is in use."""
    said = f"the files were edited, but edition {newest.number} is in use, which was published"
    remedy = "Publish the files (`flask relay edition publish`), or put them back."
    return Problem(f"{said} by {newest.author}.", edition_files.CONFIG, remedy=remedy, warning=True)


def tell_placeholders(config: Config) -> None:
    """Log which keys would show patients the example clinic."""
    if keys := [problem.key for problem in placeholders(config)]:
        log.warning("config.toml has example values, and delivery is live", keys=keys)


def await_settled(settings: Settings) -> Stamps:
    """Wait until no file has changed for two seconds: a start may come while one is being written.

    It gives up in time, since a wrong clock must not stop a start.
    """
    ends = time.monotonic() + START_SECONDS
    while True:
        found = stamps(settings)
        ages = (time.time() - written / 1e9 for _, written, _ in found)
        is_settled = not any(0.0 <= age < SETTLED_SECONDS for age in ages)
        if is_settled or time.monotonic() > ends:
            return found
        time.sleep(0.1)


def stamps(settings: Settings) -> Stamps:
    """The path, time of last change and size of config.toml and of each template."""
    found = []
    for file in (settings.config, *sorted(settings.templates.rglob("*"))):
        try:
            found_stat = file.stat()
        except OSError:  # deleted this very moment
            continue
        found.append((str(file), found_stat.st_mtime_ns, found_stat.st_size))
    return tuple(found)
