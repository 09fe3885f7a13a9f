"""Forms as the desk's pages and Twilio post them: few fields, in UTF-8. Parsing one costs time for
each field and odd byte, and only then do we know whether the sender was allowed to post it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any
from urllib.parse import unquote_to_bytes

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import FormDataParser

MOST_FIELDS = 100  # the desk's pages and Twilio's calls have less than half as many
URLENCODED = "application/x-www-form-urlencoded"


class _FewFields(FormDataParser):
    """Werkzeug limits the fields of multipart forms only (MAX_FORM_PARTS), and takes ten times as
    long as it should over bytes that are not UTF-8.
    """

    def parse(
        self,
        stream: IO[bytes],
        mimetype: str,
        content_length: int | None,
        options: dict[str, str] | None = None,
    ) -> Any:
        """The fields; none if it is not a form. Raises RequestEntityTooLarge."""
        if mimetype != URLENCODED:
            return super().parse(stream, mimetype, content_length, options)
        body = stream.read()
        if body.count(b"&") >= MOST_FIELDS:
            raise RequestEntityTooLarge
        try:
            return stream, self.cls(_pairs(body, "utf-8")), self.cls()
        except UnicodeDecodeError:  # one odd byte must not cost a receipt or a STOP
            return stream, self.cls(_pairs(body, "latin-1")), self.cls()


def _pairs(body: bytes, encoding: str) -> Iterator[tuple[str, str]]:
    for field in filter(None, body.replace(b"+", b" ").split(b"&")):
        name, _, value = field.partition(b"=")
        yield unquote_to_bytes(name).decode(encoding), unquote_to_bytes(value).decode(encoding)


class FormRequest(Request):
    """A request whose form is small."""

    form_data_parser_class = _FewFields
