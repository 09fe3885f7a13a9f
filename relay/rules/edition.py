"""An edition: config.toml and the templates as one whole, with a number."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

Content = Mapping[
    str, str
]  # "config.toml" and "templates/…" → text; bytes that are not UTF-8 as surrogates
FILES, DESK = "files", "desk"  # an edition's source: a machine's files, or people who publish it


@dataclass(frozen=True)
class Edition:
    """The facts about an edition, without its files."""

    number: int
    digest: str
    author: str
    note: str
    source: str
    made_at: datetime

    @property
    def is_published(self) -> bool:
        """Whether people published it, so that it runs whatever a machine's files say."""
        return self.source == DESK


def as_bytes(text: str) -> bytes:
    """A file's text as it is on a disk."""
    return text.encode("utf-8", "surrogateescape")


def digest(content: Content) -> str:
    """A digest that distinguishes an edition from any other: the same files give the same one."""
    found = hashlib.sha256()
    for name, text in sorted(content.items()):
        for part in (as_bytes(name), as_bytes(text)):
            found.update(f"{len(part)} ".encode() + part)
    return found.hexdigest()
