"""Templates → messages. Compiled once; a missing value is an error, never a blank."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

from jinja2 import (
    FileSystemLoader,
    TemplateNotFound,
    TemplateSyntaxError,
    UndefinedError,
    nodes,
)
from jinja2.meta import find_referenced_templates
from markupsafe import Markup

from relay.errors import RenderError, did_you_mean
from relay.lab.facts import NAMES, RECIPIENT_FIELDS, RESOURCES, SHAPES, Empty, Record
from relay.messages import sms_segments
from relay.rules.channels import CHANNELS
from relay.rules.expressions import (
    Names,
    environment,
    free_names,
    paths,
    read_fields,
    unknown_names,
    vocabulary,
    wrong_field,
)
from relay.rules.model import Rule

DIGEST_VOCABULARY: Names = {
    "clinic": frozenset(SHAPES["clinic"]),
    "recipient": frozenset(RECIPIENT_FIELDS),
    "count": None,
    "items": None,
}
# Filters whose result has the same items.
_SAME = frozenset({"list", "reject", "rejectattr", "reverse", "select", "selectattr", "sort"})


_FIELDS = frozenset(
    (*DIGEST_VOCABULARY, "event", "item"),
).union(*((shape, *fields) for shape, fields in SHAPES.items()))
_PLACE = re.compile(r"\d{1,2}")  # in a list


def digest_names(
    clinic: Record, recipient: Record, items: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The values of a digest's names; each of `items` has the names of a single message."""
    made = [Record("item", {**item, "recipient": recipient}) for item in items]
    return {"clinic": clinic, "recipient": recipient, "count": len(made), "items": made}


def unknown_in_digest(tree: nodes.Template, event: str) -> Iterator[tuple[int, str]]:
    """(line, message) for each unknown name in a digest's template."""
    yield from unknown_names(tree, DIGEST_VOCABULARY)
    names = vocabulary(event)
    for loop in tree.find_all(nodes.For):
        if not (isinstance(loop.target, nodes.Name) and runs_over_items(loop.iter)):
            continue
        for line, (root, *path) in paths(loop):
            if root == loop.target.name and (wrong := wrong_item_name(root, path, names)):
                yield line, wrong


def digest_resources(tree: nodes.Template) -> frozenset[str]:
    """The resources that a template reads of anything."""
    return read_fields(tree) & set(RESOURCES)


def wrong_item_name(item: str, path: Sequence[Any], names: Names) -> str:
    """Say why `item.path` is not a name that a digest's item has; empty when it is."""
    if path[1:]:
        return wrong_field(path, names, item)
    known = path[0] in names
    return "" if known else f'unknown name "{item}.{path[0]}". {did_you_mean(str(path[0]), names)}'


def runs_over_items(node: nodes.Node | None) -> bool:
    """Whether a node is `items`, sorted, filtered or cut."""
    while isinstance(node, nodes.Filter | nodes.Getitem):
        if isinstance(node, nodes.Filter) and node.name not in _SAME:
            return False
        if isinstance(node, nodes.Getitem) and not isinstance(node.arg, nodes.Slice):
            return False
        node = node.node
    return isinstance(node, nodes.Name) and node.name == "items"


@dataclass(frozen=True)
class Message:
    """A message to one address. Email also has a subject and HTML."""

    channel: str
    address: str
    text: str
    subject: str = ""
    html: str = ""
    name: str = ""  # of the person it is for
    sender: str = ""  # if it is not the channel's
    reply_to: str = ""

    @property
    def content(self) -> dict[str, str]:
        """The parts that the ledger keeps."""
        return {part: getattr(self, part) for part in CHANNELS[self.channel].parts}

    @property
    def size(self) -> sms_segments.Size | None:
        """Its size in segments, if its channel bills by segment."""
        return sms_segments.size(self.text) if CHANNELS[self.channel].in_segments else None


@dataclass(frozen=True)
class Fault:
    """A fault in a template's file."""

    file: str
    line: int | None
    message: str


