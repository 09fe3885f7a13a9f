"""Templates → messages. Compiled once; a hole is an error, never an empty space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import FileSystemLoader, TemplateError, TemplateNotFound, TemplateSyntaxError
from jinja2.meta import find_referenced_templates
from markupsafe import Markup

from relay import digest_names
from relay.errors import RenderError
from relay.expressions import environment, free_names, read_fields, unknown_names, vocabulary

# The files a channel needs, by the part of the message that each makes.
PARTS: dict[str, dict[str, str]] = {
    "sms": {"text": "sms.txt"},
    "email": {"subject": "subject.txt", "text": "email.txt", "html": "email.html"},
}


@dataclass(frozen=True)
class Message:
    """What is sent to one address. Email has a subject and HTML besides its text."""

    channel: str
    address: str
    text: str
    subject: str = ""
    html: str = ""

    @property
    def content(self) -> dict[str, str]:
        """What the ledger keeps of it."""
        return {part: getattr(self, part) for part in PARTS[self.channel]}


@dataclass(frozen=True)
class Fault:
    """Something wrong in a template's file."""

    file: str
    line: int | None
    message: str


class Templates:
    """The templates of one folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._environment = environment(FileSystemLoader(folder))

    def render(
        self, template: str, channel: str, address: str, names: Mapping[str, Any], mark: str = ""
    ) -> Message:
        """The message. `mark` is put before its first words. Raises RenderError."""
        parts = {
            part: self._part(f"{template}/{file}", names, mark)
            for part, file in PARTS[channel].items()
        }
        if "subject" in parts:  # a header: no line breaks, whatever a name holds
            parts["subject"] = " ".join(parts["subject"].split())
        for part, text in parts.items():
            if not text:
                raise RenderError(f"{template}/{PARTS[channel][part]}: it came out empty.")
        return Message(channel, address, **parts)

    def _part(self, file: str, names: Mapping[str, Any], mark: str) -> str:
        try:
            text = self._environment.get_template(file).render(names).strip()
        except Exception as error:  # whatever a template may do with what the lab sent
            # Of other errors only the kind: their text may quote a patient.
            detail = error.message if isinstance(error, TemplateError) else type(error).__name__
            raise RenderError(f"{file}: {detail}.") from error
        if file.endswith(".html"):
            text = text.replace("<body>", f"<body>{Markup.escape(mark)}", 1) if mark else text
            return str(_inliner().inline(text))
        return mark + text

    def roots(
        self, template: str, channels: Sequence[str], *, is_digest: bool = False
    ) -> frozenset[str]:
        """The names that a template's files begin with: what has to be fetched for it."""
        wanted = digest_names.resources if is_digest else free_names
        found: set[str] = set()
        for file in _files(template, channels):
            for _, tree in self._trees(file):
                found |= wanted(tree)
        return frozenset(found)

    def fields(self, template: str, channels: Sequence[str]) -> frozenset[str]:
        """The fields that a template's files read of anything."""
        files = _files(template, channels)
        return frozenset().union(*(read_fields(t) for f in files for _, t in self._trees(f)))

    def faults(
        self, template: str, channels: Sequence[str], event: str, *, is_digest: bool = False
    ) -> Iterator[Fault]:
        """What is wrong with the files themselves: missing, not Jinja, unknown names."""
        for file in _files(template, channels):
            try:
                for name, tree in self._trees(file):
                    for line, message in (
                        digest_names.unknown(tree, event)
                        if is_digest
                        else unknown_names(tree, vocabulary(event))
                    ):
                        yield Fault(name, line, message)
            except TemplateNotFound as error:
                yield Fault(str(error.name or file), None, "there is no such file.")
            except TemplateSyntaxError as error:
                yield Fault(error.name or file, error.lineno, f"{error.message}.")
            except UnicodeDecodeError:
                yield Fault(file, None, "it is not UTF-8 text.")

    def _trees(self, file: str) -> Iterator[tuple[str, Any]]:
        """A file's syntax tree, and those of the files it extends or includes."""
        source, _, _ = self._environment.loader.get_source(self._environment, file)  # type: ignore[union-attr]
        tree = self._environment.parse(source, file, file)
        yield file, tree
        for other in find_referenced_templates(tree):
            if other:
                yield from self._trees(other)


def _files(template: str, channels: Sequence[str]) -> list[str]:
    return [f"{template}/{file}" for channel in channels for file in PARTS[channel].values()]


@cache
def _inliner() -> Any:
    """Mail programs drop <style>: styles go onto the elements, @media rules stay where they are."""
    import css_inline

    return css_inline.CSSInliner(load_remote_stylesheets=False, keep_style_tags=True)
