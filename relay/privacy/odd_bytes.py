"""Bytes that may be anything, as texts to search: what a body says that nobody could read. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

MOST = 1 << 20  # of what is unpacked
_ANY = 32 + zlib.MAX_WBITS  # gzip's or zlib's, as its head says
_BARE = -zlib.MAX_WBITS  # deflate without a head, as some clients send it


def read(body: bytes) -> str:
    """All that may be read in bytes, a line each: as text of the usual encodings, also unpacked."""
    return "\n".join(one for raw in (body, *unpacked(body)) for one in texts(raw))


def texts(body: bytes) -> Iterator[str]:
    """Bytes as UTF-8, and as another encoding where they are none."""
    try:
        yield body.decode()
    except UnicodeDecodeError:
        yield body.decode("cp1252", "replace")
    if b"\0" in body:  # UTF-16 or UTF-32, of either order
        yield from (body[begin:].decode("utf-16-le", "replace") for begin in (0, 1))
        yield body.replace(b"\0", b"").decode("cp1252", "replace")


def unpacked(body: bytes) -> Iterator[bytes]:
    """What bytes unpack to, if they do."""
    for bits in (_ANY, _BARE):
        try:
            if found := zlib.decompressobj(bits).decompress(body, MOST):
                yield found
        except zlib.error:
            continue
