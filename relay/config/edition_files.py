"""Editions as files: read from this machine, written to a folder, or laid out for use.

An edition in use is laid out in a private folder: nobody can change half of it meanwhile.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from relay.config.settings import Settings
from relay.errors import ConfigError, Problem
from relay.rules.edition import Content, as_bytes

CONFIG, TEMPLATES = "config.toml", "templates"
MARK = ".edition"  # beside an exported config.toml: the number of the edition that it comes from
MOST_FILES, MOST_BYTES = 1_000, 4 * 2**20


def read(settings: Settings) -> Content:
    """The files as they are. Raises ConfigError if they are more than an edition may hold."""
    found = {CONFIG: settings.config, **dict(_named(settings.templates))}
    content, size = {}, 0
    for name, path in found.items():
        size += path.stat().st_size if path.is_file() else 0
        if size > MOST_BYTES or len(found) > MOST_FILES:
            raise ConfigError([_too_much(settings.templates)])
        if path.is_file():
            content[name] = path.read_bytes().decode("utf-8", "surrogateescape")
    return content


def _named(folder: Path) -> Iterator[tuple[str, Path]]:
    """Each file in a folder of templates, except what editors and systems leave there."""
    for number, path in enumerate(folder.rglob("*")):
        if number > 4 * MOST_FILES:
            raise ConfigError([_too_much(folder)])
        name = path.relative_to(folder)
        is_left = name.name.endswith("~") or any(part.startswith(".") for part in name.parts)
        if not is_left and path.is_file():
            yield f"{TEMPLATES}/{name.as_posix()}", path


def _too_much(folder: Path) -> Problem:
    most = f"an edition has at most {MOST_FILES:,} files and {MOST_BYTES // 2**20} MB."
    return Problem(most, str(folder), remedy="Keep nothing here but templates.")


def write(content: Content, folder: Path) -> None:
    """Lay an edition out as files. Raises ConfigError if a name leads out of the folder."""
    (folder / TEMPLATES).mkdir(parents=True, exist_ok=True)
    for name, text in content.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ConfigError([Problem(f'"{name}" is outside the folder.', "edition")])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(as_bytes(text))


def settings_in(settings: Settings, folder: Path) -> Settings:
    """The settings, changed to use the files of another folder."""
    return replace(settings, config=folder / CONFIG, templates=folder / TEMPLATES)


class Held:
    """A private folder that lasts as long as this object."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="relay-")).resolve()
        # The lock stops systemd deleting an old one: https://systemd.io/TEMPORARY_DIRECTORIES/
        lock = os.open(self.path, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_SH)
        self.let_go = weakref.finalize(self, _let_go, self.path, lock)  # earlier if called


def _let_go(path: Path, lock: int) -> None:
    os.close(lock)
    shutil.rmtree(path, ignore_errors=True)


def laid_out(content: Content, settings: Settings) -> tuple[Held, Settings]:
    """An edition in a private folder, and the settings for it."""
    held = Held()
    write(content, held.path)
    return held, settings_in(settings, held.path)


def as_admins_know(found: Sequence[Problem], used: Settings) -> list[Problem]:
    """The problems, without the name of the private folder that an admin does not know."""
    private = f"{used.config.parent}{os.sep}"
    return [
        replace(
            one, where=one.where.removeprefix(private), message=one.message.replace(private, "")
        )
        for one in found
    ]


def mark(settings: Settings) -> int | None:
    """The number of the edition that the files were exported from; None if they were not."""
    try:
        return int((settings.config.parent / MARK).read_text("utf-8"))
    except (OSError, ValueError):
        return None


def export(content: Content, number: int, folder: Path) -> None:
    """Write an edition into a folder, with the mark that tells a release its number."""
    write(content, folder)
    (folder / MARK).write_text(f"{number}{os.linesep}", "utf-8")
