"""relay/lab/strict_json.py: JSON from a stranger is read once, strictly, or refused with 400."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Refused
from relay.lab.strict_json import loads

REFUSED = {
    "empty": (b"", "not JSON"),
    "blank": (b"  \n", "not JSON"),
    "text": (b"hello", "not JSON"),
    "cut short": (b'{"a": 1', "not JSON"),
    "two values": (b"{} {}", "not JSON"),
    "trailing comma": (b'{"a": 1,}', "not JSON"),
    "single quotes": (b"{'a': 1}", "not JSON"),
    "comment": (b"{} // all", "not JSON"),
    "raw control character": (b'{"a": "x\ny"}', "not JSON"),
    "bad UTF-8": (b'{"a": "\xff"}', "not UTF-8"),
    "overlong UTF-8": (b'{"a": "\xc0\xaf"}', "not UTF-8"),
    "surrogate as UTF-8": (b'{"a": "\xed\xa0\x80"}', "not UTF-8"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
    "duplicate key": (b'{"a": 1, "a": 1}', "same key twice"),
    "duplicate key by escape": (b'{"a": 1, "\\u0061": 2}', "same key twice"),
    "duplicate key inside": (b'{"x": [{"a": 1, "a": 2}]}', "same key twice"),
    "NaN": (b'{"a": NaN}', "NaN"),
    "Infinity": (b'{"a": Infinity}', "Infinity"),
    "-Infinity": (b"[-Infinity]", "-Infinity"),
    "NUL": (b'{"a": "\\u0000"}', "NUL"),
    "NUL in a key": (b'{"\\u0000": 1}', "NUL"),
    "NUL at the root": (b'"\\u0000"', "NUL"),
    "high surrogate": (b'{"a": "\\ud800"}', "surrogate"),
    "low surrogate": (b'{"a": ["\\udc00"]}', "surrogate"),
    "surrogate in a key": (b'{"\\udfff": 1}', "surrogate"),
    "surrogates reversed": (b'"\\udc00\\ud800"', "surrogate"),
    "long number": (b'{"a": ' + b"9" * 5_000 + b"}", "number"),
    "long fraction": (b"[0." + b"1" * 5_000 + b"]", "number"),
    "number past I-JSON": (b"[9007199254740993]", "number"),
    "number past a float": (b"[1e400]", "number"),
    "huge exponent": (b"[1e" + b"9" * 5_000 + b"]", "number"),
    "nested lists": (b"[" * 100_000 + b"]" * 100_000, "nested"),
    "nested lists, open": (b"[" * 100_000, "nested"),
    "nested objects": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested"),
    "nested within the parser's limit": (b"[" * 500 + b"]" * 500, "nested"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_what_is_not_strict_json(case: str) -> None:
    """What another reader would take differently, or a database not at all, is refused by name."""
    raw, said = REFUSED[case]
    with pytest.raises(Refused) as refused:
        loads(raw)
    assert refused.value.status == 400
    assert said in refused.value.error


def test_refusal_quotes_nothing_of_the_body() -> None:
    """An error is stored and logged, so it never repeats what a patient's body said."""
    with pytest.raises(Refused) as refused:
        loads(b'{"Jane Smith": 1, "Jane Smith": 2}')
    assert "Jane" not in f"{refused.value} {refused.value.error}"


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b' {"a" : null}\r\n', {"a": None}),
        (b'"\\ud83d\\ude00"', "😀"),
        ('"Zoë 😀"'.encode(), "Zoë 😀"),
        (b"[9007199254740992, -9007199254740992]", [2**53, -(2**53)]),
        (b"[1.5, 1e10, -0.0, 1E-400]", [1.5, 1e10, -0.0, 0.0]),
        (b'[{"a": 1}, {"a": 1}]', [{"a": 1}, {"a": 1}]),
        (b"[[[[[[[[[[1]]]]]]]]]]", [[[[[[[[[[1]]]]]]]]]]),
        (b"true", True),
    ],
    ids=[
        "byte-order mark",
        "spaces",
        "surrogate pair",
        "UTF-8",
        "large",
        "floats",
        "keys in two",
        "ten deep",
        "scalar",
    ],
)
def test_takes_json(raw: bytes, value: Any) -> None:
    """What RFC 8259 allows and everybody reads alike is taken as it stands."""
    assert loads(raw) == value


_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
)
_values = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(st.characters(codec="ascii", exclude_characters="\0")), inner)
    ),
    max_leaves=8,
)


@given(_values, st.booleans())
def test_reads_what_other_writers_write(value: Any, escaped: bool) -> None:
    """Any ordinary value comes back as it was, written with escapes or in plain UTF-8."""
    assert loads(json.dumps(value, ensure_ascii=escaped).encode()) == value