class Templates:
    """The templates of one folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._loader = FileSystemLoader(folder, encoding="utf-8-sig")  # Windows adds a mark
        self._environment = environment(self._loader)
        self._sources: dict[str, str] = {}  # each file's text is needed many times

    def message(
        self, rule: Rule, channel: str, address: str, names: Mapping[str, Any], mark: str = ""
    ) -> Message:
        """A rule's message to one address, from the rule's sender, in the person's language if it
        has a folder. Raises RenderError.
        """
        template = rule.template
        if rule.language and (word := rule.language.word(names)) in self.languages(template):
            template = f"{template}/{word}"
        made = self.render(template, channel, address, names, mark)
        person = names["recipient"]
        return replace(
            made,
            name=" ".join(str(part) for name in NAMES if (part := getattr(person, name))),
            sender=rule.senders.get(channel, ""),
            reply_to=rule.reply_to,
        )

    def languages(self, template: str) -> list[str]:
        """The languages that a template has in addition to its own: folders inside its own."""
        return sorted(path.name for path in (self.folder / template).glob("*") if path.is_dir())

    def variants(self, rule: Rule) -> Iterator[Rule]:
        """Yield a rule with its template's own words, and with those of each possible language."""
        yield (own := replace(rule, language=None))
        for name in self.languages(rule.template) if rule.language else ():
            yield replace(own, template=f"{rule.template}/{name}")

    def render(
        self, template: str, channel: str, address: str, names: Mapping[str, Any], mark: str = ""
    ) -> Message:
        """Render a message. `mark` goes before its first words. Raises RenderError."""
        parts = {
            part: self.render_part(f"{template}/{file}", names, mark)
            for part, file in CHANNELS[channel].parts.items()
        }
        if CHANNELS[channel].in_segments:
            parts["text"] = sms_segments.plain(parts["text"])
        if "subject" in parts:  # a header: no line breaks, even if a name has some
            parts["subject"] = " ".join(parts["subject"].split())
        for part, text in parts.items():
            if not text:
                file = f"{template}/{CHANNELS[channel].parts[part]}"
                raise RenderError(f"{file}: the message is empty.", file)
        return Message(channel, address, **parts)

    def block(self, file: str, block: str, names: Mapping[str, Any]) -> str:
        """A block of a file, on one line. Raises RenderError, also if the file has none."""
        text = " ".join(self.render_file(file, names, block).split())
        if not text:
            raise RenderError(f"{file}: {{% block {block} %}} is missing or empty.", file)
        return text

    def render_part(self, file: str, names: Mapping[str, Any], mark: str) -> str:
        """A part of a message, with the mark; HTML gets inline styles. Raises RenderError."""
        text = self.render_file(file, names).strip()
        if file.endswith(".html"):
            text = text.replace("<body>", f"<body>{Markup.escape(mark)}", 1) if mark else text
            return str(inliner().inline(text))
        return mark + text

    def render_file(self, file: str, names: Mapping[str, Any], block: str = "") -> str:
        """The text of a file, or of one block in it. Raises RenderError."""
        try:
            template = self._environment.get_template(file)
            if not block:
                return template.render(names)
            if block not in template.blocks:
                return ""
            try:
                return "".join(template.blocks[block](template.new_context(dict(names))))
            except Exception:
                self._environment.handle_exception()  # raises it again, with the template's lines
        except Exception as error:  # a template may do anything with what the lab sent
            said = f"{file}: {self.explain(file, error)}."
            raise RenderError(said, *self.find_place(file, error)) from error

    def explain(self, file: str, error: Exception) -> str:
        """The error, in the file's own words only: others may be a patient's."""
        if isinstance(error, TemplateSyntaxError):
            return str(error.message)
        if isinstance(error, Empty):
            own = _FIELDS.union(*(attributes(self.tree(name)) for name in self.named(file)))
            is_own = all(part in own or _PLACE.fullmatch(part) for part in error.path.split("."))
            return f"{error.path} is empty" if is_own else "a field that it prints is empty"
        if isinstance(error, UndefinedError):
            return "it asks for something that is not there"
        return type(error).__name__

    def find_place(self, file: str, error: Exception) -> tuple[str, int | None]:
        """Where rendering broke, by Jinja's traceback: file and line, perhaps of the layout."""
        at = error.__traceback__
        place: tuple[str, int | None] = (file, None)
        while at:
            name = Path(at.tb_frame.f_code.co_filename)
            if self.folder in name.parents:
                place = (str(name.relative_to(self.folder)), at.tb_lineno)
            at = at.tb_next
        return place

    def roots(
        self, template: str, channels: Sequence[str], *, is_digest: bool = False
    ) -> frozenset[str]:
        """The names that a template's files use, so that Relay fetches what they need."""
        wanted = digest_resources if is_digest else free_names
        found: set[str] = set()
        for file in files(template, channels):
            for name in self.named(file):
                found |= wanted(self.tree(name))
        return frozenset(found)

    def fields(self, template: str, channels: Sequence[str]) -> frozenset[str]:
        """The fields that a template's files read of anything."""
        names = {name for file in files(template, channels) for name in self.named(file)}
        return frozenset().union(*(read_fields(self.tree(name)) for name in names))

    def faults(
        self, template: str, channels: Sequence[str], event: str, *, is_digest: bool = False
    ) -> Iterator[Fault]:
        """The faults of the files themselves: missing, not Jinja, unknown names."""
        unknown = (
            partial(unknown_in_digest, event=event)
            if is_digest
            else partial(unknown_names, names=vocabulary(event))
        )
        for file in files(template, channels):
            yield from self.file_faults(file, unknown)

    def file_faults(
        self, file: str, unknown: Callable[[nodes.Template], Iterator[tuple[int, str]]]
    ) -> Iterator[Fault]:
        """Yield the faults of a file and of those that it extends or imports. `unknown` finds names
        in a file that do not exist.
        """
        name = file
        try:
            for name in self.named(file):
                for line, message in unknown(self.tree(name)):
                    yield Fault(name, line, message)
        except TemplateNotFound as error:
            yield Fault(str(error.name or file), None, "there is no such file.")
        except TemplateSyntaxError as error:
            yield Fault(error.name or file, error.lineno, syntax_error(error.message or ""))
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            yield Fault(name, line, "this is not UTF-8 text. Save the file as UTF-8.")

    def named(self, file: str) -> Iterator[str]:
        """Yield a file, and those that it extends, includes or imports, each once."""
        waiting, seen = [file], {file}
        while waiting:
            yield (name := waiting.pop(0))
            others = referenced_files(self.tree(name))
            fresh = [other for other in dict.fromkeys(others) if other and other not in seen]
            seen.update(fresh)
            waiting = fresh + waiting

    def tree(self, file: str) -> nodes.Template:
        """A file's syntax tree. Raises TemplateError, or UnicodeDecodeError."""
        return parse_template(file, self.source(file))

    def source(self, file: str) -> str:
        """A file's text."""
        if file not in self._sources:
            self._sources[file] = self._loader.get_source(self._environment, file)[0]
        return self._sources[file]


