"""The configuration as the files have it now; a broken edit leaves the last good one in use."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from relay.config.loader import Config
from relay.config.placeholders import placeholders
from relay.config.settings import Settings
from relay.errors import ConfigError
from relay.logs import get_logger

log = get_logger("relay.config")

LOOK_SECONDS = 5.0
SETTLED_SECONDS = 2.0  # a file that is still being written is no configuration
START_SECONDS = 10.0  # that a start waits at most for files that are being written

Stamps = tuple[tuple[str, int, int], ...]


class ConfigReloader:
    """Holds a configuration, and reads it again when config.toml or a template has changed."""

    def __init__(self, settings: Settings, read: Callable[[Settings], Config]):
        self._read = read
        self._lock = threading.Lock()
        self._stamps = await_settled(settings)  # before they are read: what changes then is seen
        self._config = read(settings)
        self._seen, self._seen_at = self._stamps, 0.0  # the files at the last look, and since when
        self._next = time.monotonic() + LOOK_SECONDS
        self.wrong: ConfigError | None = None  # what is wrong with the files, while that is so
        tell_placeholders(self._config)

    @property
    def config(self) -> Config:
        """The last good one. Looks at the files, but not at each call."""
        if time.monotonic() >= self._next:
            self.look()
        return self._config

    @property
    def is_settling(self) -> bool:
        """Whether files have changed that are not taken yet, since they may be changing still."""
        return self._seen != self._stamps

    def look(self) -> bool:
        """Read the files if one has changed and they have been the same for two seconds since;
        whether there is another configuration now.
        """
        with self._lock:
            at = time.monotonic()
            found = stamps(self._config.settings)
            if found != self._seen:
                self._seen, self._seen_at = found, at
            is_settled = at - self._seen_at >= SETTLED_SECONDS
            self._next = at + (LOOK_SECONDS if is_settled else SETTLED_SECONDS)
            if found == self._stamps or not is_settled:
                return False
            self._stamps = found
            try:
                self._config = self._read(self._config.settings)
            except ConfigError as error:
                self.wrong = error
                lines = sorted({problem.line for problem in error.problems if problem.line})
                log.error("config broken, the last good one is kept", lines=lines)
                return False
            self.wrong = None
            log.info("config reloaded")
            tell_placeholders(self._config)
            return True


def tell_placeholders(config: Config) -> None:
    """Log which keys would show patients the example clinic."""
    if keys := [problem.key for problem in placeholders(config)]:
        log.warning("config.toml has example values, and delivery is live", keys=keys)


def await_settled(settings: Settings) -> Stamps:
    """Wait until no file has changed for two seconds: a process may start while one is written.

    Not for ever, since a clock may be wrong, and a start must not fail by it.
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
    """When config.toml and each template were last written, and how long they are."""
    found = []
    for file in (settings.config, *sorted(settings.templates.rglob("*"))):
        try:
            found_stat = file.stat()
        except OSError:  # gone this very moment
            continue
        found.append((str(file), found_stat.st_mtime_ns, found_stat.st_size))
    return tuple(found)
