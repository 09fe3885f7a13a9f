"""Strict JSON, by RFC 8259 and I-JSON (RFC 7493), since anybody may send the body."""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any, NoReturn

from relay.errors import Refused

DEEPEST = 32
LARGEST = 2**53  # I-JSON: other readers may change larger whole numbers
LONGEST_NUMBER = 32


def _refuse(error: str) -> NoReturn:
    raise Refused(400, error)


def unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object from its pairs, refusing a key that appears twice."""
    unique = dict(pairs)
    if len(unique) != len(pairs):
        _refuse("The body has the same key twice in one object.")
    return unique


def bounded(kind: type[int] | type[float], most: float, text: str) -> int | float:
    """Read a JSON number, refusing one that is too long or out of range."""
    if len(text) > LONGEST_NUMBER or abs(number := kind(text)) > most:
        _refuse("The body has a number that is out of range.")
    return number


_decoder = json.JSONDecoder(
    object_pairs_hook=unique_pairs,
    parse_int=partial(bounded, int, LARGEST),
    parse_float=partial(bounded, float, sys.float_info.max),
    parse_constant=lambda name: _refuse(f"The body has {name}, which is not JSON."),
)


def check(value: Any, depth: int) -> None:
    """Refuse values that the JSON grammar allows and a database or a provider does not."""
    if isinstance(value, str):
        if "\0" in value:
            _refuse("The body has a NUL character.")
        value.encode()  # raises on half of a surrogate pair
    elif isinstance(value, dict | list):
        if depth == 0:
            _refuse("The body is nested too deeply.")
        if isinstance(value, dict):
            check(list(value), 1)
            value = list(value.values())
        for item in value:
            check(item, depth - 1)


def loads(raw: bytes) -> Any:
    """The value in `raw` (UTF-8, with or without a byte-order mark). Raises Refused (400)."""
    try:
        value = _decoder.decode(raw.decode("utf-8-sig"))
        check(value, DEEPEST)
    except UnicodeDecodeError as error:
        raise Refused(400, "The body is not UTF-8.") from error
    except UnicodeEncodeError as error:
        raise Refused(400, "The body has half a surrogate pair.") from error
    except RecursionError as error:
        raise Refused(400, "The body is nested too deeply.") from error
    except ValueError as error:
        raise Refused(400, "The body is not JSON.") from error
    return value