# A layout is in many templates, and many checks read a file: each is parsed once.


@lru_cache(maxsize=256)
def parse_template(file: str, text: str) -> nodes.Template:
    """Parse a template's text into its syntax tree, cached by file and text."""
    return environment().parse(text, file, file)


@lru_cache(maxsize=256)
def referenced_files(tree: nodes.Template) -> tuple[str | None, ...]:
    """Return the files a template extends, includes or imports; None for a dynamic name."""
    return tuple(find_referenced_templates(tree))


def attributes(tree: nodes.Template) -> Iterator[str]:
    """The words after a dot in a template."""
    return (node.attr for node in tree.find_all(nodes.Getattr))


def files(template: str, channels: Sequence[str]) -> list[str]:
    """The files of a template's folder that make its messages."""
    return [
        f"{template}/{file}" for channel in channels for file in CHANNELS[channel].parts.values()
    ]


@cache
def inliner() -> Any:
    """Mail programs drop <style>: put styles on the elements, leave @media rules where they are."""
    import css_inline

    return css_inline.CSSInliner(load_remote_stylesheets=False, keep_style_tags=True)


def syntax_error(message: str) -> str:
    """Jinja's error, as a sentence."""
    if unclosed := re.search(r"needs to be closed is '(\w+)'", message):
        return f"{{% {unclosed[1]} %}} has no {{% end{unclosed[1]} %}} after it."
    if odd := re.search(r"unexpected char '(?:\\[uxU](\w+)|([^\x00-\x7f]))'", message):
        found = sms_segments.spelt(chr(int(odd[1], 16)) if odd[1] else odd[2])
        return f"there is a {found} in a command. Write a plain space, quote or dash instead."
    return (
        f"{message.rstrip('.')}. Write names between {{{{ and }}}}, commands between {{% and %}}."
    )
