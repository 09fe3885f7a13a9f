"""A template's words alone: passages that people may edit, between parts that stay as they are."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from html import escape, unescape
from itertools import chain, groupby, pairwise
from typing import NamedTuple

from jinja2 import TemplateSyntaxError

from relay.errors import did_you_mean
from relay.rules.expressions import environment

_LEXER = environment().lexer
_TEXT, _NAME, _COMMAND = "data", "variable", "block"  # Jinja's words for the parts of a file
_TAG = re.compile(
    r"<!--.*?(?:-->|\Z)|<(style|script)\b.*?(?:</\1\s*>|\Z)"
    r"""|<(?:!|/?[a-z][\w-]*(?::[\w-]+)?(?=[\s/>]))(?:"[^"]*"|'[^']*'|[^<>"'])*>""",
    re.DOTALL | re.IGNORECASE,
)
EMPTY = "Write something here. To take the passage out, edit the source."
COMMAND = "Write words only: commands, as in {% if %}, and {# notes #} are for the source."
TAG = "Write words only: {} is a tag, and tags are for the source."
BRACES = "Write a name between two braces on either side, as in {{ clinic.phone }}."
UNKNOWN = "There is no {} here. {}"


class Frame(NamedTuple):
    """A block, loop or condition around a passage; `passed` are its tests that were false."""

    kind: str
    test: str
    passed: tuple[str, ...] = ()


class Part(NamedTuple):
    """A part of a file. Without `words` it has nothing to edit."""

    source: str
    words: str = ""
    frames: tuple[Frame, ...] = ()


class Piece(NamedTuple):
    """A text, name, command or comment as Jinja's lexer finds it."""

    start: int
    kind: str
    text: str
    inside: Sequence[str]  # the words between its braces

    @property
    def name(self) -> str:
        """The name that is printed, without the words that replace it if it is empty."""
        words = [word for word in self.inside if word.strip()]
        stands_in = words[-2:-1] == ["or"] and words[-1][0] in "'\""
        return "".join(words[:-2] if stands_in else words)


def split(source: str, *, is_html: bool) -> list[Part]:
    """Split a file into parts, which together are the file. Raises TemplateSyntaxError."""
    pieces = {piece.start: piece for piece in _pieces(source)}
    tags = dict(tag.span() for tag in _tags(pieces.values())) if is_html else {}
    edges = sorted({*pieces, *chain(*tags.items()), len(source)})
    frames: tuple[Frame, ...] = ()
    kind, tag_end, segments = "", 0, []
    for start, end in pairwise(edges):
        if start in pieces:
            kind, frames = pieces[start].kind, _around(frames, pieces[start])
        tag_end = tags.get(start, tag_end)
        segments.append((kind in (_TEXT, _NAME) and start >= tag_end, source[start:end], frames))
    parts, read = list[Part](), unescape if is_html else str
    for is_text, group in groupby(segments, key=lambda segment: segment[0]):
        _, texts, (around, *_) = zip(*group, strict=True)
        parts += _passage("".join(texts), around, read) if is_text else map(Part, texts)
    return parts


def join(parts: Sequence[Part], edited: Mapping[int, str], *, is_html: bool) -> str:
    """The file with some parts' edited words, by number. The rest stays the same to the byte."""
    write = partial(escape, quote=False) if is_html else str
    line_end = "\r\n" if any("\r\n" in part.source for part in parts) else "\n"
    made = []
    for number, part in enumerate(parts):
        words = edited.get(number, part.words).strip()
        is_same = words == part.words.strip()
        made.append(part.source if is_same else _changed(words, write).replace("\n", line_end))
    return "".join(made)


def fault(words: str, known: Collection[str]) -> str:
    """The fault in the words of a passage, and what to write instead; empty if there is none."""
    try:
        pieces = [*_pieces(words)]
    except TemplateSyntaxError:
        return BRACES
    for piece in pieces:
        text = piece.text.strip()
        if piece.kind not in (_TEXT, _NAME):
            return COMMAND
        if set("{}") & set(text) if piece.kind == _TEXT else not text.endswith("}}"):
            return BRACES
        if piece.kind == _NAME and piece.name not in known:
            plain = [name for name in known if name.replace(".", "").isidentifier()]
            return UNKNOWN.format(text, did_you_mean(piece.name, plain))
    for tag in _tags(pieces):
        return TAG.format(words[slice(*tag.span())])
    return "" if words.strip() else EMPTY


def names(source: str) -> set[str]:
    """The names a file prints, so that it may print them elsewhere. Raises TemplateSyntaxError."""
    return {piece.name for piece in _pieces(source) if piece.kind == _NAME}


def _tags(pieces: Iterable[Piece]) -> Iterator[re.Match[str]]:
    """Yield the tags in a text, whatever Jinja does within them."""
    plain = (one.text if one.kind == _TEXT else "x" * len(one.text) for one in pieces)
    return _TAG.finditer("".join(plain))


def _pieces(source: str) -> Iterator[Piece]:
    """Yield the pieces of a text, which together are the text: the lexer omits some blanks."""
    text = source.replace("\r\n", " \n").replace("\r", "\n")  # its own line ends, in place
    at, start, kind = 0, 0, ""
    inside: list[str] = []
    for _, met, value in _LEXER.tokeniter(text, None):
        at = text.index(value, at)
        if met.endswith("_begin") or (met == _TEXT and kind != "raw"):
            if kind:
                yield Piece(start, kind, source[start:at], inside)
                start = at
            kind, inside = met.removesuffix("_begin"), []
        elif met == "raw_end":
            kind = met
        elif not met.endswith("_end"):
            inside.append(value)
        at += len(value)
    if source:
        yield Piece(start, kind or _TEXT, source[start:], inside)


def _around(frames: tuple[Frame, ...], piece: Piece) -> tuple[Frame, ...]:
    """The frames around the text that follows a piece."""
    written = "".join(piece.inside) if piece.kind == _COMMAND else ""
    word, test = (*written.split(None, 1), "", "")[:2]
    if word in ("if", "for", "block"):
        return (*frames, Frame(word, test.strip()))
    if word in ("elif", "else") and frames:
        last = frames[-1]
        return (*frames[:-1], Frame(last.kind, test.strip(), (*last.passed, last.test)))
    return frames[:-1] if word in ("endif", "endfor", "endblock") else frames


def _passage(text: str, frames: tuple[Frame, ...], read: Callable[[str], str]) -> Iterator[Part]:
    """Yield a passage and the blanks around it, which stay; without words, nothing to edit."""
    source = text.strip()
    texts = (piece.text for piece in _pieces(source) if piece.kind == _TEXT)
    if any(map(str.isalnum, read("".join(texts)))):
        before, _, after = text.partition(source)
        words = _changed(source, read).replace("\r\n", "\n").replace("\r", "\n")
        yield from (Part(before), Part(source, words, frames), Part(after))
    else:
        yield Part(text)


def _changed(words: str, change: Callable[[str], str]) -> str:
    """Change the texts in some words, and no name."""
    return "".join(
        change(piece.text) if piece.kind == _TEXT else piece.text for piece in _pieces(words)
    )
