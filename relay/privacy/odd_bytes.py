"""Bytes of any kind, as texts to search: the content of a body that nobody could read. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

MOST = 1 << 20  # bytes, after unpacking
_ANY = 32 + zlib.MAX_WBITS  # gzip's or zlib's, as its header says
_BARE = -zlib.MAX_WBITS  # deflate without a header, as some clients send it


def read(body: bytes) -> str:
    """All readable text in some bytes, a line each: in the usual encodings, and unpacked."""
    return "\n".join(one for raw in (body, *unpacked(body)) for one in texts(raw))


def texts(body: bytes) -> Iterator[str]:
    """Yield bytes as UTF-8, or in another encoding if they are not."""
    try:
        yield body.decode()
    except UnicodeDecodeError:
        yield body.decode("cp1252", "replace")
    if b"\0" in body:  # UTF-16 or UTF-32, of either order
        yield from (body[begin:].decode("utf-16-le", "replace") for begin in (0, 1))
        yield body.replace(b"\0", b"").decode("cp1252", "replace")


def unpacked(body: bytes) -> Iterator[bytes]:
    """Yield the bytes that others unpack to, if they do."""
    for bits in (_ANY, _BARE):
        try:
            if found := zlib.decompressobj(bits).decompress(body, MOST):
                yield found
        except zlib.error:
            continue
